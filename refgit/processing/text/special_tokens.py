"""The special tokens of a BERT tokenizer: their names, texts and ids, and how more are added.

`Vocabulary` in `vocabulary.py` builds on this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar, overload

from tokenizers import AddedToken, Tokenizer

from refgit.processing.text.files import SPECIAL_NAMES, content_of
from refgit.processing.text.inputs import check_text

MORE = "additional_special_tokens"
T = TypeVar("T")


class Setting(Generic[T]):
    """An attribute that is an entry of `config` under its own name; it may be set.

    Parameters
    ----------
    read : callable
        Makes the attribute of the entry, which is None where there is none.
    write : callable, optional
        Makes the entry of the attribute's name and what it is set to; by default as `read` does.
    """

    def __init__(
        self, read: Callable[[Any], T], write: Callable[[str, Any], Any] | None = None
    ) -> None:
        self.read = read
        self.write = write or (lambda _, value: read(value))

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, holder: None, owner: type) -> Setting[T]: ...

    @overload
    def __get__(self, holder: SpecialTokens, owner: type) -> T: ...

    def __get__(self, holder: SpecialTokens | None, owner: type) -> Setting[T] | T:
        return self if holder is None else self.read(holder.config.get(self.name))

    def __set__(self, holder: SpecialTokens, value: Any) -> None:
        holder.config[self.name] = self.write(self.name, value)


def _text_of(name: str, token: Any) -> str:
    if not isinstance(token, (str, AddedToken)):
        raise TypeError(
            f"{name} is of type {type(token).__name__}; expected a string or an AddedToken."
        )
    text = str(token)
    check_text(text, name)
    return text


def _text_or_none(name: str, token: Any) -> str | None:
    return None if token is None else _text_of(name, token)


class SpecialTokenId:
    """An attribute that is the id of a special token, or None where there is no such token.

    Setting the id of `cls_token_id` names the token with that id as `cls_token`.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        self.token = name.removesuffix("_id")

    @overload
    def __get__(self, holder: None, owner: type) -> SpecialTokenId: ...

    @overload
    def __get__(self, holder: SpecialTokens, owner: type) -> int | None: ...

    def __get__(self, holder: SpecialTokens | None, owner: type) -> SpecialTokenId | int | None:
        if holder is None:
            return self
        text = getattr(holder, self.token)
        return None if text is None else holder._id_of(text)

    def __set__(self, holder: SpecialTokens, index: int | None) -> None:
        text = None if index is None else holder.backend.id_to_token(index)
        if index is not None and text is None:
            raise ValueError(
                f"{self.name} is {index}, which is not the id of a token; expected one of the "
                f"vocabulary, 0 to {holder.backend.get_vocab_size() - 1}."
            )
        holder.config[self.token] = text


