"""Reading the tokenizer files of a checkpoint directory, in the forms transformers writes them.

tokenizer.json or vocab.txt holds the vocabulary; three more JSON files hold settings and names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from refgit.errors import CheckpointError
from refgit.files import check_directory, read_json

# The order in which transformers adds special tokens that a vocabulary lacks.
SPECIAL_NAMES = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)


def read_tokenizer_files(
    directory: str | Path,
) -> tuple[Tokenizer | list[str], dict[str, Any], list[AddedToken]]:
    """Read whatever tokenizer files there are.

    Returns
    -------
    tuple of Tokenizer or list of str, dict, and list of AddedToken
        What tokenizer.json holds, else vocab.txt; the settings; the added tokens, lowest id first.

    Raises
    ------
    CheckpointError
        If there is neither tokenizer.json nor vocab.txt, or a file is invalid.
    """
    folder = check_directory(directory)
    config = _read_optional(folder / "tokenizer_config.json")
    added = config.pop("added_tokens_decoder", None)
    if added is None:
        # Files from before added_tokens_decoder keep the same in two more files.
        config.update(_read_optional(folder / "special_tokens_map.json"))
        added = _old_added_tokens(folder, config)
    tokens = _added_tokens(added, folder)
    if (folder / "tokenizer.json").exists():
        return _read_backend(folder / "tokenizer.json"), config, tokens
    if (folder / "vocab.txt").exists():
        return _read_vocab(folder / "vocab.txt"), config, tokens
    raise CheckpointError(f"{folder} has no tokenizer: expected tokenizer.json or vocab.txt in it.")


def content_of(token: Any) -> str | None:
    """Return the text of a special token, which files hold as a string or as an object.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if isinstance(token, Mapping):
        token = token.get("content")
    if token is not None and not isinstance(token, str):
        raise ValueError(f"A special token is {token!r}; expected a string.")
    return token


def _read_optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _old_added_tokens(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return added_tokens.json in the form of added_tokens_decoder."""
    special = {content_of(config.get(name)) for name in SPECIAL_NAMES}
    special |= {content_of(token) for token in config.get("additional_special_tokens") or ()}
    return {
        str(index): {
            "content": text,
            "special": text in special,
            "normalized": text not in special,
        }
        for text, index in _read_optional(folder / "added_tokens.json").items()
    }


def _added_tokens(added: Any, folder: Path) -> list[AddedToken]:
    try:
        by_id = sorted((int(index), token) for index, token in added.items())
        return [AddedToken(**token) for _, token in by_id]
    except (AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder}: the added tokens cannot be read ({error}); expected an object from ids to "
            'objects with "content".'
        ) from error


def _read_backend(path: Path) -> Tokenizer:
    read_json(path)  # says where the JSON breaks better than the library below
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise CheckpointError(
            f"{path} is not a tokenizer: {error}. Expected the tokenizer.json that a tokenizer "
            "saves; download or copy it again."
        ) from error


def _read_vocab(path: Path) -> list[str]:
    """Read vocab.txt: one token a line, the line number is the id."""
    try:
        # Not str.splitlines: that would also break at U+2028 and others, which are tokens.
        with path.open(encoding="utf-8") as file:
            tokens = [line.rstrip("\n") for line in file]
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read as UTF-8 text: {error}.") from error
    if not tokens:
        raise CheckpointError(f"{path} is empty; expected one token a line.")
    return tokens
