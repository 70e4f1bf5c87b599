"""The conformance kit: cases with their right answers as files, so that any port can test itself.

`write_kit` makes everything at that moment from seeds: small random weights, pictures, texts,
expected values computed in float64, and a tolerance for each tensor from measured noise
(`tolerance.py`). README.md in the kit says how to use it; `grading.py` grades what a port writes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from refgit.files import write_whole
from refgit.hub import find_checkpoint
from refgit.model.causal_lm import GitForCausalLM
from refgit.parity.kit.case import LEVELS, Case, Checkpoint, Evaluation, TextCase
from refgit.parity.kit.cases import computed_cases, file_cases
from refgit.parity.kit.cases.checkpoints import kit_checkpoints
from refgit.parity.kit.cases.searches import (
    SHAKE,
    SHAKE_OF_A_CHECKPOINT,
    check_stability,
    checkpoint_cases,
)
from refgit.parity.kit.readme import readme
from refgit.parity.kit.tolerance import UnstableError, evaluations, measure, rounded_up
from refgit.parity.kit.tolerance import tolerance as tolerance_of
from refgit.parity.kit.vocabulary import VOCABULARY
from refgit.parity.numerics.floor import MULTIPLE
from refgit.traces.container import Tensor
from refgit.version import __version__

FORMAT = "refgit-kit/1"
INDEX = "kit.json"
# Searches run the model many times; these orders of summation show enough.
FOR_SEARCHES = ("kernels", "definitions", "shuffled")
FOR_A_CHECKPOINT = ("kernels", "definitions", "backwards")
SEARCHES = ("greedy", "beam")


def write_kit(directory: str | Path, *, model: str | Path | None = None) -> dict[str, Any]:
    """Write the kit.

    Parameters
    ----------
    directory : str or Path
        Made if need be; it must be empty, or hold a kit, which is replaced file by file.
    model : str or Path, optional
        A checkpoint of your own, for which cases are added. Its weights are not copied.

    Returns
    -------
    dict
        The content of kit.json.

    Raises
    ------
    ValueError
        The directory holds something else.
    CheckpointError
        The checkpoint cannot be read.
    """
    folder = Path(directory)
    _check_folder(folder)
    own = None if model is None else _checkpoint(model)  # it may fail: before anything is written
    for name in ("cases", "models", "pictures", "tokenizer"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    checkpoints = kit_checkpoints()
    for checkpoint in checkpoints.values():
        _write_checkpoint(folder, checkpoint)
    write_whole(folder / "tokenizer" / "vocab.txt", "\n".join(VOCABULARY) + "\n")
    left_out: list[dict[str, str]] = []
    entries = [_write_text_case(folder, case) for case in file_cases()]
    for case, float32 in _with_evaluations(checkpoints, own):
        try:
            entries.append(_write_case(folder, case, float32))
        except UnstableError as error:
            if own is None or case.checkpoint is not own:
                raise
            left_out.append({"id": case.id, "reason": str(error)})
    entries.sort(key=lambda entry: list(LEVELS).index(entry["level"]))  # stable within a level
    cases = Counter(entry["level"] for entry in entries)
    index = {
        "format": FORMAT,
        "refgit": __version__,
        "margin": MULTIPLE,
        "levels": [
            {"name": name, "look_at": hint, "cases": cases[name]} for name, hint in LEVELS.items()
        ],
        "cases": entries,
        "left_out": left_out,
        "vocabulary": "tokenizer/vocab.txt",
    }
    write_whole(folder / INDEX, json.dumps(index, indent=1, ensure_ascii=False) + "\n")
    write_whole(folder / "README.md", readme(index))
    return index


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; expected a directory to write the kit into.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / INDEX).is_file():
        raise ValueError(
            f"{folder} is not empty and holds no kit (no {INDEX}); pass a new directory."
        )


def _checkpoint(path: str | Path) -> Checkpoint:
    found = find_checkpoint(path)
    model = GitForCausalLM.from_pretrained(found)
    return Checkpoint("checkpoint", model.config, model.state_dict(), str(Path(found).resolve()))


def _with_evaluations(
    checkpoints: Mapping[str, Checkpoint], own: Checkpoint | None
) -> Iterator[tuple[Case, list[Evaluation]]]:
    """All cases that are computed, each with the float32 evaluations that measure its noise."""
    every = {evaluation.name: evaluation for evaluation in evaluations()}
    for case in computed_cases(checkpoints):
        names = FOR_SEARCHES if case.level in SEARCHES else tuple(every)
        yield case, [every[name] for name in names]
    for case in () if own is None else checkpoint_cases(own):  # it may be a large model
        names = FOR_A_CHECKPOINT[:1] if case.level in SEARCHES else FOR_A_CHECKPOINT
        yield case, [every[name] for name in names]


# ---- files


def _write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    path = folder / "models" / checkpoint.name
    config = checkpoint.config.replace(extra={"architectures": ["GitForCausalLM"]})
    config.save_pretrained(path)
    write_tensors(path / "model.safetensors", checkpoint.parameters)


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file without metadata, whose order differs from run to run."""
    from safetensors.numpy import save

    path.write_bytes(save({name: np.asarray(x, order="C") for name, x in tensors.items()}))


