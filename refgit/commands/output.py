"""What the commands print: results on stdout, everything else on stderr, a line each."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from typing import Any
from unicodedata import category

# Unicode categories: control characters, halves of surrogate pairs, line and paragraph separators.
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")


def say(message: str) -> None:
    """Put one line on stderr, whatever the message holds."""
    print("refgit: " + one_line(message), file=sys.stderr)


def reason(error: Exception) -> str:
    """Say what went wrong; an error that refgit did not foresee comes with its type."""
    if isinstance(error, ValueError | OSError | NotImplementedError | ImportError):
        return str(error)
    return f"{type(error).__name__}: {error} (--debug shows where)"


def say_failure(error: Exception, file: str, *, as_json: bool) -> None:
    """Say of one file of several why it failed, under its name; with --json on stdout as well."""
    from refgit.processing import ImageFileError, VideoFileError

    named = isinstance(error, ImageFileError | VideoFileError)
    why = reason(error) if named else f"{file}: {reason(error)}"
    say(why)
    if as_json:
        print_json(image=file, error=why)


def one_line(text: str) -> str:
    r"""Escape what would break a line or an encoding, as in "a\nb"; file names may hold it."""
    return "".join(
        c.encode("unicode_escape").decode() if category(c) in _UNPRINTABLE else c for c in text
    )


def print_json(**entries: Any) -> None:
    """Print one JSON object on one line."""
    print(json.dumps(entries), flush=True)  # ASCII, so one line on every terminal


def print_as_it_comes(texts: Iterator[str], before: str = "") -> None:
    """Print a text that grows: word by word on a terminal, in one line at the end elsewhere.

    Parameters
    ----------
    texts : iterator of str
        The text so far, again and again.
    before : str
        What stands in front of it on the line.
    """
    live, shown, text = sys.stdout is not None and sys.stdout.isatty(), "", ""
    for text in texts:
        # The last word may still grow, and what is written apart turn out to belong together.
        sure = text[: max(text.rfind(" "), 0)]
        if live and len(sure) > len(shown) and sure.startswith(shown):
            print((before if not shown else "") + sure[len(shown) :], end="", flush=True)
            shown = sure
    if text.startswith(shown):
        print(("" if shown else before) + text[len(shown) :], flush=True)
    else:  # over what was shown, if it stands on one line of the terminal
        alone = len(before + shown) < shutil.get_terminal_size().columns
        print(("\r" if alone else "\n") + before + text, flush=True)
