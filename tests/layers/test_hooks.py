"""Hooks see every named intermediate; an array that one returns takes the intermediate's place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers.backends import make_backend
from helpers.replacements import check_order, close, others_layout
from refgit import GitConfig, GitForCausalLM, testing
from refgit.layers._operations import DEFINITIONS, Operations

X = np.arange(6.0).reshape(2, 3)


def test_without_hooks_an_intermediate_comes_back_itself() -> None:
    assert DEFINITIONS.hook("x", X) is X
    assert DEFINITIONS.at("layer") is DEFINITIONS
    assert DEFINITIONS.with_hook(None) is DEFINITIONS


def test_a_hook_that_returns_nothing_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    seen: dict[str, Any] = {}
    for hook in (print, seen.__setitem__, lambda name, x: x):
        assert DEFINITIONS.with_hook(hook).at("layer.0").hook("x", X) is X
    assert list(seen) == ["layer.0.x"]
    assert capsys.readouterr().out.startswith("layer.0.x [[0. 1. 2.]")


def test_names_are_completed_by_the_path() -> None:
    names: list[str] = []
    ops = DEFINITIONS.with_hook(lambda name, x: names.append(name)).at("a").at("b.0")
    ops.hook("c", X)
    ops.hook("", X)
    assert names == ["a.b.0.c", "a.b.0"]


def test_hooks_are_called_in_order_and_see_what_those_before_have_made() -> None:
    seen: list[np.ndarray] = []
    ops = DEFINITIONS.with_hook(lambda name, x: x + 1).with_hook(lambda name, x: seen.append(x))
    y = ops.with_hook(lambda name, x: 2 * x).hook("x", X)
    np.testing.assert_array_equal(seen, [X + 1])
    np.testing.assert_array_equal(y, 2 * (X + 1))


@pytest.mark.parametrize(
    ("found", "error", "words"),
    [
        (X[0], ValueError, r"shape \(3,\), float64, for a.x; expected shape \(2, 3\), float64"),
        (X.astype("f4"), ValueError, r"shape \(2, 3\), float32, for a.x; expected .*float64"),
        (X.tolist(), TypeError, "builtins.list for a.x; expected None or an array.*numpy.ndarray"),
        (True, TypeError, "builtins.bool for a.x; expected None or an array"),
        (make_backend("strict").asarray(X), TypeError, "array_api_strict.*expected.*numpy.ndarray"),
    ],
)
def test_what_cannot_take_the_place_is_refused(
    found: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        DEFINITIONS.with_hook(lambda name, x: found).at("a").hook("x", X)


def test_a_replacement_of_another_library_is_refused_on_every_backend() -> None:
    strict = make_backend("strict")
    with pytest.raises(TypeError, match=r"numpy.ndarray for x; expected .*array_api_strict"):
        DEFINITIONS.with_hook(lambda name, x: X).hook("x", strict.asarray(X))
    y = strict.asarray(2 * X)
    assert DEFINITIONS.with_hook(lambda name, x: y).hook("x", strict.asarray(X)) is y


# ---- the whole model

IMAGE = testing.CONFIG.replace(
    num_hidden_layers=2, vision_config=testing.VISION.replace(num_hidden_layers=1)
)
VIDEO = IMAGE.replace(num_image_with_embedding=2)
RELATIVE = IMAGE.replace(position_embedding_type="relative_key_query")
IDS = testing.tokens(2, 5)


def forward(model: GitForCausalLM, hook: Any) -> list[np.ndarray]:
    """A call with padding and two images or videos, and everything it returns."""
    pixels = (
        testing.pixels(4).reshape(2, 2, 3, 8, 8) if model.config is VIDEO else testing.pixels(2)
    )
    mask = np.ones_like(IDS)
    mask[0, -1] = 0
    out = model(IDS, mask, pixel_values=pixels, output_attentions=True, hook=hook)
    return [out.logits, *out.attentions]


def stepping(model: GitForCausalLM, hook: Any) -> list[np.ndarray]:
    """An image in the cache, a prompt, then one token: the way of generation."""
    cache = model.encode_image(testing.pixels(1), hook=step_of(hook, "image."))
    prompt = model.next_token_logits(IDS[:1], cache, hook=step_of(hook, "prompt."))
    token = model.next_token_logits(IDS[1:, :1], cache, hook=step_of(hook, "token."))
    return [prompt.logits, token.logits]


def step_of(hook: Any, prefix: str) -> Any:
    return lambda name, x: hook(prefix + name, x)


def run(model: GitForCausalLM, call: Any, at: str = "", planted: Any = None) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    def hook(name: str, x: np.ndarray) -> Any:
        seen[name] = x.copy()
        return planted if name == at else None

    return seen | {f"output {i}": x for i, x in enumerate(call(model, hook))}


@pytest.mark.parametrize(
    ("config", "call"),
    [(IMAGE, forward), (VIDEO, forward), (RELATIVE, forward), (IMAGE, stepping)],
    ids=["image", "video", "relative", "cache"],
)
def test_every_intermediate_of_the_model_can_be_replaced(config: GitConfig, call: Any) -> None:
    """Kernels on and off agree on all that follows; an output does, and nothing before changes."""
    models = [
        testing.tiny_model(1, config, dtype="float64", kernels=kind) for kind in ("off", "auto")
    ]
    base = run(models[0], call)
    rng = np.random.default_rng(0)
    for at in [name for name in base if not name.startswith("output")]:
        planted = others_layout(base[at] * (1 + 0.2 * rng.random(base[at].shape)))
        wanted, found = (run(model, call, at, planted) for model in models)
        assert list(wanted) == list(found) == list(base)
        for name, x in wanted.items():
            close(found[name], x, 1e-11, f"{at} replaced: {name}")
        check_order(base, wanted, at)


def test_replacements_reach_the_trace_and_the_outputs() -> None:
    model = testing.tiny_model(1)
    name = "git.encoder.layer.1.attention.self.probabilities"
    even = lambda n, x: np.full_like(x, 1 / x.shape[-1]) if n == name else None  # noqa: E731
    out = model(IDS, pixel_values=testing.pixels(2), output_attentions=True, hook=even)
    assert (out.attentions[1] == out.attentions[1][0, 0, 0, 0]).all()
    wrong = lambda n, x: x[..., :1] if n == name else None  # noqa: E731
    with pytest.raises(ValueError, match=rf"shape \(2, 4, 10, 1\), float32, for {name}; expected"):
        model(IDS, pixel_values=testing.pixels(2), hook=wrong)


def test_operations_with_hooks_are_another_value() -> None:
    ops = Operations().with_hook(print)
    assert ops.hooks == (print,)
    assert DEFINITIONS.hooks == ()
    assert ops.kernels is DEFINITIONS.kernels or ops.kernels == DEFINITIONS.kernels
