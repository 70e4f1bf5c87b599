"""One file of torch.save as NumPy arrays, read without torch.

Both formats: the zip archive, and the pickles with raw storages behind them that torch wrote
before 1.6. The storages stay in the file and are mapped; the pickle that describes the tensors is
run by refgit.checkpoint.torch.pickle.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from refgit.checkpoint.safetensors_file import typed_view
from refgit.checkpoint.torch.pickle import Find, Note, Storage, kind_of, run_pickle, shown
from refgit.errors import CheckpointError

Array = np.ndarray[Any, Any]

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_ZIP_START = b"PK\x03\x04"
# The pickles come before the storages and are smaller; a broken file may not fill the memory.
_MOST_BYTES = 1 << 24
_MOST_DEPTH = 4  # of dicts within dicts


def open_torch(path: Path) -> dict[str, Array]:
    """Map every tensor of a state dict that torch.save wrote.

    Parameters
    ----------
    path : Path
        A file such as pytorch_model.bin, in the zip format or the one before it.

    Returns
    -------
    dict of str to array
        Read-only views of the file; bfloat16 tensors are widened to float32 copies, since NumPy
        has no such type.

    Raises
    ------
    CheckpointError
        The file is missing, truncated or not a file of torch.save; asks for anything but tensors,
        dicts, lists and scalars; has a tensor reach outside its storage; or holds something other
        than a dict of tensors.
    """
    return state_dict(read_torch(path), path)


def state_dict(content: Any, path: Path) -> dict[str, Array]:
    """Refuse what a file holds unless it is a dict of tensors by name; `path` is for messages."""
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {kind_of(content)}; expected a dict of tensors.")
    for name, x in content.items():
        if not isinstance(name, str) or not isinstance(x, np.ndarray):
            raise CheckpointError(
                f"{path}: entry {shown(name)} is a {kind_of(x)}; expected a dict whose keys are "
                "names and whose values are tensors: save model.state_dict()."
            )
    return dict(content)


def open_nested(path: Path) -> dict[str, Array]:
    """Do as `open_torch` with dicts inside the dict too: ``{"model": {"a": x}}`` gives "model.a".

    What is not a tensor, such as the number of an epoch, is passed over.

    Parameters
    ----------
    path : Path

    Raises
    ------
    CheckpointError
        As `open_torch`; or there are no tensors.
    """
    return named_tensors(read_torch(path), path)


def named_tensors(content: Any, path: Path) -> dict[str, Array]:
    """Return the tensors of dicts within dicts; `path` is for messages.

    Raises
    ------
    CheckpointError
        There are none.
    """
    found: dict[str, Array] = {}

    def visit(inside: dict[Any, Any], before: str, depth: int) -> None:
        for name, x in inside.items():
            if isinstance(x, np.ndarray):
                found[f"{before}{name}"] = x
            elif isinstance(x, dict) and depth < _MOST_DEPTH:  # it may hold itself
                visit(x, f"{before}{name}.", depth + 1)

    if isinstance(content, dict):
        visit(content, "", 1)
    return found or state_dict(content, path)  # which says what it is instead


def read_torch(path: Path, elements: Find | None = None) -> Any:
    """Read whatever torch.save wrote, if it is made of tensors, dicts, lists and scalars.

    Parameters
    ----------
    path : Path
        A file in the zip format or the one before it.
    elements : callable, optional
        Gives what replaces a storage's elements; by default they are mapped from the file.

    Returns
    -------
    object
        With arrays in place of tensors, as in `open_torch`. Lists and dicts may hold themselves.

    Raises
    ------
    CheckpointError
        As `open_torch`, but for what the file holds.
    """
    if path.is_dir():
        raise CheckpointError(f"{path} is a directory; expected a file of weights.")
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; expected a file of weights.")
    try:
        if path.stat().st_size == 0:
            raise ValueError("it is empty")
        data = np.memmap(path, np.uint8, mode="r")
        if data[:4].tobytes() == _ZIP_START:
            return _read_zip(path, data, elements)
        return _read_legacy(path, data, elements)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise CheckpointError(
            f"{path} ({path.stat().st_size} bytes) is not a complete file of torch.save: {error}. "
            "Was the download or copy cut short?"
        ) from error


# ---- the two formats


def _read_zip(path: Path, data: Array, elements: Find | None) -> Any:
    """NAME/data.pkl is the pickle, NAME/data/KEY the storages, none compressed."""
    members = _members(path)
    pickles = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise ValueError(f"its archive has {len(pickles)} members data.pkl instead of one")
    root = pickles[0].removesuffix("data.pkl")
    program = _content(members[pickles[0]], data)
    checksum = members[pickles[0]].CRC  # 0 where torch was told to write none
    if checksum not in (0, zlib.crc32(program.tobytes())):
        raise ValueError("the checksum of its data.pkl does not match")
    order = b"little"
    if f"{root}byteorder" in members:
        order = _content(members[f"{root}byteorder"], data).tobytes()
    if order not in (b"little", b"big"):
        raise ValueError("its byteorder is neither little nor big")

    def bytes_of(storage: Storage) -> Array:
        name = f"{root}data/{storage.key}"
        if name not in members:
            raise ValueError(f"its archive lacks the storage {shown(storage.key)}")
        raw = _content(members[name], data)
        if len(raw) != storage.numel * storage.itemsize:
            raise ValueError(
                f"its storage {shown(storage.key)} has {len(raw)} bytes instead of "
                f"{storage.numel} elements of {storage.itemsize}"
            )
        return raw

    find = elements or _finder(bytes_of, len(data), path, big=order == b"big")
    return run_pickle(_start(program), path, find)


def _members(path: Path) -> dict[str, zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(path) as archive:
            return {info.filename: info for info in archive.infolist()}
    except (zipfile.BadZipFile, RuntimeError, OverflowError, EOFError, struct.error) as error:
        raise ValueError(f"its zip archive is broken: {error}") from error


def _content(info: zipfile.ZipInfo, data: Array) -> Array:
    """The bytes of a member, where they are in the file."""
    name = shown(info.filename)
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise ValueError(f"its member {name} is compressed or encrypted, which torch.save never is")
    header = data[max(info.header_offset, 0) :][:30].tobytes()
    if len(header) < 30 or header[:4] != _ZIP_START:
        raise ValueError(f"its member {name} is not where the archive says")
    start = info.header_offset + 30 + sum(struct.unpack("<HH", header[26:]))  # its name, padding
    if start + info.file_size > len(data):
        raise ValueError(f"its member {name} reaches past the end")
    return data[start : start + info.file_size]


def _read_legacy(path: Path, data: Array, elements: Find | None) -> Any:
    """Five pickles: magic number, version, system, the content, keys of storages; the storages."""
    file = _start(data)
    wanted: dict[str, Storage] = {}

    def note(storage: Storage) -> None:
        if wanted.setdefault(storage.key, storage) != storage:
            raise ValueError(f"its storage {shown(storage.key)} is described in two ways")

    def run(find: Find | Note = note) -> Any:
        return run_pickle(file, path, find)

    if file.read(1) != b"\x80":  # how any pickle of the last twenty years opens
        raise ValueError("it opens neither like a zip archive nor like a pickle")
    file.seek(0)
    if run() != _MAGIC:
        raise ValueError("it lacks torch's magic number")
    if run() != _PROTOCOL:
        raise ValueError(f"its version is not {_PROTOCOL}")
    system = run()
    little = system.get("little_endian") if isinstance(system, dict) else None
    if not isinstance(little, bool):
        raise ValueError("its system information lacks little_endian")
    if elements is not None:
        return run(elements)
    begin = file.tell()
    run()  # only to learn how large the storages behind it are
    keys = run()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError("its keys of storages are not a list of names")
    if len(set(keys)) != len(keys) or set(keys) != set(wanted):
        raise ValueError("its keys of storages are not those that its tensors use")
    places = {}
    at = file.tell()
    for key in keys:
        count = int.from_bytes(data[at : at + 8].tobytes(), "little" if little else "big")
        start, at = at + 8, at + 8 + wanted[key].numel * wanted[key].itemsize
        if at > len(data):
            raise ValueError(f"its storage {shown(key)} reaches past the end")
        if count != wanted[key].numel:
            raise ValueError(
                f"its storage {shown(key)} has {count} elements instead of {wanted[key].numel}"
            )
        places[key] = data[start:at]
    file.seek(begin)
    return run(_finder(lambda storage: places[storage.key], len(data), path, big=not little))


def _start(data: Array) -> io.BytesIO:
    return io.BytesIO(data[:_MOST_BYTES].tobytes())


def _finder(bytes_of: Find, limit: int, path: Path, *, big: bool) -> Find:
    """Give each storage its array once: tensors that share it share its memory."""
    found: dict[Storage, Array] = {}
    used = 0

    def find(storage: Storage) -> Array:
        nonlocal used
        if storage not in found:
            raw = bytes_of(storage)
            used += len(raw)
            if used > limit:
                raise ValueError("its storages overlap")
            if big:
                raw = np.ascontiguousarray(raw.reshape(-1, storage.itemsize)[:, ::-1]).reshape(-1)
            found[storage] = typed_view(raw, storage.dtype, [storage.numel], path, storage.key)
        return found[storage]

    return find
