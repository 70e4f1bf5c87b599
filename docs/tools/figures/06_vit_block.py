"""The ViT block as a drawing, and the length of the residual stream of the bundled model."""

from __future__ import annotations

import numpy as np
import style

from refgit import GitForCausalLM, GitProcessor
from refgit.demo import demo_path
from refgit.processing import load_image

VISION = "git.image_encoder.vision_model"


def intermediates(picture: str) -> dict[str, np.ndarray]:
    """Every tensor of the image encoder, by name."""
    model = GitForCausalLM.from_pretrained(demo_path())
    processor = GitProcessor.from_pretrained(demo_path())
    pixels = processor(images=load_image(picture), return_tensors="np").pixel_values
    seen: dict[str, np.ndarray] = {}
    model(input_ids=[[2]], pixel_values=pixels, hook=seen.__setitem__)
    return seen


def draw_block(axes) -> None:
    """The stream goes straight up on the left; each branch leaves it, and is added."""
    style.plain(axes)
    axes.set(xlim=(0, 6.2), ylim=(-0.6, 10.4), title="One block")
    style.arrow(axes, (1, -0.4), (1, 10.2), style.IMAGE)
    axes.text(0.75, 4.9, "residual stream (B, N, D)", rotation=90, va="center", ha="right")
    for low, parts, leaf in (
        (0.3, ("layer_norm1", "attention", "self_attn.out_proj"), "self_attn.residual"),
        (5.3, ("layer_norm2", "mlp.fc1, quick-gelu", "mlp.fc2"), "layers.i"),
    ):
        axes.plot([1, 4.1], [low, low], color=style.INK, linewidth=1.2)
        style.arrow(axes, (4.1, low), (4.1, low + 0.45))
        for i, part in enumerate(parts):
            y = low + 0.45 + 1.15 * i
            style.box(axes, 2.3, y, 3.6, 0.75, part, style.FAINT if i == 0 else style.IMAGE)
            if i < len(parts) - 1:
                style.arrow(axes, (4.1, y + 0.75), (4.1, y + 1.15))
        top = low + 0.45 + 1.15 * 2 + 0.75
        axes.plot([4.1, 4.1], [top, top + 0.45], color=style.INK, linewidth=1.2)
        style.arrow(axes, (4.1, top + 0.45), (1.28, top + 0.45))
        disc = {"boxstyle": "circle,pad=0.15", "fc": style.CARD, "ec": style.IMAGE}
        axes.text(
            1, top + 0.45, "+", ha="center", va="center", fontsize=12, fontweight="bold", bbox=disc
        )
        axes.text(1.45, top + 0.62, leaf, fontsize=7.5, color=style.FAINT)


def draw_lengths(axes, seen: dict[str, np.ndarray]) -> None:
    """Length of each token's vector, from the patches to the end."""
    depth = max(int(n.split(".")[-1]) for n in seen if n.startswith(f"{VISION}.encoder.layers.")
                and n.split(".")[-1].isdigit()) + 1  # fmt: skip
    steps = [("embeddings", f"{VISION}.embeddings"), ("pre_layrnorm", f"{VISION}.pre_layrnorm")]
    for i in range(depth):
        layer = f"{VISION}.encoder.layers.{i}"
        steps += [(f"{i}: + attention", f"{layer}.self_attn.residual"), (f"{i}: + MLP", layer)]
    steps.append(("post_layernorm", f"{VISION}.post_layernorm"))
    lengths = np.stack([np.linalg.norm(seen[name][0], axis=-1) for _, name in steps])  # (steps, N)
    x = np.arange(len(steps))
    axes.fill_between(x, lengths[:, 1:].min(1), lengths[:, 1:].max(1), color=style.IMAGE, alpha=0.2,
                      linewidth=0, label="patches, all")  # fmt: skip
    axes.plot(x, np.median(lengths[:, 1:], 1), "o-", markersize=3, color=style.IMAGE,
              label="patches, median")  # fmt: skip
    axes.plot(x, lengths[:, 0], "s--", markersize=3, color=style.TEXT, label="class token")
    axes.set_xticks(x, [label for label, _ in steps], rotation=90, fontsize=7.5)
    axes.set(ylabel="length of a token's vector", ylim=(0, None),
             title="The stream through the bundled model")  # fmt: skip
    axes.legend(fontsize=8)


if __name__ == "__main__":
    seen = intermediates("docs/images/red-apple.png")
    figure, (left, right) = style.figure(7.4, 4.4, 1, 2, width_ratios=(0.75, 1))
    draw_block(left)
    draw_lengths(right, seen)
    style.save(figure, "06-vit-block")
