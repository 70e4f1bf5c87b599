"""What a kill cannot tear: locks, whole writes, and directories on the disk."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)  # Windows would change line ends
_CHUNK = 1 << 20  # bytes


def lock(file: int) -> None:
    """Lock an open file against other processes, without waiting.

    Raises
    ------
    OSError
        Another process holds the lock.
    """
    if sys.platform == "win32":
        import msvcrt

        os.lseek(file, 1 << 30, os.SEEK_SET)  # a byte that nobody reads
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def write_all(file: int, data: bytes) -> None:
    """Write to an open file, all of it."""
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


def write_whole(path: str, pieces: Iterable[bytes], *, sync: bool = True) -> None:
    """Write a file anew, and with `sync` to the disk; it is whole when this returns."""
    file = os.open(path, OPEN | os.O_TRUNC, 0o666)
    try:
        waiting = bytearray()
        for piece in pieces:
            waiting += piece
            if len(waiting) >= _CHUNK:
                write_all(file, bytes(waiting))
                waiting.clear()
        write_all(file, bytes(waiting))
        if sync:
            os.fsync(file)
    finally:
        os.close(file)


def sync_directory(path: str) -> None:
    """Flush the entries of a file's directory to the disk, where the system can."""
    if sys.platform == "win32":
        return
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
