"""The map of the whole model, with the shapes of git-base.

python docs/tools/figures/00_map.py
"""

from __future__ import annotations

import style

from refgit import GitConfig

WIDTH, HEIGHT = 100, 125  # units of the drawing
PAGES = {
    name.split("-")[0].lstrip("0"): f"../../model/{name}.html"
    for name in (
        "01-pixels", "02-positions", "03-layer-norm", "04-attention", "05-activation",
        "06-vit-block", "07-projection-and-time", "08-text-and-ids", "09-mask",
        "10-decoder-block", "11-head-and-loss", "12-decoding-and-cache",
    )
}  # fmt: skip
# page, left, top, width, height, text, colour: the boxes, named by the numbers of their pages
Box = tuple[str, float, float, float, float, str, str]


def boxes() -> list[Box]:
    """The model, left column the image encoder, right column the text decoder."""
    left, right, wide = 4, 55, 41
    return [
        ("1", left, 13, wide, 7, "patches, linear map, class token", style.IMAGE),
        ("2", left, 26, wide, 7, "+ positions of the patches", style.IMAGE),
        ("3", left, 39, wide, 6, "layer norm", style.IMAGE),
        ("3", left + 3, 57, wide - 6, 5, "layer norm", style.IMAGE),
        ("4", left + 3, 64, wide - 6, 5, "attention, no mask", style.IMAGE),
        ("3", left + 3, 75.5, wide - 6, 5, "layer norm", style.IMAGE),
        ("5", left + 3, 82.5, wide - 6, 5, "feed-forward, quick_gelu", style.IMAGE),
        ("3", left, 99.5, wide, 5, "layer norm", style.IMAGE),
        ("7", left, 110, wide, 7, "projection (video: + time)", style.BOTH),
        ("8", right, 4.6, wide, 4.6, "text becomes ids", style.TEXT),
        ("2", right, 13, wide, 7, "word vectors + positions", style.TEXT),
        ("3", right, 26, wide, 6, "layer norm", style.TEXT),
        ("9", right, 39, wide, 6, "image, then text, and the mask", style.BOTH),
        ("4", right + 3, 57, wide - 6, 5, "attention under the mask", style.TEXT),
        ("3", right + 3, 67.5, wide - 6, 5, "layer norm", style.TEXT),
        ("5", right + 3, 76, wide - 6, 5, "feed-forward, gelu", style.TEXT),
        ("3", right + 3, 86.5, wide - 6, 5, "layer norm", style.TEXT),
        ("11", right, 99.5, wide, 5, "head: a score for each word", style.TEXT),
        ("12", right, 110, wide, 7, "choose the next word", style.TEXT),
    ]


def frame(axes, left: float, top: float, height: float, page: str, text: str, colour: str) -> None:
    """The frame around the layers of a block."""
    from matplotlib.patches import FancyBboxPatch

    axes.add_patch(FancyBboxPatch(
        (left, top), 41, height, boxstyle="round,pad=0,rounding_size=1.2",
        facecolor="none", edgecolor=colour, linewidth=1.2, linestyle=(0, (4, 2)),
    ))  # fmt: skip
    axes.text(left + 5.2, top, text, va="center", fontsize=8, color=colour, url=PAGES[page],
              bbox={"boxstyle": "square,pad=0.1", "facecolor": style.CARD, "edgecolor": "none"},
              )  # fmt: skip
    badge(axes, left + 2.8, top, page, colour)


def badge(axes, x: float, y: float, page: str, colour: str) -> None:
    """The number of the page in a disc."""
    axes.text(x, y, page, ha="center", va="center", fontsize=6.8, color="white", weight="bold",
              url=PAGES[page],
              bbox={"boxstyle": "circle,pad=0.22", "facecolor": colour, "edgecolor": "none"},
              )  # fmt: skip


