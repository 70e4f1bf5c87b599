"""What a video's packets say without decoding: when frames are shown, where decoding can start.

Reading the packets of a minute takes a tenth of a second, decoding them takes many.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refgit.processing.video.decoding.entry_points import entry_test

# Codecs of which each packet is a frame, and of which later frames never look behind a key frame.
_KNOWN = frozenset({
    "av1", "dnxhd", "dvvideo", "ffv1", "ffvhuff", "h264", "hevc", "huffyuv", "libdav1d", "libvpx",
    "libvpx-vp9", "mjpeg", "mpeg1video", "mpeg2video", "mpeg4", "prores", "rawvideo", "vp8", "vp9",
})  # fmt: skip
_EACH_A_KEY = frozenset({
    "dnxhd", "dvvideo", "ffvhuff", "huffyuv", "mjpeg", "prores", "rawvideo",
})  # fmt: skip
NEVER = -(2**63)


@dataclass(frozen=True)
class Packets:
    """A track's packets, in the order in which they are decoded.

    Attributes
    ----------
    codec : str
    time_base : Fraction
        Seconds in a unit of time.
    pts, dts : int64 array (packets,)
        When a packet's frame is shown, and when it is decoded; -2^63 where the file does not say.
    shown : bool array (packets,)
        Whether the frame is seen: not one before an edit list's start, nor one hidden by its codec.
    entry : bool array (packets,)
        Whether decoding can start there: what is shown later needs nothing from before.
    last : int
        Units for which the last frame is shown.
    regular : bool
        Whether times and order can be relied on, so that the frame shown at a time is the packet's
        of that time.
    failure : str
        Why the rest could not be read; "" where all was.
    """

    codec: str
    time_base: Fraction
    pts: NDArray[np.int64]
    dts: NDArray[np.int64]
    shown: NDArray[np.bool_]
    entry: NDArray[np.bool_]
    last: int
    regular: bool
    failure: str

    def times(self) -> NDArray[np.int64]:
        """When the frames are shown, ascending, in units of time."""
        return np.sort(self.pts[self.shown])


def scan(av: Any, container: Any, track: Any) -> Packets:
    """Read a track's packets from the beginning, and keep only numbers of them.

    Parameters
    ----------
    av : module
        PyAV.
    container : av.container.InputContainer
    track : av.VideoStream
    """
    codec = track.codec_context.name
    can_enter = entry_test(codec, track.codec_context.extradata or b"")
    pts, dts = array("q"), array("q")
    shown, entry = bytearray(), bytearray()
    duration = 0
    empty, corrupt, failure = False, False, ""
    try:
        for packet in container.demux(track):
            if packet.size == 0 and packet.pts is None and packet.dts is None:
                continue  # the end, which PyAV marks so
            corrupt = packet.is_corrupt
            empty = empty or packet.size == 0
            pts.append(NEVER if packet.pts is None else packet.pts)
            dts.append(NEVER if packet.dts is None else packet.dts)
            shown.append(not packet.is_discard and not _hidden(codec, packet))
            entry.append(bool(packet.is_keyframe) and can_enter(packet))
            duration = packet.duration or 0
    except av.FFmpegError as error:
        failure = error.strerror or str(error)
    if corrupt:  # elsewhere it is a fault of a broadcast, which passes
        failure = failure or "the last packet is not whole"
    shown_at, decoded_at = np.array(pts, np.int64), np.array(dts, np.int64)
    plain = container.format.name != "avi" or codec in _EACH_A_KEY  # AVI holds no pts
    return Packets(
        codec=codec,
        time_base=track.time_base,
        pts=shown_at,
        dts=decoded_at,
        shown=np.frombuffer(bytes(shown), np.bool_),
        entry=np.frombuffer(bytes(entry), np.bool_),
        last=duration,
        regular=plain and not empty and codec in _KNOWN and _is_regular(shown_at, decoded_at),
        failure=failure,
    )


def _hidden(codec: str, packet: Any) -> bool:
    """Whether a packet's frame is there for others to refer to, and never shown (VP8)."""
    if codec not in ("vp8", "libvpx") or packet.size < 1:
        return False
    return not memoryview(packet)[0] >> 4 & 1


def _is_regular(pts: NDArray[np.int64], dts: NDArray[np.int64]) -> bool:
    """Whether each frame has a time of its own, and time never jumps back."""
    if (pts == NEVER).any() or len(np.unique(pts)) != len(pts):
        return False
    said = dts[dts != NEVER]
    return bool((np.diff(said) > 0).all() and (dts <= pts).all())
