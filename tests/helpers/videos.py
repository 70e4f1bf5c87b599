"""Videos of many codecs and containers, which PyAV makes, and their frames by full decoding."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from refgit.processing.video.decoding.pixels import frame_to_rgb

SIZE = (96, 64)  # width, height; x265 writes beyond its memory where they are below 64
KINDS: dict[str, tuple[str, str, dict[str, str]]] = {  # suffix, codec, options
    "h264.mp4": (".mp4", "libx264", {}),
    "h264 open.mp4": (".mp4", "libx264", {"x264-params": "open-gop=1"}),
    "h264 open.mkv": (".mkv", "libx264", {"x264-params": "open-gop=1"}),
    "h264 open.ts": (".ts", "libx264", {"x264-params": "open-gop=1"}),
    "h264 refresh.ts": (".ts", "libx264", {"x264-params": "intra-refresh=1"}),
    "h264.avi": (".avi", "libx264", {}),
    "h264.flv": (".flv", "libx264", {}),
    "hevc.mp4": (".mp4", "libx265", {"x265-params": "log-level=none"}),
    "mpeg2.ts": (".ts", "mpeg2video", {}),
    "mpeg2.mpg": (".mpg", "mpeg2video", {}),
    "mpeg4.mp4": (".mp4", "mpeg4", {}),
    "mpeg4.avi": (".avi", "mpeg4", {}),
    "vp8.webm": (".webm", "libvpx", {"auto-alt-ref": "1", "lag-in-frames": "8"}),
    "vp9.webm": (".webm", "libvpx-vp9", {}),
    "ffv1.mkv": (".mkv", "ffv1", {}),
    "mjpeg.avi": (".avi", "mjpeg", {}),
}


def drawing(number: int, seed: int = 0) -> np.ndarray:
    """A picture of patches, some of which move with the frame's number."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, 256, (8, 12, 3), np.uint8)
    patches[2:4] = np.roll(patches[2:4], number, axis=1)
    patches[6] = np.random.default_rng((seed, number)).integers(0, 256, (12, 3), np.uint8)
    return patches.repeat(8, axis=0).repeat(8, axis=1)


def make_video(
    path: Path,
    codec: str = "libx264",
    frames: int = 24,
    *,
    gop: int = 8,
    bframes: int = 2,
    pixels: str = "yuv420p",
    times: Sequence[int] | None = None,
    aspect: Fraction | None = None,
    interlaced: bool = False,
    colour: tuple[int, int, int] = (2, 2, 2),
    drop: int = 0,
    container_options: dict[str, str] | None = None,
    size: tuple[int, int] = SIZE,
    **options: str,
) -> Path:
    """Write a video of 10 frames a second; `drop` of its first packets are left out."""
    with av.open(str(path), "w", container_options=container_options or {}) as container:
        stream = add_track(
            container, codec, gop=gop, bframes=bframes, pixels=pixels, size=size, options=options
        )
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace = colour
        if interlaced:
            context.flags |= av.codec.context.Flags.interlaced_dct

        for number, packet in enumerate(encoded(stream, frames, times, pixels, size)):
            if number >= drop:
                container.mux(packet)
    return path


def add_track(
    container: Any,
    codec: str,
    *,
    gop: int = 8,
    bframes: int = 2,
    pixels: str = "yuv420p",
    size: tuple[int, int] = SIZE,
    options: dict[str, str] | None = None,
) -> Any:
    pixels = "yuvj420p" if codec == "mjpeg" else pixels
    stream = container.add_stream(codec, rate=25 if codec == "mpeg2video" else 10)
    stream.width, stream.height, stream.pix_fmt = *size, pixels
    stream.codec_context.gop_size = gop
    chosen = {"threads": "1", **(options or {})}
    if codec in ("libx264", "libx265"):
        name = codec.removeprefix("lib") + "-params"
        own = f"keyint={gop}:min-keyint={gop}:bframes={bframes}:scenecut=0"
        chosen = {"preset": "ultrafast" if codec == "libx265" else "veryfast", **chosen}
        chosen[name] = ":".join(filter(None, [own, chosen.get(name)]))
    elif codec in ("mpeg2video", "mpeg4"):
        stream.codec_context.max_b_frames = bframes
    elif codec == "libvpx-vp9":
        chosen = {"deadline": "realtime", "cpu-used": "8", **chosen}
    stream.codec_context.options = chosen
    return stream


def encoded(
    stream: Any,
    frames: int,
    times: Sequence[int] | None = None,
    pixels: str = "yuv420p",
    size: tuple[int, int] = SIZE,
) -> Any:
    """The packets of drawings; `times` are those of the frames, in hundredths of a second."""
    for number in range(frames):
        image = drawing(number)[: size[1], : size[0]]
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        if pixels != "yuv420p":
            frame = frame.reformat(format=pixels)
        if times is not None:
            frame.pts, frame.time_base = times[number], Fraction(1, 100)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def all_frames(path: Path, aspect: Fraction | None = None, track: int = 0) -> list[np.ndarray]:
    """Every frame, by decoding everything on one thread."""
    with av.open(str(path)) as container:
        stream = container.streams.video[track]
        stream.thread_type = "NONE"
        return [frame_to_rgb(av, frame, aspect) for frame in container.decode(stream)]


def turn(path: Path, matrix: Sequence[int]) -> Path:
    """Write a display matrix, its four numbers of rotation, into an MP4 file."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4
    at += 40 if data[at] == 0 else 52
    a, b, c, d = (65536 * value for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path
