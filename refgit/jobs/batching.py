"""The batch size, searched for while captioning.

A batch reads each weight once for all its images, so larger ones are faster up to a point: where
arithmetic, not memory traffic, takes the time, or where the batch no longer fits the caches. That
point depends on the model and the machine, so sizes 1, 2, 4 ... are tried on the first images until
doubling no longer pays.
"""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock

LARGEST = 64
GAIN = 1.05  # a doubling pays if images per second grow by this factor
# Of a lane: it starts with 2 images, and goes up to 8 unless that is clearly slower, since other
# lanes disturb what it measures.
FIRST_OF_LANE, LARGEST_OF_LANE, GAIN_OF_LANE = 2, 8, 0.9
TRIAL = 1.0  # seconds for which each size is measured at least


class BatchSize:
    """A batch size that doubles as long as that pays and there is memory.

    Parameters
    ----------
    fixed : int, optional
        Caption so many images at once, all lanes together; by default a size is searched for.
    lanes : int
        Threads that caption a batch each.

    Attributes
    ----------
    now : int
        Images in the next batch.
    lanes : int
        No more than there are images.
    """

    def __init__(self, fixed: int | None = None, lanes: int = 1) -> None:
        self.lanes = lanes if fixed is None else min(lanes, fixed)
        first, self._most, self._gain = 1, LARGEST, GAIN
        if self.lanes > 1:
            first, self._most, self._gain = FIRST_OF_LANE, LARGEST_OF_LANE, GAIN_OF_LANE
        self.now = first if fixed is None else -(-fixed // self.lanes)
        self._lock = Lock()
        self._searching = fixed is None
        self._warm = False
        self._best = 0.0  # images a second at half the present size
        self._images, self._seconds = 0, 0.0
        self._peak = peak_memory()

    def record(self, images: int, seconds: float, largest: int | None = None) -> None:
        """Record how long a batch took.

        Parameters
        ----------
        images : int
        seconds : float
        largest : int, optional
            The largest size that fits into memory, where that is known.
        """
        with self._lock:
            self._record(images, seconds, largest)

    def _record(self, images: int, seconds: float, largest: int | None) -> None:
        if largest is not None and self.now > largest:
            self.now, self._searching = largest, False
        if not self._searching or images != self.now:  # the last batch may be smaller
            return
        if not self._warm:  # the first batch loads and allocates what the others reuse
            self._warm, self._peak = True, peak_memory()
            return
        self._images += images
        self._seconds += seconds
        if self._seconds >= TRIAL:
            self._decide()

    def _decide(self) -> None:
        rate = self._images / self._seconds
        grown, self._peak = peak_memory() - self._peak, peak_memory()
        if rate < self._best * self._gain:
            self.now //= 2
            self._searching = False
            return
        free = free_memory()
        # Memory grows with the size: the next doubling takes about twice what this one took.
        if self.now * 2 > self._most or (free is not None and 2 * grown > free / 2):
            self._searching = False
            return
        self._best, self._images, self._seconds = rate, 0, 0.0
        self.now *= 2


def peak_memory() -> int:
    """Peak memory of this process in bytes; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def free_memory() -> int | None:
    """Bytes of memory still free, in the machine and in a container around this process."""
    found = [*_of_the_machine(), *_of_the_container()]
    return min(found) if found else None


def _of_the_machine() -> list[int]:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return [int(x.split()[1]) * 1024 for x in lines if x.startswith("MemAvailable:")]
    except OSError:
        pass
    try:
        return [os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    except (AttributeError, OSError, ValueError):
        return []


def _of_the_container() -> list[int]:
    folder = Path("/sys/fs/cgroup")
    try:
        limit = int((folder / "memory.max").read_text())  # "max" where there is none
        return [limit - int((folder / "memory.current").read_text())]
    except (OSError, ValueError):
        return []
