"""The vocabulary of a BERT tokenizer: tokens, ids, and the settings of tokenizer_config.json.

`special_tokens.py` knows the special ones; `encoder.py` turns texts into ids with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import AddedToken, Tokenizer

from refgit.processing.text.special_tokens import Setting, SpecialTokens
from refgit.processing.text.token_ids import as_ids
from refgit.validation import expect


def check_side(name: str, side: Any) -> str:
    """Return "left" or "right"; refuse anything else."""
    expect(name, side, side in ("left", "right"), '"left" or "right"')
    return str(side)


class Vocabulary(SpecialTokens):
    """Tokens and their ids, and the settings that a tokenizer has.

    Attributes
    ----------
    model_input_names : list of str
        The keys this tokenizer produces by default; may be set, as may those below.
    model_max_length : int
        The longest sequence the model takes; 10**30 where none is known.
    clean_up_tokenization_spaces : bool
        Whether `decode` removes spaces before punctuation by default.
    split_special_tokens : bool
        Whether special tokens in a text are split like other words by default.
    padding_side : str
        Where padding goes unless told otherwise: "right" or "left".
    truncation_side : str
        Which end of a text is cut off: "right" or "left".
    """

    model_input_names = Setting[list[str]](list)
    model_max_length = Setting(int)
    clean_up_tokenization_spaces = Setting(bool)
    split_special_tokens = Setting(bool)
    padding_side = Setting(str, check_side)
    truncation_side = Setting(str, check_side)

    @property
    def backend_tokenizer(self) -> Tokenizer:
        """The tokenizer of the `tokenizers` library."""
        return self.backend

    @property
    def is_fast(self) -> bool:
        """True, as of transformers' tokenizers that leave the splitting to `tokenizers`."""
        return True

    @property
    def max_len_single_sentence(self) -> int:
        """How many tokens of one text fit beside the special tokens."""
        return self.model_max_length - self.num_special_tokens_to_add(pair=False)

    @property
    def max_len_sentences_pair(self) -> int:
        """How many tokens of a pair of texts fit beside the special tokens."""
        return self.model_max_length - self.num_special_tokens_to_add(pair=True)

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
