"""A deadline: until when a comparison may look for causes, checked between its steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable


class TimeIsUpError(Exception):
    """A deadline has passed; whoever set it says what was left undone."""


class Deadline:
    """A moment after which no further step is begun.

    Parameters
    ----------
    seconds : float, optional
        From now; None for no end.
    clock : callable, optional
        What tells the time, in seconds.

    Raises
    ------
    ValueError
        `seconds` is negative or not a number.

    Examples
    --------
    >>> from refgit.parity import Deadline
    >>> Deadline(60.0).passed
    False
    """

    def __init__(
        self, seconds: float | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if seconds is not None and not seconds >= 0:
            raise ValueError(f"seconds is {seconds!r}; expected a number >= 0, or None for no end.")
        self.seconds = math.inf if seconds is None else float(seconds)
        self._clock = clock
        self._end = math.inf if math.isinf(self.seconds) else clock() + self.seconds

    @classmethod
    def of(cls, limit: float | Deadline | None) -> Deadline:
        """Return a deadline so many seconds from now; one that is a deadline already as it is."""
        return limit if isinstance(limit, Deadline) else cls(limit)

    @property
    def left(self) -> float:
        """Seconds left, never negative; infinite where there is no end."""
        return self._end if math.isinf(self._end) else max(self._end - self._clock(), 0.0)

    @property
    def passed(self) -> bool:
        """Whether no further step is to be begun."""
        return self.left <= 0.0

    def share(self, part: float) -> Deadline:
        """Return a deadline for this part of what is left of the time."""
        return Deadline(None if math.isinf(self._end) else part * self.left, clock=self._clock)

    def check(self) -> None:
        """Raise `TimeIsUpError` once it has passed."""
        if self.passed:
            raise TimeIsUpError
