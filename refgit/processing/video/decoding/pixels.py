"""A decoded frame to RGB, turned and stretched as it is meant to be seen.

FFmpeg's own filters do it, in the order in which the `ffmpeg` program puts them in, so that the
bytes are those of

    ffmpeg -i FILE -f rawvideo -pix_fmt rgb24

and, where pixels are not square, of the same with ``-vf scale=iw*sar:ih``. Interlaced frames stay
woven, and HDR is not tone-mapped.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WIDEST = 16  # pixels 16 times as wide as high are a slip in a file, not a picture


def frame_to_rgb(av: Any, frame: Any, pixel_aspect: Fraction | None) -> NDArray[np.uint8]:
    """Turn a decoded frame into RGB.

    Parameters
    ----------
    av : module
        PyAV.
    frame : av.VideoFrame
    pixel_aspect : Fraction or None
        Width of a stored pixel divided by its height; None where it is not known.

    Returns
    -------
    uint8 array (H, W, 3)
    """
    aspect = pixel_aspect or Fraction(1)
    if not Fraction(1, _WIDEST) <= aspect <= _WIDEST:
        aspect = Fraction(1)
    graph = av.filter.Graph()
    chain = [
        graph.add(
            "buffer",
            video_size=f"{frame.width}x{frame.height}",
            pix_fmt=frame.format.name,
            time_base="1/1000",
            pixel_aspect=f"{aspect.numerator}/{aspect.denominator}",
            colorspace=str(int(frame.colorspace)),
            range=str(int(frame.color_range)),
        )
    ]
    chain += [graph.add(name, arguments) for name, arguments in turns(display_matrix(frame))]
    stretch = "flags=bicubic" if aspect == 1 else "iw*sar:ih:flags=bicubic"
    chain += [graph.add("scale", stretch), graph.add("format", "rgb24"), graph.add("buffersink")]
    graph.link_nodes(*chain).configure()
    graph.vpush(frame)
    rgb: NDArray[np.uint8] = graph.vpull().to_ndarray()
    return rgb


def display_matrix(frame: Any) -> NDArray[np.int32] | None:
    """Return how a frame is to be turned, as nine numbers in FFmpeg's order; None: not at all."""
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            return np.frombuffer(bytes(data), np.int32)[:9]
    return None


def turns(matrix: NDArray[np.int32] | None) -> list[tuple[str, str | None]]:
    """Say which filters turn a picture as the matrix says, with their arguments.

    Notes
    -----
    Source: FFmpeg, fftools/ffmpeg_filter.c and cmdutils.c, what `-autorotate` puts in.
    """
    if matrix is None:
        return []
    a, b, _, c, d, *_ = (int(value) / 65536 for value in matrix)
    if not math.hypot(a, c) or not math.hypot(b, d):
        return []
    theta = round(math.degrees(math.atan2(b / math.hypot(b, d), a / math.hypot(a, c)))) % 360
    if theta == 90:
        return [("transpose", "cclock_flip" if c > 0 else "clock")]
    if theta == 180:
        flips: list[tuple[str, str | None]] = [("hflip", None), ("vflip", None)]
        return [flip for flip, needed in zip(flips, (a < 0, d < 0), strict=True) if needed]
    if theta == 270:
        return [("transpose", "clock_flip" if c < 0 else "cclock")]
    if theta:
        return [("rotate", f"{theta}*PI/180")]
    return [("vflip", None)] if d < 0 else []