def _write_case(folder: Path, case: Case, float32: list[Evaluation]) -> dict[str, Any]:
    expected, noise = measure(case, float32)
    if case.level in SEARCHES:
        own = case.checkpoint is not None and case.checkpoint.path is not None
        check_stability(case, SHAKE_OF_A_CHECKPOINT if own else SHAKE, float32[0])
    tensors = {}
    for name, x in expected.items():
        tensors[name] = {
            "dtype": "float32" if name in noise else str(x.dtype),
            "shape": list(x.shape),
            "required": name in case.required,
        }
        if name in noise:
            tensors[name] |= _tolerated(x, noise[name], tolerance_of(noise[name], x))
            expected[name] = x.astype(np.float32)
        if name in case.counts:
            tensors[name]["counts"] = f"{name}.counts"
    stored = expected | {f"{name}.counts": x for name, x in case.counts.items()}
    return _entry(folder, case, stored, tensors) | {"weights": _weights(case)}


def _write_text_case(folder: Path, case: TextCase) -> dict[str, Any]:
    tensors: dict[str, Any] = {}
    for name, x in case.expected.items():
        tensors[name] = {"required": True, "dtype": "json"}
        if name in case.noise:
            tensors[name] |= {"dtype": str(x.dtype), "shape": list(x.shape)}
            noise = case.noise[name]
            tensors[name] |= _tolerated(x, noise, rounded_up(case.margin * noise))
    for name, data in case.pictures.items():
        (folder / "pictures" / name).write_bytes(data)
    entry = _entry(folder, case, case.expected, tensors)
    pictures = [f"pictures/{name}" for name in case.pictures]
    return entry | ({"pictures": pictures} if pictures else {})


def _tolerated(x: Tensor, noise: float, tolerance: float) -> dict[str, float]:
    largest = float(np.max(np.abs(x), initial=0.0))
    return {
        "tolerance": tolerance, "noise": rounded_up(noise), "largest": rounded_up(largest)
    }  # fmt: skip


def _entry(
    folder: Path, case: Case | TextCase, expected: Mapping[str, Any], tensors: dict[str, Any]
) -> dict[str, Any]:
    """Write inputs and expected values, as safetensors or as JSON where they are not arrays."""
    files = {}
    for kind, content in (("inputs", case.inputs), ("expected", expected)):
        arrays = all(isinstance(x, np.ndarray) for x in content.values())
        files[kind] = f"cases/{case.id}.{kind}.{'safetensors' if arrays else 'json'}"
        if arrays:
            write_tensors(folder / files[kind], content)
        else:
            text = json.dumps(content, ensure_ascii=True, indent=1)
            write_whole(folder / files[kind], text + "\n")
    return {
        "id": case.id,
        "level": case.level,
        "operation": case.operation,
        "description": case.description,
        "look_at": case.description if case.level == "layer" else LEVELS[case.level],
        "arguments": dict(case.arguments),
        **files,
        "tensors": tensors,
    }


def _weights(case: Case) -> dict[str, str] | None:
    checkpoint = case.checkpoint
    if checkpoint is None:
        return None
    path = checkpoint.path or f"models/{checkpoint.name}"
    whole = checkpoint.path is None or (Path(path) / "model.safetensors").is_file()
    return {
        "file": f"{path}/model.safetensors" if whole else path,
        "config": f"{path}/config.json",
        "prefix": case.prefix,
    }
