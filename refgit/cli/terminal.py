"""Colours, and progress bars for what takes over a second; only a terminal is shown either.

Nothing of it goes to stdout, and where stderr is not a terminal there is nothing at all, so that
scripts and pipes see only results and messages. The package rich draws; it is imported when the
second is over, never before. Without it a bar is a plain line.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Protocol, TextIO, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
_DUMB = ("dumb", "unknown")  # values of TERM
DELAY = 1.0  # seconds before a bar is shown
QUIET, USUAL, VERBOSE = -1, 0, 1
_level = USUAL  # of all that is said on stderr
_SHOWN: list[Bar] = []  # the bars of this moment, the outermost first; there is one terminal


# ---- what a stream can show


def is_terminal(stream: TextIO | None) -> bool:
    """Whether lines on this stream can be overwritten."""
    if stream is None or os.environ.get("TERM") in _DUMB:
        return False
    try:
        return stream.isatty()
    except ValueError:  # it has been closed
        return False


def has_colours(stream: TextIO | None) -> bool:
    """Whether this stream is to be written in colours.

    Only terminals are, and none with NO_COLOR (no-color.org) or TERM=dumb; FORCE_COLOR asks for
    colours elsewhere too, such as in the log of a CI.
    """
    if stream is None or os.environ.get("NO_COLOR") or os.environ.get("TERM") in _DUMB:
        return False
    return bool(os.environ.get("FORCE_COLOR")) or is_terminal(stream)


def rich_console(stream: TextIO | None) -> Any:
    """A console of rich on this stream, or None where plain text is to be written."""
    coloured = has_colours(stream)
    if not (coloured or is_terminal(stream)):
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    colours = {"force_terminal": True, "no_color": False} if coloured else {"color_system": None}
    return Console(file=stream, highlight=False, **colours)


def set_level(chosen: int) -> None:
    """Say how much is said on stderr: QUIET leaves only errors, VERBOSE adds details."""
    global _level
    _level = chosen


def level() -> int:
    """How much is said on stderr."""
    return _level


# ---- bars


class Bar:
    """A progress bar on stderr; `waiting` and `progress` make one.

    It shows itself a second after the start, makes way for whatever is printed, and comes back
    with the next `advance`.

    Parameters
    ----------
    what : str
        What is being done, such as "captioning".
    visible : bool
        False for a bar that is never shown.
    unit : str
        What is counted, such as "images": then their rate and the time left are behind the bar.
    """

    def __init__(self, what: str, *, visible: bool = True, unit: str = "") -> None:
        self.what, self.unit, self.visible = what, unit, visible
        self.done: float = 0.0
        self.total: float | None = None
        self._started = time.monotonic()
        self._first: float | None = None  # what had been done before
        self._aside = False
        self._display: Any = None
        self._lock = threading.RLock()
        self._timer = threading.Timer(DELAY, self._show)
        self._timer.daemon = True

    def advance(self, done: float, total: float | None = None) -> None:
        """Say how much is done, of how much.

        Parameters
        ----------
        done : float
        total : float, optional
            None where that is not known: then the bar shows that something goes on.
        """
        with self._lock:
            self.done, self.total, self._aside = done, total, False
            self._first = done if self._first is None else self._first
            if self.visible and time.monotonic() - self._started >= DELAY:
                self._show()

    def start(self) -> None:
        """Begin to wait for the second to pass."""
        self._timer.start()

    def make_way(self) -> None:
        """Go from the terminal until the next `advance`."""
        with self._lock:
            self._aside = True
            if self._display is not None:
                self._display.stop()

    def stop(self) -> None:
        """Go for good."""
        self._timer.cancel()
        self.make_way()
        self._timer.join()

    def _show(self) -> None:
        with self._lock, suppress(OSError):  # the terminal may be gone; the work goes on
            if self._aside:
                return
            if self._display is None:
                self._display = _display(self.what)
            self._display.update(0, completed=self.done, total=self.total, pace=self.pace())
            self._display.start()

    def pace(self) -> str:
        """How fast it goes, on the average since the start, and how long it will take."""
        seconds = time.monotonic() - self._started
        rate = (self.done - (self._first or 0.0)) / seconds if seconds else 0.0
        if not self.unit or self.total is None or not rate:
            return ""
        left = timedelta(seconds=round((self.total - self.done) / rate))
        return f" {rate:.3g} {self.unit}/s, {left} left"


def _display(what: str) -> Any:
    """Return rich's display of one task, number 0, or a line with the same methods."""
    console = rich_console(sys.stderr)
    if console is None:
        return _PlainLine(what)
    from rich import progress as rich_progress

    found = rich_progress.Progress(
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(),
        rich_progress.TaskProgressColumn(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TextColumn("{task.fields[pace]}", markup=False),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    found.add_task(what, total=None, pace="")
    return found


class _PlainLine:
    """A line that is overwritten; its methods are those of rich's Progress."""

    def __init__(self, what: str) -> None:
        self.what, self.line = what, ""
        self._width = 0

    def update(self, _task: int, *, completed: float, total: float | None, pace: str) -> None:
        share = f" {completed / total:.0%}" if total else " ..."
        self.line = f"refgit: {self.what}{share}{pace}"

    def start(self) -> None:
        self._write(f"\r{self.line.ljust(self._width)}")
        self._width = len(self.line)

    def stop(self) -> None:
        if self._width:
            self._write(f"\r{' ' * self._width}\r")
            self._width = 0

    def _write(self, text: str) -> None:
        with suppress(OSError):
            print(text, end="", file=sys.stderr, flush=True)


@contextmanager
def waiting(what: str, unit: str = "") -> Iterator[Bar]:
    """Show a bar while the block runs, once it has run for a second, on a terminal.

    Parameters
    ----------
    what : str
        What is being done, such as "loading the model".
    unit : str
        What is counted; see `Bar`.

    Yields
    ------
    Bar
        Whose `advance(done, total)` may be called; it may be handed on as a callback.
    """
    bar = Bar(what, visible=is_terminal(sys.stderr) and _level > QUIET, unit=unit)
    if not bar.visible:
        yield bar
        return
    _SHOWN.append(bar)
    bar.start()
    try:
        yield bar
    finally:
        _SHOWN.remove(bar)
        bar.stop()


class Counted(Protocol[T_co]):
    """What is gone through, and how much of it there is."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[T_co]: ...


def progress(things: Counted[T], what: str) -> Iterator[T]:
    """Go through a sequence and show how far one is; see `waiting`.

    Parameters
    ----------
    things : sequence, or what else has a length
        Of a single one only that it goes on is shown.
    what : str
        What is done with them, such as "captioning".
    """
    total = len(things) if len(things) > 1 else None
    with waiting(what) as bar:
        for i, thing in enumerate(things):
            bar.advance(i, total)
            yield thing


def make_way() -> None:
    """Take the bars from the terminal, before something is printed there."""
    for bar in _SHOWN:
        bar.make_way()
