"""quick_gelu beside gelu: the curves, their difference, and where the model's numbers lie.

python docs/tools/figures/05_activation.py
"""

from __future__ import annotations

import numpy as np
import style

from refgit import GitForCausalLM, GitProcessor
from refgit.demo import demo_path
from refgit.layers.activation import gelu, gelu_new, quick_gelu, relu
from refgit.parity import record
from refgit.processing import load_image

FEED_FORWARD = "git.image_encoder.vision_model.encoder.layers.0.mlp.fc1"


def main() -> None:
    model = GitForCausalLM.from_pretrained(demo_path())
    processor = GitProcessor.from_pretrained(demo_path())
    pixels = processor(load_image("docs/images/red-apple.png"), return_tensors="np").pixel_values
    trace = record(model, pixel_values=pixels, input_ids=[[processor.tokenizer.cls_token_id]])
    inside = trace[FEED_FORWARD].ravel()

    x = np.linspace(-5, 3, 801)
    figure, (left, right) = style.figure(7.2, 3.3, columns=2)
    left.plot(x, relu(x), color=style.FAINT, linewidth=1, label="relu")
    left.plot(x, gelu(x), color=style.TEXT, label="gelu (decoder)")
    left.plot(x, quick_gelu(x), color=style.IMAGE, linestyle="--", label="quick_gelu (encoder)")
    left.set(xlim=(-5, 2), ylim=(-0.3, 1.6), xlabel="x")
    left.legend(fontsize=8, loc="upper left")
    left.set_title("the activations")

    bins = np.linspace(-5, 3, 81)
    share, _ = np.histogram(inside, bins=bins)
    top = 0.022
    right.fill_between(bins[:-1], -top + share / share.max() * 0.012, -top, step="post",
                       color=style.FAINT, alpha=0.35, linewidth=0)  # fmt: skip
    right.text(-4.9, -0.0185, "inputs, layer 0", fontsize=7.5)
    right.axhline(0, color=style.FAINT, linewidth=0.6)
    right.plot(x, quick_gelu(x) - gelu(x), color=style.WRONG, label="quick_gelu − gelu")
    right.plot(x, gelu_new(x) - gelu(x), color=style.BOTH, label="gelu_new − gelu")
    right.set(xlim=(-5, 3), ylim=(-top, 0.026), xlabel="x")
    right.legend(fontsize=8, loc="upper right")
    right.set_title("their differences")
    style.save(figure, "05-activation")


if __name__ == "__main__":
    main()
