"""Memory of freed arrays stays with the process, for the next ones."""

from __future__ import annotations

import ctypes
import os
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of <malloc.h>
_KEPT = 32 << 20  # the largest value of the second


@cache
def keep_freed_memory() -> bool:
    """Have the C library keep up to 32 MiB of freed memory; return whether it does.

    Linux's own returns memory to the system as soon as twice the largest array so far is free. The
    next arrays then get fresh pages, which the system has to zero: a tenth of the time of encoding
    an image. All threads share one arena from then on, so what one has freed serves another; arrays
    are few and large. Where variables MALLOC_... are set, nothing is changed.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library, or Windows
        return False
    settings = {_M_MMAP_THRESHOLD: _KEPT, _M_TRIM_THRESHOLD: _KEPT, _M_ARENA_MAX: 1}
    return all(mallopt(name, value) for name, value in settings.items())
