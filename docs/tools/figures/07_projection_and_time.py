"""Three frames become one sequence of image tokens: the bundled model's own tokens, as mosaics."""

from __future__ import annotations

import numpy as np
import style
from PIL import Image

from refgit import GitForCausalLM, GitProcessor
from refgit.demo import demo_path
from refgit.processing import load_image

TIMES = (style.TEXT, style.BOTH, style.RIGHT)
SHOWN = 5  # tokens of each frame that are drawn


def frames_of(picture: str) -> list[Image.Image]:
    """A film of three frames: the picture, nearer each time."""
    whole = load_image(picture).convert("RGB")
    side = min(whole.size)
    return [
        whole.crop((c, c, side - c, side - c)).resize((84, 84)) for c in (0, side // 8, side // 4)
    ]


def colours_of(tokens: np.ndarray) -> np.ndarray:
    """The first three principal components of all tokens as red, green and blue."""
    flat = tokens.reshape(-1, tokens.shape[-1]).astype(np.float64)
    flat -= flat.mean(axis=0)
    _, _, directions = np.linalg.svd(flat, full_matrices=False)
    directions = directions[:3] * np.sign(directions[:3].sum(axis=1, keepdims=True))
    parts = flat @ directions.T
    low, high = np.percentile(parts, [2, 98], axis=0)
    return np.clip((parts - low) / (high - low), 0, 1).reshape(*tokens.shape[:-1], 3)


def square(axes, x: float, y: float, colour, size: float = 0.8, edge: str = style.INK) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((x, y), size, size, facecolor=colour, edgecolor=edge, linewidth=0.9))


def draw(axes, frames: list[Image.Image], colours: np.ndarray) -> None:
    style.plain(axes)
    axes.set(xlim=(-0.3, 25.2), ylim=(-0.4, 12.4), aspect="equal")
    for t, frame in enumerate(frames):
        x = 8.2 * t
        axes.imshow(np.asarray(frame), extent=(x, x + 3, 9.0, 12.0), interpolation="antialiased")
        axes.imshow(colours[t, 1:].reshape(7, 7, 3), extent=(x + 4.2, x + 7.2, 9.0, 12.0))
        style.arrow(axes, (x + 3.1, 10.5), (x + 4.1, 10.5), style.IMAGE)
        axes.text(x + 1.5, 8.5, f"frame {t}", ha="center", fontsize=8)
        axes.text(x + 5.7, 8.5, "its 49 patch tokens", ha="center", fontsize=8)
        style.arrow(axes, (x + 3.6, 8.2), (x + 3.6, 6.9), style.IMAGE)
        for n in range(SHOWN):
            square(axes, x + 1.3 * n, 5.8, colours[t, n + 16 * (n > 0)])
            axes.text(x + 1.3 * n + 0.4, 5.25, "+", ha="center", va="center", fontsize=9)
            square(axes, x + 1.3 * n, 4.2, (*_rgb(TIMES[t]), 0.75), edge=TIMES[t])
        axes.text(x + 1.3 * SHOWN + 0.1, 6.0, "...", fontsize=10)
        axes.text(x + 1.3 * SHOWN + 0.1, 4.4, f"$\\tau_{t}$", fontsize=11, color=TIMES[t])
        start = 0.3 + 7.2 * t
        style.arrow(axes, (x + 3.6, 3.9), (start + 2.9, 2.4), style.BOTH)
        for n in range(SHOWN):
            square(axes, start + 1.3 * n, 1.2, colours[t, n + 16 * (n > 0)], edge=TIMES[t])
        axes.text(start + 2.9, 0.5, f"tokens {50 * t} to {50 * t + 49}", ha="center", fontsize=8)
    axes.text(22.6, 1.6, "projection,\nlayer norm,\ndecoder", va="center", fontsize=8)
    style.arrow(axes, (21.6, 1.6), (22.5, 1.6), style.BOTH)


def _rgb(colour: str) -> tuple[float, float, float]:
    from matplotlib.colors import to_rgb

    return to_rgb(colour)


if __name__ == "__main__":
    model = GitForCausalLM.from_pretrained(demo_path())
    processor = GitProcessor.from_pretrained(demo_path())
    frames = frames_of("docs/images/red-apple.png")
    pixels = processor(images=frames, return_tensors="np").pixel_values
    seen: dict[str, np.ndarray] = {}
    model(input_ids=[[2]] * 3, pixel_values=pixels, hook=seen.__setitem__)
    colours = colours_of(seen["git.image_encoder.vision_model.post_layernorm"])  # (3, 50, 3)
    figure, axes = style.figure(7.4, 4.0)
    draw(axes, frames, colours)
    style.save(figure, "07-projection-and-time", png=True)
