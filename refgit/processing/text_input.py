"""From what a caller may pass as `text` to a list of texts, every one of them checked."""

from __future__ import annotations

from typing import Any


def as_batch(text: Any, is_split_into_words: bool) -> tuple[list[Any], bool]:
    """Return the texts as a list, and whether the caller gave a single one.

    Raises
    ------
    TypeError
        If something is not a string, or not a list of words where that is asked for.
    ValueError
        If the batch is empty or a text is not valid Unicode.
    """
    if isinstance(text, str) and is_split_into_words:
        raise TypeError("is_split_into_words=True takes a list of words; found one string.")
    if not isinstance(text, (str, list, tuple)):
        raise TypeError(f"text is of type {type(text).__name__}; expected a string or a list.")
    single = isinstance(text, str)
    if is_split_into_words:
        single = not (len(text) > 0 and isinstance(text[0], (list, tuple)))
    batch = [text] if single else list(text)
    if not batch:
        raise ValueError("text is an empty list; expected at least one text.")
    for index, item in enumerate(batch):
        name = "text" if single else f"text[{index}]"
        if not is_split_into_words:
            check_text(item, name)
            continue
        if not isinstance(item, (list, tuple)):
            raise TypeError(f"{name} is of type {type(item).__name__}; expected a list of words.")
        for place, word in enumerate(item):
            check_text(word, f"{name}[{place}]")
    return batch, single


def check_text(text: Any, name: str) -> None:
    """Refuse what is not a string or has no UTF-8 form; the library's errors would not name it."""
    if not isinstance(text, str):
        raise TypeError(f"{name} is of type {type(text).__name__}; expected a string.")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{name} holds a lone surrogate at position {error.start}, which is no character; "
                "decode the text from its bytes again."
            ) from error
