"""What tensors a checkpoint's files hold, without the numbers in them.

A safetensors file has a header with each tensor's name, dtype and shape; a file of torch.save has
a pickle that says the same. Only these are read, so that it takes no memory, however large the
model is.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refgit.checkpoint.loading import INDEX, TORCH_INDEX, TORCH_WEIGHTS, WEIGHTS
from refgit.checkpoint.torch.pickle import Storage, run_pickle
from refgit.errors import CheckpointError
from refgit.files import read_json

_MOST_BYTES = 1 << 27  # of a header; a broken file may not fill the memory
# Bytes of a number, by the dtype's name in safetensors files.
ITEMSIZE = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1,
    "BOOL": 1,
}  # fmt: skip


@dataclass(frozen=True)
class TensorHeader:
    """What a file says of one tensor.

    Attributes
    ----------
    dtype : str
        As safetensors files call it, such as F32.
    shape : tuple of int
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of these."""
        return self.size * ITEMSIZE.get(self.dtype, 0)


def read_headers(directory: Path) -> tuple[dict[str, TensorHeader], list[Path]]:
    """Read what the weights of a checkpoint directory are.

    Parameters
    ----------
    directory : Path
        Holds what `load_parameters` reads: model.safetensors or pytorch_model.bin, or an index
        and the files that it lists.

    Returns
    -------
    headers : dict of str to TensorHeader
        Every tensor by its name in the file; empty where there are no weights.
    files : list of Path
        Those that hold the weights.

    Raises
    ------
    CheckpointError
        A file is broken, or one that an index lists is missing.
    """
    formats: tuple[tuple[str, str, Callable[[Path], dict[str, TensorHeader]]], ...] = (
        (WEIGHTS, INDEX, safetensors_header),
        (TORCH_WEIGHTS, TORCH_INDEX, torch_header),
    )
    for whole, index, reader in formats:
        if (directory / whole).is_file():
            return reader(directory / whole), [directory / whole]
        if (directory / index).is_file():
            files = _files_of(directory / index)
            listed = set(read_json(directory / index)["weight_map"])
            found: dict[str, TensorHeader] = {}
            for file in files:
                found |= {name: x for name, x in reader(file).items() if name in listed}
            return found, files
    return {}, []


def _files_of(index: Path) -> list[Path]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(
        isinstance(file, str) and Path(file).name == file for file in weight_map.values()
    ):
        raise CheckpointError(
            f'{index} has no "weight_map" of tensor names to files of its own directory; '
            "download or copy it again."
        )
    return [index.parent / file for file in sorted(set(weight_map.values()))]


def safetensors_header(path: Path) -> dict[str, TensorHeader]:
    """Read the header of a .safetensors file.

    Parameters
    ----------
    path : Path

    Raises
    ------
    CheckpointError
        The file is missing or cannot be read, or what it begins with is no header.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(size - 8, _MOST_BYTES):
                raise ValueError(f"its header would be {length} bytes long")
            entries = json.loads(file.read(length))
        return {name: _entry(entry) for name, entry in entries.items() if name != "__metadata__"}
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} ({size} bytes) is no safetensors file: {error}. Was the download or copy cut "
            "short?"
        ) from error


def _entry(entry: dict[str, Any]) -> TensorHeader:
    return TensorHeader(str(entry["dtype"]), tuple(int(n) for n in entry["shape"]))


def torch_header(path: Path) -> dict[str, TensorHeader]:
    """Read what tensors a file of torch.save holds, from its pickle alone.

    Parameters
    ----------
    path : Path
        In the zip format, or in the one that torch wrote before 1.6.

    Raises
    ------
    CheckpointError
        The file is missing or broken, or holds something other than tensors by name.
    """
    try:
        content = _zip_content(path) if zipfile.is_zipfile(path) else _legacy_content(path)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} ({path.stat().st_size} bytes) is no complete file of torch.save: {error}. "
            "Was the download or copy cut short?"
        ) from error
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(x, np.ndarray) for name, x in content.items()
    ):
        raise CheckpointError(
            f"{path} holds something other than a dict of tensors by name; save "
            "model.state_dict(), or better a .safetensors file."
        )
    return {name: TensorHeader(_dtype_of(x), x.shape) for name, x in content.items()}


def _zip_content(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        pickles = [i for i in archive.infolist() if i.filename.endswith("/data.pkl")]
        if len(pickles) != 1 or pickles[0].file_size > _MOST_BYTES:
            raise ValueError("its archive has no data.pkl, several, or too large a one")
        return run_pickle(io.BytesIO(archive.read(pickles[0])), path, _unwritten)


def _legacy_content(path: Path) -> Any:
    """The fourth pickle of the file; magic number, version and system stand before it."""
    with path.open("rb") as file:
        start = io.BytesIO(file.read(_MOST_BYTES))
    if start.read(1) != b"\x80":  # how any pickle of the last twenty years opens
        raise ValueError("it opens neither like a zip archive nor like a pickle")
    start.seek(0)
    for _ in range(3):
        run_pickle(start, path, _unwritten)
    return run_pickle(start, path, _unwritten)


def _unwritten(storage: Storage) -> np.ndarray[Any, Any]:
    """An array in the place of a storage: of its size, but of pages that nobody has touched."""
    kind = np.dtype(f"V{storage.itemsize}", metadata={"dtype": storage.dtype})
    return np.empty(storage.numel, kind)


def _dtype_of(x: np.ndarray[Any, Any]) -> str:
    return str((x.dtype.metadata or {})["dtype"])
