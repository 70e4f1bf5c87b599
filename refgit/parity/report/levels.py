"""An error in noise floors as the report shows it: a few characters, a level, a sign."""

from __future__ import annotations

import math

from refgit.parity.comparison.row import Row


def times(row: Row) -> str:
    """The error of a row in a few characters."""
    if row.nan:
        return "NaN/inf"
    if not math.isfinite(row.error):
        return "differs" if row.floor == 0 else "inf ×"
    return f"{brief(row.error)} ×"


def brief(x: float) -> str:
    """Two or three digits: 0.0, 3.2, 87, 9,400, 3.1e6."""
    if not math.isfinite(x):
        return str(x)
    if x < 9.95:
        return f"{x:.1f}"
    if x < 99_999.5:
        return f"{float(f'{x:.3g}'):,.0f}"
    return f"{x:.1e}".replace("e+0", "e").replace("e+", "e")


def level_of(row: Row, multiple: float) -> int:
    """Which of the legend's colours a row has."""
    if row.nan:
        return 6
    bounds = (min(2.0, multiple), multiple, *(multiple * x for x in (10, 1e3, 1e5)))
    return next((i for i, bound in enumerate(bounds) if row.error <= bound), 5)


def levels(multiple: float) -> list[str]:
    """The legend: what each colour means."""
    agrees, *steps = (f"up to {multiple * x:,g} ×" for x in (1, 10, 1e3, 1e5))
    least = f"up to {brief(min(2.0, multiple))} ×".replace(".0", "")
    return [least, f"{agrees}: agrees", *steps, "more, or other whole numbers", "NaN or infinite"]


# On the squares themselves; those that agree have none.
SIGNS = ("", "", "▂", "▅", "█", "✗", "?!")
