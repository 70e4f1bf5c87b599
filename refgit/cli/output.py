"""What the commands print: results on stdout, everything else on stderr, a line each."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from typing import Any
from unicodedata import category

from refgit.cli.terminal import make_way

# Unicode categories: control characters, halves of surrogate pairs, line and paragraph separators.
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")


class OutputError(Exception):
    """A result could not be written to stdout; nothing else that is asked for can be, either."""


def say(message: str) -> None:
    """Put one line on stderr, whatever the message holds; where stderr is closed, nowhere."""
    if sys.stderr is None:  # print would take stdout
        return
    make_way()
    try:
        print("refgit: " + one_line(message), file=sys.stderr, flush=True)
    except OSError:  # nobody can be told, so the exit code says it alone
        sys.stderr = None


def put(text: str = "", *, end: str = "\n") -> None:
    """Print a part of the result on stdout, at once.

    Raises
    ------
    OutputError
        It cannot be written: the disk is full, or whoever reads it has gone.
    """
    make_way()
    try:
        print(text, end=end, flush=True)
    except OSError as error:
        why = error.strerror or error
        raise OutputError(f"the result cannot be written to standard output: {why}.") from error


def reason(error: Exception) -> str:
    """Say what went wrong; an error that refgit did not foresee comes with its type."""
    if isinstance(error, OSError) and error.strerror:  # Python's own text begins with [Errno 2]
        return f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}."
    if isinstance(error, ValueError | OSError | NotImplementedError | ImportError):
        return str(error)
    return f"{type(error).__name__}: {error} (--debug shows where)"


def say_failure(error: Exception, file: str, *, as_json: bool) -> None:
    """Say of one file of several why it failed, under its name; with --json on stdout as well."""
    from refgit.processing import ImageFileError, VideoFileError

    named = isinstance(error, ImageFileError | VideoFileError)
    why = reason(error)
    if not named and not why.startswith(f"{file}:"):
        why = f"{file}: {why}"
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
    put(json.dumps(entries))  # ASCII, so one line on every terminal


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
            put((before if not shown else "") + sure[len(shown) :], end="")
            shown = sure
    if text.startswith(shown):
        put(("" if shown else before) + text[len(shown) :])
    else:  # over what was shown, if it stands on one line of the terminal
        alone = len(before + shown) < shutil.get_terminal_size().columns
        put(("\r" if alone else "\n") + before + text)
