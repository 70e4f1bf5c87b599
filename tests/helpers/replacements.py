"""Plants an array in the place of each named intermediate, and compares what follows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from refgit import to_numpy
from refgit.layers._operations import DEFINITIONS, Operations
from refgit_backends import Backend

Run = Callable[[Operations, Callable[[Any], Any]], Any]


def observed(
    run: Run, ops: Operations, place: Callable[[Any], Any], at: str = "", planted: Any = None
) -> dict[str, np.ndarray]:
    """Every intermediate of a run and its outputs, with `planted` in the place of the one `at`."""
    found: dict[str, np.ndarray] = {}

    def hook(name: str, x: Any) -> Any:
        found[name] = to_numpy(x).copy()
        return place(planted) if name == at else None

    outputs = run(ops.with_hook(hook), place)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return found | {f"output {i}": to_numpy(x).copy() for i, x in enumerate(outputs)}


def others_layout(x: np.ndarray) -> np.ndarray:
    """The same numbers, in memory from the last axis to the first."""
    return np.ascontiguousarray(x.T).T


def check_replacements(run: Run, backend: Backend, unit: float, seed: int = 0) -> None:
    """Replacements are taken by the backend's kernels as by the definitions, at every name.

    `unit` is what rounding may change, relative to the largest number. `run` takes operations and
    the way to the backend, and returns arrays.
    """
    rng = np.random.default_rng(seed)
    home = lambda x: x  # noqa: E731
    served = Operations.with_kernels(backend.kernels)
    plain = observed(run, DEFINITIONS, home)
    names = [name for name in plain if not name.startswith("output")]
    assert list(observed(run, served, backend.asarray)) == list(plain)
    for at in names:
        scale = 0.5 + rng.random(plain[at].shape)
        planted = others_layout((plain[at] * scale).astype(plain[at].dtype))
        wanted = observed(run, DEFINITIONS, home, at, planted)
        found = observed(run, served, backend.asarray, at, planted)
        kept = observed(run, served, backend.asarray, at, plain[at])
        assert list(found) == list(wanted) == list(plain)
        for name, x in wanted.items():
            close(found[name], x, unit, f"{at} replaced: {name}")
            close(kept[name], plain[name], unit, f"{at} replaced by itself: {name}")
        check_order(plain, wanted, at)


def check_order(before: dict[str, np.ndarray], after: dict[str, np.ndarray], at: str) -> None:
    """What was planted `at` a name changes an output, and nothing that came before it."""
    place = list(before).index(at)
    changed = [name for name, x in before.items() if not np.array_equal(after[name], x)]
    assert all(list(before).index(name) > place for name in changed), at
    assert any(name.startswith("output") for name in changed), f"no output follows {at}"


def close(found: Any, wanted: np.ndarray, unit: float, what: str = "") -> None:
    """Equal but for rounding: `unit` of the largest number."""
    found = to_numpy(found)
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape), what
    found, wanted = found.astype(np.float64), wanted.astype(np.float64)
    limit = unit * (1e-30 + np.abs(wanted).max(initial=0))
    with np.errstate(invalid="ignore"):  # of infinities, which have to be equal
        if np.abs(found - wanted).max(initial=0) <= limit:
            return
    np.testing.assert_allclose(found, wanted, rtol=0, atol=limit, err_msg=what)


def projection(rows: int, dtype: str, seed: int = 0) -> Run:
    """A run of `project_heads`."""
    from refgit.layers.attention import project_heads

    rng = np.random.default_rng(seed)
    x = rng.standard_normal((1, rows, 24)).astype(dtype)
    names = ("query", "key", "value")
    p = {
        name: {
            "weight": rng.standard_normal((36, 24)).astype(dtype),
            "bias": rng.standard_normal(36).astype(dtype),
        }
        for name in names
    }

    def run(ops: Operations, place: Callable[[Any], Any]) -> Any:
        there = {n: {k: place(v) for k, v in part.items()} for n, part in p.items()}
        return ops.run(project_heads, place(x), there, names, num_heads=3)

    return run


def attending(
    queries: int, images: int, texts: int, masked: bool, dtype: str, seed: int = 0
) -> Run:
    """A run of `attention` over an image's keys and the texts' own."""
    from refgit.layers.attention import attention

    rng = np.random.default_rng(seed)
    b, heads, d, n = images * texts, 2, 6, 5
    many = not masked and queries > 60  # the tokens of images among themselves
    shapes = [(b, heads, queries, d)] if many else [(images, heads, n, d), (b, heads, queries, d)]
    query = rng.standard_normal((b, heads, queries, d)).astype(dtype)
    keys, values = ([rng.standard_normal(s).astype(dtype) for s in shapes] for _ in "kv")
    total = sum(s[2] for s in shapes)
    hidden = rng.random((b, 1, queries, total)) < 0.3
    hidden[..., 0] = False
    bias = np.where(hidden, -np.inf, 0.0).astype(dtype) if masked else None
    head_mask = np.array([1, 0.5], dtype) if masked else None

    def run(ops: Operations, place: Callable[[Any], Any]) -> Any:
        return ops.run(
            attention,
            place(query),
            [place(x) for x in keys],
            [place(x) for x in values],
            None if bias is None else place(bias),
            head_mask=None if head_mask is None else place(head_mask),
        )

    return run


def feeding_forward(rows: int, activation: str, dtype: str, seed: int = 0) -> Run:
    """A run of `feed_forward`."""
    from refgit.layers.feed_forward import feed_forward

    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * 0.5).astype(dtype)

    x, fc1, fc2 = (
        draw(1, rows, 12),
        {"weight": draw(31, 12), "bias": draw(31)},
        {"weight": draw(12, 31), "bias": draw(12)},
    )

    def run(ops: Operations, place: Callable[[Any], Any]) -> Any:
        there = [{k: place(v) for k, v in part.items()} for part in (fc1, fc2)]
        return ops.run(feed_forward, place(x), *there, activation=ops.activation(activation))

    return run
