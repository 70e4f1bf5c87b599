"""What the steps of a search were decided by, kept where it was asked for."""

from __future__ import annotations

from typing import Any

import numpy as np

from refgit.generation.config import GenerationConfig
from refgit.generation.decoding import Layers
from refgit.generation.logits.scores import Ids, Scores
from refgit_backends import Backend


class Record:
    """Collects one entry a step, each with a row for every row of the search.

    Parameters
    ----------
    config : GenerationConfig
        Says what to keep.
    rows : int
        Rows of the search, those that have ended included.
    filler : int
        The word that a row goes on with after its end.
    """

    def __init__(self, config: GenerationConfig, rows: int, filler: int) -> None:
        self.rows, self.filler = rows, filler
        whole = config.return_dict_in_generate
        self.kept: dict[str, list[Any]] = {
            name: []
            for name in ("scores", "logits", "attentions", "hidden_states")
            if whole and getattr(config, f"output_{name}")
        }

    def add(
        self,
        rows: Ids,
        logits: Scores,
        scores: Scores,
        attentions: Layers | None,
        hidden_states: Layers | None,
    ) -> None:
        """Keep what is wanted of a step in which `rows` still ran."""
        for name, value in (("scores", scores), ("logits", logits)):
            if name in self.kept:
                whole = np.full((self.rows, value.shape[1]), -np.inf, value.dtype)
                whole[:, self.filler] = 0
                whole[rows] = value
                self.kept[name].append(whole)
        for name, layers in (("attentions", attentions), ("hidden_states", hidden_states)):
            if name in self.kept and layers is not None:
                wholes = [np.zeros((self.rows, *x.shape[1:]), x.dtype) for x in layers]
                for whole, x in zip(wholes, layers, strict=True):
                    whole[rows] = x
                self.kept[name].append(tuple(wholes))

    def on(self, backend: Backend) -> dict[str, tuple[Any, ...]]:
        """Everything kept, as arrays of a backend."""
        moved: dict[str, tuple[Any, ...]] = {}
        for name, steps in self.kept.items():
            if name in ("scores", "logits"):
                moved[name] = tuple(map(backend.asarray, steps))
            else:
                moved[name] = tuple(tuple(map(backend.asarray, step)) for step in steps)
        return moved
