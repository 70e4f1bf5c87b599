"""A small model in refgit and in transformers with the same random weights, and inputs for it."""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "backends")]

from refgit import (  # noqa: E402
    GitConfig,
    GitForCausalLM,
    testing,
    to_numpy,
)

VISION = testing.VISION
CONFIG = testing.CONFIG.replace(max_position_embeddings=40)
N = VISION.num_positions  # 5 image tokens: four patches and the class token


def transformers_version() -> str:
    """The version that is installed."""
    return version("transformers")


def pair(config: GitConfig = CONFIG, dtype: str = "float32", seed: int = 3) -> tuple[Any, Any]:
    """refgit's model, and transformers' with its weights."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    ours = GitForCausalLM(config, seed=seed, dtype=dtype)
    with tempfile.TemporaryDirectory() as folder, quiet():
        ours.save_pretrained(folder)
        theirs = transformers.GitForCausalLM.from_pretrained(
            folder, attn_implementation="eager", dtype=dtype
        )
    return ours, theirs.eval()


def pixels(images: int = 1, size: int = 8) -> np.ndarray:
    """Images (B, C, S, S) as a processor would make them."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((images, 3, size, size)).astype(np.float32)


def words(rows: int = 1, length: int = 6) -> np.ndarray:
    """Texts (B, T) that start with the opening token."""
    return testing.tokens(rows, length)


@contextmanager
def quiet() -> Iterator[None]:
    """No gradients, and no warnings of the other implementation's."""
    import torch

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def ask(theirs: Any, **call: Any) -> Any:
    """Call transformers' model with copies of arrays."""
    with quiet():
        return theirs(**tensors(call))


def write(theirs: Any, **call: Any) -> Any:
    """Let transformers' model write."""
    with quiet():
        return theirs.generate(**tensors(call), do_sample=False)


def tensors(call: dict[str, Any]) -> dict[str, Any]:
    """Arrays become tensors; the rest stays."""
    import torch

    return {k: torch.tensor(x) if isinstance(x, np.ndarray) else x for k, x in call.items()}


def gap(a: Any, b: Any) -> str:
    """The largest difference, relative to the largest magnitude, in two digits."""
    a, b = numbers(a), numbers(b)
    error = float(np.abs(a - b).max() / np.abs(b).max())
    if error == 0:
        return "0"
    tiny = 2e-5 if a.dtype == np.float32 or b.dtype == np.float32 else 1e-12
    return f"below {tiny:g}" if error < tiny else f"{error:.2g}"


def numbers(x: Any) -> np.ndarray:
    """An array of NumPy's."""
    return x.detach().numpy() if hasattr(x, "detach") else to_numpy(x)


def failure(call: Any) -> str:
    """The name of the error that a call ends in."""
    try:
        call()
    except Exception as error:
        return type(error).__name__
    return "no error"
