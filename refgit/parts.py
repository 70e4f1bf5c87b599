"""Where the parts of a checkpoint lie: its model, an adapter upon that, its processor.

Mostly one directory holds all. Three programs spread them out: peft writes an *adapter*, which is
what training has changed about a *base* model; Trainer writes a *run directory* with a folder
checkpoint-N now and then, which lacks the processor that it was not given; and people save model
and processor apart.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refgit.errors import CheckpointError, CheckpointWarning
from refgit.files import CONFIG_NAME, read_json
from refgit.hub import find_checkpoint

ADAPTER_CONFIG = "adapter_config.json"
_STEP = re.compile(r"checkpoint-(\d+)")  # what Trainer calls its folders
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "adapter_model.bin")
# The two halves of a processor, and the files of which one is enough.
_PROCESSOR = {
    "settings of its images": ("preprocessor_config.json", "processor_config.json"),
    "tokenizer": ("tokenizer.json", "vocab.txt"),
}


@dataclass(frozen=True)
class Parts:
    """The directories of a checkpoint's parts; see `find_parts`.

    Attributes
    ----------
    directory : Path
        What was asked for: an adapter's, or the model's own.
    model : Path
        Holds config.json and the weights; of an adapter, its base.
    adapter : Path or None
        Holds adapter_config.json and adapter_model.safetensors.
    own_processor : Path or None
        Holds the processor's files; None where no part has them all.
    """

    directory: Path
    model: Path
    adapter: Path | None
    own_processor: Path | None

    @property
    def processor(self) -> Path:
        """The directory with the processor's files.

        Raises
        ------
        CheckpointError
            There is none, or there is no model either.
        """
        if self.own_processor is not None:
            return self.own_processor
        read_json(self.model / CONFIG_NAME)  # without it, it is not the processor that is missing
        lacking = [
            f"{half} ({' or '.join(files)})"
            for half, files in _PROCESSOR.items()
            if not _has(self.directory, files)
        ]
        raise CheckpointError(
            f"{self.directory} lacks the processor's {' and '.join(lacking)}; Trainer leaves a "
            "processor out that it was not given. Pass --processor DIR|NAME, in Python "
            "processor=..., such as the checkpoint that its training began with."
        )


def find_parts(
    path: str | Path,
    *,
    base: str | Path | None = None,
    processor: str | Path | None = None,
    weights: bool = True,
    revision: str | None = None,
    token: Any = None,
) -> Parts:
    """Find the parts of a checkpoint, downloaded first where they are on the model hub.

    A run directory of Trainer, without a model of its own, stands for its latest checkpoint-N.

    Parameters
    ----------
    path : str or Path
        A directory or the id of a repository; see `refgit.hub.find_checkpoint`.
    base : str or Path, optional
        The model that an adapter changes; by default what its adapter_config.json names.
    processor : str or Path, optional
        Where the processor is; by default with the checkpoint, in the run directory above it, or
        with the base.
    weights : bool
        Whether the weights are needed, or only the small files.
    revision, token : optional
        Which version to download, and with what right.

    Returns
    -------
    Parts

    Raises
    ------
    CheckpointError
        A part is missing, a download failed, or `base` is given and there is no adapter.
    """
    found = find_checkpoint(path, weights=weights, revision=revision, token=token)
    directory = _latest(found)
    adapter = directory if (directory / ADAPTER_CONFIG).is_file() else None
    if adapter is None and base is not None:
        raise CheckpointError(
            f"a base is given, {base}, and {directory} is not an adapter (it has no "
            f"{ADAPTER_CONFIG}). Leave --base (base=) out, or name the adapter's directory."
        )
    model = directory if adapter is None else _base_of(adapter, base, weights=weights, token=token)
    if processor is None:
        own = _processor_near(directory) or (None if adapter is None else _processor_near(model))
    else:
        there = find_checkpoint(processor, weights=False, token=token)
        own = _processor_near(there) or _processor_near(_latest(there)) or there
    return Parts(directory, model, adapter, own)


# ---- run directories


def _latest(directory: Path) -> Path:
    """The directory itself, or of a run directory without a model the latest checkpoint in it."""
    if any((directory / name).is_file() for name in (CONFIG_NAME, ADAPTER_CONFIG)):
        return directory
    if not directory.is_dir():
        return directory
    steps = {int(m[1]): p for p in directory.iterdir() if (m := _STEP.fullmatch(p.name))}
    complete = [n for n, folder in steps.items() if _is_complete(folder)]
    if not complete:
        return directory
    latest = steps[max(complete)]
    later = [steps[n].name for n in sorted(steps) if n > max(complete)]
    broken = f"; {', '.join(later)} has no weights" if later else ""
    warnings.warn(
        f"{directory} is the directory of a training run; its latest checkpoint, {latest.name}, "
        f"is taken{broken}. Name another one to take that.",
        CheckpointWarning,
        stacklevel=4,
    )
    return latest


def _is_complete(folder: Path) -> bool:
    described = any((folder / name).is_file() for name in (CONFIG_NAME, ADAPTER_CONFIG))
    return described and any(True for pattern in _WEIGHTS for _ in folder.glob(pattern))


# ---- bases


def _base_of(adapter: Path, given: str | Path | None, *, weights: bool, token: Any) -> Path:
    """The directory of the model that an adapter changes."""
    path = adapter / ADAPTER_CONFIG
    config = read_json(path)
    named = config.get("base_model_name_or_path") if given is None else given
    what = f"{path} names as its base" if given is None else "the base is"
    remedy = "Pass the model that the adapter was trained on: --base DIR|NAME, in Python base=...."
    if not named or not isinstance(named, str | Path):
        if (adapter / CONFIG_NAME).is_file():
            return adapter
        raise CheckpointError(f"{path} names no base model. {remedy}")
    revision = config.get("revision") if given is None else None
    try:
        base = _latest(find_checkpoint(named, weights=weights, revision=revision, token=token))
    except CheckpointError as error:
        raise CheckpointError(f"{what} {named}: {error} {remedy}") from error
    if (base / ADAPTER_CONFIG).is_file() and base.resolve() != adapter.resolve():
        raise CheckpointError(
            f"{what} {named}, which is an adapter itself. Merge that one first: refgit convert "
            f"{named} --out DIR, and pass --base DIR (base=DIR)."
        )
    return base


# ---- processors


def _has(folder: Path, files: tuple[str, ...]) -> bool:
    return any((folder / name).is_file() for name in files)


def _processor_near(directory: Path) -> Path | None:
    """The directory if it holds a processor; of a checkpoint-N also the run directory above."""
    if all(_has(directory, files) for files in _PROCESSOR.values()):
        return directory
    above = directory.absolute().parent
    is_step = _STEP.fullmatch(directory.absolute().name)
    if is_step and all(_has(above, files) for files in _PROCESSOR.values()):
        return directory.parent if directory.name == directory.absolute().name else above
    return None
