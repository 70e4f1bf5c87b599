"""The BERT tokenizer: sentences to token ids before the text decoder, token ids to text after it.

Here are its making, its files and `decode`; `encoder.py` has the way from texts to ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers as pre
from tokenizers import processors as post

from refgit.errors import CheckpointError
from refgit.files import write_json, write_whole
from refgit.hub import find_checkpoint
from refgit.processing.text.encoder import TextEncoder
from refgit.processing.text.encoding import default_to
from refgit.processing.text.files import content_of, read_tokenizer_files
from refgit.processing.text.lengths import NO_LIMIT
from refgit.processing.text.token_ids import as_ids, id_array
from refgit.processing.text.vocabulary import check_side

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


class BertTokenizer(TextEncoder):
    """WordPiece tokenizer with BERT's text cleaning and special tokens.

    WordPiece cuts a word that the vocabulary lacks into the longest pieces that it has; a piece
    that continues a word begins with ##. Special tokens such as [CLS] are not words.

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

    - `model_input_names` where tokenizer_config.json does not say: GIT's, so no `token_type_ids`;
    - a truncation length that leaves no room for the special tokens is refused; transformers
      then does not truncate at all;
    - pad_to_multiple_of together with a max_length that is not a multiple of it rounds up when
      padding; transformers refuses that while truncating;
    - the result is a dictionary; `tokens()`, `word_ids()` and the like of transformers'
      `BatchEncoding` are not there;
    - "np" arrays are int64 also when empty; other frameworks, empty batches, negative ids and
      texts with lone surrogates are refused with a sentence.
    """

    def __init__(
        self,
        backend: Tokenizer,
        config: Mapping[str, Any] | None = None,
        added_tokens: Sequence[AddedToken] = (),
    ) -> None:
        said = {**_take_over_limits(backend), **(config or {})}
        given = {key: value for key, value in said.items() if value is not None}
        self.backend = backend
        self.config: dict[str, Any] = {**said, **_DEFAULTS, **_SPECIAL_DEFAULTS, **given}
        for name in _SPECIAL_DEFAULTS:
            self.config[name] = content_of(self.config[name])
        for side in ("padding_side", "truncation_side"):
            check_side(side, self.config[side])
        _set_normalizer(backend, self.config)
        backend.encode_special_tokens = bool(self.config["split_special_tokens"])
        self._complete_vocabulary(added_tokens)

    def _complete_vocabulary(self, tokens: Sequence[AddedToken]) -> None:
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
    def from_pretrained(
        cls,
        directory: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
    ) -> BertTokenizer:
        """Read a tokenizer from a checkpoint.

        tokenizer.json is used if it is there, else vocab.txt; tokenizer_config.json,
        special_tokens_map.json and added_tokens.json complete them.

        Parameters
        ----------
        directory : str or Path
            A checkpoint directory, or the id of a repository on the model hub, of which the small
            files are downloaded.
        revision, token : optional
            Which version to download, and with what right; see `refgit.hub`.

        Raises
        ------
        CheckpointError
            If the directory or both vocabulary files are missing, or a file is invalid; or if the
            download failed.
        """
        directory = find_checkpoint(directory, weights=False, revision=revision, token=token)
        try:
            vocabulary, config, added_tokens = read_tokenizer_files(directory)
            if isinstance(vocabulary, list):
                return cls.from_vocab(vocabulary, config, added_tokens)
            return cls(vocabulary, config, added_tokens)
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
        with TemporaryDirectory(dir=folder) as partial:  # whole or not at all, as all files
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
        clean = default_to(clean_up_tokenization_spaces, self.clean_up_tokenization_spaces)
        return clean_up(text) if clean else text

    def batch_decode(
        self,
        sequences: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> list[str]:
        """Turn each batch row of an integer array (B, T), or each of several sequences, into text.

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


def _take_over_limits(backend: Tokenizer) -> dict[str, Any]:
    """Move truncation and padding settings out of tokenizer.json, to where calls look for them."""
    truncation, padding = backend.truncation, backend.padding
    stored: dict[str, Any] = {}
    if padding is not None:
        stored["max_length"] = padding["length"]
        stored["padding_side"] = padding["direction"]
        stored["pad_to_multiple_of"] = padding["pad_to_multiple_of"]
    if truncation is not None:
        stored["max_length"] = truncation["max_length"]
        stored["truncation_side"] = truncation["direction"]
        stored["stride"] = truncation["stride"]
    backend.no_truncation()
    backend.no_padding()
    return stored


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
