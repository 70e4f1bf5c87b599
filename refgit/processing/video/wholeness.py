"""Whether a video or an animation is whole, by what it says of its own length.

A decoder does not tell: libraries pass over what is missing at the end, or not, as their threads
happen to be set.
"""

from __future__ import annotations

import os
from typing import IO

from refgit.processing.video.formats import packet_of_transport_stream

_TAIL = 1 << 17  # where the last page, pack or tag of a file is looked for
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def missing_bytes(file: IO[bytes], size: int) -> int:
    """How many bytes a video file lacks at its end, at least; 0 where it is whole or does not say.

    Parameters
    ----------
    file : binary file
        Seekable.
    size : int
        Its bytes.
    """
    head = _read(file, 0, 4096)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"):
        return _boxes(file, size)
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return _matroska(head, size)
    if head[:4] == b"RIFF":
        return _riff(file, size)
    if head[:16] == _ASF:
        return _asf(head, size)
    if head[:3] == b"FLV":
        return _flash(file, size)
    if head[:4] == b"OggS":
        return _ogg(file, size)
    if head[:4] == b"GIF8":
        return int(not _read(file, size - 1024, 1024).rstrip(b"\0").endswith(b";"))
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return int(b"IEND" not in _read(file, size - 1024, 1024))
    if head[:4] == b"\0\0\1\xba":
        return _program_stream(file, size)
    return _transport_stream(head, size)


def _read(file: IO[bytes], at: int, length: int) -> bytes:
    file.seek(max(at, 0), os.SEEK_SET)
    return file.read(length)


def _boxes(file: IO[bytes], size: int) -> int:
    """MP4 and QuickTime: boxes, each with its length."""
    at, found = 0, set()
    while at + 8 <= size:
        head = _read(file, at, 16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        found.add(kind)
        if length == 0:  # to the end of the file
            return 0 if b"moov" in found else 1
        if length < 8:
            return 0 if b"moov" in found else 1
        at += length
    return at - size if at > size else int(b"moov" not in found)


def _matroska(head: bytes, size: int) -> int:
    """Matroska and WebM: a header, and a segment whose length is known or not."""
    at = 0
    for wanted in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):
        while head[at : at + 1] == b"\xec":  # a void between
            at += 1
            length, width = _vint(head, at)
            at += width + length
        if head[at : at + 4] != wanted:
            return 0
        at += 4
        length, width = _vint(head, at)
        if length == (1 << 7 * width) - 1:  # not known: a live stream
            return 0
        at += width + length
    return max(at - size, 0)


def _vint(data: bytes, at: int) -> tuple[int, int]:
    first = data[at] if at < len(data) else 0
    width = 9 - first.bit_length() if first else 8
    return int.from_bytes(data[at : at + width], "big") & ((1 << 7 * width) - 1), width


def _riff(file: IO[bytes], size: int) -> int:
    """AVI: one RIFF chunk, or in large files several."""
    at = 0
    while at + 12 <= size:
        head = _read(file, at, 12)
        if head[:4] != b"RIFF":
            return 0
        length = int.from_bytes(head[4:8], "little")
        if length in (0, 0xFFFFFFFF):  # as programs leave it that could not go back
            return 0
        at += 8 + length + length % 2
    return max(at - 1 - size, 0)  # the byte that makes it even may be left out


def _asf(head: bytes, size: int) -> int:
    """ASF, such as .wmv: the header holds the length of the file."""
    at = head.find(_ASF_FILE)
    if at < 0:
        return 0
    return max(int.from_bytes(head[at + 40 : at + 48], "little") - size, 0)


def _flash(file: IO[bytes], size: int) -> int:
    """FLV: after each tag, its length."""
    length = int.from_bytes(_read(file, size - 4, 4), "big")
    if size < 13 + 4:
        return 1
    tag = _read(file, size - 4 - length, 4)
    whole = (
        11 <= length <= size - 17
        and tag[0] & 31 in (8, 9, 18)
        and int.from_bytes(tag[1:4], "big") + 11 == length
    )
    return int(not whole)


def _ogg(file: IO[bytes], size: int) -> int:
    """Ogg: pages, each with its length."""
    start = max(size - _TAIL, 0)
    tail = _read(file, start, _TAIL)
    at = tail.rfind(b"OggS")
    if at < 0:
        return 0
    segments = tail[at + 26] if at + 26 < len(tail) else 255
    table = tail[at + 27 : at + 27 + segments]
    if len(table) < segments:
        return 1
    return max(at + 27 + segments + sum(table) - len(tail), 0)


def _program_stream(file: IO[bytes], size: int) -> int:
    """MPEG program streams: the last packet has its length."""
    tail = _read(file, size - _TAIL, _TAIL)
    at = tail.rfind(b"\0\0\1\xba")
    if at < 0:
        return 0
    if len(tail) - at < 14:
        return 1
    at += 14 + (tail[at + 13] & 7) if tail[at + 4] >> 6 == 1 else 12
    while at + 6 <= len(tail):
        if tail[at : at + 4] == b"\0\0\1\xb9" or tail[at : at + 3] != b"\0\0\1":
            return 0
        at += 6 + int.from_bytes(tail[at + 4 : at + 6], "big")
    return max(at - len(tail), 0)


def _transport_stream(head: bytes, size: int) -> int:
    """MPEG transport streams: packets of 188 bytes, 192 with a time before, 204 with a checksum."""
    found = packet_of_transport_stream(head)
    if found is None:
        return 0
    length, first = found
    before = 4 if length == 192 else 0
    return -(size - first + before) % length
