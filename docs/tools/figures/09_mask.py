"""The mask of the joint sequence, without and with padding, and the probabilities it leaves."""

from __future__ import annotations

import numpy as np
import style
from matplotlib.colors import ListedColormap

from refgit import GitForCausalLM, GitProcessor
from refgit.demo import demo_path
from refgit.layers import attention_bias, image_text_mask
from refgit.processing import load_image

N, WORDS = 5, ("[CLS]", "red", "apple", "[SEP]")
IMAGE, TEXT, NOT, PADDING = range(4)


def kinds(text_mask: list[int] | None) -> np.ndarray:
    """What each pair of query and key is, read off the library's own bias."""
    like = np.zeros(1, np.float32)
    length = N + (len(WORDS) if text_mask is None else len(text_mask))
    allowed = image_text_mask(N, length, like=like)
    padding = None if text_mask is None else np.array([text_mask])
    bias = attention_bias(allowed, padding, like=like)[0, 0]  # (L, L)
    kind = np.where(np.arange(length)[None, :] < N, IMAGE, TEXT) + 0 * bias.astype(bool)
    kind = np.where(np.isfinite(bias) & (bias < 0), PADDING, kind)
    return np.where(np.isinf(bias), NOT, kind)


def draw_mask(axes, kind: np.ndarray, words: tuple[str, ...], title: str) -> None:
    colours = ListedColormap([style.IMAGE, style.TEXT, style.CARD, "#d7c6e6"])
    axes.pcolormesh(kind, cmap=colours, vmin=0, vmax=3, edgecolors=style.FAINT, linewidth=0.4)
    names = [f"image {i}" for i in range(N)] + list(words)
    at = np.arange(len(names)) + 0.5
    axes.set_xticks(at, names, rotation=90, fontsize=7)
    axes.set_yticks(at, names, fontsize=7)
    axes.tick_params(length=0)
    axes.invert_yaxis()
    axes.axhline(N, color=style.INK, linewidth=1.4)
    axes.axvline(N, color=style.INK, linewidth=1.4)
    axes.set(title=title, xlabel="keys", aspect="equal")


def probabilities() -> tuple[np.ndarray, int]:
    """Of the bundled model's last layer, over all heads, with a question and its answer."""
    model = GitForCausalLM.from_pretrained(demo_path())
    processor = GitProcessor.from_pretrained(demo_path())
    image = load_image("docs/images/red-apple.png")
    pixels = processor(images=image, return_tensors="np").pixel_values
    text = processor(text="what kind of thing is this? food and drink").input_ids
    seen: dict[str, np.ndarray] = {}
    model(input_ids=np.reshape(text, (1, -1)), pixel_values=pixels, hook=seen.__setitem__)
    p = seen["git.encoder.layer.2.attention.self.probabilities"]
    return p[0].mean(axis=0), p.shape[-1] - np.size(text)


def draw_probabilities(figure, axes) -> None:
    p, n = probabilities()
    shown = np.log10(np.where(p > 0, p, np.nan))  # what is not allowed stays blank
    picture = axes.imshow(shown, cmap=style.SEQUENTIAL, vmin=-4, vmax=0)
    axes.axhline(n - 0.5, color=style.INK, linewidth=1)
    axes.axvline(n - 0.5, color=style.INK, linewidth=1)
    t = len(p) - n
    axes.set_xticks([n / 2, n + t / 2], [f"{n} image tokens", f"{t} words"], fontsize=7)
    axes.set_yticks([n / 2, n + t / 2], ["image", "words"], rotation=90, va="center", fontsize=7)
    axes.tick_params(length=0)
    axes.set(title="Bundled model, layer 2", xlabel="keys")
    bar = figure.colorbar(picture, ax=axes, shrink=0.55, ticks=[-4, -2, 0])
    bar.ax.set_yticklabels(["0.0001", "0.01", "1"], fontsize=7)
    bar.outline.set_visible(False)


if __name__ == "__main__":
    figure, axes = style.figure(9.6, 3.7, 1, 3, width_ratios=(1, 1.1, 1.15))
    draw_mask(axes[0], kinds(None), WORDS, "Without padding")
    axes[0].set_ylabel("queries")
    padded = ("padding", "padding", *WORDS[:3])
    draw_mask(axes[1], kinds([0, 0, 1, 1, 1]), padded, "A shorter text, padded")
    draw_probabilities(figure, axes[2])
    style.save(figure, "09-mask", png=True)
