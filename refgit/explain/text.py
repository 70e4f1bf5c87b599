"""An explanation in a terminal: for each word its probability, a map in characters, and rivals."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import numpy as np

from refgit.explain.data import ExplanationData, Numbers
from refgit.explain.html import looks_most_at, percent

BLOCKS = " ░▒▓█"
ASCII = " .:-=+*#%@"
# Escapes of the 256 colours of terminals: dark to bright on any background.
_HEAT = (None, 54, 90, 161, 203, 215)
_RIVALS = 5
_BESIDE = 30  # columns that the rivals take beside a map


def as_text(
    x: ExplanationData, *, width: int = 80, ascii_only: bool = False, colour: bool = False
) -> str:
    """Show an explanation in letters.

    Parameters
    ----------
    x : ExplanationData
    width : int
        Longest line; maps are made coarser where they would pass it.
    ascii_only : bool
        Shade the maps with plain ASCII.
    colour : bool
        Colour the maps, and set words bold, by escapes that terminals know.

    Returns
    -------
    str
        Lines, the last one ended as well. The maps are the mean over layers and heads, each
        shaded from 0 to its own largest share.
    """
    paint = _Paint(colour)
    shades = ASCII if ascii_only else BLOCKS
    dash = "-" if ascii_only else "·"
    lines = [paint.bold(x.text), ""]
    for k, token in enumerate(x.tokens):
        share = np.nan_to_num(x.on_patches(x.attention(k)))
        rank = "" if x.ranks[k] == 1 else f" {dash} only the {_nth(int(x.ranks[k]))} likeliest"
        head = (
            f"{k + 1} {paint.bold(token)} {percent(float(x.probabilities[k]))}{rank} {dash} "
            f"looks most at {looks_most_at(x, k)} {dash} "
            f"{percent(float(share.sum()))} on patches"
        )
        rivals = [
            f"{percent(float(p)):>9} {other}"
            for other, p in zip(x.top_tokens[k][:_RIVALS], x.top_probabilities[k], strict=False)
        ]
        lines += [head, *_beside(share, rivals, width, shades, paint)]
        lines += [*_wrapped("  norm by layer: ", _numbers(x.text_norms[:, k]), width), ""]
    means = x.image_norms.mean(axis=-1)
    lines += _wrapped("image encoder, mean norm of a patch by layer: ", _numbers(means), width)
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _beside(
    share: Numbers, rivals: Sequence[str], width: int, shades: str, paint: _Paint
) -> list[str]:
    """Maps of the frames side by side, as many as fit, and the rivals to their right or below."""
    columns = share.shape[-1]
    room = max(8, width - 2)
    apart = columns <= room - _BESIDE  # both fit, at a character a patch
    space = room - _BESIDE if apart else room
    cell = 2 if 2 * columns <= space else 1
    small = share if columns <= space else np.stack([_coarser(f, space) for f in share])
    maps = [_map(frame, shades, cell, paint) for frame in small / (small.max() or 1.0)]
    each = " " * (small.shape[-1] * cell)
    a_line = min(len(maps), max(1, (space + 2) // (len(each) + 2)))
    maps += [[each] * len(maps[0])] * (-len(maps) % a_line)  # blanks fill the last line up
    lines: list[str] = []
    for start in range(0, len(maps), a_line):
        lines += [""] if start else []
        lines += ["  " + "  ".join(row) for row in zip(*maps[start : start + a_line], strict=True)]
    if not apart:
        return [*lines, *("  " + rival for rival in rivals)]
    blank = " " * (a_line * (len(each) + 2))
    pairs = zip_longest(lines, rivals, fillvalue="")
    return [f"{line or blank}  {rival}" for line, rival in pairs]


def _map(frame: Numbers, shades: str, cell: int, paint: _Paint) -> list[str]:
    """One line a row of patches, `cell` characters a patch, from levels of 0 to 1."""
    top = len(shades) - 1
    index = np.rint(frame * top).astype(int)
    return ["".join(paint.heat(shades[i] * cell, i / top) for i in row) for row in index.tolist()]


def _coarser(frame: Numbers, columns: int) -> Numbers:
    """Sum blocks of patches so that no more than so many columns are left."""
    step = -(-frame.shape[1] // columns)
    starts = [np.arange(0, size, step) for size in frame.shape]
    return np.asarray(np.add.reduceat(np.add.reduceat(frame, starts[0], 0), starts[1], 1))


def _numbers(values: Numbers) -> list[str]:
    return [f"{float(v):.3g}" for v in values]


def _wrapped(start: str, words: Sequence[str], width: int) -> list[str]:
    lines = [start]
    for word in words:
        if len(lines[-1]) + len(word) > width and lines[-1].strip():
            lines.append("    ")
        lines[-1] += word + " "
    return lines


def _nth(n: int) -> str:
    ending = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n:,}{ending}"


class _Paint:
    def __init__(self, on: bool) -> None:
        self.on = on

    def bold(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self.on else text

    def heat(self, text: str, level: float) -> str:
        code = _HEAT[round(level * (len(_HEAT) - 1))]
        return f"\x1b[38;5;{code}m{text}\x1b[0m" if self.on and code is not None else text


def lacks_blocks(encoding: str | None) -> bool:
    """Whether an encoding has no letters for shades."""
    try:
        (BLOCKS + "·").encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return True
    return False
