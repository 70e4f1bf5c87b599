"""One .safetensors file as NumPy arrays that are in the file, not in memory.

The safetensors library checks the file, but its NumPy reader copies each tensor. So the library
validates, and the tensors are then mapped: the format is eight bytes of header length, a JSON
header with each tensor's dtype, shape and byte range, and the bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from refgit.errors import CheckpointError
from refgit.files import whole_file

_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U8": "|u1",
    "BOOL": "|b1",
}
# The bits of bfloat16, which NumPy has no type for: written as that, never computed with.
BFLOAT16 = np.dtype("<u2", metadata={"bfloat16": True})
_MOST_BYTES = 1 << 27  # of a header; a broken file may not fill the memory
# Bytes of a number, by the dtype's name in these files.
ITEMSIZE = {name: np.dtype(kind).itemsize for name, kind in _DTYPES.items()} | {"BF16": 2}


def open_safetensors(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Map every tensor of a file.

    Parameters
    ----------
    path : Path
        A .safetensors file.

    Returns
    -------
    dict of str to array
        Read-only views of the file; bfloat16 tensors are widened to float32 copies, since NumPy
        has no such type.

    Raises
    ------
    CheckpointError
        The file is missing, truncated or not a safetensors file, or holds an unknown dtype.
    """
    _validate(path)
    entries, start = read_entries(path)
    data = _data(path, start)
    tensors = {}
    for name, entry in entries.items():
        raw = data[slice(*entry["data_offsets"])]
        tensors[name] = typed_view(raw, entry["dtype"], entry["shape"], path, name)
    return tensors


def read_entries(path: Path) -> tuple[dict[str, Any], int]:
    """Read the header: dtype, shape and byte range of each tensor, and where the data begins.

    Raises
    ------
    ValueError, AttributeError
        What the file begins with is not a header.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(path.stat().st_size - 8, _MOST_BYTES):
            raise ValueError(f"its header would be {length} bytes long")
        entries = json.loads(file.read(length))
    return {name: entry for name, entry in entries.items() if name != "__metadata__"}, 8 + length


def _data(path: Path, start: int) -> np.ndarray[Any, Any]:
    """The bytes behind the header: mapped, or read where numbers are not aligned.

    NumPy copies an unaligned matrix at every product, which makes captions eight times slower.
    Today's writers align the data; the first ones did not.
    """
    if start % 8 == 0:
        # Plain arrays: NumPy calls a subclass back from every operation.
        return np.memmap(path, np.uint8, mode="r", offset=0)[start:].view(np.ndarray)
    data = np.fromfile(path, np.uint8, offset=start)
    data.flags.writeable = False
    return data


def _validate(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; expected a file of weights.")
    try:
        with safe_open(path, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} ({path.stat().st_size} bytes) is not a complete safetensors file: {error}. "
            "Was the download or copy cut short?"
        ) from error


def typed_view(
    raw: np.ndarray[Any, Any], dtype: str, shape: list[int], path: Path, name: str
) -> np.ndarray[Any, Any]:
    """View the bytes `raw` as the format's `dtype`; bfloat16 is widened to float32.

    Parameters
    ----------
    raw : array of bytes
        Contiguous, as many as the shape needs.
    dtype : str
        As the format calls it, such as F32.
    shape : list of int
        Of the tensor.
    path, name : Path, str
        For the message.

    Returns
    -------
    array
        A view of `raw`, or a float32 copy of bfloat16.

    Raises
    ------
    CheckpointError
        The dtype is unknown.
    """
    if dtype == "BF16":
        # bfloat16 is the upper half of a float32
        bits = np.frombuffer(raw, "<u2").astype("<u4") << 16
        return bits.view("<f4").reshape(shape)
    if dtype not in _DTYPES:
        raise CheckpointError(
            f"{path}: tensor {name} is of dtype {dtype}; expected one of "
            f"{', '.join(['BF16', *_DTYPES])}. Save the weights again as one of these."
        )
    return raw.view(_DTYPES[dtype]).reshape(shape)


def dtype_name(x: np.ndarray[Any, Any]) -> str:
    """Return what the format calls the dtype of `x`."""
    return {np.dtype(known): name for name, known in _DTYPES.items()}[x.dtype]


def is_bfloat16(x: np.ndarray[Any, Any]) -> bool:
    """Whether an array is the bits of bfloat16."""
    return "bfloat16" in (x.dtype.metadata or {})


def _write(
    path: Path, arrays: Mapping[str, np.ndarray[Any, Any]], metadata: Mapping[str, str]
) -> None:
    """Write what the library cannot: wide numbers first, as it does, so that all are aligned."""
    names = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in names:
        x = arrays[name]
        start, end = end, end + x.nbytes
        kind = "BF16" if is_bfloat16(x) else dtype_name(x)
        header[name] = {"dtype": kind, "shape": list(x.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            file.write(arrays[name].tobytes())


def save_safetensors(
    path: Path, arrays: Mapping[str, np.ndarray[Any, Any]], metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file, whole or not at all.

    Parameters
    ----------
    path : Path
    arrays : mapping of str to array
        On the host; of dtype BFLOAT16 the bits of bfloat16.
    metadata : mapping of str to str
        What else its header says.
    """
    from safetensors.numpy import save_file

    contiguous = {name: np.ascontiguousarray(x) for name, x in arrays.items()}
    with whole_file(path) as partial:
        partial.touch()
        mode = partial.stat().st_mode  # as for any new file; safetensors locks others out
        if any(is_bfloat16(x) for x in contiguous.values()):
            _write(partial, contiguous, metadata)
        else:
            save_file(contiguous, partial, metadata=dict(metadata))
        partial.chmod(mode)
