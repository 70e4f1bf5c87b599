"""Live parity of the model's variants with transformers 4.56.2: drawn examples, equal results.

Position types, activations, videos, images of other sizes, head masks and several texts an image,
in any combination that the oracle computes rightly; cached in chunks as well as at once. The
oracle runs uncached: its cache takes every query for the last one (relative positions) and cuts
the image at the configured size.

    OMP_NUM_THREADS=1 python -m pytest tests/live/test_variants_live.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.golden_cases import make_weights
from helpers.oracle import ACTIVATIONS, only, softmax_at_full_width, torch, transformers
from refgit import GitConfig, GitForCausalLM, GitModel, to_numpy

only("4")

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore::FutureWarning")]


@pytest.fixture(autouse=True)
def wide_softmax(monkeypatch: pytest.MonkeyPatch) -> None:
    softmax_at_full_width(monkeypatch)


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
        wanted |= {"output_hidden_states": True, "output_attentions": True}
        with torch.no_grad():
            expected = theirs(**{k: torch.from_numpy(v) for k, v in arrays.items()}, **wanted)
        found = ours(**arrays, **wanted)
        assert error(found.logits, expected.logits) <= tolerance
        for name in ("hidden_states", "attentions"):
            for a, b in zip(found[name], expected[name], strict=True):
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
    # all three position types, images and videos, the trained size and others
    assert [len(values) for values in map(set, zip(*seen, strict=True))] == [3, 2, 2]


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


PRUNED = {0: [1], 1: [0, 2]}


def pair_variant(kind: str) -> dict[str, Any]:
    return {
        "config": {
            "vision_config": {
                "hidden_size": 8,
                "intermediate_size": 8,
                "num_hidden_layers": 1,
                "num_attention_heads": 1,
                "image_size": 6,
                "patch_size": 3,
            },
            "vocab_size": 31,
            "hidden_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "intermediate_size": 8,
            "max_position_embeddings": 40,
            "position_embedding_type": kind,
        },
        "size": [6, 6],
        "frames": None,
        "head_mask": None,
        "images": 2,
        "repeat": 1,
        "chunks": [5],
        "seed": 5,
    }


def pair_with_three_heads(kind: str) -> tuple[Any, Any, dict[str, np.ndarray]]:
    return both(pair_variant(kind), "float32")


@pytest.mark.parametrize("kind", ["absolute", "relative_key_query"])
def test_pruned_models_equal_the_oracles_and_go_both_ways(kind: str, tmp_path: Path) -> None:
    ours, theirs, arrays = pair_with_three_heads(kind)
    ours.prune_heads(PRUNED)
    theirs.prune_heads(PRUNED)
    tensors = {k: torch.from_numpy(v) for k, v in arrays.items()}
    with torch.no_grad():
        expected = theirs(**tensors, use_cache=False).logits
    assert error(ours(**arrays).logits, expected) <= 2e-5
    theirs.save_pretrained(tmp_path / "theirs")
    assert (
        error(GitForCausalLM.from_pretrained(tmp_path / "theirs")(**arrays).logits, expected)
        <= 2e-5
    )
    ours.save_pretrained(tmp_path / "ours")
    again, loading = transformers.GitForCausalLM.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not any(loading.values())
    with torch.no_grad():
        assert error(ours(**arrays).logits, again.eval()(**tensors, use_cache=False).logits) <= 2e-5


def test_resized_models_keep_the_oracles_words() -> None:
    ours, theirs, arrays = pair_with_three_heads("absolute")
    for size in (37, 29):
        ours.resize_token_embeddings(size)
        theirs.resize_token_embeddings(size)
        ids = arrays["input_ids"] % 29
        tensors = {
            "pixel_values": torch.from_numpy(arrays["pixel_values"]),
            "input_ids": torch.from_numpy(ids),
        }
        with torch.no_grad():
            expected = theirs(**tensors).logits
        found = ours(ids, pixel_values=arrays["pixel_values"]).logits
        # the oracle draws its new rows around the mean of the old ones, with a tiny spread
        assert error(found, expected) <= 1e-3
        assert error(found[..., :29], expected[..., :29]) <= 2e-5


@pytest.mark.parametrize("kind", [GitForCausalLM, GitModel])
def test_videos_that_refgit_writes_load_with_no_key_left_over(kind: Any, tmp_path: Path) -> None:
    variant = {**pair_variant("absolute"), "frames": 3}
    variant["config"] = {**variant["config"], "num_image_with_embedding": 3}
    whole, _, arrays = both(variant, "float32")
    whole.save_pretrained(tmp_path / "whole")
    ours = kind.from_pretrained(tmp_path / "whole")
    ours.save_pretrained(tmp_path / "own")
    theirs, loading = getattr(transformers, kind.__name__).from_pretrained(
        tmp_path / "own", output_loading_info=True
    )
    assert not any(loading.values()), loading
    tensors = {k: torch.from_numpy(v) for k, v in arrays.items()}
    with torch.no_grad():
        expected = theirs.eval()(**tensors, use_cache=False)[0]
    assert error(ours(**arrays)[0], expected) <= 2e-5
