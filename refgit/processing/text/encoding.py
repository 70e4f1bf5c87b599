"""From texts to the encodings of the `tokenizers` library: split, cut and padded.

The library splits (WordPiece) and adds special tokens; `truncation.py` cuts. `TextEncoder` makes of
the encodings what a call returns.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from refgit.processing.text.inputs import as_batch
from refgit.processing.text.lengths import Lengths, round_up, settle_lengths
from refgit.processing.text.truncation import cut_to
from refgit.processing.text.vocabulary import Vocabulary, check_side
from refgit.validation import expect, is_integer


class Call(NamedTuple):
    """The settled options of a call: all that decides which tokens there are."""

    words: bool  # the texts are words already
    special: bool  # special tokens are added
    split: bool  # special tokens in the texts are split
    lengths: Lengths
    stride: int
    multiple: int | None
    side: str  # of the padding
    overflows: bool  # what is cut off is returned, too


class BatchEncoder(Vocabulary):
    """Turns a batch of texts, or of pairs, into encodings."""

    def _settle(
        self,
        *,
        add_special_tokens: bool = True,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        stride: int = 0,
        is_split_into_words: bool = False,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        split_special_tokens: bool | None = None,
        return_overflowing_tokens: bool = False,
    ) -> Call:
        """Check the options of a call and put the checkpoint's in where there are none."""
        expect("stride", stride, is_integer(stride), "a whole number of at least 0")
        side = self.padding_side if padding_side is None else padding_side
        check_side("padding_side", side)
        return Call(
            words=is_split_into_words,
            special=add_special_tokens,
            split=default_to(split_special_tokens, self.split_special_tokens),
            lengths=settle_lengths(padding, truncation, max_length, self.model_max_length),
            stride=stride,
            multiple=pad_to_multiple_of,
            side=side,
            overflows=return_overflowing_tokens,
        )

    def _encodings(
        self, text: Any, text_pair: Any, called: str, call: Call
    ) -> tuple[list[Any], bool]:
        """Return the sequences of a batch, cut and padded, and whether it is of a single text."""
        batch, single = as_batch(text, text_pair, call.words, called)
        encode = self._cut if call.lengths.truncation else self._whole
        usual = self.backend.encode_special_tokens
        if call.split == usual:
            encodings = encode(batch, call)
        else:  # the library has no such option of a call
            self.backend.encode_special_tokens = call.split
            try:
                encodings = encode(batch, call)
            finally:
                self.backend.encode_special_tokens = usual
        if call.lengths.pads:
            self._pad(encodings, call)
        return encodings, single

    def _whole(self, batch: list[Any], call: Call) -> list[Any]:
        """Split texts and pairs into tokens, the special tokens among them."""
        return list(
            self.backend.encode_batch(
                batch, is_pretokenized=call.words, add_special_tokens=call.special
            )
        )

    def _cut(self, batch: list[Any], call: Call) -> list[Any]:
        """The same, but with tokens cut off first, so that the special tokens have room."""
        lengths, side = call.lengths, self.truncation_side
        assert lengths.truncation is not None
        assert lengths.limit is not None
        firsts = [item[0] if isinstance(item, tuple) else item for item in batch]
        # Beside an empty text, so that its tokens have the type of a second text from the start.
        seconds = [([] if call.words else "", item[1]) for item in batch if isinstance(item, tuple)]
        split = self.backend.encode_batch(
            firsts + seconds, is_pretokenized=call.words, add_special_tokens=False
        )
        pairs = iter(split[len(firsts) :])
        rooms: dict[bool, int] = {}  # of a single text, and of a pair
        made = []
        for item, first in zip(batch, split, strict=False):  # the second texts come after
            second = next(pairs) if isinstance(item, tuple) else None
            pair = second is not None
            if pair not in rooms:
                rooms[pair] = self._room(lengths.limit, pair, call.special)
            cut_to(rooms[pair], first, second, lengths.truncation, call.stride, side)
            made.append(self.backend.post_process(first, second, call.special))
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

    def _pad(self, encodings: list[Any], call: Call) -> None:
        """Fill the shorter sequences, the overflowing ones among them."""
        pad_id, pad_token = self._padding_token()
        length = call.lengths.padded
        if length is None:
            length = max(len(encoding) for encoding in encodings)
        length = round_up(length, call.multiple)
        for encoding in encodings:
            if len(encoding) < length or call.overflows:
                encoding.pad(length, direction=call.side, pad_id=pad_id, pad_token=pad_token)

    def _padding_token(self) -> tuple[int, str]:
        pad_id, pad_token = self.pad_token_id, self.pad_token
        if pad_id is None or pad_token is None:
            raise ValueError("The tokenizer has no padding token; set tokenizer.pad_token.")
        return pad_id, pad_token


def default_to(value: bool | None, default: bool) -> bool:
    """Return a flag of a call, or what holds where it is None."""
    return default if value is None else value
