"""Arrays that come and go: their memory stays with the process, for the next ones."""

from __future__ import annotations

import ctypes
from functools import cache

# Of <malloc.h>. The first is at most 32 MiB.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST = 32 << 20
_KEPT = 64 << 20


@cache
def keep_freed_memory() -> bool:
    """Have the C library keep up to 64 MiB of freed memory; return whether it can be told so.

    The one of Linux would give pieces of over 128 KiB back to the system as soon as they are
    freed. Every array would then be made of fresh pages, which the system has to zero first: a
    tenth of the time of reading an image.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library, or Windows
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST) and mallopt(_M_TRIM_THRESHOLD, _KEPT))
