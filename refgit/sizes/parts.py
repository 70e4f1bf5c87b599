"""Parameters by the part of the model they belong to: where the size of a model comes from."""

from __future__ import annotations

import math
from dataclasses import dataclass

from refgit.model.config import GitConfig
from refgit.model.parameters import causal_lm_shapes

TIED = "output.weight"  # with config.tie_word_embeddings it is the word embedding's matrix

# What the names of a part's parameters begin with; the first that fits counts.
_PARTS = {
    "image encoder: patches and positions": "git.image_encoder.vision_model.embeddings.",
    "image encoder: layers": "git.image_encoder.vision_model.encoder.",
    "image encoder: norms around them": "git.image_encoder.vision_model.",
    "frame times": "git.img_temperal_embedding.",  # the checkpoint's spelling
    "visual projection": "git.visual_projection.",
    "text decoder: words": "git.embeddings.word_embeddings.",
    "text decoder: positions and norm": "git.embeddings.",
    "text decoder: layers": "git.encoder.",
    "output (language-modelling head)": "output.",
}


@dataclass(frozen=True)
class Part:
    """A part of the model.

    Attributes
    ----------
    name : str
    tensors : int
        Parameter arrays that belong to it only.
    parameters : int
        Numbers in these.
    shared : str
        Which of its arrays is another part's and therefore counted there; empty for none.
    """

    name: str
    tensors: int
    parameters: int
    shared: str = ""


def parameters_by_part(config: GitConfig) -> list[Part]:
    """Count the parameters of a GitForCausalLM, part by part.

    Parameters
    ----------
    config : GitConfig

    Returns
    -------
    list of Part
        In the order of computation; their parameters add up to
        ``GitForCausalLM(config).num_parameters()`` where nothing is tied. A tied matrix is counted
        once, with the word embedding.
    """
    counts = {part: [0, 0] for part in _PARTS}
    for name, shape in causal_lm_shapes(config).items():
        if config.tie_word_embeddings and name == TIED:
            continue
        part = next(part for part, start in _PARTS.items() if name.startswith(start))
        counts[part][0] += 1
        counts[part][1] += math.prod(shape)
    head = list(_PARTS)[-1]
    shared = "weight, tied to the word embedding" if config.tie_word_embeddings else ""
    return [
        Part(name, tensors, parameters, shared if name == head else "")
        for name, (tensors, parameters) in counts.items()
        if tensors
    ]
