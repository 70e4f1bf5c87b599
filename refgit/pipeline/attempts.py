"""Captions that hold a phrase they may not: a second attempt, and then an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from refgit.captions import Treatment
from refgit.errors import PhraseError
from refgit.pipeline.texts import WrittenText

Texts: TypeAlias = list[WrittenText] | Exception
# What options of a search by beams would forbid, or make the same text again.
_NOT_DRAWN = ("preset", "num_beams", "num_return_sequences", "length_penalty", "early_stopping")


def second_attempt(options: Mapping[str, Any], treatment: Treatment) -> Mapping[str, Any]:
    """Options of `generate` that draw one text at random, and are the given ones otherwise.

    Where no phrases fail nothing is drawn, so the options stay.
    """
    if not treatment.fail_phrases:
        return options
    kept = {name: value for name, value in options.items() if name not in _NOT_DRAWN}
    return {**kept, "do_sample": True, "num_beams": 1}


@dataclass(frozen=True)
class Attempts:
    """Leave out texts that hold a phrase of a treatment's `fail_phrases`.

    Parameters
    ----------
    treatment : Treatment
    again : callable
        Makes a second attempt at the image of a number.
    """

    treatment: Treatment
    again: Callable[[int], Texts]

    def without_failures(self, found: Sequence[Texts]) -> list[Texts]:
        """Return what is left of each image's texts, a second attempt's, or a `PhraseError`."""
        return [
            texts if isinstance(texts, Exception) else self._good(texts, i)
            for i, texts in enumerate(found)
        ]

    def _good(self, texts: Sequence[WrittenText], i: int) -> Texts:
        if good := self._free(texts):
            return good
        second = self.again(i)
        if isinstance(second, Exception):
            return second
        if good := self._free(second):
            return good
        first, last = texts[0].text, second[0].text
        phrase = self.treatment.failing(first)
        return PhraseError(
            f"the caption {first!r} holds the phrase {phrase!r}, and a second one, drawn at "
            f"random, one of those to avoid too: {last!r}."
        )

    def _free(self, texts: Sequence[WrittenText]) -> list[WrittenText]:
        return [text for text in texts if self.treatment.failing(text.text) is None]
