"""The vocabulary of a BERT tokenizer: tokens, ids, special tokens and settings.

`BertTokenizer` in `tokenizer.py` adds what turns texts into ids and back.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer

from .token_ids import as_ids
from .tokenizer_files import SPECIAL_NAMES, content_of


class Vocabulary:
    """Tokens and their ids.

    Attributes
    ----------
    backend : tokenizers.Tokenizer
        Holds the tokens.
    config : dict
        Settings as in tokenizer_config.json.
    """

    backend: Tokenizer
    config: dict[str, Any]

    @property
    def model_input_names(self) -> list[str]:
        """The keys this tokenizer produces by default."""
        return list(self.config["model_input_names"])

    @property
    def model_max_length(self) -> int:
        """The longest sequence the model takes; 10**30 where the checkpoint does not say."""
        return int(self.config["model_max_length"])

    @property
    def clean_up_tokenization_spaces(self) -> bool:
        """Whether `decode` removes spaces before punctuation unless told otherwise."""
        return bool(self.config["clean_up_tokenization_spaces"])

    @property
    def padding_side(self) -> str:
        """Where padding goes unless told otherwise: "right" or "left"."""
        return str(self.config["padding_side"])

    @property
    def special_tokens_map(self) -> dict[str, Any]:
        """The special tokens by name (`cls_token`, ...), those that are set."""
        named = {name: content_of(self.config.get(name)) for name in SPECIAL_NAMES}
        more = [content_of(token) for token in self.config.get("additional_special_tokens") or ()]
        found: dict[str, Any] = {name: text for name, text in named.items() if text is not None}
        return {**found, "additional_special_tokens": more} if more else found

    @property
    def all_special_tokens(self) -> list[str]:
        """The special tokens, each once."""
        found = dict(self.special_tokens_map)
        more = found.pop("additional_special_tokens", [])
        return list(dict.fromkeys([*found.values(), *more]))

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of `all_special_tokens`."""
        return [self._id_of(token) for token in self.all_special_tokens]

    def _special_id(self, name: str) -> int | None:
        token = content_of(self.config.get(name))
        return None if token is None else self._id_of(token)

    @property
    def cls_token_id(self) -> int | None:
        """Id of the token that opens a sequence; generation starts from it."""
        return self._special_id("cls_token")

    @property
    def sep_token_id(self) -> int | None:
        """Id of the token that closes a sequence; generation ends with it."""
        return self._special_id("sep_token")

    @property
    def pad_token_id(self) -> int | None:
        """Id of the padding token."""
        return self._special_id("pad_token")

    @property
    def unk_token_id(self) -> int | None:
        """Id that stands for everything outside the vocabulary."""
        return self._special_id("unk_token")

    @property
    def mask_token_id(self) -> int | None:
        """Id of the mask token of BERT's pretraining."""
        return self._special_id("mask_token")

    @property
    def bos_token_id(self) -> int | None:
        """Id of the begin-of-sequence token; None unless the checkpoint names one."""
        return self._special_id("bos_token")

    @property
    def eos_token_id(self) -> int | None:
        """Id of the end-of-sequence token; None unless the checkpoint names one."""
        return self._special_id("eos_token")

    @property
    def vocab_size(self) -> int:
        """Number of tokens without the added ones; `len(tokenizer)` counts those too."""
        return int(self.backend.get_vocab_size(with_added_tokens=False))

    def __len__(self) -> int:
        return int(self.backend.get_vocab_size(with_added_tokens=True))

    def get_vocab(self) -> dict[str, int]:
        """Return all tokens with their ids."""
        return dict(self.backend.get_vocab(with_added_tokens=True))

    def _id_of(self, token: str) -> int:
        index = self.backend.token_to_id(token)
        if index is None:
            index = self.backend.token_to_id(str(self.config["unk_token"]))
        if index is None:
            raise ValueError(f"{token!r} is not in the vocabulary, and there is no unknown token.")
        return int(index)

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
