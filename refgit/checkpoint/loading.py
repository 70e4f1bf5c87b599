"""A directory of weights, held against the list of parameters a model needs.

Reads model.safetensors, or the shards that model.safetensors.index.json lists; where there are
none, pytorch_model.bin, or the shards that pytorch_model.bin.index.json lists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from refgit.checkpoint.safetensors_file import dtype_name, open_safetensors, save_safetensors
from refgit.checkpoint.torch.file import open_torch
from refgit.errors import CheckpointError
from refgit.files import read_json

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
TORCH_WEIGHTS = "pytorch_model.bin"
TORCH_INDEX = "pytorch_model.bin.index.json"
# The first of these that is there is read: what the whole file is called, its index, the reader.
_FORMATS = ((WEIGHTS, INDEX, open_safetensors), (TORCH_WEIGHTS, TORCH_INDEX, open_torch))
# Buffers that older versions of transformers wrote: 0, 1, 2, ..., nothing learned.
_BUFFERS = ("position_ids",)
# transformers 5 spells the time embeddings of videos rightly; the hub's checkpoints do not.
OTHER_SPELLING = ("img_temporal_embedding", "img_temperal_embedding")
_MODEL_PREFIX = "git."
_HEAD = "output."

Arrays = Mapping[str, np.ndarray[Any, Any]]


def load_parameters(
    directory: Path,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    prefix: str,
    tied: Mapping[str, str] | None = None,
) -> dict[str, np.ndarray[Any, Any]]:
    """Read the parameters named in `shapes` from a checkpoint directory.

    Parameters
    ----------
    directory : Path
        Holds model.safetensors, or model.safetensors.index.json and what it lists; or the same of
        pytorch_model.bin.
    shapes : mapping of str to tuple
        Name and shape of every parameter the model needs.
    prefix : str
        In front of these names in a checkpoint of the whole model: a GitModel or GitVisionModel
        loads from that as well as from its own.
    tied : mapping of str to str, optional
        Parameters that are one array with another, by the other's name; files leave them out.

    Returns
    -------
    dict of str to array
        In the order of `shapes`, mapped from the file where NumPy has the dtype.

    Raises
    ------
    CheckpointError
        A file is missing or broken; or a tensor is missing, unexpected or wrongly shaped. The
        message names the file, the tensor, found and expected.
    """
    found, source = _read_all(directory)
    found = {name.replace(*OTHER_SPELLING): x for name, x in found.items()}
    found = {name: x for name, x in found.items() if name.rpartition(".")[2] not in _BUFFERS}
    if prefix and not any(name in found for name in shapes):
        inside = {name[len(prefix) :]: x for name, x in found.items() if name.startswith(prefix)}
        rest = {name for name in found if not name.startswith((_MODEL_PREFIX, _HEAD))}
        _refuse_unexpected(rest, source)
        found = inside
    found |= {name: found[other] for name, other in (tied or {}).items() if other in found}
    strangers = set(found) - set(shapes)
    missing = [name for name in shapes if name not in found]
    if missing:
        raise CheckpointError(
            f"{source} lacks {_some(missing)}; expected {len(shapes)} tensors, "
            f"such as {missing[0]} of shape {tuple(shapes[missing[0]])}. Take config.json and the "
            "weights from the same model."
        )
    _refuse_unexpected(strangers, source)
    for name, shape in shapes.items():
        if tuple(found[name].shape) != tuple(shape):
            raise CheckpointError(
                f"{source}: tensor {name} has shape {tuple(found[name].shape)}; expected "
                f"{tuple(shape)} after {directory / 'config.json'}. Take both from the same model."
            )
        if found[name].dtype.kind != "f":
            raise CheckpointError(
                f"{source}: tensor {name} is of dtype {dtype_name(found[name])}; expected "
                "floating point: F64, F32, F16 or BF16. Weights that were quantised have to be "
                "saved again as one of these."
            )
    return {name: found[name] for name in shapes}


def _refuse_unexpected(names: set[str], source: Path) -> None:
    if names:
        raise CheckpointError(
            f"{source} holds {_some(sorted(names))}, which this model does not have; expected "
            "only the parameters of the model in config.json. Take config.json and the weights "
            "from the same model."
        )


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"tensor{'s' if len(names) > 1 else ''} {shown}{more}"


def _read_all(directory: Path) -> tuple[dict[str, np.ndarray[Any, Any]], Path]:
    """Every tensor of the directory, and the file to name in messages."""
    for whole, index, reader in _FORMATS:
        if (directory / whole).is_file():
            return reader(directory / whole), directory / whole
        if (directory / index).is_file():
            return _read_shards(directory / index, reader), directory / index
    names = ", ".join(name for whole, index, _ in _FORMATS for name in (whole, index))
    raise CheckpointError(
        f"{directory} holds none of {names}; expected one. Is the download complete? A model.pt of "
        "Microsoft's is made into such a directory by refgit convert."
    )


def _read_shards(
    index: Path, reader: Callable[[Path], dict[str, np.ndarray[Any, Any]]]
) -> dict[str, np.ndarray[Any, Any]]:
    """Every tensor that an index lists, each from the file that it names."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise CheckpointError(
            f'{index} has no "weight_map"; expected tensor names with files. Download or copy it '
            "again."
        )
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    for file in weight_map.values():
        if not isinstance(file, str) or file in ("", "..") or Path(file).name != file:
            raise CheckpointError(f"{index} names {file!r}; expected a file of its own directory.")
    for file in sorted(set(weight_map.values())):
        held = reader(index.parent / file)
        tensors |= {name: x for name, x in held.items() if weight_map.get(name, file) == file}
    absent = sorted(set(weight_map) - set(tensors))
    if absent:
        raise CheckpointError(
            f"{index} lists {_some(absent)}, which its files do not hold; expected all that it "
            "lists. Download or copy the files again."
        )
    return tensors


def save_parameters(directory: Path, arrays: Arrays, file: str = WEIGHTS) -> None:
    """Write a file of weights, whole or not at all: a failed write leaves an older one alone.

    Parameters
    ----------
    directory : Path
        Made if need be.
    arrays : mapping of str to array
        On the host.
    file : str
        Its name.
    """
    directory.mkdir(parents=True, exist_ok=True)
    save_safetensors(directory / file, arrays, {"format": "pt"})
