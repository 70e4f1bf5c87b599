"""Microsoft's own GIT checkpoints, model.pt and parameter.yaml, as checkpoints of the hub's form.

The repository microsoft/GenerativeImage2Text saves the state dict of its model; the names are in
names.py, the settings in settings.py, the config in config.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refgit.checkpoint.microsoft.config import config_from, sizes_of
from refgit.checkpoint.microsoft.names import UNUSED, tensors
from refgit.checkpoint.microsoft.settings import (
    MicrosoftSettings,
    agree,
    settings_in,
    settings_of,
)
from refgit.checkpoint.microsoft.yaml import read_parameters
from refgit.checkpoint.torch.file import read_torch
from refgit.errors import CheckpointError, first_of
from refgit.validation import expect

Arrays = dict[str, np.ndarray[Any, Any]]

PARAMETERS = "parameter.yaml"
DTYPES = ("float32", "float16", "as-is")
# What training on several GPUs puts in front of every name, once or more often.
_PREFIXES = re.compile(r"^(module\.)+")
_WORDS, _HEAD = "git.embeddings.word_embeddings.weight", "output.weight"


@dataclass(frozen=True)
class MicrosoftModel:
    """One of Microsoft's models in the hub's form.

    Attributes
    ----------
    config : dict
        The entries of config.json, read off the tensors.
    parameters : dict of str to array
        By the hub's names, mapped from the file unless converted.
    settings : MicrosoftSettings
        What parameter.yaml and the name say; `test_respect_ratio_max` among them.
    notes : tuple of str
        What was left out or is worth knowing, a sentence each.
    """

    config: dict[str, Any]
    parameters: Arrays
    settings: MicrosoftSettings
    notes: tuple[str, ...]


def read_microsoft(
    path: str | Path,
    *,
    name: str | None = None,
    parameters: str | Path | None = None,
    dtype: str = "float32",
) -> MicrosoftModel:
    """Read a model.pt of microsoft/GenerativeImage2Text.

    Parameters
    ----------
    path : str or Path
        What torch.save wrote: a state dict, by itself or under "model".
    name : str, optional
        Which model it is, such as "GIT_BASE_VQAv2"; what is known of it must agree.
    parameters : str or Path, optional
        Its parameter.yaml; by default the one beside `path`, or above a directory "snapshot".
    dtype : {"float32", "float16", "as-is"}
        What the weights become.

    Returns
    -------
    MicrosoftModel

    Raises
    ------
    CheckpointError
        A file is missing or broken; a tensor is missing, unknown, wrongly shaped or not of numbers;
        or the settings contradict each other or the tensors. The message names what it is.
    """
    file = Path(path)
    expect("dtype", dtype, dtype in DTYPES, f"one of {', '.join(DTYPES)}")
    settings, source, notes = _settings(file, name, parameters)
    state, others = _state_dict(file)
    if others:
        notes.append(f"left out what else {file.name} holds: {', '.join(others)}.")
    try:
        shapes = {key: x.shape for key, x in state.items()}
        sizes = sizes_of(shapes)
        config = config_from(shapes, sizes, settings, source)
    except ValueError as error:
        raise CheckpointError(f"{file}: {error}") from error
    converted = {key: _cast(x, key, dtype, file) for key, x in _renamed(state, config, sizes, file)}
    for key in UNUSED:
        if key in state:
            notes.append(f"left out {key}: {UNUSED[key]}.")
    notes += _open_questions(config, settings, converted, named=name is not None)
    stored = sorted({x.dtype.name for x in converted.values()})
    config["torch_dtype"] = stored[0] if len(stored) == 1 else "float32"
    return MicrosoftModel(config, converted, settings, tuple(notes))


# ---- the settings


def _settings(
    file: Path, name: str | None, parameters: str | Path | None
) -> tuple[MicrosoftSettings, str, list[str]]:
    """What is known beside the tensors, what to call its source, and notes."""
    notes: list[str] = []
    known = MicrosoftSettings() if name is None else settings_of(name)
    path = Path(parameters) if parameters is not None else _beside(file)
    if path is None:
        return known, f"the name {name}", notes
    entries = read_parameters(path)
    try:
        said, strangers = settings_in(entries)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if strangers:
        notes.append(
            f"{path} has {', '.join(strangers)}, which mean nothing to Microsoft's models; passed "
            "over."
        )
    if name is None:
        return said, str(path), notes
    joined = agree(said, known, (str(path), f"the name {name}"))
    return joined, f"{path} and the name {name}", notes


def _beside(file: Path) -> Path | None:
    """Microsoft's code keeps NAME/parameter.yaml and NAME/snapshot/model.pt."""
    folders = [file.parent]
    if file.absolute().parent.name == "snapshot":
        folders.append(file.parent / "..")
    return next((f / PARAMETERS for f in folders if (f / PARAMETERS).is_file()), None)


