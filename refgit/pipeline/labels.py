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
    """

    label: str
    probability: float
    log_probability: float
    share: float


def ranked_labels(found: Classification, labels: LabelSet, backend: Backend) -> list[RankedLabel]:
    """Return what `GitForCausalLM.classify` found of one image, with the texts of the labels."""
    host = backend.to_numpy
    log_p = host(found.log_probabilities)[0]
    columns = (host(found.labels)[0], np.exp(log_p), log_p, host(found.shares)[0])
    return [
        RankedLabel(labels.texts[labels.numbers[label]], *numbers)
        for label, *numbers in zip(*(column.tolist() for column in columns), strict=True)
    ]
