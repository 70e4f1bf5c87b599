"""A directory of weights, compared with the list of parameters a model needs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from refgit.checkpoint.adapter.merging import merge_adapter
from refgit.checkpoint.fit import Fit, fit_names
from refgit.checkpoint.quantised import refuse_quantised, refuse_torchao
from refgit.checkpoint.safetensors_file import dtype_name, open_safetensors, save_safetensors
from refgit.checkpoint.torch.file import open_nested
from refgit.errors import CheckpointError, CheckpointWarning, first_of
from refgit.files import CONFIG_NAME, read_json

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
# Where a checkpoint of the whole model keeps its tensors; a part of it needs some of them only.
_WHOLE = {"git", "output"}
# What weights under a name of somebody's own should be called, by suffix; and what Trainer writes.
_NAMED_OTHERWISE = {".safetensors": WEIGHTS} | dict.fromkeys(
    (".pt", ".pth", ".ckpt", ".bin"), TORCH_WEIGHTS
)
_NOT_WEIGHTS = {"optimizer", "scheduler", "scaler", "training_args", "rng_state"}
_TABLE = "distance_embedding"  # of relative positions

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
    adapter: Path | None = None,
) -> dict[str, np.ndarray[Any, Any]]:
    """Read the parameters named in `shapes` from a checkpoint directory.

    Parameters
    ----------
    directory : Path
        Holds model.safetensors, or model.safetensors.index.json and what it lists; or the same of
        pytorch_model.bin.
    shapes : mapping of str to tuple
        Name and shape of every parameter the model needs. In the file, other components may stand
        before and within the names; see `refgit.checkpoint.fit`.
    prefix : str
        In front of these names in a checkpoint of the whole model: a GitModel or GitVisionModel
        loads from that as well as from its own.
    tied : mapping of str to str, optional
        Parameters that are one array with another, by the other's name; files leave them out.
    adapter : Path, optional
        Directory of an adapter of peft, which is merged into what the directory holds.

    Returns
    -------
    dict of str to array
        In the order of `shapes`, mapped from the file where NumPy has the dtype.

    Raises
    ------
    CheckpointError
        A file is missing or broken; or a tensor is missing or wrongly shaped, or was quantised.
        The message names the file, the tensor, found and expected.

    Warns
    -----
    CheckpointWarning
        There are tensors that the model does not have, which are left out.
    """
    config = directory / CONFIG_NAME
    said = read_json(config) if config.is_file() else {}
    refuse_quantised((), said, directory)
    weights = read_weights(directory, open_safetensors, _open_torch)
    if weights is None:
        names = ", ".join(name for names in _FORMATS for name in names)
        raise CheckpointError(
            f"{directory} holds none of {names}; expected one. Is the download complete?"
            f"{_other_files(directory)} A model.pt of Microsoft's is made into such a directory by "
            "refgit convert."
        )
    source = weights.source
    if weights.absent:
        raise CheckpointError(
            f"{source} lists {_some(weights.absent)}, which its files do not hold; expected all "
            "that it lists. Download or copy the files again."
        )
    refuse_quantised(weights.tensors, {}, source)
    tensors = weights.tensors
    fit = fit_parameters({name: x.shape for name, x in tensors.items()}, shapes, tied or {})
    found = {name: tensors[file] for name, file in fit.names.items()}
    if adapter is not None:
        found = merge_adapter(adapter, found, shapes, prefix=prefix, tied=tied or {})
    found |= {name: found[other] for name, other in (tied or {}).items() if other in found}
    _refuse_missing([name for name in shapes if name not in found], shapes, source)
    for name, shape in shapes.items():
        _check(found[name], fit.names.get(name, name), tuple(shape), source, config)
    _tell_left_out(fit, prefix, source)
    return {name: found[name] for name in shapes}


def _other_files(directory: Path) -> str:
    """A sentence about weights under a name of somebody's own, if there are any."""
    found = [p.name for p in sorted(directory.iterdir()) if p.suffix in _NAMED_OTHERWISE]
    found = [name for name in found if name.partition(".")[0] not in _NOT_WEIGHTS]
    if not found:
        return ""
    wanted = _NAMED_OTHERWISE[Path(found[0]).suffix]
    return f" If {found[0]} holds the weights, rename it to {wanted}."


