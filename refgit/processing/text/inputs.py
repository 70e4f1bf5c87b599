"""From what a caller may pass as `text` and `text_pair` to a list of texts, every one checked.

An item of that list is a text, or a tuple of two that belong together. A text is a string, or a
list of words where the caller has split it already.
"""

from __future__ import annotations

from typing import Any


def as_batch(
    text: Any, text_pair: Any, is_split_into_words: bool, called: str = "text"
) -> tuple[list[Any], bool]:
    """Return the texts, or pairs of texts, as a list, and whether the caller gave a single one.

    Parameters
    ----------
    text : str, list of words, list of these, or list of pairs of them
        The texts. An item of a batch that is itself a list or tuple of two texts is a pair.
    text_pair : same form as `text`, or None
        A second text for each. An empty one beside a single text counts as none.
    is_split_into_words : bool
        Whether a text is a list of words.
    called : str
        What errors call `text`.

    Raises
    ------
    TypeError
        If something is not a string, or not a list of words where that is asked for.
    ValueError
        If the batch is empty, a text is not valid Unicode, or there are not as many second texts.
    """
    words = is_split_into_words
    if isinstance(text, str) and words:
        raise TypeError("is_split_into_words=True takes a list of words; found one string.")
    if not isinstance(text, (str, list, tuple)):
        raise TypeError(f"{called} is of type {type(text).__name__}; expected a string or a list.")
    second = called.replace("text", "text_pair")
    if isinstance(text, str) or (words and not _holds_lists(text)):
        first = _checked(text, called, words)
        if text_pair is None or text_pair == "" or text_pair == []:
            return [first], True
        return [(first, _checked(text_pair, second, words))], True
    if not text:
        raise ValueError(f"{called} is an empty list; expected at least one text.")
    if text_pair is None:
        return [_checked_item(x, f"{called}[{i}]", words) for i, x in enumerate(text)], False
    if not isinstance(text_pair, (list, tuple)):
        raise TypeError(
            f"{second} is of type {type(text_pair).__name__}; expected a list of as many texts as "
            f"{called} has, {len(text)}."
        )
    if len(text_pair) != len(text):
        raise ValueError(
            f"{called} has {len(text)} texts and {second} {len(text_pair)}; expected as many."
        )
    return [
        (_checked(a, f"{called}[{i}]", words), _checked(b, f"{second}[{i}]", words))
        for i, (a, b) in enumerate(zip(text, text_pair, strict=True))
    ], False


def _holds_lists(value: Any) -> bool:
    return len(value) > 0 and isinstance(value[0], (list, tuple))


def _checked_item(item: Any, name: str, words: bool) -> Any:
    """Check an item of a batch: a text or a pair of texts."""
    is_pair = (
        isinstance(item, (list, tuple)) and len(item) == 2 and (not words or _holds_lists(item))
    )
    if not is_pair:
        return _checked(item, name, words)
    return _checked(item[0], f"{name}[0]", words), _checked(item[1], f"{name}[1]", words)


def _checked(text: Any, name: str, words: bool) -> str | list[str]:
    """Check one text; return words as a list, so that a tuple is a pair and nothing else."""
    if not words:
        check_text(text, name)
        return str(text)
    if not isinstance(text, (list, tuple)):
        raise TypeError(f"{name} is of type {type(text).__name__}; expected a list of words.")
    for place, word in enumerate(text):
        check_text(word, f"{name}[{place}]")
    return list(text)


def check_text(text: Any, name: str) -> None:
    """Refuse what is not a string or has no UTF-8 form; the library's errors would not name it."""
    if not isinstance(text, str):
        raise TypeError(f"{name} is of type {type(text).__name__}; expected a string.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} holds a lone surrogate at position {error.start}, which is not a "
            "character; decode the text from its bytes again."
        ) from error
