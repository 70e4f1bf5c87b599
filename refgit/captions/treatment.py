"""`Treatment`: all that is done to a caption's text, in a fixed order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from refgit.captions.endings import INVENTED_ENDINGS
from refgit.captions.punctuation import close_up

# A match may not begin or end within a word: "stock" does not cut "stockings".
_WORDS = r"(?:(?<!\w)|(?!\w))(?:%s)(?:(?!\w)|(?<!\w))"


@dataclass(frozen=True)
class Treatment:
    """What becomes of each caption that the model writes.

    The steps, in this order: punctuation is closed up; what `remove` matches is taken out; each
    find of `replace` gives way to its replacement; prefix and suffix are added. `fail_phrases` are
    looked for between the last two.

    Attributes
    ----------
    raw : bool
        Leave the spaces of punctuation as the tokenizer sets them; the other steps stay.
    remove : tuple of str
        Regular expressions of whole words, capitals or not. `INVENTED` has those for the endings
        that TextCaps checkpoints invent.
    replace : tuple of (str, str)
        What is looked for, and what takes its place.
    regex : bool
        Whether the finds of `replace` are regular expressions; otherwise they are taken literally.
    prefix, suffix : str
        What begins and ends each caption; spaces are not added.
    fail_phrases : tuple of str
        A caption with one of these has failed; see `failing`.

    Raises
    ------
    ValueError
        A regular expression or a replacement is wrong.
    TypeError
        A field has another type.

    Examples
    --------
    >>> from refgit.captions import Treatment
    >>> Treatment(prefix="photo of ", replace=(("dog", "puppy"),))("a dog ' s t - shirt")
    "photo of a puppy's t-shirt"
    """

    raw: bool = False
    remove: tuple[str, ...] = ()
    replace: tuple[tuple[str, str], ...] = ()
    regex: bool = False
    prefix: str = ""
    suffix: str = ""
    fail_phrases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("remove", "fail_phrases"):
            _check_texts(name, getattr(self, name))
        for pair in self.replace:
            _check_texts("replace", pair)
            if len(pair) != 2 or not pair[0]:
                raise ValueError(f"replace: {pair!r}; expected a text to find and another one.")
        for pattern in self.remove:
            _compiled("remove", pattern)
            _whole_words("remove", pattern)
        for find, replacement in self.replace if self.regex else ():
            _check_replacement(_compiled("replace", find), replacement)

    def __call__(self, text: str) -> str:
        """Treat a whole caption, as the tokenizer gives it."""
        return self.prefix + self.body(text) + self.suffix

    def body(self, text: str) -> str:
        """Treat a caption, but for prefix and suffix."""
        text = text if self.raw else close_up(text)
        for pattern in self.remove:
            text = _without(_whole_words("remove", pattern), text)
        for find, replacement in self.replace:
            if self.regex:
                text = _compiled("replace", find).sub(replacement, text)
            else:
                text = text.replace(find, replacement)
            text = text if replacement else re.sub(" {2,}", " ", text)
        return text.strip()

    def so_far(self, text: str) -> str:
        """Treat a caption that still grows: all but the suffix."""
        return self.prefix + self.body(text)

    def failing(self, treated: str) -> str | None:
        """Return the first of `fail_phrases` that a caption holds, as whole words; or None.

        Parameters
        ----------
        treated : str
            As a call returns it. The phrases are looked for between prefix and suffix.
        """
        body = treated[len(self.prefix) : len(treated) - len(self.suffix)]
        for phrase in self.fail_phrases:
            if _whole_words("fail_phrases", re.escape(phrase)).search(body):
                return phrase
        return None

    def punctuated(self, text: str) -> str:
        """Do the first step alone; answers to questions have no other."""
        return (text if self.raw else close_up(text)).strip()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, as JSON can hold them."""
        fields = asdict(self)
        return {key: _lists(value) for key, value in fields.items()}

    def changes(self) -> dict[str, Any]:
        """Return the fields that differ from a treatment by default, as `to_dict` does."""
        usual = Treatment().to_dict()
        return {key: value for key, value in self.to_dict().items() if value != usual[key]}


INVENTED = tuple(pattern for pattern, _ in INVENTED_ENDINGS)


def split_patterns(text: str) -> tuple[str, ...]:
    r"""Split regular expressions at commas, but for those in brackets or behind a backslash.

    Examples
    --------
    >>> from refgit.captions.treatment import split_patterns
    >>> split_patterns(r"stock photo,x{1,3},(a,b),\,")
    ('stock photo', 'x{1,3}', '(a,b)', '\\,')
    """
    parts, depth, escaped = [""], 0, False
    for letter in text:
        if letter == "," and not escaped and depth <= 0:
            parts.append("")
            continue
        parts[-1] += letter
        depth += 0 if escaped else (letter in "([{") - (letter in ")]}")
        escaped = letter == "\\" and not escaped
    return tuple(part.strip() for part in parts if part.strip())


def _without(pattern: re.Pattern[str], text: str) -> str:
    """Take out what matches, and the commas and spaces that are left over."""
    if not any(found[0] for found in pattern.finditer(text)):
        return text
    rest = re.sub(r" {2,}", " ", pattern.sub("", text))
    rest = re.sub(r" +(?=[,.;:!?](?!\w))", "", rest)
    rest = re.sub(r"(,)(?: ?,)+", r"\1", rest)
    return re.sub(r"^[\s,;:]+|[\s,;:]+$", "", rest)


@lru_cache(maxsize=512)
def _compiled(name: str, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.IGNORECASE if name != "replace" else 0)
    except re.error as error:
        raise ValueError(
            f"{name}: {pattern!r} is not a regular expression: {error}. Put a backslash before "
            "marks such as ( and * that stand for themselves."
        ) from error


@lru_cache(maxsize=512)
def _whole_words(name: str, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(_WORDS % pattern, re.IGNORECASE)
    except re.error as error:
        raise ValueError(
            f"{name}: {pattern!r} begins with flags; expected none, since capitals do not matter."
        ) from error


def _check_replacement(pattern: re.Pattern[str], replacement: str) -> None:
    try:
        pattern.sub(replacement, "")
    except (re.error, IndexError) as error:
        raise ValueError(
            f"replace: {replacement!r} cannot take the place of {pattern.pattern!r}: {error}. "
            r"\1 is what its first group found, \\ a backslash."
        ) from error


def _check_texts(name: str, values: Any) -> None:
    single = isinstance(values, str) or not isinstance(values, Sequence)
    if single or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{name} is {values!r}; expected a tuple of texts.")
    if name != "replace" and not all(values):
        raise ValueError(f"{name} is {values!r}; expected texts that are not empty.")


def _lists(value: Any) -> Any:
    return [_lists(x) for x in value] if isinstance(value, tuple) else value
