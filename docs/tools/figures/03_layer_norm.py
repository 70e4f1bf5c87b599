"""What layer norm does to tokens, and where a wrong eps shows.

python docs/tools/figures/03_layer_norm.py
"""

from __future__ import annotations

import numpy as np
import style

from refgit import GitForCausalLM, GitProcessor
from refgit.demo import demo_path
from refgit.parity import record
from refgit.processing import load_image

VISION = "git.image_encoder.vision_model."


def main() -> None:
    model = GitForCausalLM.from_pretrained(demo_path())
    processor = GitProcessor.from_pretrained(demo_path())
    pixels = processor(load_image("docs/images/red-apple.png"), return_tensors="np").pixel_values
    ids = processor(text="red apple").input_ids
    trace = record(model, pixel_values=pixels, input_ids=[ids])
    figure, axes = style.figure(7.2, 3.1, columns=2)
    before_and_after(axes[0], trace)
    where_eps_shows(axes[1], trace)
    style.save(figure, "03-layer-norm")


def before_and_after(axes, trace) -> None:
    """Channels of all tokens, before and after the last layer norm of the image encoder's block."""
    x = trace[f"{VISION}encoder.layers.4"][0]
    y = (x - x.mean(axis=-1, keepdims=True)) / x.std(axis=-1, keepdims=True)
    bins = np.linspace(-16, 16, 97)
    spread = x.std(axis=-1)
    for values, colour, label in (
        (x, style.FAINT, f"before: σ of a token {spread.min():.1f} … {spread.max():.1f}"),
        (y, style.IMAGE, "after: σ of every token 1"),
    ):
        axes.hist(values.ravel(), bins=bins, histtype="stepfilled", alpha=0.55, color=colour,
                  density=True, label=label)  # fmt: skip
    axes.set(yticks=[], xlabel="value of a channel")
    axes.legend(fontsize=7.5, loc="upper left", handlelength=1)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.3)
    axes.set_title("all tokens, without w and b")


def where_eps_shows(axes, trace) -> None:
    """How much smaller a token comes out under 1e-5 than under 1e-12, by its spread."""
    sigma = np.geomspace(0.02, 20, 200)
    axes.loglog(sigma, shrinkage(sigma), color=style.FAINT, linewidth=1)
    places = (
        ("git.embeddings.sum", "words + positions", style.TEXT, (8, 4)),
        ("git.encoder.layer.0.output.residual", "decoder block", style.BOTH, (8, 2)),
        (f"{VISION}encoder.layers.4", "last ViT block", style.IMAGE, (-4, 16)),
    )
    for name, text, colour, offset in places:
        spread = trace[name].astype("float64").std(axis=-1).ravel()
        axes.loglog(spread, shrinkage(spread), "o", color=colour, markersize=4, alpha=0.6)
        at = np.median(spread)
        axes.annotate(text, (at, shrinkage(at)), xytext=offset, textcoords="offset points",
                      color=colour, fontsize=8)  # fmt: skip
    axes.axhline(2**-24, color=style.FAINT, linestyle=":", linewidth=1)
    axes.text(0.022, 2**-24 * 1.25, "rounding of float32", fontsize=7.5, color=style.FAINT)
    axes.set(xlabel="σ of a token", xlim=(0.02, 20), ylim=(1e-8, 2e-2))
    axes.set_title("1e-5 where 1e-12 belongs: relative error")


def shrinkage(sigma: np.ndarray) -> np.ndarray:
    """1 - sigma / sqrt(sigma^2 + 1e-5), without cancellation."""
    return -np.expm1(-0.5 * np.log1p(1e-5 / sigma**2))


if __name__ == "__main__":
    main()
