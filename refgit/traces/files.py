"""Reading the tensors of another implementation: .safetensors, .npz, or a directory of .npy files.

A file of another implementation need not say anything about itself; what it says of the order is
believed.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from refgit.checkpoint.headers import safetensors_header
from refgit.checkpoint.safetensors_file import open_safetensors
from refgit.errors import CheckpointError, TraceError
from refgit.files import read_json
from refgit.traces.names import natural_order

_ORDER_FILES = ("order.json", "names.txt")
_META_FILE = "metadata.json"

Tensor = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Contents:
    """What a file of named tensors holds.

    Attributes
    ----------
    tensors : mapping of str to array
    order : list of str
        All the names, first computed first as far as the file says so.
    order_known : bool
        Whether the file says it of each.
    meta : mapping of str to str
        What the file says about itself.
    dtypes : mapping of str to str
        What a tensor is stored in, where NumPy has no such type: "bfloat16".
    """

    tensors: Mapping[str, Tensor]
    order: list[str]
    order_known: bool
    meta: Mapping[str, str] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)


def read_tensors(path: Path) -> Contents:
    """Read .safetensors, .npz, or a directory of .npy files; see `Trace.load`."""
    if path.is_dir():
        return _read_directory(path)
    if not path.exists():
        raise TraceError(
            f"{path} does not exist; expected a .safetensors or .npz file, or a directory of "
            ".npy files."
        )
    return _read_npz(path) if path.suffix == ".npz" else _read_safetensors(path)


def _read_safetensors(path: Path) -> Contents:
    from safetensors import safe_open  # slow to import

    try:
        tensors = open_safetensors(path)
        headers = safetensors_header(path)
        with safe_open(path, framework="numpy") as file:
            meta: dict[str, str] = dict(file.metadata() or {})
    except (CheckpointError, OSError) as error:
        raise TraceError(
            f"{error} A trace is a .safetensors or .npz file, or a directory of .npy files."
        ) from error
    order, known = _order(tensors, _names_in(meta.pop("order", None), path), path)
    narrow = {name: "bfloat16" for name, header in headers.items() if header.dtype == "BF16"}
    return Contents(tensors, order, known, meta, narrow)


def _read_npz(path: Path) -> Contents:
    tensors = {}
    try:
        with path.open("rb") as opened:
            file = np.load(opened, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it is a single .npy array")
            tensors = dict(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise TraceError(
            f"{path} is not a complete .npz file of plain numbers: {error}."
        ) from error
    names = list(tensors)
    if "order" in tensors and tensors["order"].dtype.kind == "U":
        names = [str(name) for name in tensors.pop("order").ravel()]
    texts = [name for name, x in tensors.items() if x.dtype.kind == "U" and x.ndim == 0]
    meta = {name: str(tensors.pop(name)) for name in texts}  # such as config or producer
    _check_numbers(tensors, path)
    listed, known = _order(tensors, names, path)
    return Contents(tensors, listed, known, meta)


def _read_directory(path: Path) -> Contents:
    tensors = {}
    for file in sorted(path.rglob("*.npy")):
        name = file.relative_to(path).with_suffix("").as_posix()
        try:
            tensors[name] = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise TraceError(f"{file} is not a complete .npy file of numbers: {error}.") from error
    if not tensors:
        raise TraceError(f"{path} is a directory without .npy files; expected one for each tensor.")
    _check_numbers(tensors, path)
    order, known = _order(tensors, _listed_names(path), path)
    return Contents(tensors, order, known, _listed_meta(path))


def _listed_names(path: Path) -> list[str] | None:
    """What order.json or names.txt say, if one of them is there."""
    for file in (path / name for name in _ORDER_FILES):
        if file.is_file():
            try:
                text = file.read_text(encoding="utf-8")
            except (OSError, ValueError) as error:
                raise TraceError(f"{file} cannot be read: {error}.") from error
            if file.suffix == ".json":
                return _names_in(text, file)
            return [line.strip() for line in text.splitlines() if line.strip()]
    return None


def _listed_meta(path: Path) -> dict[str, str]:
    if not (path / _META_FILE).is_file():
        return {}
    found = read_json(path / _META_FILE)
    return {k: v if isinstance(v, str) else json.dumps(v) for k, v in found.items()}


def _names_in(text: str | None, path: Path) -> list[str] | None:
    if text is None:
        return None
    try:
        names = json.loads(text)
    except ValueError as error:
        raise TraceError(
            f"{path}: the order of the tensors is not valid JSON: {error}. Expected a list of "
            "names, first computed first."
        ) from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TraceError(
            f"{path}: the order of the tensors is not a JSON list of names; expected one such as "
            '["pixel_values", "logits"], first computed first.'
        )
    return names


def _order(
    tensors: Mapping[str, Tensor], names: list[str] | None, path: Path
) -> tuple[list[str], bool]:
    """All names in the order of a list, and whether it was known of each."""
    if names is None:
        return natural_order(tensors), False
    missing = [name for name in names if name not in tensors]
    if missing:
        raise TraceError(
            f"{path}: the order names {missing[0]!r}, which is not one of its {len(tensors)} "
            "tensors."
        )
    names = list(dict.fromkeys(names))
    rest = [name for name in tensors if name not in set(names)]
    return [*names, *natural_order(rest)], not rest


def _check_numbers(tensors: Mapping[str, Tensor], path: Path) -> None:
    for name, x in tensors.items():
        if x.dtype.kind not in "biuf":
            raise TraceError(f"{path}: tensor {name} is of dtype {x.dtype}; expected numbers.")
