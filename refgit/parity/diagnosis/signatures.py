"""What the error itself looks like, where no recipe reproduces the tensor or beside it.

A scale, a shift of the tokens, rounding to fewer bits, zeros of dropout: these can be read from
the two tensors, whatever operation made them. They explain less than a hypothesis does and come
after those in the list.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np

from refgit.layers._array_api import Array
from refgit.parity.diagnosis.local import Local, pair
from refgit.parity.diagnosis.places import runs, tower
from refgit.parity.diagnosis.result import Cause
from refgit.parity.graph.graph import View
from refgit.parity.graph.nodes import JOINT
from refgit.parity.numerics.floor import MULTIPLE, Floor, operation_floor
from refgit.parity.numerics.precision import HALF, is_exact_in

# Name, sentence, what is left of the error in multiples of the floor, and rank: see `Cause`.
Signs: TypeAlias = Iterator[tuple[str, str, float, int]]


def signatures(local: Local, limit: float) -> Iterator[Cause]:
    """List what the error looks like; only what leaves at most `limit` multiples of the floor."""
    e, f, floor = local.exact, local.found, local.floor
    if e is None or floor is None or not np.isfinite(f).all() or not np.isfinite(e).all():
        return
    for signs in _SIGNATURES:
        for name, text, residual, rank in signs(local, e, f, floor):
            if residual <= min(limit, local.multiples / 2):
                yield Cause(text, name, residual, local.node.name, rank)


# ---- each with what is expected (e), what was found (f), and the floor


def _scaled(local: Local, e: Array, f: Array, floor: Floor) -> Signs:
    square = float(np.sum(e * e))
    factor = float(np.sum(e * f)) / square if square else 0.0
    if factor == 0.0 or not math.isfinite(factor) or abs(factor - 1) < 1e-3:
        return
    yield (
        f"scaled by {factor:.4g}",
        f"its values are {factor:.5g} times what they should be{_meaning(factor, local)}",
        floor.multiples(f / factor - e),
        5,
    )


def _meaning(factor: float, local: Local) -> str:
    config: Any = local.view.graph.config
    if tower(local.node.where) == "image encoder":
        config = config.vision_config
    d, h = config.hidden_size, config.num_attention_heads
    known = {
        "sqrt(D)": math.sqrt(d),
        "1/sqrt(D)": 1 / math.sqrt(d),
        "sqrt(D/H)": math.sqrt(d / h),
        "1/sqrt(D/H)": 1 / math.sqrt(d / h),
        "255": 255.0,
        "1/255": 1 / 255,
        "a sign": -1.0,
    }
    if local.node.kind in ("probabilities", "residual", "layer_norm"):  # where dropout is
        known |= {"1/(1 - 0.1): dropout's scale": 1 / 0.9, "1/(1 - 0.5): dropout's scale": 2.0}
    said = (f" ({name})" for name, value in known.items() if abs(factor / value - 1) < 1e-4)
    return next(said, "")


def _dropped(local: Local, e: Array, f: Array, floor: Floor) -> Signs:
    """Zeros among values that are otherwise right, or too large by one factor: dropout."""
    zero = (f == 0) & (np.abs(e) > MULTIPLE * floor.max)
    share = float(np.mean(zero))
    if not 0.01 < share < 0.95:
        return
    kept = ~zero
    factor = float(np.sum(e[kept] * f[kept]) / np.sum(e[kept] ** 2))
    left = floor.multiples(f[kept] / factor - e[kept]) if factor else math.inf
    if abs(factor - 1) < 0.02:
        text = f"{share:.0%} of its values are 0 that should not be; the rest is right"
        yield "zeros", text, left, 6
    else:
        text = f"{share:.0%} of its values are 0 and the rest {factor:.4g} times what they should "
        yield "dropout", f"{text}be: dropout is on", left, 2


def _dropped_in_sum(local: Local, e: Array, f: Array, floor: Floor) -> Signs:
    """A sum of which one or both parts passed a dropout: every value is 0 or scaled in each."""
    if local.node.kind != "residual":
        return
    a, b = (np.asarray(local.view[name]) for name in local.node.inputs)
    if a.shape != f.shape or b.shape != f.shape:
        return
    for p in _DROPOUTS:
        scale = 1 / (1 - p)
        lost = np.abs(f - a) <= floor.max
        if not p / 2 < np.mean(lost) < 2 * p:
            continue
        ways = [x + y for x in (a, a * scale, 0 * a) for y in (0 * b, b * scale)]
        left = np.min([np.abs(f - way) for way in ways], axis=0)
        text = (
            f"about {p:.0%} of the sub-layer's output is 0 and the rest {scale:.4g} times what it "
            "should be: dropout is on (model.eval() turns it off)"
        )
        yield "dropout", text, floor.multiples(left), 2


def _dropped_before(local: Local, e: Array, f: Array, floor: Floor) -> Signs:
    """Dropout of the text embedding, seen through the linear map that reads it.

    The joint sequence is not a tensor of a trace. What the map was given follows from
    what it put out: x = W^-1 (y - b), well enough to tell zeros from the rest.
    """
    if local.node.kind != "linear" or not any(name.endswith(JOINT) for name in local.gap):
        return
    weight = local.view.weight(f"{local.node.parameters}.weight")
    if weight.shape[0] != weight.shape[1] or np.linalg.cond(weight) > 1e5:
        return
    x = np.asarray(local.view[local.node.inputs[0]])
    seen = x + np.linalg.solve(weight, (f - e)[..., None])[..., 0]
    wrong = np.max(np.abs(f - e), axis=-1, keepdims=True) > MULTIPLE * floor.max  # (B, L, 1)
    for p in _DROPOUTS:
        lost = np.abs(seen) < np.abs(seen - x / (1 - p))
        likely = np.where(wrong, np.where(lost, 0, x / (1 - p)), x)
        text = (
            f"some of the text embedding in its input is 0 and the rest {1 / (1 - p):.4g} times "
            "what it should be: dropout is on (model.eval() turns it off)"
        )
        left = floor.multiples(f - e - (likely - x) @ weight.T)
        yield "dropout of the embedding", text, left, 2


def _shifted(local: Local, e: Array, f: Array, floor: Floor) -> Signs:
    if e.ndim < 2 or e.shape[-2] < 3:
        return
    for side, ours, theirs in (
        ("late", e[..., :-1, :], f[..., 1:, :]),
        ("early", e[..., 1:, :], f[..., :-1, :]),
    ):
        text = f"its tokens are shifted: each is one place {side}"
        yield f"tokens one {side}", text, floor.multiples(theirs - ours), 5


def _rows(local: Local, e: Array, f: Array, floor: Floor) -> Signs:
    if e.ndim < 2 or not 1 < e.shape[0] <= 64:
        return
    order = [int(np.argmin([floor.multiples(row - other) for other in e])) for row in f]
    if order != list(range(len(order))):
        said = ", ".join(map(str, order))
        text = f"the sequences of the batch are mixed up: it holds the sequences {said}"
        yield "rows in another order", text, floor.multiples(e[order] - f), 5


def _constant(local: Local, e: Array, f: Array, floor: Floor) -> Signs:
    if local.node.kind not in ("linear", "head", "layer_norm", "residual", "patch", "sum"):
        return
    if e.ndim != 3 or e.shape[0] * e.shape[1] < 3:
        return
    error = (f - e).reshape(-1, e.shape[-1])
    yield (
        "a constant vector",
        "every token differs by the same vector: a bias is another than it should be",
        floor.multiples(error - error.mean(axis=0)),
        7,
    )


def _zeros(local: Local, e: Array, f: Array, floor: Floor) -> Signs:
    if e.any() and not f.any():
        yield "all zeros", "it is all zeros", 0.0, 1


def _few_bits(local: Local, e: Array, f: Array, floor: Floor) -> Signs:
    if not any(is_exact_in(f, p) for p in HALF):
        return  # float16 is slow on a CPU: not computed for nothing
    for precision, half in _half_floors(local, e):
        if is_exact_in(f, precision) and np.any(f):
            text = f"its values are rounded to {precision}"
            yield f"{precision} values", text, half.multiples(f - e), 2


_DROPOUTS = (0.1, 0.2, 0.3, 0.5)
_SIGNATURES: tuple[Callable[[Local, Array, Array, Floor], Signs], ...] = (
    _scaled, _dropped, _dropped_in_sum, _dropped_before, _shifted, _rows, _constant, _zeros,
    _few_bits,
)  # fmt: skip


def _half_floors(local: Local, exact: Array) -> Iterator[tuple[str, Floor]]:
    """What half precision would do to a tensor that should have more bits."""
    if local.precision in HALF:
        return
    for precision in HALF:
        half = View(local.view.graph, local.view.values, precision)
        made = half.recompute(local.node.name).astype(np.float64)
        both = pair(local.node, made, local.found)
        if both is not None and both[0].shape == exact.shape:
            yield precision, operation_floor(both[0], exact, precision)


def size_note(local: Local) -> str:
    """Say that an error has the size of half precision's, and is as widely spread; else ""."""
    if local.exact is None or local.floor is None or not np.isfinite(local.multiples):
        return ""
    if len(local.gap) > 3:
        return ""  # of many operations it says nothing, and costs much
    error = local.found - local.exact
    if np.mean(np.abs(error) > local.floor.max) < 0.5:
        return ""  # rounding touches nearly all
    for precision, floor in _half_floors(local, local.exact):
        multiples = floor.multiples(error)
        if 0.3 < multiples < 2:
            return (
                f"its error is as large as that of {precision} arithmetic ({multiples:.2g} of its "
                "noise floor), which it may be"
            )
    return ""


# ---- where in the tensor


def whereabouts(local: Local, limit: float) -> str:
    """Say which tokens, heads or sequences are the only wrong ones; "" where all are, or many."""
    e, f = local.exact, local.found
    if e is None or local.floor is None:
        return ""
    broken = np.argwhere(~np.isfinite(f) & np.isfinite(e)).tolist()
    if broken:
        return f"{len(broken)} of its {f.size} values are not finite, the first at {broken[0]}"
    with np.errstate(invalid="ignore"):
        wrong = np.nan_to_num(np.abs(f - e)) > limit * local.floor.max
    axes = {3: ("token", "channel"), 4: ("head", "query", "key")}.get(f.ndim)
    said = []
    for axis, name in enumerate(("batch row", *axes) if axes else ()):
        others = tuple(i for i in range(f.ndim) if i != axis)
        hit = np.flatnonzero(np.any(wrong, axis=others))
        if 0 < hit.size <= 0.5 * f.shape[axis]:
            listed = runs([int(i) for i in hit]) if hit.size <= 64 else f"{hit.size} of them"
            said.append(f"{name}{'s' if hit.size > 1 else ''} {listed}")
    return f"only {', '.join(said)} of {local.found.shape}" if said else ""
