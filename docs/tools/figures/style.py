"""What the figures of docs/model have in common: colours, fonts, and how they are saved.

    python docs/tools/figures/01_pixels.py      # writes docs/images/model/01-*.svg or .png

Each script draws from a real computation with refgit. Run twice, a script writes the same bytes.
The card behind a figure is light and opaque, so that it reads on a light page and on a dark one.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt

FOLDER = Path(__file__).parents[2] / "images" / "model"
LIMIT = 60_000

CARD = "#fbfaf7"  # background
INK = "#22272e"  # text and lines
FAINT = "#8a9099"  # axes, grids, what is beside the point
IMAGE = "#2f7f9e"  # image tokens, the image encoder
TEXT = "#d9822b"  # text tokens, the text decoder
BOTH = "#6f5aa8"  # what joins the two: projection, joint sequence
RIGHT = "#3c8d5a"  # the right result
WRONG = "#c0392b"  # a mistake
ORDER = (IMAGE, TEXT, BOTH, RIGHT, WRONG)
SEQUENTIAL = "YlGnBu"  # 0 .. large: probabilities
DIVERGING = "RdBu_r"  # around 0: weights, differences

mpl.rcParams.update(
    {
        "svg.hashsalt": "refgit",
        "svg.fonttype": "none",  # text stays text; where DejaVu is missing, a narrower sans-serif
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.edgecolor": FAINT,
        "axes.labelcolor": INK,
        "axes.titlecolor": INK,
        "axes.facecolor": CARD,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.prop_cycle": mpl.cycler(color=ORDER),
        "figure.facecolor": CARD,
        "figure.constrained_layout.use": True,
        "figure.constrained_layout.h_pad": 0.09,
        "figure.constrained_layout.w_pad": 0.09,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "legend.frameon": False,
        "lines.linewidth": 1.6,
        "image.interpolation": "nearest",
        "image.cmap": SEQUENTIAL,
    }
)


def figure(
    width: float = 7.2, height: float = 3.2, rows: int = 1, columns: int = 1, **options: Any
):
    """Return a figure and its axes (one, or an array); sizes in inches, options of subplots."""
    return plt.subplots(rows, columns, figsize=(width, height), **options)


def save(figure: Any, name: str, *, png: bool = False) -> Path:
    """Write a figure to docs/images/model/NAME.svg, or .png, the same bytes each time.

    An SVG with a large heat map becomes heavy; then say `png=True`.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    kind = "png" if png else "svg"
    metadata = {"Software": None} if png else {"Date": None, "Creator": None}
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
    plt.close(figure)
    if png:
        _fewer_colours(buffer)
    content = buffer.getvalue() if png else _shorter(buffer.getvalue())
    if len(content) > LIMIT:
        remedy = "draw less" if png else "save it with png=True"
        raise ValueError(f"{name}.{kind} has {len(content)} bytes, the limit is {LIMIT}; {remedy}.")
    path = FOLDER / f"{name}.{kind}"
    path.write_bytes(content)
    print(f"{path.name}: {len(content)} bytes")
    return path


def _shorter(svg: bytes) -> bytes:
    """The same SVG in fewer bytes: five digits a number, no comments, no indentation."""
    svg = re.sub(rb"<!--.*?-->\n?", b"", svg, flags=re.DOTALL)
    svg = re.sub(rb"-?\d+\.\d{3,}", lambda m: b"%.5g" % float(m[0]), svg)
    return re.sub(rb"\s*\n\s*", b"\n", svg)


def _fewer_colours(buffer: io.BytesIO) -> None:
    """Write a PNG anew with a palette of 256 colours."""
    from PIL import Image

    small = Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    buffer.seek(0)
    buffer.truncate()
    small.save(buffer, format="png", optimize=True)


def plain(axes: Any) -> Any:
    """Take ticks and frame away: for pictures, matrices and diagrams."""
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def box(
    axes: Any,
    x: float,
    y: float,
    width: float,
    height: float,
    text: str = "",
    colour: str = INK,
    link: str | None = None,
) -> None:
    """Draw a box of a diagram; x and y are its lower left corner, in units of the data.

    `link` is where a click leads, from docs/images/model, such as "../../model/04-attention.html".
    """
    from matplotlib.patches import FancyBboxPatch

    rounding = 0.15 * min(width, height)
    shape = FancyBboxPatch(
        (x, y), width, height, boxstyle=f"round,pad=0,rounding_size={rounding}",
        facecolor=mpl.colors.to_rgba(colour, 0.14), edgecolor=colour, linewidth=1.2, url=link,
    )  # fmt: skip
    axes.add_patch(shape)
    middle = (x + width / 2, y + height / 2)
    axes.text(*middle, text, ha="center", va="center", fontsize=8.5, url=link)


def arrow(axes: Any, start: tuple[float, float], end: tuple[float, float], colour: str = INK,
          bend: float = 0.0) -> None:  # fmt: skip
    """Draw an arrow of a diagram; `bend` curves it."""
    axes.annotate(
        "", xy=end, xytext=start,
        arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1.2, "shrinkA": 0,
                    "shrinkB": 0, "connectionstyle": f"arc3,rad={bend}"},
    )  # fmt: skip
