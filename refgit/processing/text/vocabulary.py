"""The vocabulary of a BERT tokenizer: tokens, ids, and the settings of tokenizer_config.json.

`special_tokens.py` knows the special ones; `encoder.py` turns texts into ids with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import AddedToken, Tokenizer

from refgit.processing.text.special_tokens import SpecialTokens
from refgit.processing.text.token_ids import as_ids
from refgit.validation import expect


class Vocabulary(SpecialTokens):
    """Tokens and their ids, and the settings that a tokenizer has."""

    # -- settings ------------------------------------------------------------------------------

    @property
    def backend_tokenizer(self) -> Tokenizer:
        """The tokenizer of the `tokenizers` library."""
        return self.backend

    @property
    def is_fast(self) -> bool:
        """True, as of transformers' tokenizers that leave the splitting to `tokenizers`."""
        return True

    @property
    def model_input_names(self) -> list[str]:
        """The keys this tokenizer produces by default; may be set."""
        return list(self.config["model_input_names"])

    @model_input_names.setter
    def model_input_names(self, names: Sequence[str]) -> None:
        self.config["model_input_names"] = list(names)

    @property
    def model_max_length(self) -> int:
        """The longest sequence the model takes; 10**30 where none is known; may be set."""
        return int(self.config["model_max_length"])

    @model_max_length.setter
    def model_max_length(self, length: int) -> None:
        self.config["model_max_length"] = int(length)

    @property
    def max_len_single_sentence(self) -> int:
        """How many tokens of one text fit beside the special tokens."""
        return self.model_max_length - self.num_special_tokens_to_add(pair=False)

    @property
    def max_len_sentences_pair(self) -> int:
        """How many tokens of a pair of texts fit beside the special tokens."""
        return self.model_max_length - self.num_special_tokens_to_add(pair=True)

    @property
    def clean_up_tokenization_spaces(self) -> bool:
        """Whether `decode` removes spaces before punctuation by default; may be set."""
        return bool(self.config["clean_up_tokenization_spaces"])

    @clean_up_tokenization_spaces.setter
    def clean_up_tokenization_spaces(self, value: bool) -> None:
        self.config["clean_up_tokenization_spaces"] = bool(value)

    @property
    def split_special_tokens(self) -> bool:
        """Whether special tokens in a text are split like other words by default; may be set."""
        return bool(self.config["split_special_tokens"])

    @split_special_tokens.setter
    def split_special_tokens(self, value: bool) -> None:
        self.config["split_special_tokens"] = bool(value)

    @property
    def padding_side(self) -> str:
        """Where padding goes unless told otherwise: "right" or "left"; may be set."""
        return str(self.config["padding_side"])

    @padding_side.setter
    def padding_side(self, side: str) -> None:
        check_side("padding_side", side)
        self.config["padding_side"] = side

    @property
    def truncation_side(self) -> str:
        """Which end of a text is cut off: "right" or "left"; may be set."""
        return str(self.config["truncation_side"])

    @truncation_side.setter
    def truncation_side(self, side: str) -> None:
        check_side("truncation_side", side)
        self.config["truncation_side"] = side

    # -- tokens --------------------------------------------------------------------------------

    @property
    def vocab_size(self) -> int:
        """Number of tokens without the added ones; `len(tokenizer)` counts those too."""
        return int(self.backend.get_vocab_size(with_added_tokens=False))

    def __len__(self) -> int:
        return int(self.backend.get_vocab_size(with_added_tokens=True))

    def __bool__(self) -> bool:
        return True

    def get_vocab(self) -> dict[str, int]:
        """Return all tokens with their ids."""
        return dict(self.backend.get_vocab(with_added_tokens=True))

    @property
    def vocab(self) -> dict[str, int]:
        """All tokens with their ids."""
        return self.get_vocab()

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """The added tokens by their ids; the special ones are among them."""
        return dict(self.backend.get_added_tokens_decoder())

    def get_added_vocab(self) -> dict[str, int]:
        """Return the added tokens with their ids, lowest id first."""
        return {token.content: i for i, token in sorted(self.added_tokens_decoder.items())}

    def convert_tokens_to_ids(self, tokens: str | Iterable[str]) -> int | list[int]:
        """Return the id of a token, or of each of several; unknown ones get `unk_token_id`."""
        return self._id_of(tokens) if isinstance(tokens, str) else [self._id_of(t) for t in tokens]

    def convert_ids_to_tokens(
        self, ids: Any, skip_special_tokens: bool = False
    ) -> str | list[str | None] | None:
        """Return the token of an id, or of each of several; None for an id outside the vocabulary.

        Raises
        ------
        ValueError, TypeError
            As for `decode`.
        """
        if isinstance(ids, int):
            return self.backend.id_to_token(as_ids(ids)[0])
        skipped = set(self.all_special_ids) if skip_special_tokens else set()
        return [self.backend.id_to_token(i) for i in as_ids(ids) if i not in skipped]

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """Join tokens into a text: pieces of a word without the spaces between them."""
        decoder = self.backend.decoder
        return " ".join(tokens) if decoder is None else str(decoder.decode(list(tokens)))

    # -- sequences of ids ----------------------------------------------------------------------

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """Return how many special tokens come to one text: 2; or to a pair: 3."""
        return int(self.backend.num_special_tokens_to_add(pair))

    def build_inputs_with_special_tokens(
        self, token_ids_0: Any, token_ids_1: Any = None
    ) -> list[int | None]:
        """Return [CLS] a [SEP], or of two sequences of ids [CLS] a [SEP] b [SEP]."""
        cls, sep = self.cls_token_id, self.sep_token_id
        joined = [cls, *as_ids(token_ids_0), sep]
        return joined if token_ids_1 is None else [*joined, *as_ids(token_ids_1), sep]

    def create_token_type_ids_from_sequences(
        self, token_ids_0: Any, token_ids_1: Any = None
    ) -> list[int]:
        """Return the token types of what `build_inputs_with_special_tokens` makes: 0, of b 1."""
        cls, sep = self.cls_token_id is not None, self.sep_token_id is not None
        first = [0] * (cls + len(as_ids(token_ids_0)) + sep)
        return first if token_ids_1 is None else first + [1] * (len(as_ids(token_ids_1)) + sep)

    def get_special_tokens_mask(
        self,
        token_ids_0: Any,
        token_ids_1: Any = None,
        already_has_special_tokens: bool = False,
    ) -> list[int]:
        """Return 1 for each id of a special token and 0 for the others.

        Raises
        ------
        ValueError
            Unless `already_has_special_tokens` is True and there is only one sequence; the
            tokenizer of transformers, where the library splits, has no more either.
        """
        if not already_has_special_tokens or token_ids_1 is not None:
            raise ValueError(
                "get_special_tokens_mask takes one sequence with its special tokens in it and "
                "already_has_special_tokens=True; for a text, call the tokenizer with "
                "return_special_tokens_mask=True."
            )
        special = set(self.all_special_ids)
        return [int(index in special) for index in as_ids(token_ids_0)]


def check_side(name: str, side: Any) -> None:
    """Refuse what is neither "left" nor "right"."""
    expect(name, side, side in ("left", "right"), '"left" or "right"')
