"""The layouts of other implementations: transposed, flattened, split into heads, channels last.

A layout says how the axes of our tensor, some of them split, are permuted and then merged into
theirs. Shapes often leave only one possibility; where they leave several, the values decide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from refgit.parity.numerics.floor import root_mean_square
from refgit.traces.container import Tensor

Shape = tuple[int, ...]

_SAMPLE = 512
# A layout is preferred to the simplest if it reduces the error to this share.
_CONVINCING = 0.3


@dataclass(frozen=True)
class Layout:
    """One way from their array to ours.

    Attributes
    ----------
    text : str
        Its description; "" where it is ours.
    axes : tuple of int
        Our axes, split where theirs are: their lengths.
    order : tuple of int
        The order of these axes in their array, before neighbours are merged.
    shape : tuple of int
        Of their array in our layout.
    part : (axis, start, stop) or None
        The part of ours that theirs holds.
    repeat : int
        How often they repeat our first axis of one.
    """

    text: str
    axes: Shape
    order: Shape
    shape: Shape
    part: tuple[int, int, int] | None = None
    repeat: int = 1

    def to_ours(self, theirs: Tensor) -> Tensor:
        """Bring their array into our layout."""
        permuted = theirs.reshape([self.axes[i] for i in self.order])
        return permuted.transpose(np.argsort(self.order)).reshape(self.shape)

    def part_of(self, ours: Tensor) -> Tensor:
        """Return the part of our array that theirs is to be compared with."""
        if self.part is not None:
            axis, start, stop = self.part
            ours = ours[(slice(None),) * axis + (slice(start, stop),)]
        return np.broadcast_to(ours, self.shape) if self.repeat > 1 else ours

    def sample_of(self, theirs: Tensor, places: Tensor) -> Tensor:
        """Return what `to_ours(theirs)` holds at these flat places, without all the rest."""
        index = np.unravel_index(places, self.axes)
        permuted = [self.axes[i] for i in self.order]
        flat = np.ravel_multi_index(tuple(index[i] for i in self.order), permuted)
        return theirs[np.unravel_index(flat, theirs.shape)] if theirs.ndim else theirs.reshape(1)


@lru_cache(maxsize=4096)
def possible_layouts(theirs: Shape, ours: Shape, parts: bool = True) -> tuple[Layout, ...]:
    """List the layouts that shapes allow, the simplest first.

    Parameters
    ----------
    theirs, ours : tuple of int
    parts : bool
        Whether theirs may be some of the positions; a cropped image is none of these.

    Returns
    -------
    tuple of Layout
        Empty where the shapes do not fit; a whole tensor before a part of it.
    """
    whole = tuple(_whole(theirs, ours))
    found = whole or tuple(_repeated(theirs, ours))
    return found or (tuple(_parts(theirs, ours)) if parts else ())


def best_layout(theirs: Tensor, ours: Tensor, parts: bool = True) -> tuple[Layout, bool] | None:
    """Choose the layout of a tensor.

    Parameters
    ----------
    theirs, ours : arrays
    parts : bool
        See `possible_layouts`.

    Returns
    -------
    (Layout, bool), or None
        And whether it is certain: forced by the shapes or confirmed by the values. None where no
        layout fits.
    """
    found = possible_layouts(theirs.shape, ours.shape, parts)
    if len(found) < 2:
        return (found[0], True) if found else None
    errors = [unlikeness(theirs, ours, layout) for layout in found]
    best = int(np.argmin(errors))
    if errors[best] < _CONVINCING * errors[0]:
        return found[best], True
    certain = errors[0] < _CONVINCING * min(errors[1:])
    return found[0], certain or not found[0].text


def unlikeness(theirs: Tensor, ours: Tensor, layout: Layout) -> float:
    """Return how far theirs is from ours, relative to ours, at a sample of places.

    Parameters
    ----------
    theirs, ours : arrays
    layout : Layout

    Returns
    -------
    float
        0 where they are equal, about 1.4 where they have nothing to do with each other.
    """
    part = layout.part_of(ours)
    places = np.linspace(0, max(part.size - 1, 0), min(part.size, _SAMPLE)).astype(np.int64)
    if not len(places):
        return 0.0
    b = part[np.unravel_index(places, part.shape)] if part.ndim else part.reshape(1)
    a = layout.sample_of(theirs, places)
    with np.errstate(all="ignore"):
        a, b = a.astype(np.float64), b.astype(np.float64)
        both = np.isfinite(a) & np.isfinite(b)
        if not both.any():
            return math.inf
        size, error = root_mean_square(b[both]), root_mean_square(a[both] - b[both])
    if size == 0.0:
        return 0.0 if error == 0.0 else math.inf
    return error / size


# ---- all of the tensor


def _whole(theirs: Shape, ours: Shape) -> Iterator[Layout]:
    if math.prod(theirs) != math.prod(ours):
        return
    seen = set()
    for axes, order, text in _permutations(theirs, ours):
        permuted = tuple(axes[i] for i in order)
        if not _fit(theirs, permuted, split=len(axes) > len(ours), moved=axes != permuted):
            continue
        if _path(axes, order) not in seen:  # axes of one make several the same
            seen.add(_path(axes, order))
            yield Layout(_described(theirs, permuted, text), axes, order, ours)


def _path(axes: Shape, order: Shape) -> tuple[Shape, Shape]:
    """What a permutation does, leaving out axes of one."""
    real = [i for i, n in enumerate(axes) if n != 1]
    moved = [i for i in order if axes[i] != 1]
    if moved == real:
        return (), ()
    return tuple(axes[i] for i in real), tuple(real.index(i) for i in moved)


# Orders of our axes, by how many there are, and how to say it.
_ORDERS: dict[int, tuple[tuple[Shape, str], ...]] = {
    3: (((1, 0, 2), "tokens before the batch"),),
    4: (
        ((0, 2, 3, 1), "channels last"),
        ((0, 2, 1, 3), "the two axes in the middle transposed"),
        ((1, 0, 2, 3), "the first two axes transposed"),
    ),
    5: (
        ((0, 1, 3, 4, 2), "channels last"),
        ((0, 2, 1, 3, 4), "channels before the frames"),
    ),
}


def _permutations(theirs: Shape, ours: Shape) -> Iterator[tuple[Shape, Shape, str]]:
    """Our axes, split where theirs are; their order; how to say it."""
    n = len(ours)
    yield ours, tuple(range(n)), ""
    if n >= 2:
        yield ours, (*range(n - 2), n - 1, n - 2), "the last two axes transposed"
    for order, text in _ORDERS.get(n, ()):
        yield ours, order, text
    if n == 3 and len(theirs) > 2:
        b, t, d = ours
        for width in sorted(set(theirs[-2:])):  # d of one head, D of a patch
            if 0 < width < d and d % width == 0:
                axes = (b, t, d // width, width)
                yield axes, (0, 2, 1, 3), "heads split, (B, H, T, d)"
                yield axes, (0, 2, 3, 1), "heads split and transposed, (B, H, d, T)"
            if 0 < width < t and t % width == 0:
                axes = (b, t // width, width, d)
                yield axes, (0, 3, 1, 2), "as a picture, channels first, (B, D, h, w)"


def _fit(theirs: Shape, permuted: Shape, *, split: bool, moved: bool) -> bool:
    """Whether their shape is that of the permuted axes, or of these merged or (unmoved) split."""
    if split and theirs[-2:] != permuted[-2:]:
        return False  # merged again, the split would not show
    one, two = _edges(theirs), _edges(permuted)
    return one <= two or (two <= one and not moved)


def _edges(shape: Shape) -> set[int]:
    """Where the axes end, counted in elements from the right; axes of one have no end."""
    return {math.prod(shape[i:]) for i in range(len(shape) + 1)}


def _described(theirs: Shape, permuted: Shape, text: str) -> str:
    """Describe the permutation, and what became of axes next to each other."""
    if theirs == permuted:
        return text
    real, meant = [n for n in theirs if n != 1], [n for n in permuted if n != 1]
    more = ""
    if real == meant:
        more = "" if text else _axes_of_one(theirs, permuted)
    elif len(real) < len(meant):
        more = "in one row" if len(theirs) == 1 else f"flattened to {_tuple(theirs)}"
    elif real[-1] == meant[-1]:
        if len(theirs) == 4 and theirs[0] == permuted[0]:
            more = "as a picture, channels last, (B, h, w, D)"
    elif real[:-2] == meant[:-1]:
        more = "heads split, (B, T, H, d)"
    more = more or f"split into {_tuple(theirs)}" if real != meant else more
    return _joined(text, more)


def _axes_of_one(theirs: Shape, ours: Shape) -> str:
    if ours[:1] == (1,) and theirs == ours[1:]:
        return "without the batch axis"
    return f"as {_tuple(theirs)}, with axes of one added or left out"


def _tuple(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))})"


# ---- a part of the tensor, or several times


def _repeated(theirs: Shape, ours: Shape) -> Iterator[Layout]:
    """Ours has one batch row that theirs repeats."""
    if ours[:1] != (1,) or not math.prod(ours) or math.prod(theirs) % math.prod(ours):
        return
    times = math.prod(theirs) // math.prod(ours)
    if times < 2 or (len(theirs) == len(ours) and theirs[0] != times):
        return  # twice the heads or the tokens are not a second row
    for layout in _whole(theirs, (times, *ours[1:])):
        text = _joined("repeated for each row of the batch", layout.text)
        yield replace(layout, text=text, repeat=times)


def _parts(theirs: Shape, ours: Shape) -> Iterator[Layout]:
    """Theirs holds some of the positions: the text's, the last one, the image's."""
    if len(ours) not in (3, 4) or not math.prod(theirs):
        return
    axis = len(ours) - 2  # T of (B, T, D), Q of (B, H, Q, K)
    total = ours[axis]
    rest = math.prod(ours) // max(total, 1)
    if rest == 0 or math.prod(theirs) % rest or math.prod(theirs) // rest >= total:
        return
    length = math.prod(theirs) // rest
    shape = (*ours[:axis], length, *ours[axis + 1 :])
    for start, where in ((total - length, "last"), (0, "first")):
        some = f"{where} position" if length == 1 else f"{where} {length} positions"
        for layout in _whole(theirs, shape):
            plain = layout.text if "axes of one" not in layout.text else ""
            text = _joined(f"only the {some} of {total}", plain)
            yield replace(layout, text=text, part=(axis, start, start + length))


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)
