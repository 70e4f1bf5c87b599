"""The oracle of the live tests: torch, and transformers 4.56.2 or 5, whichever is installed.

Importing this skips a module where they are missing. A module for one of the two calls
`only("4")` or `only("5")`; a test for one of them is marked with `IN_4` or `IN_5`.
Each version needs an environment of its own; CONTRIBUTING.md says how to make them.
"""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

INSTALL = {
    "4": "pip install torch==2.13.0 transformers==4.56.2",
    "5": "pip install torch==2.13.0 transformers==5.23.0",
}
torch = pytest.importorskip("torch", reason=f"the oracle needs torch: {INSTALL['4']}")
transformers = pytest.importorskip("transformers", reason=INSTALL["4"])
VERSION = str(transformers.__version__)
MAJOR = VERSION.partition(".")[0]
if VERSION != "4.56.2" and MAJOR != "5":
    pytest.skip(
        f"the oracle is transformers 4.56.2 ({INSTALL['4']}) or 5 ({INSTALL['5']}), not {VERSION}",
        allow_module_level=True,
    )


def reason(major: str) -> str:
    """Why what is for one version is left out beside the other."""
    return f"for transformers {major}, found {VERSION}: {INSTALL[major]}"


def only(major: str) -> None:
    """Skip the module that calls this unless this version is installed."""
    if major != MAJOR:
        pytest.skip(reason(major), allow_module_level=True)


IN_4 = pytest.mark.skipif(MAJOR != "4", reason=reason("4"))
IN_5 = pytest.mark.skipif(MAJOR != "5", reason=reason("5"))
# What a user of transformers from 4.57 on can pass to load the hub's time embeddings.
RESPELL = {"img_temperal_embedding": "img_temporal_embedding"}
ACTIVATIONS = ["quick_gelu", "gelu", "gelu_new", "relu", "silu"]  # selu: KeyError there


def softmax_at_full_width(patch: pytest.MonkeyPatch) -> None:
    """The oracle's image encoder casts its softmax to float32, in float64 models too: let it not.

    It would cost eight digits.
    """
    plain = torch.nn.functional.softmax

    def softmax(x: Any, dim: int, dtype: Any = None) -> Any:
        return plain(x, dim=dim, dtype=None if x.dtype == torch.float64 else dtype)

    patch.setattr(torch.nn.functional, "softmax", softmax)


@contextlib.contextmanager
def at_work(dtype: str = "float32") -> Iterator[None]:
    """No gradients, no warnings of theirs, and float64 in all of a float64 model."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with pytest.MonkeyPatch.context() as patch, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dtype == "float64":
            softmax_at_full_width(patch)
        yield


def tensors(call: dict[str, Any]) -> dict[str, Any]:
    """Copies of arrays as tensors (the oracle writes into inputs_embeds); the rest stays."""
    return {
        name: torch.from_numpy(x.copy()) if isinstance(x, np.ndarray) else x
        for name, x in call.items()
    }


def theirs_of(ours: Any) -> Any:
    """The model of transformers that a directory written by refgit gives."""
    respell = {"key_mapping": RESPELL} if MAJOR == "5" else {}
    with tempfile.TemporaryDirectory() as folder, at_work():
        ours.save_pretrained(folder)
        return (
            getattr(transformers, type(ours).__name__)
            .from_pretrained(folder, attn_implementation="eager", **respell)
            .eval()
        )


__all__ = [
    "ACTIVATIONS",
    "IN_4",
    "IN_5",
    "MAJOR",
    "RESPELL",
    "VERSION",
    "at_work",
    "only",
    "softmax_at_full_width",
    "tensors",
    "theirs_of",
    "torch",
    "transformers",
]
