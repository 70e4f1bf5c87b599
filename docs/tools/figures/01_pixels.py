"""An image, its patches, one patch as a vector, and that patch as a token.

python docs/tools/figures/01_pixels.py
"""

from __future__ import annotations

import numpy as np
import style

from refgit import GitForCausalLM, GitProcessor
from refgit.demo import demo_path
from refgit.layers.patch_embedding import patch_embedding, patchify
from refgit.processing import load_image

ROW, COLUMN = 1, 3  # the patch that is followed


def main() -> None:
    model = GitForCausalLM.from_pretrained(demo_path())
    processor = GitProcessor.from_pretrained(demo_path())
    picture = load_image("docs/images/red-apple.png")
    pixels = processor(picture, return_tensors="np").pixel_values
    ip = processor.image_processor
    seen = np.moveaxis(pixels[0], 0, -1) * ip.image_std + ip.image_mean  # back to 0 .. 1
    seen = np.clip(seen, 0, 1)

    weight = model.state_dict()[
        "git.image_encoder.vision_model.embeddings.patch_embedding.weight"
    ].astype("float32")
    p = weight.shape[-1]
    columns = pixels.shape[3] // p
    number = ROW * columns + COLUMN
    patch = patchify(pixels, p)[0, number]
    token = patch_embedding(pixels, weight)[0, number]

    figure, axes = style.figure(7.2, 4.3, rows=2, columns=2, width_ratios=(1, 1.15),
                                height_ratios=(1.5, 1))  # fmt: skip
    grid(style.plain(axes[0, 0]), seen, p)
    square(style.plain(axes[0, 1]), seen, p, number)
    vector(axes[1, 0], patch, p)
    bars(axes[1, 1], token)
    style.save(figure, "01-pixels", png=True)


def grid(axes, seen: np.ndarray, p: int) -> None:
    side = seen.shape[0]
    axes.imshow(seen)
    for i in range(0, side + 1, p):
        axes.plot([-0.5, side - 0.5], [i - 0.5] * 2, color=style.FAINT, linewidth=0.7)
        axes.plot([i - 0.5] * 2, [-0.5, side - 0.5], color=style.FAINT, linewidth=0.7)
    for n in range((side // p) ** 2):
        r, c = divmod(n, side // p)
        axes.text(c * p + 1, r * p + 1, n + 1, fontsize=5.5, va="top", color=style.INK)
    x, y = COLUMN * p - 0.5, ROW * p - 0.5
    axes.plot([x, x + p, x + p, x, x], [y, y, y + p, y + p, y], color=style.BOTH, linewidth=2.5)
    axes.set_title(f"{side} × {side} pixels, {(side // p) ** 2} patches")


def square(axes, seen: np.ndarray, p: int, number: int) -> None:
    axes.imshow(seen[ROW * p : (ROW + 1) * p, COLUMN * p : (COLUMN + 1) * p])
    axes.set_title(f"patch {number + 1}: {p} × {p} pixels, 3 colours")


def vector(axes, patch: np.ndarray, p: int) -> None:
    """The flattened patch as a curve: red, then green, then blue."""
    n = p * p
    for i, (name, colour) in enumerate((("red", "#c0392b"), ("green", "#3c8d5a"),
                                        ("blue", "#2f6fb0"))):  # fmt: skip
        at = np.arange(i * n, (i + 1) * n)
        axes.plot(at, patch[i * n : (i + 1) * n], color=colour, linewidth=0.9)
        axes.text((i + 0.5) * n, 2.85, name, color=colour, ha="center", fontsize=8)
        axes.axvline(i * n, color=style.FAINT, linewidth=0.5)
    axes.set(xlim=(0, 3 * n), ylim=(-2.4, 3.4), xticks=[0, n, 2 * n, 3 * n])
    axes.set_title(f"the same as a vector of {3 * n} numbers")


def bars(axes, token: np.ndarray) -> None:
    axes.bar(np.arange(token.size), token, width=1.0, color=style.IMAGE)
    axes.set(xlim=(0, token.size), xticks=[0, 40, 80, 120, 160])
    axes.set_title(f"its token: {token.size} numbers")


if __name__ == "__main__":
    main()
