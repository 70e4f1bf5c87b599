"""From texts to token ids: the calls of a BERT tokenizer, before the text decoder.

The `tokenizers` library does the splitting (WordPiece); `truncation.py` cuts, `padding.py` fills.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from refgit.processing.feature import BatchFeature, check_return_tensors, on_device
from refgit.processing.text.inputs import as_batch
from refgit.processing.text.lengths import Lengths, round_up, settle_lengths
from refgit.processing.text.padding import pad_features
from refgit.processing.text.truncation import cut_to
from refgit.processing.text.vocabulary import Vocabulary, check_side
from refgit.validation import expect, is_integer

# What a call can return for each sequence, and what the library calls it.
_COLUMNS = {
    "input_ids": "ids",
    "token_type_ids": "type_ids",
    "attention_mask": "attention_mask",
    "special_tokens_mask": "special_tokens_mask",
    "offset_mapping": "offsets",
}


class _Call(NamedTuple):
    """The settled options of a call: all that decides which tokens there are."""

    words: bool  # the texts are words already
    special: bool  # special tokens are added
    split: bool  # special tokens in the texts are split
    lengths: Lengths
    stride: int
    multiple: int | None
    side: str  # of the padding
    overflows: bool  # what is cut off is returned, too


class TextEncoder(Vocabulary):
    """Turns texts into token ids."""

    def __call__(
        self,
        text: str | Sequence[Any] | None = None,
        text_pair: str | Sequence[Any] | None = None,
        text_target: str | Sequence[Any] | None = None,
        text_pair_target: str | Sequence[Any] | None = None,
        add_special_tokens: bool = True,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        stride: int = 0,
        is_split_into_words: bool = False,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: str | None = None,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool | None = None,
        return_overflowing_tokens: bool = False,
        return_special_tokens_mask: bool = False,
        return_offsets_mapping: bool = False,
        return_length: bool = False,
        verbose: bool = True,
        split_special_tokens: bool | None = None,
    ) -> BatchFeature:
        """Turn a text, or a batch of texts, into token ids.

        Parameters
        ----------
        text : str or sequence, optional
            One text or several; with `is_split_into_words` a list of words or several such lists.
            An item of a batch may be a pair of texts.
        text_pair : same form as `text`, optional
            A second text for each: [CLS] text [SEP] text_pair [SEP].
        text_target, text_pair_target : same forms, optional
            Texts whose `input_ids` become the entry `labels`; without `text`, as if they were it.
        add_special_tokens : bool
            Whether [CLS] opens and [SEP] closes each sequence.
        padding : bool or {"longest", "max_length", "do_not_pad"}
            True means "longest".
        truncation : bool or {"longest_first", "only_first", "only_second", "do_not_truncate"}
            Which text of a pair is cut; True means "longest_first". None, the default, truncates
            if `max_length` is given and `padding` is False, as transformers does.
        max_length : int, optional
            Length for truncation and for padding="max_length", special tokens counted in; by
            default the checkpoint's `model_max_length`, if it has one.
        stride : int
            How many tokens each overflowing piece repeats from the one before it.
        is_split_into_words : bool
            Whether the texts are split into words already.
        pad_to_multiple_of : int, optional
            Padded lengths are rounded up to a multiple of this.
        padding_side : {"right", "left"}, optional
            Where padding goes.
        return_tensors : "np", the name of a backend, or None
            "np" gives int64 arrays (B, T), B = 1 for a single text; a backend's name, such as
            "cupy", its arrays on its device; None lists.
        return_token_type_ids, return_attention_mask : bool, optional
            Which further entries to return; by default those in `model_input_names`.
        return_overflowing_tokens : bool
            Whether what was cut off comes as further sequences, each after the one it was cut
            from; `overflow_to_sample_mapping` says which text a sequence is of. A single text then
            is a batch too.
        return_special_tokens_mask, return_offsets_mapping, return_length : bool
            Whether to return these entries, too.
        verbose : bool
            Accepted for transformers' sake; nothing is printed either way.
        split_special_tokens : bool, optional
            Whether "[SEP]" and the like in a text are split as other words are; by default as the
            checkpoint says.

        Returns
        -------
        BatchFeature
            `input_ids`, and as asked for `token_type_ids` (0, of a second text 1),
            `attention_mask` (1 for text, 0 for padding), `special_tokens_mask` (1 for what is no
            text), `offset_mapping` (B, T, 2) (first character and one past the last),
            `length` (B,), `overflow_to_sample_mapping` (B,), `labels`.

        Raises
        ------
        TypeError
            If the text is not made of strings.
        ValueError
            If an option has no meaning, the batch is empty, or lengths differ as arrays.
        """
        if text is None and text_target is None:
            raise ValueError("Neither text nor text_target is given; expected at least one.")
        check_return_tensors(return_tensors)
        call = self._settle(
            add_special_tokens=add_special_tokens,
            padding=padding,
            truncation=truncation,
            max_length=max_length,
            stride=stride,
            is_split_into_words=is_split_into_words,
            pad_to_multiple_of=pad_to_multiple_of,
            padding_side=padding_side,
            split_special_tokens=split_special_tokens,
            return_overflowing_tokens=return_overflowing_tokens,
        )
        names = self.model_input_names
        wanted = {
            "input_ids": True,
            "token_type_ids": _default(return_token_type_ids, "token_type_ids" in names),
            "attention_mask": _default(return_attention_mask, "attention_mask" in names),
            "special_tokens_mask": return_special_tokens_mask,
            "offset_mapping": return_offsets_mapping,
        }
        made: list[BatchFeature] = []
        for first, second, called in (
            (text, text_pair, "text"),
            (text_target, text_pair_target, "text_target"),
        ):
            if first is None:
                continue
            encodings, single = self._encodings(first, second, called, call)
            columns = _columns(encodings, wanted, return_overflowing_tokens, return_length)
            single = single and not return_overflowing_tokens
            made.append(_as_feature(columns, single, return_tensors))
        if len(made) == 2:
            made[0]["labels"] = made[1]["input_ids"]
        return made[0]

    def encode_plus(
        self,
        text: str | Sequence[str],
        text_pair: str | Sequence[str] | None = None,
        **options: Any,
    ) -> BatchFeature:
        """Call the tokenizer on one text, or on a pair; options and errors are those of a call."""
        if not isinstance(text, str) and not options.get("is_split_into_words"):
            raise TypeError(
                f"encode takes one text, or a pair; found {type(text).__name__}. Call the "
                "tokenizer itself for a batch."
            )
        return self(text, text_pair, **options)

    def batch_encode_plus(
        self, batch_text_or_text_pairs: Sequence[Any], **options: Any
    ) -> BatchFeature:
        """Call the tokenizer on a list of texts or pairs, with any options of a call."""
        batch = batch_text_or_text_pairs
        items = batch if isinstance(batch, (list, tuple)) else ()
        words = options.get("is_split_into_words", False)
        if not items or (words and not isinstance(items[0], (list, tuple))):
            raise TypeError(
                f"batch_text_or_text_pairs is {batch!r}; expected a list of texts or of pairs."
            )
        return self(batch, **options)

    def encode(
        self,
        text: str | Sequence[str],
        text_pair: str | Sequence[str] | None = None,
        add_special_tokens: bool = True,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        stride: int = 0,
        padding_side: str | None = None,
        return_tensors: str | None = None,
        **options: Any,
    ) -> Any:
        """Return the `input_ids` of one text, or of a pair: a list, or an array (1, T).

        Options and errors are those of calling the tokenizer.
        """
        feature = self.encode_plus(
            text,
            text_pair,
            add_special_tokens=add_special_tokens,
            padding=padding,
            truncation=truncation,
            max_length=max_length,
            stride=stride,
            padding_side=padding_side,
            return_tensors=return_tensors,
            **options,
        )
        return feature["input_ids"]

    def tokenize(
        self,
        text: str | Sequence[str],
        pair: str | Sequence[str] | None = None,
        add_special_tokens: bool = False,
        **options: Any,
    ) -> list[str]:
        """Split a text, or a pair of texts, into tokens, as strings.

        Parameters
        ----------
        text, pair : str, or list of words with `is_split_into_words`
            The texts.
        add_special_tokens : bool
            Whether the special tokens are among them.
        **options
            Those of a call that change the tokens: `max_length`, `truncation`, `padding`, ...

        Raises
        ------
        TypeError, ValueError
            As for calling the tokenizer.
        """
        call = self._settle(add_special_tokens=add_special_tokens, **options)
        encodings, single = self._encodings(text, pair, "text", call)
        if not single:
            raise TypeError(f"tokenize takes one text; found {type(text).__name__}.")
        return list(encodings[0].tokens)

    def pad(
        self,
        encoded_inputs: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
        verbose: bool = True,
    ) -> BatchFeature:
        """Bring token ids that are there already to one length.

        Parameters
        ----------
        encoded_inputs : mapping, or sequence of mappings
            What calling the tokenizer returned, of one text or several: lists or arrays; or a
            list of such, one for each text. Entries that are none of the tokenizer's are kept.
        padding, max_length, pad_to_multiple_of, padding_side, verbose : optional
            As for calling the tokenizer, but for the default: True, the longest of the batch.
        return_attention_mask : bool, optional
            Whether a mask is added where there is none, and padded; by default if
            `model_input_names` has it.
        return_tensors : "np", the name of a backend, or None
            None gives arrays where `input_ids` are arrays, else lists.

        Returns
        -------
        BatchFeature
            `input_ids` filled with `pad_token_id`, `token_type_ids` and `attention_mask` with 0,
            `special_tokens_mask` with 1. The entries of one text stay without a batch axis.

        Raises
        ------
        TypeError, ValueError
            If an entry is missing or has the wrong form, an option has no meaning, or lengths
            differ as arrays.
        """
        names = self.model_input_names
        side = self.padding_side if padding_side is None else padding_side
        check_side("padding_side", side)
        lengths = settle_lengths(padding, False, max_length, self.model_max_length)
        return pad_features(
            encoded_inputs,
            names[0],
            lengths,
            multiple=pad_to_multiple_of,
            side=side,
            pad_id=self._padding_token()[0] if lengths.pads else 0,
            masked=_default(return_attention_mask, "attention_mask" in names),
            return_tensors=return_tensors,
        )

    # -- steps ---------------------------------------------------------------------------------

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
    ) -> _Call:
        """Check the options of a call and put the checkpoint's in where there are none."""
        expect("stride", stride, is_integer(stride), "a whole number of at least 0")
        side = self.padding_side if padding_side is None else padding_side
        check_side("padding_side", side)
        return _Call(
            words=is_split_into_words,
            special=add_special_tokens,
            split=_default(split_special_tokens, self.split_special_tokens),
            lengths=settle_lengths(padding, truncation, max_length, self.model_max_length),
            stride=stride,
            multiple=pad_to_multiple_of,
            side=side,
            overflows=return_overflowing_tokens,
        )

    def _encodings(
        self, text: Any, text_pair: Any, called: str, call: _Call
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

    def _whole(self, batch: list[Any], call: _Call) -> list[Any]:
        """Split texts and pairs into tokens, the special tokens among them."""
        return list(
            self.backend.encode_batch(
                batch, is_pretokenized=call.words, add_special_tokens=call.special
            )
        )

    def _cut(self, batch: list[Any], call: _Call) -> list[Any]:
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

    def _pad(self, encodings: list[Any], call: _Call) -> None:
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


def _columns(
    encodings: list[Any], wanted: Mapping[str, bool], with_overflowing: bool, with_length: bool
) -> dict[str, list[Any]]:
    """Return the entries that are wanted: for each a list with one value per sequence."""
    samples = list(range(len(encodings)))
    if with_overflowing:
        pieces = [[encoding, *encoding.overflowing] for encoding in encodings]
        samples = [i for i, group in enumerate(pieces) for _ in group]
        encodings = [piece for group in pieces for piece in group]
    columns: dict[str, list[Any]] = {
        name: [getattr(encoding, _COLUMNS[name]) for encoding in encodings]
        for name, asked in wanted.items()
        if asked
    }
    if with_length:
        columns["length"] = [len(encoding) for encoding in encodings]
    if with_overflowing:
        columns["overflow_to_sample_mapping"] = samples
    return columns


def _as_feature(
    columns: Mapping[str, list[Any]], single: bool, return_tensors: str | None
) -> BatchFeature:
    if return_tensors is None:
        # What is one number for each sequence stays a list even of a single one.
        return BatchFeature(
            {
                name: rows[0] if single and isinstance(rows[0], list) else rows
                for name, rows in columns.items()
            }
        )
    sizes = sorted({len(row) for row in columns["input_ids"]})
    if len(sizes) > 1:
        raise ValueError(
            f"The texts have different lengths in tokens, {sizes}, and cannot form one array; "
            "pass padding=True."
        )
    arrays = BatchFeature({name: np.array(rows, np.int64) for name, rows in columns.items()})
    if "offset_mapping" in arrays:  # two numbers a token, also where there are no tokens
        arrays["offset_mapping"] = arrays["offset_mapping"].reshape(*arrays["input_ids"].shape, 2)
    return on_device(arrays, return_tensors)


def _default(value: bool | None, default: bool) -> bool:
    return default if value is None else value
