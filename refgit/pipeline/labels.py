"""Labels ranked by their probability as the text below an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refgit.generation.classification.labels import LabelSet
from refgit.generation.classification.ranking import Classification
from refgit_backends import Backend


@dataclass(frozen=True)
class RankedLabel:
    """A label and how well it fits an image.

    Attributes
    ----------
    label : str
    probability, log_probability : float
        Of this label among all texts, its end included and the prompt not.
    share : float
        The probability divided by the sum over all labels.
    score : float
        The log-probability divided by the number of tokens, the end token among them.
    """

    label: str
    probability: float
    log_probability: float
    share: float
    score: float


def ranked_labels(found: Classification, labels: LabelSet, backend: Backend) -> list[RankedLabel]:
    """Return what `GitForCausalLM.classify` found of one image, with the texts of the labels."""
    host = backend.to_numpy
    log_p = host(found.log_probabilities)[0]
    chosen = host(found.labels)[0]
    lengths = np.array([len(labels.trie.labels[i]) + 1 for i in chosen.tolist()])
    columns = (chosen, np.exp(log_p), log_p, host(found.shares)[0], log_p / lengths)
    return [
        RankedLabel(labels.texts[labels.numbers[label]], *numbers)
        for label, *numbers in zip(*(column.tolist() for column in columns), strict=True)
    ]
