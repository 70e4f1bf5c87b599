"""Reading golden/: the manifest, the tensors, and models with their weights."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from refgit import GitConfig, GitForCausalLM
from refgit_backends import Backend

GOLDEN = Path(__file__).parents[2] / "golden"
MANIFEST: dict[str, Any] = json.loads((GOLDEN / "manifest.json").read_text())
FORWARD_CASES = [name for name, entry in MANIFEST.items() if "weights" in entry]


def _load_module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_weights = _load_module(GOLDEN / "weights.py").make_weights


@cache
def tensors(case: str) -> dict[str, np.ndarray]:
    """The stored tensors of a case, whose checksum must be the manifest's."""
    ((file, sha256),) = MANIFEST[case]["files"].items()
    path = GOLDEN / "data" / file
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256, f"{path} was changed"
    return load_file(path)


def group(case: str, kind: str) -> dict[str, np.ndarray]:
    """The tensors called KIND.NAME, by NAME."""
    return {
        name.removeprefix(f"{kind}."): x
        for name, x in tensors(case).items()
        if name.startswith(f"{kind}.")
    }


@cache
def weights(case: str) -> dict[str, np.ndarray]:
    entry = MANIFEST[case]
    if entry["weights"] == "stored":
        return group(case, "weight")
    assert entry["weights"] == "golden/weights.py"
    drawn: dict[str, np.ndarray] = make_weights(
        GitForCausalLM.shapes(GitConfig.from_dict(entry["config"])), entry["seed"]
    )
    return drawn


def model(case: str, backend: Backend) -> GitForCausalLM:
    """refgit's model of a case on a backend."""
    entry = MANIFEST[case]
    if entry["weights"] == "refgit/demo":
        folder = GOLDEN.parent / "refgit" / "demo"
        return GitForCausalLM.from_pretrained(folder, backend=backend, dtype=entry["dtype"])
    config = GitConfig.from_dict(entry["config"])
    return GitForCausalLM(config, backend=backend, dtype=entry["dtype"], _parameters=weights(case))


def inputs(case: str) -> dict[str, np.ndarray]:
    """Arguments of the forward pass."""
    found = group(case, "input")
    if "pixel_values" not in found:  # too large to store: drawn as golden/generate.py does
        rng = np.random.RandomState(MANIFEST[case]["seed"] + 1)
        found["pixel_values"] = rng.standard_normal((1, 3, 224, 224)).astype(np.float32)
    return found


def stored_part(case: str, x: np.ndarray) -> np.ndarray:
    """What of a computed tensor the case stores; see `part` in golden/generate.py."""
    if x.ndim < 3:
        return x
    every_row, every_channel = MANIFEST[case]["part"]
    rows = sorted({*range(0, x.shape[-2], every_row), x.shape[-2] - 1})
    channels = sorted({*range(0, x.shape[-1], every_channel), x.shape[-1] - 1})
    return x[..., rows, :][..., channels]
