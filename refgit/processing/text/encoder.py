"""From texts to token ids: the calls of a BERT tokenizer, before the text decoder.

`encoding.py` splits, cuts and pads the texts; `padding.py` pads what is encoded already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refgit.processing.feature import BatchFeature, check_return_tensors, on_device
from refgit.processing.text.encoding import BatchEncoder, CallOptions, default_to
from refgit.processing.text.lengths import settle_lengths
from refgit.processing.text.padding import pad_features
from refgit.processing.text.vocabulary import check_side

# What a call can return for each sequence, and what the library calls it.
_COLUMNS = {
    "input_ids": "ids",
    "token_type_ids": "type_ids",
    "attention_mask": "attention_mask",
    "special_tokens_mask": "special_tokens_mask",
    "offset_mapping": "offsets",
}


class TextEncoder(BatchEncoder):
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
            `attention_mask` (1 for text, 0 for padding), `special_tokens_mask` (1 for what is not
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
        call = CallOptions(
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
            "token_type_ids": default_to(return_token_type_ids, "token_type_ids" in names),
            "attention_mask": default_to(return_attention_mask, "attention_mask" in names),
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
        call = CallOptions(add_special_tokens=add_special_tokens, **options)
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
            list of such, one for each text. Entries that are not the tokenizer's are kept.
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
        side = check_side("padding_side", default_to(padding_side, self.padding_side))
        lengths = settle_lengths(padding, False, max_length, self.model_max_length)
        return pad_features(
            encoded_inputs,
            names[0],
            lengths,
            multiple=pad_to_multiple_of,
            side=side,
            pad_id=self._padding_token()[0] if lengths.pads else 0,
            masked=default_to(return_attention_mask, "attention_mask" in names),
            return_tensors=return_tensors,
        )


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
