"""A directory of weights, compared with the list of parameters a model needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from refgit.checkpoint.safetensors_file import dtype_name, open_safetensors, save_safetensors
from refgit.checkpoint.torch.file import open_torch
from refgit.errors import CheckpointError, first_of
from refgit.files import read_json

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
TORCH_WEIGHTS = "pytorch_model.bin"
TORCH_INDEX = "pytorch_model.bin.index.json"
# The first of these that is there is read: what the whole file is called, and its index.
_FORMATS = ((WEIGHTS, INDEX), (TORCH_WEIGHTS, TORCH_INDEX))
# Buffers that older versions of transformers wrote: 0, 1, 2, ..., nothing learned.
_BUFFERS = ("position_ids",)
# transformers 5 spells the time embeddings of videos rightly; the hub's checkpoints do not.
OTHER_SPELLING = ("img_temporal_embedding", "img_temperal_embedding")
_MODEL_PREFIX = "git."
_HEAD = "output."

Arrays = Mapping[str, np.ndarray[Any, Any]]
T = TypeVar("T")


class Weights(NamedTuple, Generic[T]):
    """What the files of a checkpoint directory hold.

    Attributes
    ----------
    tensors : dict of str to T
        By their names in the files.
    source : Path
        The file or index to name in messages.
    files : list of Path
        All files that were read.
    absent : list of str
        Tensors that the index lists and the files lack.
    """

    tensors: dict[str, T]
    source: Path
    files: list[Path]
    absent: list[str]


def read_weights(
    directory: Path,
    safetensors: Callable[[Path], dict[str, T]],
    torch: Callable[[Path], dict[str, T]],
) -> Weights[T] | None:
    """Read the weights of a directory: one file, or those that an index lists.

    Parameters
    ----------
    directory : Path
    safetensors, torch : callable
        Read one file of either format.

    Returns
    -------
    Weights, or None where there are none

    Raises
    ------
    CheckpointError
        A file is missing or broken.
    """
    for (whole, index), reader in zip(_FORMATS, (safetensors, torch), strict=True):
        if (directory / whole).is_file():
            return Weights(reader(directory / whole), directory / whole, [directory / whole], [])
        if (directory / index).is_file():
            return _read_shards(directory / index, reader)
    return None


def _read_shards(index: Path, reader: Callable[[Path], dict[str, T]]) -> Weights[T]:
    """Read every tensor that an index lists from the file that it names."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise CheckpointError(
            f'{index} has no "weight_map"; expected tensor names with files. Download or copy it '
            "again."
        )
    for file in weight_map.values():
        if not isinstance(file, str) or file in ("", "..") or Path(file).name != file:
            raise CheckpointError(
                f'{index}: its "weight_map" names {file!r}; expected a file of its own directory.'
            )
    files = [index.parent / file for file in sorted(set(weight_map.values()))]
    tensors: dict[str, T] = {}
    for path in files:
        held = reader(path)
        tensors |= {
            name: x for name, x in held.items() if weight_map.get(name) in (None, path.name)
        }
    return Weights(tensors, index, files, sorted(set(weight_map) - set(tensors)))


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
    weights = read_weights(directory, open_safetensors, open_torch)
    if weights is None:
        names = ", ".join(name for names in _FORMATS for name in names)
        raise CheckpointError(
            f"{directory} holds none of {names}; expected one. Is the download complete? A "
            "model.pt of Microsoft's is made into such a directory by refgit convert."
        )
    source = weights.source
    if weights.absent:
        raise CheckpointError(
            f"{source} lists {_some(weights.absent)}, which its files do not hold; expected all "
            "that it lists. Download or copy the files again."
        )
    found = {name.replace(*OTHER_SPELLING): x for name, x in weights.tensors.items()}
    found = {name: x for name, x in found.items() if name.rpartition(".")[2] not in _BUFFERS}
    if prefix and not any(name in found for name in shapes):
        inside = {name[len(prefix) :]: x for name, x in found.items() if name.startswith(prefix)}
        rest = {name for name in found if not name.startswith((_MODEL_PREFIX, _HEAD))}
        _refuse_unexpected(rest, source)
        found = inside
    found |= {name: found[other] for name, other in (tied or {}).items() if other in found}
    missing = [name for name in shapes if name not in found]
    if missing:
        raise CheckpointError(
            f"{source} lacks {_some(missing)}; expected {len(shapes)} tensors, "
            f"such as {missing[0]} of shape {tuple(shapes[missing[0]])}. Take config.json and the "
            "weights from the same model."
        )
    _refuse_unexpected(set(found) - set(shapes), source)
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
    return f"tensor{'s' if len(names) > 1 else ''} {first_of(names)}"


def save_parameters(directory: Path, arrays: Arrays, file: str = WEIGHTS) -> None:
    """Write a file of weights, whole or not at all: a failed write leaves an older one as it was.

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
