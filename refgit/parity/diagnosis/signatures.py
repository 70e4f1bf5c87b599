"""What the error itself looks like, where no recipe reproduces the tensor or beside it.

A scale, a shift of the tokens, rounding to fewer bits, zeros of dropout: these can be read from
the two tensors, whatever operation made them. They explain less than a hypothesis does and come
after those in the list.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np

from refgit.layers._array_api import Array
from refgit.parity.diagnosis.local import Local, pair
from refgit.parity.diagnosis.places import runs, tower
from refgit.parity.diagnosis.result import Cause
from refgit.parity.graph.graph import Graph, View
from refgit.parity.graph.nodes import JOINT
from refgit.parity.numerics.floor import MULTIPLE, Floor, operation_floor
from refgit.parity.numerics.precision import HALF, is_exact_in

# Name, sentence, what is left of the error in multiples of the floor, and rank: see `Cause`.
Sign: TypeAlias = tuple[str, str, float, int]


def signatures(local: Local, graph: Graph, limit: float) -> Iterator[Cause]:
    """List what the error looks like; only what leaves at most `limit` multiples of the floor."""
    if local.exact is None or local.floor is None or not np.isfinite(local.found).all():
        return
    if not np.isfinite(local.exact).all():
        return
    for name, text, residual, rank in (
        *_scaled(local, graph),
        *_dropped(local),
        *_dropped_in_sum(local),
        *_dropped_before(local),
        *_shifted(local),
        *_rows(local),
        *_constant(local),
        *_zeros(local),
        *_few_bits(local),
    ):
        if residual <= min(limit, local.multiples / 2):
            yield Cause(text, name, residual, local.node.name, rank)


def _parts(local: Local) -> tuple[Array, Array, Floor]:
    """What is expected, what was found, and the floor; `signatures` has seen that all are there."""
    assert local.exact is not None
    assert local.floor is not None
    return local.exact, local.found, local.floor


def _scaled(local: Local, graph: Graph) -> Iterator[Sign]:
    e, f, floor = _parts(local)
    square = float(np.sum(e * e))
    factor = float(np.sum(e * f)) / square if square else 0.0
    if factor == 0.0 or not math.isfinite(factor) or abs(factor - 1) < 1e-3:
        return
    left = floor.multiples(f / factor - e)
    yield (
        f"scaled by {factor:.4g}",
        f"its values are {factor:.5g} times what they should be{_known(factor, graph, local)}",
        left,
        5,
    )


def _known(factor: float, graph: Graph, local: Local) -> str:
    """What a factor may mean."""
    vision = tower(local.node.where) == "image encoder"
    config = graph.config.vision_config if vision else graph.config
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
    for said, value in known.items():
        if abs(factor / value - 1) < 1e-4:
            return f" ({said})"
    return ""


def _dropped(local: Local) -> Iterator[Sign]:
    """Zeros among values that are otherwise right, or too large by one factor: dropout."""
    e, f, floor = _parts(local)
    zero = (f == 0) & (np.abs(e) > MULTIPLE * floor.max)
    share = float(np.mean(zero))
    if not 0.01 < share < 0.95:
        return
    kept = ~zero
    factor = float(np.sum(e[kept] * f[kept]) / np.sum(e[kept] ** 2))
    left = floor.multiples(f[kept] / factor - e[kept]) if factor else math.inf
    if abs(factor - 1) < 0.02:
        text = f"{share:.0%} of its values are 0 that should not be; the rest is right"
        yield ("zeros", text, left, 6)
        return
    yield (
        "dropout",
        f"{share:.0%} of its values are 0 and the rest {factor:.4g} times what they should be: "
        "dropout is on",
        left,
        2,
    )


def _dropped_in_sum(local: Local) -> Iterator[Sign]:
    """A sum of which one or both parts passed a dropout: every value is 0 or scaled in each."""
    _, f, floor = _parts(local)
    if local.node.kind != "residual":
        return
    a, b = (np.asarray(local.view[name]) for name in local.node.inputs)
    if a.shape != f.shape or b.shape != f.shape:
        return
    for p in (0.1, 0.2, 0.3, 0.5):
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
        yield ("dropout", text, floor.multiples(left), 2)


def _dropped_before(local: Local) -> Iterator[Sign]:
    """Dropout of the text embedding, seen through the linear map that reads it.

    The joint sequence is not a tensor of a trace. What the map was given follows from
    what it put out: x = W^-1 (y - b), well enough to tell zeros from the rest.
    """
    e, f, floor = _parts(local)
    if local.node.kind != "linear" or not any(name.endswith(JOINT) for name in local.gap):
        return
    weight = local.view.weight(f"{local.node.parameters}.weight")
    if weight.shape[0] != weight.shape[1] or np.linalg.cond(weight) > 1e5:
        return
    x = np.asarray(local.view[local.node.inputs[0]])
    seen = x + np.linalg.solve(weight, (f - e)[..., None])[..., 0]
    wrong = np.max(np.abs(f - e), axis=-1, keepdims=True) > MULTIPLE * floor.max  # (B, L, 1)
    for p in (0.1, 0.2, 0.3, 0.5):
        lost = np.abs(seen) < np.abs(seen - x / (1 - p))
        likely = np.where(wrong, np.where(lost, 0, x / (1 - p)), x)
        text = (
            f"some of the text embedding in its input is 0 and the rest {1 / (1 - p):.4g} times "
            "what it should be: dropout is on (model.eval() turns it off)"
        )
        left = floor.multiples(f - e - (likely - x) @ weight.T)
        yield ("dropout of the embedding", text, left, 2)


def _shifted(local: Local) -> Iterator[Sign]:
    e, f, floor = _parts(local)
    axis = -2
    if e.ndim < 2 or e.shape[axis] < 3:
        return
    count = e.shape[axis]
    for shift, side in ((1, "late"), (-1, "early")):
        here = np.arange(max(shift, 0), count + min(shift, 0))
        left = floor.multiples(np.take(f, here, axis) - np.take(e, here - shift, axis))
        yield (f"tokens one {side}", f"its tokens are shifted: each is one place {side}", left, 5)


def _rows(local: Local) -> Iterator[Sign]:
    e, f, floor = _parts(local)
    if e.ndim < 2 or not 1 < e.shape[0] <= 64:
        return
    order = []
    for row in f:
        left = [floor.multiples(row - other) for other in e]
        order.append(int(np.argmin(left)))
    if order != list(range(len(order))):
        said = ", ".join(map(str, order))
        yield (
            "rows in another order",
            f"the sequences of the batch are mixed up: it holds the sequences {said}",
            floor.multiples(e[order] - f),
            5,
        )


def _constant(local: Local) -> Iterator[Sign]:
    e, f, floor = _parts(local)
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


def _zeros(local: Local) -> Iterator[Sign]:
    e, f, _ = _parts(local)
    if e.any() and not f.any():
        yield ("all zeros", "it is all zeros", 0.0, 1)


def _few_bits(local: Local) -> Iterator[Sign]:
    """Values of float16 or bfloat16 in a tensor that should have more bits."""
    _, f, _ = _parts(local)
    if not any(is_exact_in(f, p) for p in HALF):
        return  # float16 is slow on a CPU: not computed for nothing
    for precision, floor in _half_floors(local):
        if is_exact_in(f, precision) and np.any(f):
            text = f"its values are rounded to {precision}"
            yield (f"{precision} values", text, floor.multiples(f - local.exact), 2)


def _half_floors(local: Local) -> Iterator[tuple[str, Floor]]:
    """What half precision would do to a tensor that should have more bits."""
    if local.precision not in ("float32", "float64"):
        return
    e, f, _ = _parts(local)
    for precision in HALF:
        half = View(local.view.graph, local.view.values, precision)
        both = pair(local.node, np.asarray(half.recompute(local.node.name), np.float64), f)
        if both is not None and both[0].shape == e.shape:
            yield precision, operation_floor(both[0], e, precision)


def size_note(local: Local) -> str:
    """Say that an error has the size of half precision's, and is as widely spread; else ""."""
    if local.exact is None or local.floor is None or not np.isfinite(local.multiples):
        return ""
    if len(local.gap) > 3:
        return ""  # of many operations it says nothing, and costs much
    error = local.found - local.exact
    if np.mean(np.abs(error) > local.floor.max) < 0.5:
        return ""  # rounding touches nearly all
    for precision, floor in _half_floors(local):
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
    broken = int(np.sum(~np.isfinite(f) & np.isfinite(e)))
    if broken:
        place = np.unravel_index(int(np.argmax(~np.isfinite(f) & np.isfinite(e))), f.shape)
        at = ", ".join(str(int(i)) for i in place)
        return f"{broken} of its {f.size} values are not finite, the first at [{at}]"
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
