"""Live parity of the model's variants with transformers 4.56.2: drawn examples, equal results.

Position types, activations, videos, images of other sizes, head masks and several texts an image,
in any combination that the oracle computes rightly; cached in chunks as well as at once. The
oracle runs uncached: its cache takes every query for the last one (relative positions) and cuts
the image at the configured size.

    OMP_NUM_THREADS=1 python -m pytest tests/live/test_variants_live.py
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from golden_cases import make_weights

torch = pytest.importorskip("torch", reason="the oracle needs torch: pip install refgit[oracle]")
transformers = pytest.importorskip("transformers", reason="pip install refgit[oracle]")
if transformers.__version__ != "4.56.2":
    pytest.skip(
        f"the oracle is transformers 4.56.2, not {transformers.__version__}: "
        "pip install refgit[oracle]",
        allow_module_level=True,
    )

from refgit import GitConfig, GitForCausalLM, to_numpy  # noqa: E402

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore::FutureWarning")]

ACTIVATIONS = ["quick_gelu", "gelu", "gelu_new", "relu", "silu"]


@st.composite
def variants(draw: st.DrawFn) -> dict[str, Any]:
    """A config, and the shapes and options of a call."""
    frames = draw(st.sampled_from([None, None, 1, 2, 3]))
    patch, heads = draw(st.integers(2, 4)), draw(st.integers(1, 3))
    text_heads, layers = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    config = {
        "vision_config": {
            "hidden_size": 8 * heads,
            "intermediate_size": draw(st.integers(4, 24)),
            "num_hidden_layers": draw(st.integers(1, 2)),
            "num_attention_heads": heads,
            "image_size": patch * draw(st.integers(2, 3)),
            "patch_size": patch,
            "hidden_act": draw(st.sampled_from(ACTIVATIONS)),
        },
        "vocab_size": 31,
        "hidden_size": 8 * text_heads,
        "num_hidden_layers": layers,
        "num_attention_heads": text_heads,
        "intermediate_size": draw(st.integers(4, 24)),
        "hidden_act": draw(st.sampled_from(ACTIVATIONS)),
        "max_position_embeddings": 120,
        "position_embedding_type": draw(
            st.sampled_from(["absolute", "relative_key", "relative_key_query"])
        ),
        "num_image_with_embedding": frames,
    }
    other_size = draw(st.booleans())
    side = config["vision_config"]["image_size"]
    size = [draw(st.integers(patch, 6 * patch)) if other_size else side for _ in range(2)]
    mask_shape = draw(st.sampled_from([None, (text_heads,), (layers, text_heads)]))
    return {
        "config": config,
        "size": size,
        "frames": None if frames is None else draw(st.sampled_from([None, *range(1, frames + 1)])),
        "interpolate": other_size or draw(st.booleans()),
        "head_mask": mask_shape,
        "images": draw(st.integers(1, 2)),
        "repeat": draw(st.integers(1, 2)),
        "chunks": draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)),
        "seed": draw(st.integers(0, 2**31 - 1)),
    }


def both(variant: dict[str, Any], dtype: str) -> tuple[Any, Any, dict[str, np.ndarray]]:
    """refgit's model, the oracle's, and the arrays of the call."""
    config = GitConfig.from_dict(variant["config"])
    drawn = make_weights(GitForCausalLM.shapes(config), variant["seed"])
    ours = GitForCausalLM(config, dtype=dtype, _parameters=drawn)
    theirs = transformers.GitForCausalLM(transformers.GitConfig(**variant["config"])).eval()
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in drawn.items()})
    rng = np.random.default_rng(variant["seed"])
    frames = () if variant["frames"] is None else (variant["frames"],)
    arrays = {
        "pixel_values": rng.standard_normal((variant["images"], *frames, 3, *variant["size"])),
        "input_ids": rng.integers(
            0, 31, (variant["images"] * variant["repeat"], sum(variant["chunks"]))
        ),
    }
    if variant["head_mask"] is not None:
        arrays["head_mask"] = rng.random(variant["head_mask"])
    cast = {k: v.astype(dtype) if v.dtype.kind == "f" else v for k, v in arrays.items()}
    return ours, theirs.to(getattr(torch, dtype)), cast


def error(found: Any, wanted: Any) -> float:
    wanted = wanted.detach().numpy()
    assert found.shape == wanted.shape
    return float(np.abs(to_numpy(found) - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-5), ("float64", 1e-10)])
def test_every_variant_equals_the_oracle(dtype: str, tolerance: float) -> None:
    seen: set[tuple[str, bool, bool]] = set()

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(variant=variants())
    def check(variant: dict[str, Any]) -> None:
        ours, theirs, arrays = both(variant, dtype)
        wanted = {"interpolate_pos_encoding": variant["interpolate"], "use_cache": False}
        wanted |= {"output_hidden_states": True, "output_attentions": dtype == "float32"}
        with torch.no_grad():
            expected = theirs(**{k: torch.from_numpy(v) for k, v in arrays.items()}, **wanted)
        found = ours(**arrays, **wanted)
        assert error(found.logits, expected.logits) <= tolerance
        for name in ("hidden_states", "attentions"):
            for a, b in zip(getattr(found, name) or (), expected[name] or (), strict=True):
                assert error(a, b) <= tolerance
        config = variant["config"]
        seen.add(
            (
                config["position_embedding_type"],
                arrays["pixel_values"].ndim == 5,
                variant["size"] != [config["vision_config"]["image_size"]] * 2,
            )
        )

    check()
    # all three position types, with images and videos, at the trained size and at others
    assert len(seen) == 12


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(variant=variants())
def test_every_variant_cached_in_chunks_equals_the_uncached_oracle(variant: dict[str, Any]) -> None:
    ours, theirs, arrays = both(variant, "float32")
    options = {"interpolate_pos_encoding": variant["interpolate"]}
    with torch.no_grad():
        tensors = {k: torch.from_numpy(v) for k, v in arrays.items()}
        expected = theirs(**tensors, **options, use_cache=False).logits
    ids, heads = arrays["input_ids"], arrays.get("head_mask")
    cache = ours.encode_image(arrays["pixel_values"], head_mask=heads, **options)
    found, start = [], 0
    for size in variant["chunks"]:
        out = ours(ids[:, start : start + size], past_key_values=cache, head_mask=heads)
        found.append(to_numpy(out.logits))
        start += size
    assert error(np.concatenate(found, 1), expected[:, -start:]) <= 2e-5
