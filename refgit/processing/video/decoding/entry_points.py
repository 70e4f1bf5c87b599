"""At which packets a decoder can be put to work, so that later frames come out as they would have.

A container's key frames are not enough: H.264 pictures may be marked so from which the picture is
only built up bit by bit (intra refresh), and what follows them refers to earlier pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def entry_test(codec: str, extradata: bytes) -> Callable[[Any], bool]:
    """Return what tells whether a decoder can be put to work at a packet that is a key frame.

    Parameters
    ----------
    codec : str
    extradata : bytes
        What the container says of the codec: how the parts of a packet are delimited.
    """
    if codec == "h264":
        length = (extradata[4] & 3) + 1 if extradata[:1] == b"\1" and len(extradata) > 4 else 0
        return lambda packet: any(_h264(unit) for unit in units_of(bytes(packet), length))
    if codec == "hevc":
        length = (extradata[21] & 3) + 1 if extradata[:1] == b"\1" and len(extradata) > 22 else 0
        # IDR, BLA and CRA pictures: by the standard, later ones in order of output never look back.
        return lambda packet: any(
            16 <= (unit[0] >> 1 & 63) <= 21 for unit in units_of(bytes(packet), length)
        )
    return lambda packet: True


def units_of(packet: bytes, length: int) -> Iterator[bytes]:
    """Take a packet of H.264 or HEVC apart.

    Parameters
    ----------
    packet : bytes
    length : int
        Bytes of the number before each part; 0: parts are between start codes 00 00 01.
    """
    if not length:
        for unit in packet.split(b"\0\0\1")[1:]:
            if unit:
                yield unit
        return
    at = 0
    while at + length < len(packet):
        size = int.from_bytes(packet[at : at + length], "big")
        at += length
        if size:
            yield packet[at : at + size]
        at += size


def _h264(unit: bytes) -> bool:
    """Whether a part is an IDR picture, or a recovery point with a count of 0: all is right."""
    kind = unit[0] & 31
    # In an SEI unit: type 6 is a recovery point; its first bit, 1, is the Exp-Golomb code of 0.
    return kind == 5 or (kind == 6 and unit[1:2] == b"\6" and len(unit) > 3 and unit[3] >> 7 == 1)
