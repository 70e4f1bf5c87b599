"""From texts to the encodings of the `tokenizers` library: split, cut and padded.

The library splits (WordPiece) and adds special tokens; `truncation.py` cuts. `TextEncoder` makes of
the encodings what a call returns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar

from refgit.processing.text.inputs import as_batch
from refgit.processing.text.lengths import Lengths, settle_lengths
from refgit.processing.text.truncation import cut_to
from refgit.processing.text.vocabulary import Vocabulary, check_side
from refgit.validation import expect, is_integer

T = TypeVar("T")


@dataclass(frozen=True)
class CallOptions:
    """The options of a call that decide which tokens there are; see `TextEncoder.__call__`."""

    add_special_tokens: bool = True
    padding: bool | str = False
    truncation: bool | str | None = None
    max_length: int | None = None
    stride: int = 0
    is_split_into_words: bool = False
    pad_to_multiple_of: int | None = None
    padding_side: str | None = None
    split_special_tokens: bool | None = None
    return_overflowing_tokens: bool = False


class BatchEncoder(Vocabulary):
    """Turns a batch of texts, or of pairs, into encodings."""

    def _checked(self, call: CallOptions) -> tuple[CallOptions, Lengths]:
        """Check the options of a call; fill in the tokenizer's own where there are none."""
        expect("stride", call.stride, is_integer(call.stride), "a whole number of at least 0")
        side = check_side("padding_side", default_to(call.padding_side, self.padding_side))
        split = default_to(call.split_special_tokens, self.split_special_tokens)
        lengths = settle_lengths(
            call.padding, call.truncation, call.max_length, self.model_max_length
        )
        return replace(call, padding_side=side, split_special_tokens=split), lengths

    def _encodings(
        self, text: Any, text_pair: Any, called: str, call: CallOptions
    ) -> tuple[list[Any], bool]:
        """Return the sequences of a batch, cut and padded, and whether it is of a single text."""
        call, lengths = self._checked(call)
        batch, single = as_batch(text, text_pair, call.is_split_into_words, called)
        usual, wanted = self.backend.encode_special_tokens, bool(call.split_special_tokens)
        if wanted == usual:  # not set then: another thread may be in the tokenizer
            encodings = self._split(batch, call, lengths)
        else:  # the library has no such option of a call
            self.backend.encode_special_tokens = wanted
            try:
                encodings = self._split(batch, call, lengths)
            finally:
                self.backend.encode_special_tokens = usual
        if lengths.pads:
            self._pad(encodings, call, lengths)
        return encodings, single

    def _split(self, batch: list[Any], call: CallOptions, lengths: Lengths) -> list[Any]:
        """Split texts and pairs into tokens, and cut them so that the special tokens have room."""
        words, special = call.is_split_into_words, call.add_special_tokens
        if lengths.truncation is None or lengths.limit is None:
            return list(
                self.backend.encode_batch(batch, is_pretokenized=words, add_special_tokens=special)
            )
        firsts = [item[0] if isinstance(item, tuple) else item for item in batch]
        # Beside an empty text, so that its tokens have the type of a second text from the start.
        seconds = [([] if words else "", item[1]) for item in batch if isinstance(item, tuple)]
        split = self.backend.encode_batch(
            firsts + seconds, is_pretokenized=words, add_special_tokens=False
        )
        pairs = iter(split[len(firsts) :])
        made = []
        for item, first in zip(batch, split, strict=False):  # the second texts come after
            second = next(pairs) if isinstance(item, tuple) else None
            room = self._room(lengths.limit, second is not None, special)
            side = self.truncation_side
            cut_to(room, first, second, lengths.truncation, call.stride, side)
            made.append(self.backend.post_process(first, second, special))
        return made

    def _room(self, limit: int, pair: bool, special: bool) -> int:
        """Return how many tokens fit beside the special ones."""
        taken = self.num_special_tokens_to_add(pair) if special else 0
        if limit < taken:
            raise ValueError(
                f"max_length is {limit}, which leaves no room for the {taken} special tokens; make "
                "it larger or pass add_special_tokens=False."
            )
        return limit - taken

    def _pad(self, encodings: list[Any], call: CallOptions, lengths: Lengths) -> None:
        """Fill the shorter sequences, the overflowing ones among them."""
        pad_id, pad_token = self._padding_token()
        length = lengths.padded_to(map(len, encodings), call.pad_to_multiple_of)
        options = {"direction": call.padding_side, "pad_id": pad_id, "pad_token": pad_token}
        for encoding in encodings:
            if len(encoding) < length or call.return_overflowing_tokens:
                encoding.pad(length, **options)

    def _padding_token(self) -> tuple[int, str]:
        pad_id, pad_token = self.pad_token_id, self.pad_token
        if pad_id is None or pad_token is None:
            raise ValueError("The tokenizer has no padding token; set tokenizer.pad_token.")
        return pad_id, pad_token


def default_to(value: T | None, default: T) -> T:
    """Return an option of a call, or what holds where it is None."""
    return default if value is None else value