def _open_questions(
    config: dict[str, Any], settings: MicrosoftSettings, parameters: Arrays, *, named: bool
) -> list[str]:
    """What the tensors leave open, or contradict the code that wrote them in."""
    notes = []
    size, images = config["vision_config"]["image_size"], not config["num_image_with_embedding"]
    told = named or settings.test_crop_size or settings.test_respect_ratio_max
    if images and size != 224 and not told:
        notes.append(
            f"this model takes {size} pixels, and nothing says whether its images keep their "
            f"aspect ratio, as those of Microsoft's VQAv2 and TextVQA models do; they will be "
            f"cropped. A {PARAMETERS} (--parameters) or the model's name (--name) tells."
        )
    words, head = parameters[_WORDS], parameters[_HEAD]
    if not np.array_equal(words, head, equal_nan=True):
        notes.append(
            "textual.output.weight and textual.embedding.words.weight differ, which are one in "
            "Microsoft's code; both are kept."
        )
    strange = [name for name, x in parameters.items() if not np.isfinite(x).all()]
    if strange:
        notes.append(
            f"{first_of(strange)} hold NaN or infinite numbers; so will all that is computed."
        )
    return notes


# ---- the tensors


def _state_dict(file: Path) -> tuple[Arrays, list[str]]:
    """The tensors by name, without a prefix; and the names of what else there is."""
    content = read_torch(file)
    others: list[str] = []
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        others = [str(key) for key in content if key != "model"]
        content = content["model"]
    if not isinstance(content, dict) or not content:
        raise CheckpointError(
            f"{file} does not hold a state dict; expected names with tensors, by themselves or "
            'under "model".'
        )
    state: Arrays = {}
    for key, x in content.items():
        if not isinstance(key, str) or not isinstance(x, np.ndarray):
            raise CheckpointError(
                f"{file}: entry {key!r} is not a tensor ({type(x).__name__}); expected names with "
                'tensors, by themselves or under "model".'
            )
        plain = _PREFIXES.sub("", key)
        if plain in state:
            raise CheckpointError(
                f"{file} holds {plain} twice, with and without module. in front; expected it once."
            )
        state[plain] = x
    return state, others


def _renamed(
    state: Arrays, config: Mapping[str, Any], sizes: Mapping[str, int], file: Path
) -> list[tuple[str, np.ndarray[Any, Any]]]:
    """Every parameter of the model by the hub's name, none missing and none in excess."""
    names = tensors(
        config["vision_config"]["num_hidden_layers"],
        config["num_hidden_layers"],
        config["num_image_with_embedding"] or 0,
    )
    missing = [key for key in names if key not in state]
    unknown = [key for key in state if key not in names and key not in UNUSED]
    for what, keys, expected in (
        ("lacks", missing, f"the {len(names)} tensors of Microsoft's model"),
        ("holds", unknown, "only the tensors of Microsoft's model"),
    ):
        if keys:
            raise CheckpointError(f"{file} {what} {first_of(keys)}; expected {expected}.")
    renamed = []
    for key, (ours, letters) in names.items():
        x, (rows, *rest) = state[key], (1 if n == "1" else sizes[n] for n in letters.split())
        wanted = (len(ours) * rows, *rest)
        if x.shape != wanted:
            raise CheckpointError(
                f"{file}: tensor {key} has shape {x.shape}; expected {wanted} after the other "
                "tensors' shapes. Is the file that of one model, as it was saved?"
            )
        # (3 D, ...) -> three times (D, ...), or the tensor itself; consecutive rows need no copy
        renamed += [(ours[i], x[i * rows : (i + 1) * rows]) for i in range(len(ours))]
    return renamed


def _cast(x: np.ndarray[Any, Any], name: str, dtype: str, file: Path) -> np.ndarray[Any, Any]:
    """A tensor in the dtype that was asked for, if it has one."""
    if x.dtype.kind != "f":
        raise CheckpointError(
            f"{file}: what becomes {name} is of dtype {x.dtype}; expected floating point."
        )
    if dtype in ("as-is", x.dtype.name):
        return x
    with np.errstate(over="ignore"):
        cast = x.astype(dtype)
    if not np.array_equal(np.isfinite(cast), np.isfinite(x)):
        raise CheckpointError(
            f"{file}: what becomes {name} has numbers as large as {np.abs(x).max():g}, too large "
            f"for {dtype}; convert it with --dtype as-is."
        )
    return cast
