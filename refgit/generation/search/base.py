"""What a search is to `generate`: a name, what asks for it, what it refuses, and how it runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from refgit.generation.config import GenerationConfig
from refgit.generation.results import Output
from refgit.generation.session import Call
from refgit.layers._array_api import Array

# Fields that only some searches heed: values that ask for nothing, and what makes a search that
# heeds them.
_SAMPLES, _HAS_BEAMS = "do_sample=True", "num_beams above 1"
HEEDED: dict[str, tuple[tuple[Any, ...], str]] = {
    "temperature": ((None, 0, 1), _SAMPLES),  # at 0 sampling would take the likeliest token
    "top_k": ((None, 0, 50), _SAMPLES),
    "top_p": ((None, 1), _SAMPLES),
    "min_p": ((None, 0), _SAMPLES),
    "typical_p": ((None, 1), _SAMPLES),
    "epsilon_cutoff": ((None, 0), _SAMPLES),
    "eta_cutoff": ((None, 0), _SAMPLES),
    "early_stopping": ((None, False), _HAS_BEAMS),
    "length_penalty": ((None, 1), _HAS_BEAMS),
    "beam_scoring": ((None, "transformers"), _HAS_BEAMS),
    "num_beam_groups": ((None, 1), _HAS_BEAMS),
    "diversity_penalty": ((None, 0), _HAS_BEAMS),
    "penalty_alpha": ((None, 0), "num_beams=1, do_sample=False and top_k>1"),
}
SAMPLING = frozenset(name for name, (_, needed) in HEEDED.items() if needed == _SAMPLES)
BEAMS = frozenset(name for name, (_, needed) in HEEDED.items() if needed == _HAS_BEAMS)


@dataclass(kw_only=True, eq=False, repr=False)
class Search(ABC):
    """An entry of `SEARCHES`: a `TokenSearch` or a `BeamsSearch`.

    Attributes
    ----------
    name : str
    asked_by : callable, optional
        ``(config) -> bool``: whether the fields of a config ask for it. A search without one is
        called by its name, ``generate(..., search=name)``.
    in_place_of : str
        The search that the fields ask for when this one is called by its name.
    heeds : frozenset of str
        Which of the fields in `HEEDED` have an effect.
    refuse : callable
        ``(config)``: raises a ValueError where its fields contradict one another.
    draws : bool
        Whether it draws random numbers.
    reads_last_token : bool
        Whether it needs a position for the last token of a text, which others never read.
    """

    name: str
    asked_by: Callable[[GenerationConfig], bool] | None = None
    in_place_of: str = "greedy"
    heeds: frozenset[str] = frozenset()
    refuse: Callable[[GenerationConfig], None] = lambda config: None
    draws: bool = False
    reads_last_token: bool = False

    @abstractmethod
    def check(self, config: GenerationConfig) -> None:
        """Raise a ValueError where the search cannot do what a config asks for."""

    @abstractmethod
    def write(self, call: Call, streamer: Any = None) -> Array | Output:
        """Write the texts of a call, and return what `generate` returns."""
