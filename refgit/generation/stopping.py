"""Stopping criteria: when a text is done.

Each is made once and called after every step, ``criterion(input_ids, scores) -> done``, with the
ids so far (B, T), what was written in this step included; `done` is a boolean array (B,).
Source of all: transformers 4.56.2.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from refgit.generation.config import GenerationConfig
from refgit.generation.logits.length import end_tokens
from refgit.generation.logits.scores import Ids, Mask
from refgit.validation import are_strings, expect, integer, is_number

Criterion = Callable[[Ids, Any], Any]


class Tokenizer(Protocol):
    """What `StopStrings` asks of a tokenizer; `BertTokenizer` of refgit.processing has it."""

    backend: Any  # a tokenizers.Tokenizer


class MaxLength:
    """Stop at `max_length` tokens, the prompt included."""

    def __init__(self, max_length: int) -> None:
        self.max_length = integer("max_length", max_length, 1)

    def __call__(self, input_ids: Ids, scores: Any) -> Mask:
        """Say of each text (B, T) whether it is done."""
        return np.full(len(input_ids), input_ids.shape[1] >= self.max_length)


class MaxTime:
    """Stop after `max_time` seconds, counted from when this was made; the step is finished."""

    def __init__(self, max_time: float) -> None:
        expect("max_time", max_time, is_number(max_time, 0), "a number of at least 0")
        self.end = time.monotonic() + float(max_time)

    def __call__(self, input_ids: Ids, scores: Any) -> Mask:
        """Say of each text (B, T) whether it is done."""
        return np.full(len(input_ids), time.monotonic() > self.end)


class EosToken:
    """Stop where the last token is an end token."""

    def __init__(self, eos_token_id: int | list[int]) -> None:
        self.ends = end_tokens(eos_token_id)

    def __call__(self, input_ids: Ids, scores: Any) -> Mask:
        """Say of each text (B, T) whether it is done."""
        return np.isin(input_ids[:, -1], self.ends)


class StopStrings:
    """Stop where the text ends with a stop string, or where the last token completes one.

    So "stop" ends a text at the tokens ``st ##opper``, but ``stop ##per`` at its first. The text is
    the tokens' text, special tokens like "[SEP]" included, a space before each token that begins a
    word. A token outside the tokenizer's vocabulary interrupts the text.
    """

    def __init__(self, stop_strings: str | Sequence[str], tokenizer: Tokenizer) -> None:
        strings = [stop_strings] if isinstance(stop_strings, str) else stop_strings
        expect("stop_strings", stop_strings, are_strings(stop_strings), "a string or several")
        self.strings, self.tokenizer = tuple(strings), tokenizer
        self.window = max(map(len, self.strings))  # tokens: each but the last adds a letter
        self._known: dict[int, str | None] = {}

    def __call__(self, input_ids: Ids, scores: Any) -> Mask:
        """Say of each text (B, T) whether it is done."""
        rows = input_ids[:, -self.window :].tolist()
        return np.array([self._ends(row) for row in rows], bool)

    def _ends(self, ids: list[int]) -> bool:
        text, last = "", self._text(ids[-1])
        for token in map(self._text, ids):
            text = "" if token is None else text + token
        # an occurrence that reaches into the last token begins here at the earliest
        earliest = len(text) - len(last or "") + 1
        return any(text.find(s, max(0, earliest - len(s))) >= 0 for s in self.strings if last)

    def _text(self, token_id: int) -> str | None:
        """The text of a token after others, or None for one outside the vocabulary."""
        if token_id not in self._known:
            backend = self.tokenizer.backend
            token = backend.id_to_token(token_id)
            text = None if token is None else backend.decoder.decode(["x", token])[1:]
            self._known[token_id] = text
        return self._known[token_id]


def build_stopping(
    config: GenerationConfig,
    tokenizer: Tokenizer | None = None,
    user: Iterable[Criterion] = (),
) -> list[Criterion]:
    """Make the criteria that a config asks for, and add the caller's.

    Parameters
    ----------
    config : GenerationConfig
        Of this call, `max_length` as it holds for this prompt.
    tokenizer : BertTokenizer, optional
        Needed for `config.stop_strings`.
    user : iterable of callables
        ``criterion(input_ids, scores)`` of the caller. One of a type that the config asks for too
        takes its place.

    Raises
    ------
    ValueError
        There are stop strings and no tokenizer.
    """
    made: list[Criterion] = [MaxLength(config.max_length)]
    if config.max_time is not None:
        made.append(MaxTime(config.max_time))
    if config.stop_strings is not None:
        if tokenizer is None:
            raise ValueError(
                f"stop_strings is {config.stop_strings!r}, and there is no tokenizer to read them "
                "with; pass tokenizer=processor.tokenizer."
            )
        made.append(StopStrings(config.stop_strings, tokenizer))
    if config.eos_token_id is not None:
        made.append(EosToken(config.eos_token_id))
    return with_users_own(made, user)


def with_users_own(made: Iterable[Any], user: Iterable[Any]) -> list[Any]:
    """Put the caller's objects in the place of those of the same type, the others after them."""
    own = list(user)
    merged = [next((x for x in own if type(x) is type(default)), default) for default in made]
    return merged + [x for x in own if not any(x is y for y in merged)]


def done(criteria: Iterable[Criterion], input_ids: Ids, scores: Any) -> Mask:
    """Ask all criteria which of the texts (B, T) are done: (B,).

    Raises
    ------
    ValueError
        A criterion returned something else than one truth value, or one for each text.
    """
    finished = np.zeros(len(input_ids), bool)
    for criterion in criteria:
        found = np.asarray(criterion(input_ids, scores))
        if found.shape not in ((), finished.shape) or found.dtype != bool:
            raise ValueError(
                f"the stopping criterion {name_of(criterion)} returned {found.dtype} of shape "
                f"{found.shape}; expected booleans of shape {finished.shape}."
            )
        finished |= found
    return finished


def name_of(function: Any) -> str:
    """How messages name a caller's function or callable object."""
    return str(getattr(function, "__name__", type(function).__name__))