def main() -> None:
    config = GitConfig()
    vision = config.vision_config
    side, n = vision.image_size, vision.num_positions
    figure, axes = style.figure(7.2, 8.4)
    style.plain(axes).set(xlim=(0, WIDTH), ylim=(HEIGHT, 0))

    for page, x, y, width, height, text, colour in boxes():
        style.box(axes, x, y, width, height, "", colour, PAGES[page])
        axes.text(x + width / 2 + 1.5, y + height / 2, text, ha="center", va="center", fontsize=8,
                  url=PAGES[page])  # fmt: skip
        badge(axes, x + 2.8, y + height / 2, page, colour)

    frame(axes, 4, 51.5, 42.5, "6", f"block, {vision.num_hidden_layers} times", style.IMAGE)
    frame(axes, 55, 51.5, 42.5, "10", f"block, {config.num_hidden_layers} times", style.TEXT)

    def down(x: float, top: float, bottom: float, text: str = "", at: float | None = None) -> None:
        style.arrow(axes, (x, top), (x, bottom))
        at = (top + bottom) / 2 if at is None else at
        axes.text(x + 1.5, at, text, va="center", fontsize=7)

    d, e = vision.hidden_size, config.hidden_size
    image, text = 24.5, 75.5
    for x, title, colour in (
        (image, "Image encoder", style.IMAGE),
        (text, "Text decoder", style.TEXT),
    ):
        axes.text(x, 2, title, ha="center", va="center", fontsize=11, weight="bold", color=colour)
    down(image, 5, 13, f"pixels (B, {vision.num_channels}, {side}, {side})", 10)
    down(image, 20, 26, f"(B, N, D) = (B, {n}, {d})")
    for top, bottom in ((33, 39), (45, 57), (62, 64), (69, 75.5), (80.5, 82.5), (87.5, 99.5)):
        down(image, top, bottom)
    down(image, 104.5, 110, f"(B, {n}, {d})")
    plus(axes, image, 71.2, (5.2, 54.5), style.IMAGE)
    plus(axes, image, 90.5, (5.2, 73.4), style.IMAGE)

    down(text, 9.2, 13, "ids of the text so far (B, T)", 10.6)
    down(text, 20, 26, f"(B, T, D) = (B, T, {e})")
    down(text, 32, 39)
    down(text, 45, 57, f"(B, {n} + T, {e})", 48.2)
    for top, bottom in ((62, 67.5), (72.5, 76), (81, 86.5), (91.5, 99.5)):
        down(text, top, bottom)
    down(text, 104.5, 110, f"(B, {n} + T, {config.vocab_size})")
    plus(axes, text, 64.2, (56.2, 54.5), style.TEXT)
    plus(axes, text, 83.2, (56.2, 74), style.TEXT)

    # the image tokens go to the right, the chosen word back to the top
    path(axes, [(45, 113.5), (50, 113.5), (50, 42), (55, 42)], style.BOTH)
    axes.text(48.9, 80, f"image tokens (B, {n}, {e})", rotation=90, fontsize=7, va="center",
              ha="right", color=style.BOTH)  # fmt: skip
    path(axes, [(96, 113.5), (98.8, 113.5), (98.8, 12.1), (76.2, 12.1)], style.TEXT)
    axes.text(50, 121.5, "⊕ adds what goes around a sub-layer: the residual connection",
              ha="center", fontsize=7.5)  # fmt: skip
    style.save(figure, "00-map")


def plus(axes, x: float, y: float, around: tuple[float, float], colour: str) -> None:
    """A plus on the line at y, and the way around the sub-layers to it, from the line above."""
    side, start = around
    path(axes, [(x, start), (side, start), (side, y), (x - 1.1, y)], style.FAINT)
    axes.text(x, y, "+", ha="center", va="center", fontsize=8, color=colour, weight="bold",
              bbox={"boxstyle": "circle,pad=0.1", "facecolor": style.CARD, "edgecolor": colour},
              )  # fmt: skip


def path(axes, points: list[tuple[float, float]], colour: str) -> None:
    """A line with corners that ends in an arrow."""
    xs, ys = zip(*points[:-1], strict=True)
    axes.plot(xs, ys, color=colour, linewidth=1.2)
    style.arrow(axes, points[-2], points[-1], colour)


if __name__ == "__main__":
    main()
