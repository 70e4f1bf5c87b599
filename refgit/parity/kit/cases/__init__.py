"""The kit's cases: the catalogue of the functions that make them.

A new case goes into one of the files here; a new function that makes some, into a line below.
`checkpoints.py` has the small models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from refgit.parity.kit.case import Case, Checkpoint, TextCase
from refgit.parity.kit.cases.layers import layer_cases
from refgit.parity.kit.cases.models import model_cases
from refgit.parity.kit.cases.parts import block_cases, embed_cases, tower_cases
from refgit.parity.kit.cases.pictures import picture_cases
from refgit.parity.kit.cases.searches import search_cases, step_cases
from refgit.parity.kit.cases.texts import text_cases

OF_MODELS = (embed_cases, block_cases, tower_cases, model_cases, step_cases, search_cases)
OF_FILES = (picture_cases, text_cases)


def computed_cases(models: Mapping[str, Checkpoint]) -> Iterator[Case]:
    """Cases that are computed in several evaluations; `models` are the kit's checkpoints."""
    yield from layer_cases()
    for make in OF_MODELS:
        yield from make(models)


def file_cases() -> Iterator[TextCase]:
    """Cases of pictures and texts, which are computed in one way."""
    for make in OF_FILES:
        yield from make()
