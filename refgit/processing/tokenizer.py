"""The BERT tokenizer: sentences to token ids before the text decoder, token ids to text after it.

The `tokenizers` library does the splitting (WordPiece); here are its settings, padding, truncation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers as pre
from tokenizers import processors as post

from refgit.errors import CheckpointError
from refgit.json_file import write_json, write_whole

from .feature import BatchFeature, check_return_tensors, on_device
from .text_input import as_batch, check_text
from .token_ids import as_ids, id_array
from .tokenizer_files import content_of, read_tokenizer_files
from .vocabulary import Vocabulary

# transformers writes this number where a tokenizer sets no limit; anything close to it is no limit.
NO_LIMIT = int(1e30)
_LARGE = int(1e20)

_SPECIAL_DEFAULTS = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
_DEFAULTS: dict[str, Any] = {
    "do_lower_case": True,
    "strip_accents": None,
    "tokenize_chinese_chars": True,
    "clean_up_tokenization_spaces": False,
    "model_max_length": NO_LIMIT,
    "padding_side": "right",
    "truncation_side": "right",
    "split_special_tokens": False,
    # GIT's decoder has no token types, so unlike transformers' BERT default there are none here.
    "model_input_names": ["input_ids", "attention_mask"],
    "tokenizer_class": "BertTokenizer",
}


class BertTokenizer(Vocabulary):
    """WordPiece tokenizer with BERT's text cleaning and special tokens.

    Parameters
    ----------
    backend : tokenizers.Tokenizer
        The tokenizer itself; it is changed: truncation and padding are done here, not there.
    config : mapping, optional
        Settings as in tokenizer_config.json. Unknown ones are kept and written back.
    added_tokens : sequence of AddedToken, optional
        Tokens to add to the vocabulary, those that it has already excepted.

    Raises
    ------
    ValueError
        If a padding or truncation side is neither "left" nor "right".

    Notes
    -----
    Source: transformers 4.56.2, `BertTokenizerFast`: ids and decoded text are equal. It differs in:

    - `model_input_names` without a word in tokenizer_config.json: GIT's, so no `token_type_ids`;
    - a truncation length that leaves no room for the special tokens is refused; transformers
      then does not truncate at all;
    - no pairs of texts, no overflowing pieces, no offsets: GIT has no use for them;
    - "np" arrays are int64 also when empty; other frameworks, empty batches, negative ids and
      texts with lone surrogates are refused with a sentence.
    """

    def __init__(
        self,
        backend: Tokenizer,
        config: Mapping[str, Any] | None = None,
        added_tokens: Sequence[AddedToken] = (),
    ) -> None:
        given = {key: value for key, value in (config or {}).items() if value is not None}
        self.backend = backend
        self.config: dict[str, Any] = {**(config or {}), **_DEFAULTS, **_SPECIAL_DEFAULTS, **given}
        for name in _SPECIAL_DEFAULTS:
            self.config[name] = content_of(self.config[name])
        for side in ("padding_side", "truncation_side"):
            _check_side(side, self.config[side])
        _take_over_limits(backend, self.config)
        _set_normalizer(backend, self.config)
        backend.encode_special_tokens = bool(self.config["split_special_tokens"])
        self._add_tokens(added_tokens)

    def _add_tokens(self, tokens: Sequence[AddedToken]) -> None:
        """Make sure the added and the special tokens are in the vocabulary, in that order."""
        present = {token.content for token in self.backend.get_added_tokens_decoder().values()}
        wanted = {token.content: token for token in tokens}
        for text in self.all_special_tokens:
            wanted.setdefault(text, AddedToken(text, special=True, normalized=False))
        for text, token in wanted.items():
            if text not in present:
                token.special = token.special or text in self.all_special_tokens
                self.backend.add_tokens([token])

    # -- files ---------------------------------------------------------------------------------

    @classmethod
    def from_vocab(
        cls,
        vocab: Sequence[str],
        config: Mapping[str, Any] | None = None,
        added_tokens: Sequence[AddedToken] = (),
    ) -> BertTokenizer:
        """Build from a list of tokens, the position of each being its id (a vocab.txt).

        Raises
        ------
        ValueError
            If the vocabulary lacks the unknown, [CLS] or [SEP] token.
        """
        # transformers cleans up spaces by default only when it starts from vocab.txt.
        settings = {"clean_up_tokenization_spaces": True, **(config or {})}
        named = {
            name: content_of(settings.get(name)) or default
            for name, default in _SPECIAL_DEFAULTS.items()
        }
        ids = {token: index for index, token in enumerate(vocab)}
        for name in ("unk_token", "cls_token", "sep_token"):
            if named[name] not in ids:
                raise ValueError(
                    f"The vocabulary of {len(ids)} tokens has no {named[name]!r}, the {name}; "
                    "add it, or name another one in tokenizer_config.json."
                )
        backend = Tokenizer(models.WordPiece(ids, unk_token=named["unk_token"]))
        backend.normalizer = normalizers.BertNormalizer()
        backend.pre_tokenizer = pre.BertPreTokenizer()
        backend.decoder = decoders.WordPiece(prefix="##")
        first, last = named["cls_token"], named["sep_token"]
        backend.post_processor = post.TemplateProcessing(
            single=f"{first}:0 $A:0 {last}:0",
            pair=f"{first}:0 $A:0 {last}:0 $B:1 {last}:1",
            special_tokens=[(first, ids[first]), (last, ids[last])],
        )
        return cls(backend, settings, added_tokens)

    @classmethod
    def from_pretrained(cls, directory: str | Path) -> BertTokenizer:
        """Read a tokenizer from a checkpoint directory.

        tokenizer.json is used if it is there, else vocab.txt; tokenizer_config.json,
        special_tokens_map.json and added_tokens.json complete them.

        Raises
        ------
        CheckpointError
            If the directory or both vocabulary files are missing, or a file is invalid.
        """
        try:
            files = read_tokenizer_files(directory)
            if files.backend is not None:
                return cls(files.backend, files.config, files.added_tokens)
            return cls.from_vocab(files.vocab, files.config, files.added_tokens)
        except CheckpointError:
            raise
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"The tokenizer in {directory} is invalid: {error}") from error

    def save_pretrained(self, directory: str | Path, processor_class: str | None = None) -> None:
        """Write tokenizer.json, vocab.txt, tokenizer_config.json and special_tokens_map.json.

        transformers reads them again. The directory is created if need be.
        """
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "tokenizer.json", self.backend.to_str(pretty=True))
        with TemporaryDirectory(dir=folder) as partial:  # whole or not at all, as the others
            for file in self.backend.model.save(partial):
                Path(file).replace(folder / Path(file).name)
        added = self.backend.get_added_tokens_decoder()
        config = {
            **self.config,
            **self.special_tokens_map,
            "added_tokens_decoder": {
                str(index): token.__getstate__() for index, token in sorted(added.items())
            },
        }
        if processor_class is not None:
            config["processor_class"] = processor_class
        write_json(folder / "tokenizer_config.json", config)
        write_json(folder / "special_tokens_map.json", self.special_tokens_map)

    def tokenize(self, text: str, add_special_tokens: bool = False) -> list[str]:
        """Split a text into tokens, as strings."""
        check_text(text, "text")
        return list(self.backend.encode(text, add_special_tokens=add_special_tokens).tokens)

    # -- text to ids ---------------------------------------------------------------------------

    def __call__(
        self,
        text: str | Sequence[str] | Sequence[Sequence[str]],
        add_special_tokens: bool = True,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        padding_side: str | None = None,
        is_split_into_words: bool = False,
        pad_to_multiple_of: int | None = None,
        return_tensors: str | None = None,
        return_attention_mask: bool | None = None,
        return_token_type_ids: bool | None = None,
    ) -> BatchFeature:
        """Turn a text, or a batch of texts, into token ids.

        Parameters
        ----------
        text : str or sequence
            One text or several; with `is_split_into_words` a list of words or several such lists.
        add_special_tokens : bool
            Whether [CLS] opens and [SEP] closes each sequence.
        padding : bool or {"longest", "max_length", "do_not_pad"}
            True means "longest".
        truncation : bool or {"longest_first", "only_first", "do_not_truncate"}, optional
            None truncates if `max_length` is given and `padding` is False, as transformers does.
        max_length : int, optional
            Length for truncation and for padding="max_length", special tokens counted in; by
            default the checkpoint's `model_max_length`, if it has one.
        padding_side : {"right", "left"}, optional
            Where padding goes.
        is_split_into_words : bool
            Whether the texts are split into words already.
        pad_to_multiple_of : int, optional
            Padded lengths are rounded up to a multiple of this.
        return_tensors : "np", "cupy" or None
            "np" gives int64 arrays (B, T), B = 1 for a single text; "cupy" puts them on the GPU;
            None gives lists.
        return_attention_mask, return_token_type_ids : bool, optional
            Which further entries to return; by default those in `model_input_names`.

        Returns
        -------
        BatchFeature
            `input_ids`, and `attention_mask` (1 for text, 0 for padding), `token_type_ids` (0).

        Raises
        ------
        TypeError
            If the text is not made of strings.
        ValueError
            If an option has no meaning, the batch is empty, or lengths differ as arrays.
        """
        check_return_tensors(return_tensors)
        batch, single = as_batch(text, is_split_into_words)
        truncation_length, padding_length, padded = self._lengths(padding, truncation, max_length)
        encoded = self.backend.encode_batch(
            batch, is_pretokenized=is_split_into_words, add_special_tokens=False
        )
        rows = [
            self._complete(encoding, add_special_tokens, truncation_length) for encoding in encoded
        ]
        if padded:
            length = padding_length or max(len(row["input_ids"]) for row in rows)
            if pad_to_multiple_of is not None:
                _check_positive("pad_to_multiple_of", pad_to_multiple_of)
                length = -(-length // pad_to_multiple_of) * pad_to_multiple_of
            side = self.padding_side if padding_side is None else padding_side
            _check_side("padding_side", side)
            rows = [_pad(row, length, side, self.pad_token_id or 0) for row in rows]

        names = self.model_input_names
        returned = {
            "input_ids": True,
            "token_type_ids": _default(return_token_type_ids, "token_type_ids" in names),
            "attention_mask": _default(return_attention_mask, "attention_mask" in names),
        }
        columns = {name: [row[name] for row in rows] for name, wanted in returned.items() if wanted}
        return _as_feature(columns, single, return_tensors)

    def encode(self, text: str, add_special_tokens: bool = True, **options: Any) -> Any:
        """Return the `input_ids` of one text: a list, or an array (1, T) as arrays.

        Options and errors are those of calling the tokenizer.
        """
        if not isinstance(text, str) and not options.get("is_split_into_words"):
            raise TypeError(
                f"encode takes one text; found {type(text).__name__}. Call the tokenizer itself "
                "for a batch."
            )
        return self(text, add_special_tokens=add_special_tokens, **options)["input_ids"]

    def _lengths(
        self, padding: bool | str, truncation: bool | str | None, max_length: int | None
    ) -> tuple[int | None, int | None, bool]:
        """Settle the length to truncate to, the length to pad to, and whether to pad at all."""
        if max_length is not None:
            _check_positive("max_length", max_length)
        paddings = (True, False, "longest", "max_length", "do_not_pad")
        truncations = (None, True, False, "longest_first", "only_first", "do_not_truncate")
        if padding not in paddings:
            raise ValueError(f"padding is {padding!r}; expected one of {paddings}.")
        if truncation not in truncations:
            raise ValueError(f"truncation is {truncation!r}; expected one of {truncations}.")
        limit = max_length
        if limit is None and self.model_max_length <= _LARGE:
            limit = self.model_max_length
        truncates = truncation not in (None, False, "do_not_truncate")
        if truncation is None and max_length is not None and padding is False:
            truncates = True
        pads = padding not in (False, "do_not_pad")
        if padding == "max_length" and limit is None:
            pads = False  # no length to pad to: transformers then leaves the sequences as they are
        return (
            limit if truncates else None,
            limit if padding == "max_length" else None,
            pads,
        )

    def _complete(
        self, encoding: Any, add_special_tokens: bool, limit: int | None
    ) -> dict[str, list[int]]:
        """Truncate one encoding, then add its special tokens; return ids, types and mask."""
        if limit is not None:
            special = self.backend.num_special_tokens_to_add(False) if add_special_tokens else 0
            if limit < special:
                raise ValueError(
                    f"max_length is {limit}, which leaves no room for the {special} special "
                    "tokens; make it larger or pass add_special_tokens=False."
                )
            encoding.truncate(limit - special, direction=str(self.config["truncation_side"]))
        if add_special_tokens:
            encoding = self.backend.post_process(encoding, None, True)
        ids = list(encoding.ids)
        return {
            "input_ids": ids,
            "token_type_ids": list(encoding.type_ids),
            "attention_mask": [1] * len(ids),
        }

    # -- ids to text ---------------------------------------------------------------------------

    def decode(
        self,
        token_ids: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> str:
        """Turn token ids into text.

        Parameters
        ----------
        token_ids : int, sequence of int, or integer array (T,)
            The ids. Ids beyond the vocabulary are left out, as in transformers.
        skip_special_tokens : bool
            Whether [CLS], [SEP], [PAD] and the like are left out.
        clean_up_tokenization_spaces : bool, optional
            Whether spaces before punctuation are removed; by default as the checkpoint says.

        Returns
        -------
        str
            The text.

        Raises
        ------
        TypeError
            If the ids are not whole numbers.
        ValueError
            If an id is negative, or the array has more than one dimension.
        """
        text = str(self.backend.decode(as_ids(token_ids), skip_special_tokens=skip_special_tokens))
        clean = _default(clean_up_tokenization_spaces, self.clean_up_tokenization_spaces)
        return clean_up(text) if clean else text

    def batch_decode(
        self,
        sequences: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> list[str]:
        """Turn each row of an integer array (B, T), or each of several sequences, into text.

        Raises
        ------
        TypeError, ValueError
            As for `decode`.
        """
        if not isinstance(sequences, (list, tuple)):
            array = id_array(sequences)
            if array.ndim == 0:
                raise TypeError(
                    f"batch_decode takes an array (B, T) or a list of sequences of token ids; "
                    f"found {type(sequences).__name__}."
                )
            sequences = list(array)
        return [
            self.decode(ids, skip_special_tokens, clean_up_tokenization_spaces) for ids in sequences
        ]


def clean_up(text: str) -> str:
    """Undo the spaces that splitting an English sentence into tokens leaves: "a cat ." -> "a cat.".

    Source: transformers 4.56.2, `PreTrainedTokenizerBase.clean_up_tokenization`; order matters.
    """
    for mark in (".", "?", "!", ","):
        text = text.replace(f" {mark}", mark)
    text = text.replace(" ' ", "'")
    for ending in ("n't", "'m", "'s", "'ve", "'re"):
        text = text.replace(f" {ending}", ending)
    return text


def _take_over_limits(backend: Tokenizer, config: dict[str, Any]) -> None:
    """Move truncation and padding settings out of tokenizer.json, to where calls look for them."""
    truncation, padding = backend.truncation, backend.padding
    if truncation is not None:
        config.setdefault("max_length", truncation["max_length"])
    if padding is not None:
        config.setdefault("max_length", padding["length"])
        config.setdefault("pad_to_multiple_of", padding["pad_to_multiple_of"])
    backend.no_truncation()
    backend.no_padding()


def _set_normalizer(backend: Tokenizer, config: Mapping[str, Any]) -> None:
    """Let tokenizer_config.json decide case, accents and Chinese characters, as transformers does.

    The other setting, `clean_text`, stays as it is.
    """
    normalizer = backend.normalizer
    if isinstance(normalizer, normalizers.BertNormalizer):
        backend.normalizer = normalizers.BertNormalizer(
            clean_text=normalizer.clean_text,
            handle_chinese_chars=config["tokenize_chinese_chars"],
            strip_accents=config["strip_accents"],
            lowercase=config["do_lower_case"],
        )


def _pad(row: dict[str, list[int]], length: int, side: str, pad_id: int) -> dict[str, list[int]]:
    """Bring a row to a length: padding has id `pad_id`, type 0 and mask 0."""
    padded = {}
    for name, values in row.items():
        filling = [pad_id if name == "input_ids" else 0] * (length - len(values))
        padded[name] = values + filling if side == "right" else filling + values
    return padded


def _as_feature(
    columns: Mapping[str, list[list[int]]], single: bool, return_tensors: str | None
) -> BatchFeature:
    if return_tensors is None:
        return BatchFeature({name: rows[0] if single else rows for name, rows in columns.items()})
    lengths = sorted({len(row) for row in columns["input_ids"]})
    if len(lengths) > 1:
        raise ValueError(
            f"The texts have different lengths in tokens, {lengths}, and cannot form one array; "
            "pass padding=True."
        )
    arrays = BatchFeature({name: np.array(rows, np.int64) for name, rows in columns.items()})
    return on_device(arrays, return_tensors)


def _default(value: bool | None, default: bool) -> bool:
    return default if value is None else value


def _check_side(name: str, side: Any) -> None:
    if side not in ("left", "right"):
        raise ValueError(f'{name} is {side!r}; expected "left" or "right".')


def _check_positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is {value!r}; expected a whole number of at least 1.")