def _open_torch(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    try:
        return open_nested(path)
    except CheckpointError as error:
        refuse_torchao(str(error), path)
        raise


def fit_parameters(
    found: Mapping[str, tuple[int, ...]],
    shapes: Mapping[str, tuple[int, ...]],
    tied: Iterable[str],
) -> Fit:
    """Do as `fit_names`; buffers do not count, and both spellings of time embeddings do."""
    files = {
        name.replace(*OTHER_SPELLING): name
        for name in found
        if name.rpartition(".")[2] not in _BUFFERS
    }
    fit = fit_names({name: found[file] for name, file in files.items()}, shapes, tied)
    names = {name: files[file] for name, file in fit.names.items()}
    return Fit(names, [files[name] for name in fit.left], fit.others, fit.beginning)


def _refuse_missing(
    missing: list[str], shapes: Mapping[str, tuple[int, ...]], source: Path
) -> None:
    if not missing:
        return
    if all(_TABLE in name for name in missing):
        raise CheckpointError(
            f"{source} lacks the tables of relative positions, {_some(missing)}, and config.json "
            "has position_embedding_type other than absolute. transformers 5 has dropped relative "
            "positions: it loads such a model without its tables, and saves it without them. Take "
            "the weights as they were before that; or, if the model was trained in transformers "
            '5, which computes with absolute positions, write "position_embedding_type": '
            '"absolute" into config.json.'
        )
    raise CheckpointError(
        f"{source} lacks {_some(missing)}; expected {len(shapes)} tensors, "
        f"such as {missing[0]} of shape {tuple(shapes[missing[0]])}. Take config.json and the "
        "weights from the same model."
    )


def _check(
    x: np.ndarray[Any, Any], name: str, shape: tuple[int, ...], source: Path, config: Path
) -> None:
    """Refuse a tensor of another shape, or one that is not floating point."""
    if x.shape != shape:
        raise CheckpointError(
            f"{source}: tensor {name} has shape {x.shape}; expected {shape} after {config}. Take "
            "both from the same model."
        )
    if x.dtype.kind != "f":
        raise CheckpointError(
            f"{source}: tensor {name} is of dtype {dtype_name(x)}; expected floating point: F64, "
            "F32, F16 or BF16. Weights that were quantised have to be saved again as one of these."
        )


def _tell_left_out(fit: Fit, prefix: str, source: Path) -> None:
    """Warn of tensors that are not used; a part of the model need not use those of the rest."""
    begin = fit.beginning
    left = [
        name
        for name in fit.left
        if not (prefix and not (begin and name.startswith(begin)) and _WHOLE & {*name.split(".")})
    ]
    if any(".lora_" in name for name in left):
        raise CheckpointError(
            f"{source} holds the tensors of a LoRA beside those of its base, "
            f"{first_of([name for name in left if '.lora_' in name])}; expected either an adapter "
            "by itself or one model. Save again with peft: model.save_pretrained(DIR), or "
            "model.merge_and_unload().save_pretrained(DIR)."
        )
    if fit.others:
        copies = " and ".join(repr(other) for other in [begin, *fit.others])
        warnings.warn(
            f"{source} holds the model {len(fit.others) + 1} times, its names beginning with "
            f"{copies}; those with {begin!r} are taken.",
            CheckpointWarning,
            stacklevel=3,
        )
        left = [name for name in left if not name.startswith(tuple(o for o in fit.others if o))]
    if left:
        warnings.warn(
            f"{source} holds {_some(left)}, which this model does not have; left out, since all "
            "that it needs is there.",
            CheckpointWarning,
            stacklevel=3,
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