class SpecialTokens:
    """The special tokens, by name.

    Attributes
    ----------
    backend : tokenizers.Tokenizer
        Holds the tokens.
    config : dict
        Settings as in tokenizer_config.json; the special tokens are among them.
    cls_token, sep_token, pad_token, unk_token, mask_token, bos_token, eos_token : str or None
        [CLS] opens a sequence, and generation starts from it; [SEP] closes each text, and
        generation ends with it. bos_token and eos_token are None unless the checkpoint names them.
    cls_token_id, ... : int or None
        Their ids.

    Notes
    -----
    Naming another token does not change which tokens open and close a sequence: as in
    transformers, that is the post-processor's, made when the tokenizer is.
    """

    backend: Tokenizer
    config: dict[str, Any]

    bos_token, bos_token_id = Setting(content_of, _text_or_none), SpecialTokenId()
    eos_token, eos_token_id = Setting(content_of, _text_or_none), SpecialTokenId()
    unk_token, unk_token_id = Setting(content_of, _text_or_none), SpecialTokenId()
    sep_token, sep_token_id = Setting(content_of, _text_or_none), SpecialTokenId()
    pad_token, pad_token_id = Setting(content_of, _text_or_none), SpecialTokenId()
    cls_token, cls_token_id = Setting(content_of, _text_or_none), SpecialTokenId()
    mask_token, mask_token_id = Setting(content_of, _text_or_none), SpecialTokenId()

    @property
    def pad_token_type_id(self) -> int:
        """The token type of padding: 0."""
        return 0

    @property
    def additional_special_tokens(self) -> list[str]:
        """The special tokens without a name of their own; may be set."""
        found = [content_of(token) for token in self.config.get(MORE) or ()]
        return [text for text in found if text is not None]

    @additional_special_tokens.setter
    def additional_special_tokens(self, tokens: Sequence[str | AddedToken]) -> None:
        self.config[MORE] = [_text_of(MORE, token) for token in tokens]

    @property
    def additional_special_tokens_ids(self) -> list[int]:
        """The ids of `additional_special_tokens`."""
        return [self._id_of(token) for token in self.additional_special_tokens]

    @property
    def special_tokens_map(self) -> dict[str, Any]:
        """The special tokens by name (`cls_token`, ...), those that are set."""
        named = {name: getattr(self, name) for name in SPECIAL_NAMES}
        found: dict[str, Any] = {name: text for name, text in named.items() if text}
        more = self.additional_special_tokens
        return {**found, MORE: more} if more else found

    @property
    def all_special_tokens(self) -> list[str]:
        """The special tokens, each once."""
        found = self.special_tokens_map
        more = found.pop(MORE, [])
        return list(dict.fromkeys([*found.values(), *more]))

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of `all_special_tokens`."""
        return [self._id_of(token) for token in self.all_special_tokens]

    def _id_of(self, token: str) -> int:
        index = self.backend.token_to_id(token)
        if index is None and self.unk_token is not None:
            index = self.backend.token_to_id(self.unk_token)
        if index is None:
            raise ValueError(
                f"{token!r} is not in the vocabulary, and there is no unknown token to "
                "replace it; expected either: add the token, or set unk_token."
            )
        return int(index)

    # -- adding --------------------------------------------------------------------------------

    def add_tokens(
        self,
        new_tokens: str | AddedToken | Sequence[str | AddedToken],
        special_tokens: bool = False,
    ) -> int:
        """Add tokens, which are then found in a text as a whole.

        Parameters
        ----------
        new_tokens : str, AddedToken, or sequence of them
            The tokens. Those that the vocabulary lacks get the next ids, and the model's embeddings
            must grow with them: `model.resize_token_embeddings(len(tokenizer))`.
        special_tokens : bool
            Whether they are special: kept as they are written, and left out by
            `decode(..., skip_special_tokens=True)`.

        Returns
        -------
        int
            How many were added, those counted that the vocabulary had as plain words.

        Raises
        ------
        TypeError, ValueError
            If something is neither a string nor an AddedToken, or is not valid Unicode.
        """
        tokens = [new_tokens] if isinstance(new_tokens, (str, AddedToken)) else list(new_tokens)
        for index, token in enumerate(tokens):
            _text_of(f"new_tokens[{index}]", token)
        add = self.backend.add_special_tokens if special_tokens else self.backend.add_tokens
        return int(add(tokens))

    def add_special_tokens(
        self,
        special_tokens_dict: Mapping[str, Any],
        replace_additional_special_tokens: bool = True,
    ) -> int:
        """Name special tokens, and add those that the vocabulary lacks.

        Parameters
        ----------
        special_tokens_dict : mapping
            From names (`cls_token`, ..., `mask_token`) to a token; from
            `additional_special_tokens` to a list of them.
        replace_additional_special_tokens : bool
            Whether the list takes the place of the present one, or extends it. A token that is no
            longer on the list stays in the vocabulary.

        Returns
        -------
        int
            How many were added, as `add_tokens` counts them.

        Raises
        ------
        ValueError
            If a name is not that of a special token, or a token is not valid Unicode.
        TypeError
            If a token is neither a string nor an AddedToken.
        """
        unknown = sorted(set(special_tokens_dict) - {*SPECIAL_NAMES, MORE})
        if unknown:
            raise ValueError(
                f"{', '.join(unknown)}: not the name of a special token; expected "
                f"{', '.join(SPECIAL_NAMES)} or {MORE}."
            )
        added: list[str | AddedToken] = []
        for name, value in special_tokens_dict.items():
            if name != MORE:
                _text_of(name, value)
                setattr(self, name, value)
                added.append(value)
                continue
            if not isinstance(value, (list, tuple)):
                raise TypeError(f"{MORE} is of type {type(value).__name__}; expected a list.")
            present = self.additional_special_tokens
            if not replace_additional_special_tokens:
                value = [token for token in value if _text_of(MORE, token) not in present]
            elif value:
                present = []
            self.additional_special_tokens = [*present, *value]
            added += value
        return self.add_tokens(added, special_tokens=True)
