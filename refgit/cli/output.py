"""What the commands print: results on stdout, everything else on stderr, a line each."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unicodedata import category

from refgit.cli.terminal import QUIET, VERBOSE, level, make_way
from refgit.errors import MediaFileError
from refgit.errors import reason as reason_of

if TYPE_CHECKING:
    from refgit.pipeline import WrittenText

# Unicode categories: control characters, halves of surrogate pairs, line and paragraph separators.
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")


class OutputError(Exception):
    """A result could not be written to stdout; nothing else that is asked for can be, either."""


def say(message: str) -> None:
    """Put one line of information on stderr, unless --quiet was given; see `complain`."""
    if level() > QUIET:
        complain(message)


def detail(message: str) -> None:
    """Put one line on stderr that only --verbose shows; see `complain`."""
    if level() >= VERBOSE:
        complain(message)


def complain(message: str) -> None:
    """Put one line on stderr, whatever the message holds; where stderr is closed, nowhere."""
    if sys.stderr is None:  # print would take stdout
        return
    make_way()
    try:
        print("refgit: " + one_line(message), file=sys.stderr, flush=True)
    except OSError:  # nobody can be told; the exit code still says it
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
    """Say what went wrong; an error that refgit does not raise itself comes with its type."""
    return reason_of(error, " (--debug shows where)")


class Failures:
    """What failed among several things asked for; see `tolerated`.

    Parameters
    ----------
    arguments : argparse.Namespace
        With --debug the first failure is raised; with --json each is on stdout as well.

    Attributes
    ----------
    count : int
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.debug, self.json = arguments.debug, arguments.json
        self.count = 0

    @contextmanager
    def tolerated(self, name: str, **entries: Any) -> Iterator[None]:
        """Say on stderr why the block failed, under a name, and go on after it.

        Parameters
        ----------
        name : str
            What the block is about.
        **entries
            Of the JSON object, besides the error.
        """
        try:
            yield
        except OutputError:
            raise
        except Exception as error:
            self.add(name, error, **entries)

    def add(self, name: str, error: Exception, *, silent: bool = False, **entries: Any) -> None:
        """Say why something failed; see `tolerated`.

        Parameters
        ----------
        name, **entries
            See `tolerated`.
        error : Exception
        silent : bool
            Leave stderr out, since it has been said before.
        """
        if self.debug:
            raise error
        self.count += 1
        why = reason(error)
        if not isinstance(error, MediaFileError) and not why.startswith(f"{name}:"):
            why = f"{name}: {why}"
        if not silent:
            complain(why)
        if self.json:
            print_json(**entries, error=reason_of(error))

    @property
    def exit_code(self) -> int:
        """1 where something failed."""
        return 1 if self.count else 0


def one_line(text: str) -> str:
    r"""Escape what would break a line or an encoding, as in "a\nb"; file names may hold it."""
    return "".join(
        c.encode("unicode_escape").decode() if category(c) in _UNPRINTABLE else c for c in text
    )


def human_bytes(count: int, digits: str = ".4g") -> str:
    """Return a number of bytes as people say it."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= 0.9995 * size:
            return f"{count / size:{digits}} {unit}"
    return f"{count} B"


def print_json(**entries: Any) -> None:
    """Print one JSON object on one line."""
    text = json.dumps(entries, ensure_ascii=False)
    if not text.isascii():
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        text = "".join(c if _is_shown(c, encoding) else json.dumps(c)[1:-1] for c in text)
    put(text)


def _is_shown(letter: str, encoding: str) -> bool:
    """Whether a terminal with this encoding shows the letter, and as a part of the line."""
    if category(letter) in _UNPRINTABLE:
        return False
    try:
        letter.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def print_texts(texts: Sequence[WrittenText], before: str = "") -> None:
    """Print a line for each text; behind it, after tabs, its score and their sum where it has them.

    Parameters
    ----------
    texts : sequence of WrittenText
    before : str
        What each line begins with.
    """
    for text in texts:
        numbers = "" if text.score is None else f"\t{text.score:.4f}\t{text.log_probability:.4f}"
        put(f"{before}{text.text}{numbers}")


def print_as_it_comes(texts: Iterator[str], before: str = "") -> str:
    """Print a text that grows: word by word on a terminal, in one line at the end elsewhere.

    Parameters
    ----------
    texts : iterator of str
        The text so far, again and again.
    before : str
        What the line begins with.

    Returns
    -------
    str
        The whole text.
    """
    live, shown, text = sys.stdout is not None and sys.stdout.isatty(), "", ""
    for text in texts:
        # The last word may still grow, and what is written apart turn out to belong together.
        settled = text[: max(text.rfind(" "), 0)]
        if live and len(settled) > len(shown) and settled.startswith(shown):
            put((before if not shown else "") + settled[len(shown) :], end="")
            shown = settled
    if text.startswith(shown):
        put(("" if shown else before) + text[len(shown) :])
    else:  # over what was shown, if that is a single line of the terminal
        single = len(before + shown) < shutil.get_terminal_size().columns
        line = before + text  # and spaces over what is longer than that
        put("\r" + line.ljust(len(before + shown)) if single else "\n" + line)
    return text
