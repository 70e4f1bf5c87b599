"""A LoRA merged into the weights that it changes, as peft's merge_and_unload does.

Each layer's change is a product of two small matrices: ``W + s B A``, with s from
adapter_config.json. Of an embedding the product is transposed, of a convolution it is reshaped.
DoRA then scales each output to a length that was trained: ``m (W + s B A) / |W + s B A|``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from refgit.checkpoint.adapter.config import AdapterConfig, read_adapter_config
from refgit.checkpoint.safetensors_file import open_safetensors
from refgit.checkpoint.torch.file import open_nested
from refgit.errors import CheckpointError

Array = np.ndarray[Any, Any]
T = TypeVar("T")

FILES = ("adapter_model.safetensors", "adapter_model.bin")
_ROOT = "base_model.model."
_GIT = "git."  # a LoRA of a GitModel lacks it in front
# layer, then what of it; peft's own name of the adapter may stand between or at the end
_TAIL = re.compile(
    r"(?P<layer>.+)\.(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B|"
    r"lora_magnitude_vector)(?:\.(?!weight$|bias$)[^.]+)?(?:\.(?P<leaf>weight|bias))?"
)
_BUFFER = ".position_ids"  # 0, 1, 2, ..., nothing learned
_KINDS = {"lora_embedding_A": "A", "lora_embedding_B": "B", "lora_magnitude_vector": "m"}


@dataclass
class Change:
    """What an adapter holds about a layer.

    Attributes
    ----------
    layer : str
        Its name in the model that was trained.
    tensors : dict of str to array
        "A" (r, inputs), "B" (outputs, r); with DoRA "m" (outputs), with lora_bias "b" (outputs).
    """

    layer: str
    tensors: dict[str, Array] = field(default_factory=dict)


def read_adapter(
    adapter: Path,
    safetensors: Callable[[Path], dict[str, T]],
    torch: Callable[[Path], dict[str, T]],
) -> tuple[Path, dict[str, T]]:
    """Read the tensors of an adapter's directory.

    Parameters
    ----------
    adapter : Path
    safetensors, torch : callable
        Read a file of either format.

    Returns
    -------
    tuple of Path and dict of str to T
        The file, and its tensors without peft's "base_model.model." in front.

    Raises
    ------
    CheckpointError
        There are none, or the file is broken.
    """
    for name, reader in zip(FILES, (safetensors, torch), strict=True):
        path = adapter / name
        if path.is_file():
            return path, {key.removeprefix(_ROOT): x for key, x in reader(path).items()}
    raise CheckpointError(
        f"{adapter} holds none of {', '.join(FILES)}; expected one beside adapter_config.json. Is "
        "the download or copy complete?"
    )


def merge_adapter(
    adapter: Path,
    base: Mapping[str, Array],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    prefix: str,
    tied: Mapping[str, str],
) -> dict[str, Array]:
    """Merge an adapter into the weights of its base.

    Parameters
    ----------
    adapter : Path
        Its directory.
    base : mapping of str to array
        Weights by name.
    shapes : mapping of str to tuple
        Name and shape of every parameter.
    prefix : str
        In front of these names in the whole model, where they are those of a part.
    tied : mapping of str to str
        Parameters that are one array with another.

    Returns
    -------
    dict of str to array
        Those that the adapter changes are new arrays, in float32 or the base's float64.

    Raises
    ------
    CheckpointError
        A file is missing or broken, is of another type, or does not belong to this base.
    """
    config = read_adapter_config(adapter)
    path, tensors = read_adapter(adapter, open_safetensors, open_nested)
    changes, whole = _sorted_out(tensors, path)
    merged = dict(base)

    def find(name: str) -> str | None:
        return _parameter(name, shapes, prefix, path)

    for name, x in whole.items():
        target = find(name)
        if target is not None:
            merged[target] = _checked(x, shapes[target], name, path)
    for layer, change in changes.items():
        target = find(f"{layer}.weight")
        if target is None:
            continue
        target = tied.get(target, target)
        weight = merged.get(target)
        if weight is None:
            raise CheckpointError(f"{path} changes {target}, which its base does not hold.")
        merged[target] = merged_weight(weight, change, config)
        if "b" in change.tensors:
            bias = f"{target.removesuffix('weight')}bias"
            if bias not in merged:
                raise CheckpointError(f"{path} changes {bias}, which its base does not hold.")
            scale = config.scaling(layer, change.tensors["A"].shape[0])
            merged[bias] = merged[bias] + np.float32(scale) * change.tensors["b"]
    return merged


def merged_weight(weight: Array, change: Change, config: AdapterConfig) -> Array:
    """Merge the change of one layer: linear (O, I), embedding (V, D) or convolution (O, I, P, P).

    Parameters
    ----------
    weight : array
    change : Change
    config : AdapterConfig

    Returns
    -------
    array of the weight's shape, in float32 or float64

    Raises
    ------
    CheckpointError
        Matrices are missing or do not fit the weight.
    """
    parts = change.tensors
    needed = ["A", "B", *(["m"] if config.dora else [])]
    lacking = [name for name in needed if name not in parts]
    if lacking:
        raise CheckpointError(
            f"{config.path.parent}: the LoRA of {change.layer} lacks its {lacking[0]}; expected "
            f"{', '.join(needed)}. Was the file cut, or saved while its parts were on several "
            "devices?"
        )
    kind = np.result_type(weight.dtype, np.float32)
    a, b = parts["A"].astype(kind), parts["B"].astype(kind)
    outputs, rank = b.shape[:2] if b.ndim > 1 else (b.size, 0)
    fits = rank == a.shape[0] and b.size == outputs * rank and outputs * a[:1].size == weight.size
    if not fits:
        raise CheckpointError(
            f"{config.path.parent}: the LoRA of {change.layer} has matrices of shapes {a.shape} "
            f"and {b.shape}; expected such that fit its weight of shape {weight.shape}. Is this "
            "the base that it was trained on?"
        )
    product = b.reshape(outputs, rank) @ a.reshape(rank, -1)
    is_embedding = "embedding" in parts
    product = product.T if is_embedding else product.reshape(weight.shape)
    scale = config.scaling(change.layer, rank)
    merged: Array = weight.astype(kind) + np.asarray(scale, kind) * product
    if "m" not in parts:
        return merged
    rows = merged.T if is_embedding else merged.reshape(outputs, -1)
    lengths = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    scaled: Array = parts["m"].astype(kind).reshape(-1, 1) / lengths * rows
    return scaled.T if is_embedding else scaled.reshape(weight.shape)


# ---- names


def _sorted_out(
    tensors: Mapping[str, Array], path: Path
) -> tuple[dict[str, Change], dict[str, Array]]:
    """The changes by layer, and the parameters that were trained as a whole."""
    changes: dict[str, Change] = {}
    whole: dict[str, Array] = {}
    for name, x in tensors.items():
        match = _TAIL.fullmatch(name)
        if match is None:
            if "lora_" in name or "token_adapter" in name:
                raise CheckpointError(
                    f"{path} holds {name}, which is not a part of a LoRA that refgit merges. Merge "
                    "it in peft: merge_and_unload() and save_pretrained(DIR)."
                )
            if ".original_module." not in name and not name.endswith(_BUFFER):
                whole[name] = x
            continue
        layer, part = match["layer"], match["part"]
        change = changes.setdefault(layer, Change(layer))
        kind = "b" if match["leaf"] == "bias" else _KINDS.get(part, part[-1])
        change.tensors[kind] = x
        if "embedding" in part:
            change.tensors["embedding"] = x
    return changes, whole


def _parameter(name: str, shapes: Mapping[str, Any], prefix: str, path: Path) -> str | None:
    """The parameter that a name of the adapter is about; None if a part of the model lacks it.

    Before the name and within it may stand what wraps a layer, such as modules_to_save.
    """
    vocabulary = {part for known in shapes for part in known.split(".")}
    parts = name.split(".")
    for start in range(len(parts)):
        kept = ".".join(part for part in parts[start:] if part in vocabulary)
        for known in (kept, f"{_GIT}{kept}"):
            if parts[start] in vocabulary and known in shapes:
                return known
    if prefix:  # the adapter is one of the whole model
        return None
    raise CheckpointError(
        f"{path} holds {name}, and its base has no such layer. Is this the base that it was "
        "trained on?"
    )


def _checked(x: Array, shape: tuple[int, ...], name: str, path: Path) -> Array:
    if x.shape != tuple(shape):
        raise CheckpointError(
            f"{path}: {name} has shape {x.shape}; its base has {tuple(shape)}. A model whose "
            "vocabulary was enlarged before training has to be saved so, as the base (--base DIR)."
        )
    return x
