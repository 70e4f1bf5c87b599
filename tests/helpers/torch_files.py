"""Write files in both of torch's formats without torch, spoiled ones included."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


KINDS = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}


class Raw(bytes):
    """Instructions of a pickle, in the place of a value."""


def text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def encode(value: Any) -> bytes:
    """The instructions that make a value, as torch.save writes them."""
    if isinstance(value, Raw):
        return value
    if isinstance(value, Stored):
        return value.pickled()
    if isinstance(value, str):
        return text(value)
    if isinstance(value, OrderedDict):
        return Raw(b"ccollections\nOrderedDict\n)R") + encode_items(value)
    if isinstance(value, dict):
        return b"}" + encode_items(value)
    if isinstance(value, list):
        return b"](" + b"".join(map(encode, value)) + b"e"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(encode, value)) + b"t"
    return pickle.dumps(value, 2)[2:-1]


def encode_items(value: Mapping[Any, Any]) -> bytes:
    return b"(" + b"".join(encode(k) + encode(x) for k, x in value.items()) + b"u"


class Stored:
    """A tensor: the storage it looks into, and how."""

    def __init__(
        self,
        storage: np.ndarray,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        offset: int = 0,
        kind: str = "",
        parameter: bool = False,
    ) -> None:
        self.storage, self.shape, self.strides, self.offset = storage, shape, strides, offset
        self.kind, self.parameter = kind or KINDS[storage.dtype.name], parameter
        self.form, self.key, self.numel = "", "", storage.size

    def pickled(self) -> bytes:
        identity: tuple[Any, ...] = (
            "storage", Raw(f"ctorch\n{self.kind}\n".encode()), self.key, "cpu", self.numel,
        )  # fmt: skip
        if self.form == "legacy":
            identity = (*identity, None)
        parts = (
            Raw(encode(identity) + b"Q"), self.offset, self.shape, self.strides, False,
            OrderedDict(),
        )  # fmt: skip
        tensor = b"ctorch._utils\n_rebuild_tensor_v2\n" + encode(parts) + b"R"
        if not self.parameter:
            return tensor
        whole = encode((Raw(tensor), True, OrderedDict()))
        return b"ctorch._utils\n_rebuild_parameter\n" + whole + b"R"


def dense(x: np.ndarray, **options: Any) -> Stored:
    """The tensor of a whole array."""
    x = np.asarray(x)
    strides = tuple(step // x.itemsize for step in np.zeros(x.shape, x.dtype).strides)
    return Stored(np.array(x).reshape(-1), x.shape, strides, **options)


def tensors_in(content: Any) -> list[Stored]:
    if isinstance(content, Stored):
        return [content]
    if isinstance(content, dict | list | tuple):
        items = content.values() if isinstance(content, dict) else content
        return [x for item in items for x in tensors_in(item)]
    return []


def write(
    path: Path,
    content: Any,
    form: str = "zip",
    *,
    big: bool = False,
    compression: int = zipfile.ZIP_STORED,
    program: bytes | None = None,
) -> Path:
    """A file as torch.save makes it. Equal storages, by identity, are stored once."""
    keys: dict[int, str] = {}
    storages: dict[str, np.ndarray] = {}
    for x in tensors_in(content):
        x.form, x.key = form, keys.setdefault(id(x.storage), str(len(keys)))
        storages[x.key] = x.storage.astype(x.storage.dtype.newbyteorder(">" if big else "<"))
    if program is None:
        program = b"\x80\x02" + encode(content) + b"."
    if form == "legacy":
        order = ">q" if big else "<q"
        system = {"protocol_version": PROTOCOL, "little_endian": not big, "type_sizes": {}}
        parts = [pickle.dumps(x, 2) for x in (MAGIC, PROTOCOL, system)]
        parts += [program, pickle.dumps(list(storages), 2)]
        parts += [struct.pack(order, x.size) + x.tobytes() for x in storages.values()]
        path.write_bytes(b"".join(parts))
        return path
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/byteorder", "big" if big else "little")
        for key, x in storages.items():
            archive.writestr(f"archive/data/{key}", x.tobytes())
        archive.writestr("archive/version", "3\n")
    return path
