"""Where the bundled model looks: attention over the patches of one picture.

python docs/tools/figures/04_attention.py
"""

from __future__ import annotations

import numpy as np
import style

from refgit import GitForCausalLM, GitProcessor
from refgit.demo import demo_path
from refgit.parity import record
from refgit.processing import load_image

VISION = "git.image_encoder.vision_model.encoder.layers."


def main() -> None:
    model = GitForCausalLM.from_pretrained(demo_path())
    processor = GitProcessor.from_pretrained(demo_path())
    pixels = processor(load_image("docs/images/red-apple.png"), return_tensors="np").pixel_values
    ip = processor.image_processor
    seen = np.moveaxis(pixels[0], 0, -1) * ip.image_std + ip.image_mean
    trace = record(model, pixel_values=pixels, input_ids=[[processor.tokenizer.cls_token_id]])
    p = model.config.vision_config.patch_size
    maps(trace, np.clip(seen, 0, 1), p)
    whole(trace)


def maps(trace, seen: np.ndarray, p: int) -> None:
    """One query's probabilities, laid over the picture: its patches where it looks stay bright."""
    side = seen.shape[0] // p
    stem = 1 * side + 3  # the patch with the stem of the apple
    first = trace[f"{VISION}0.self_attn.probabilities"][0]
    shown = [
        (f"head {h + 1}", first[h, 1 + stem, 1:], stem) for h in range(first.shape[0])
    ]  # key 0 is the class token
    figure, axes = style.figure(7.2, 1.95, columns=len(shown))
    for a, (title, probabilities, query) in zip(axes, shown, strict=True):
        light = (probabilities / probabilities.max()).reshape(side, side)
        light = np.kron(light, np.ones((p, p)))[..., None]
        a.imshow(seen * light + 0.12 * seen * (1 - light))
        r, c = divmod(query, side)
        x, y = c * p - 0.5, r * p - 0.5
        a.plot([x, x + p, x + p, x, x], [y, y, y + p, y + p, y], color="#f5c542", linewidth=1.5)
        style.plain(a).set_title(title)
    style.save(figure, "04-attention-map", png=True)


def whole(trace) -> None:
    """Scores, probabilities and the sum of a row, of one head, as matrices."""
    scores = trace[f"{VISION}0.self_attn.scores"][0, 0]
    probabilities = trace[f"{VISION}0.self_attn.probabilities"][0, 0]
    figure, axes = style.figure(7.2, 3.3, columns=2)
    limit = np.abs(scores).max()
    for a, x, title, options in (
        (axes[0], scores, "scores: any number",
         {"cmap": style.DIVERGING, "vmin": -limit, "vmax": limit}),
        (axes[1], probabilities, "probabilities: rows sum to 1",
         {"cmap": style.SEQUENTIAL, "vmin": 0, "vmax": np.quantile(probabilities, 0.999)}),
    ):  # fmt: skip
        drawn = a.imshow(x, **options)
        figure.colorbar(drawn, ax=a, shrink=0.75)
        a.set(xlabel="key (0 is the class token)", ylabel="query", xticks=range(0, 50, 7),
              yticks=range(0, 50, 7))  # fmt: skip
        a.set_title(title)
    style.save(figure, "04-attention-matrices")


if __name__ == "__main__":
    main()
