"""The decoder block as a drawing, the three ways through the stack, and the stream's length."""

from __future__ import annotations

import numpy as np
import style

from refgit import GitForCausalLM, GitProcessor
from refgit.demo import demo_path
from refgit.processing import load_image


def draw_block(axes) -> None:
    """The stream goes up on the left and passes through both layer norms."""
    style.plain(axes)
    axes.set(xlim=(-0.6, 6.2), ylim=(-0.6, 11.6), title="One block")
    for start, end in ((-0.4, 3.75), (4.8, 9.45), (10.5, 11.4)):  # from layer norm to layer norm
        style.arrow(axes, (1, start), (1, end), style.TEXT)
    axes.text(0.0, 0.6, "(B, L, D)", rotation=90, va="center", ha="center", fontsize=8)
    for low, parts, norm in (
        (0.3, ("attention.self", "attention.output.dense"), "attention.output\n.LayerNorm"),
        (6.0, ("intermediate.dense, gelu", "output.dense"), "output\n.LayerNorm"),
    ):
        axes.plot([1, 4.1], [low, low], color=style.INK, linewidth=1.2)
        style.arrow(axes, (4.1, low), (4.1, low + 0.45))
        for i, part in enumerate(parts):
            y = low + 0.45 + 1.15 * i
            style.box(axes, 2.2, y, 3.9, 0.75, part, style.TEXT)
        style.arrow(axes, (4.1, low + 1.2), (4.1, low + 1.6))
        top = low + 2.35
        axes.plot([4.1, 4.1], [top, top + 0.45], color=style.INK, linewidth=1.2)
        style.arrow(axes, (4.1, top + 0.45), (1.28, top + 0.45))
        disc = {"boxstyle": "circle,pad=0.15", "fc": style.CARD, "ec": style.TEXT}
        axes.text(
            1, top + 0.45, "+", ha="center", va="center", fontsize=12, fontweight="bold", bbox=disc
        )
        axes.text(1.45, top + 0.62, "residual", fontsize=7.5, color=style.FAINT)
        style.box(axes, -0.45, top + 1.1, 2.9, 1.05, norm, style.FAINT)


def draw_ways(axes) -> None:
    """Which tokens go in, and which are in the cache already, in each of the three ways."""
    style.plain(axes)
    axes.set(xlim=(-5.6, 13.2), ylim=(-1.3, 5.4), title="Three ways through the stack")
    from matplotlib.patches import Rectangle

    n, t = 6, 4
    ways = (("decode", range(n + t), ()), ("read_image", range(n), ()),
            ("continue_text", range(n + t - 1, n + t), range(n + t - 1)))  # fmt: skip
    for row, (name, new, cached) in enumerate(ways):
        y = 4 - 1.7 * row
        axes.text(-0.5, y + 0.4, name, ha="right", va="center", fontsize=8.5, family="monospace")
        for i in range(n + t):
            colour = style.IMAGE if i < n else style.TEXT
            face = colour if i in new else style.CARD
            axes.add_patch(Rectangle((i, y), 0.8, 0.8, facecolor=face, linewidth=1,
                                     edgecolor=colour if i in new or i in cached else "#dddad2",
                                     hatch="////" if i in cached else None))  # fmt: skip
    axes.text(4.9, -0.95, "filled: computed now;  hatched: keys and values from the cache",
              ha="center", fontsize=7.5)  # fmt: skip
    axes.text(10.5, 4.4, "training,\nscoring", fontsize=7.5, va="center")
    axes.text(10.5, 2.7, "once per\nimage", fontsize=7.5, va="center")
    axes.text(10.5, 1.0, "once per\nword", fontsize=7.5, va="center")


def draw_lengths(axes) -> None:
    """Length of the tokens' vectors in the bundled model, before and after each layer norm."""
    model = GitForCausalLM.from_pretrained(demo_path())
    processor = GitProcessor.from_pretrained(demo_path())
    image = load_image("docs/images/red-apple.png")
    pixels = processor(images=image, return_tensors="np").pixel_values
    seen: dict[str, np.ndarray] = {}
    model(input_ids=[[2, 552, 48]], pixel_values=pixels, hook=seen.__setitem__)
    image_in = seen["git.visual_projection.visual_projection.1"]
    joint = np.concatenate([image_in, seen["git.embeddings.LayerNorm"]], axis=1)
    labels, states = ["joint sequence"], [joint]
    for i in range(model.config.num_hidden_layers):
        for part, said in (("attention.output", "attention"), ("output", "MLP")):
            labels += [f"{i}: + {said}", f"{i}: LayerNorm"]
            states += [seen[f"git.encoder.layer.{i}.{part}.{x}"] for x in ("residual", "LayerNorm")]
    lengths = np.stack([np.linalg.norm(x[0], axis=-1) for x in states])
    x = np.arange(len(labels))
    axes.plot(x, np.median(lengths[:, :-3], 1), "o-", markersize=3, color=style.IMAGE,
              label="image tokens, median")  # fmt: skip
    axes.plot(x, np.median(lengths[:, -3:], 1), "s--", markersize=3, color=style.TEXT,
              label="text tokens, median")  # fmt: skip
    axes.set_xticks(x, labels, rotation=90, fontsize=7)
    axes.set(ylabel="length of a vector", ylim=(0, None), title="The stream of the bundled model")
    axes.legend(fontsize=7.5)


if __name__ == "__main__":
    figure, axes = style.plt.subplot_mosaic(
        [["block", "ways"], ["block", "lengths"]],
        figsize=(7.8, 5.2), width_ratios=(0.72, 1), height_ratios=(0.75, 1),
    )  # fmt: skip
    draw_block(axes["block"])
    draw_ways(axes["ways"])
    draw_lengths(axes["lengths"])
    style.save(figure, "10-decoder-block")
