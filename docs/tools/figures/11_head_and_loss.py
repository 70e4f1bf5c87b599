"""What the bundled model expects as each next word of a caption, the right word marked."""

from __future__ import annotations

import numpy as np
import style

from refgit import GitForCausalLM, GitProcessor
from refgit.demo import demo_path
from refgit.layers import softmax
from refgit.processing import load_image

SHOWN = 6


def expectations() -> tuple[list[str], list[np.ndarray], list[str], list[int]]:
    """Words read so far, probabilities (V,) behind each, the vocabulary, and the right words."""
    model = GitForCausalLM.from_pretrained(demo_path())
    processor = GitProcessor.from_pretrained(demo_path())
    image = load_image("docs/images/red-heart.png")
    pixels = processor(images=image, return_tensors="np").pixel_values
    ids = processor(text="red heart").input_ids
    ids = [int(i) for i in np.reshape(ids, -1)]  # [CLS] red heart [SEP]
    logits = model(input_ids=[ids], pixel_values=pixels).logits[0, -len(ids) :]
    names = processor.tokenizer.convert_ids_to_tokens(list(range(model.config.vocab_size)))
    return [names[i] for i in ids[:-1]], list(softmax(logits)[:-1]), names, ids[1:]


if __name__ == "__main__":
    read, probabilities, names, right = expectations()
    figure, axes = style.figure(7.4, 2.9, 1, len(read))
    for i, (panel, p, word) in enumerate(zip(axes, probabilities, right, strict=True)):
        best = np.argsort(-p, kind="stable")[:SHOWN]
        colours = [style.RIGHT if w == word else style.FAINT for w in best]
        y = np.arange(SHOWN)
        panel.barh(y, p[best], color=colours, height=0.7)
        for at, w in zip(y, best, strict=True):
            bold = "bold" if w == word else "normal"
            panel.text(0.02, at, names[w], va="center", fontsize=7.5, fontweight=bold)
        panel.invert_yaxis()
        panel.set(xlim=(0, 1.02), yticks=[], xticks=[0, 0.5, 1], xlabel="probability")
        panel.set_title(f"{'... ' if i else ''}{read[i]} __", fontsize=9)
        loss = -np.log(p[word])
        panel.text(1.0, SHOWN - 0.7, f"$-\\ln p$ = {loss:.3f}", ha="right", fontsize=8)
    style.save(figure, "11-head-and-loss")
