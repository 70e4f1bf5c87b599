"""A folder with a file of every kind that people have, and what is to become of each.

Each kind is a row of a table in docs/files.md. The emoji model that comes with refgit is sure of
the pictures in it, and sees something else where they are turned, clipped or on black.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from helpers.backends import ROOT

BALLOON, CLOUD, HEART = "balloon", "cloud", "red heart"
# How a camera that is turned in such a way stores the upright picture (H, W, 3).
STORED: dict[int, Callable[[Any], Any]] = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, 1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x, -1),
}


@dataclass(frozen=True)
class Fails:
    """A file that has no caption; what its message holds."""

    words: str


@dataclass(frozen=True)
class LeftOut:
    """A file that is not looked at; how it is counted."""

    counted: str


Outcome = str | Fails | LeftOut
Content = Callable[[], bytes]


@dataclass(frozen=True)
class Kind:
    """Files of one kind.

    Attributes
    ----------
    have : str
        What somebody has: the first cell of a row of docs/files.md.
    files : dict of str to (callable, str or Fails or LeftOut)
        File names with what makes their content, and what becomes of them.
    """

    have: str
    files: dict[str, tuple[Content, Outcome]]


# ---- pictures


def emoji(name: str) -> np.ndarray:
    """An emoji on white, (256, 256, 3)."""
    return np.asarray(Image.open(ROOT / "docs" / "images" / f"{name}.png").convert("RGB"))


def clear(name: str) -> Image.Image:
    """An emoji on transparent black."""
    colours = emoji(name)
    white = (colours == 255).all(axis=-1)
    alpha = np.where(white, 0, 255).astype(np.uint8)
    return Image.fromarray(np.dstack([colours * ~white[..., None], alpha]))


def encoded(picture: Any, form: str, **options: Any) -> bytes:
    """A picture, or the array of one, as a file of a format."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def turned(orientation: int, form: str = "JPEG", **options: Any) -> bytes:
    """The balloon, as a camera that was held in that way stores it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = np.ascontiguousarray(STORED[orientation](emoji("balloon")))
    return encoded(picture, form, exif=exif, **options)


def animated(form: str) -> bytes:
    """A balloon, then a cloud."""
    second = Image.fromarray(emoji("cloud"))
    return encoded(emoji("balloon"), form, save_all=True, append_images=[second], duration=500)


def grey(dtype: str) -> np.ndarray:
    """The cloud in grey, of as wide numbers as are asked for."""
    bytes_ = np.asarray(Image.fromarray(emoji("cloud")).convert("L"))
    if dtype == "float32":
        return bytes_.astype(np.float32) / 255
    return bytes_.astype(dtype) * {"uint16": 257, "int32": 257}[dtype]


def palette() -> bytes:
    """The balloon in 255 colours and a transparent one."""
    image = clear("balloon")
    few = Image.fromarray(emoji("balloon")).quantize(255)
    hidden = np.asarray(image)[..., 3] == 0
    indices = np.where(hidden, 255, np.asarray(few)).astype(np.uint8)
    found = Image.fromarray(indices)
    found.putpalette([*(few.getpalette() or [])[:765], 0, 0, 0])
    return encoded(found, "PNG", transparency=255)


def heic() -> bytes:
    """The balloon as a telephone of Apple stores it."""
    import pillow_heif

    stream = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(emoji("balloon"))).save(stream, quality=90)
    return stream.getvalue()


def huge() -> bytes:
    """A PNG that says that it has 200 million pixels, and holds none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", 20_000, 10_000, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def png() -> bytes:
    return encoded(emoji("balloon"), "PNG")


def jpeg() -> bytes:
    return encoded(emoji("balloon"), "JPEG", quality=95)


def cut(content: Content, share: float) -> Content:
    """The beginning of a file."""
    return lambda: (whole := content())[: int(len(whole) * share)]


def video() -> bytes:
    """How an MP4 begins."""
    return b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + b"\0\0\0\x10mdat" + bytes(8)


def text(said: str = "a red balloon\n") -> Content:
    return said.encode


# ---- the kinds

EPS = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n"
KINDS = (
    Kind(
        "a photograph taken sideways or mirrored, in JPEG, PNG, WebP, TIFF or AVIF",
        {
            **{f"turned-{i}.jpg": ((lambda i=i: turned(i, quality=95)), BALLOON) for i in STORED},
            "turned-6.png": (lambda: turned(6, "PNG"), BALLOON),
            "turned-8.tif": (lambda: turned(8, "TIFF"), BALLOON),
            "turned-5.avif": (lambda: turned(5, "AVIF", quality=95), BALLOON),
            "turned-3.webp": (lambda: turned(3, "WEBP", lossless=True), BALLOON),
        },
    ),
    Kind(
        "grey of 16 bits",
        {
            "grey-16.png": (lambda: encoded(grey("uint16"), "PNG"), CLOUD),
            "grey-16.tif": (lambda: encoded(grey("uint16"), "TIFF"), CLOUD),
        },
    ),
    Kind(
        "integers or floats of 32 bits",
        {
            "integers.tif": (lambda: encoded(grey("int32"), "TIFF"), CLOUD),
            "floats.tif": (lambda: encoded(grey("float32"), "TIFF"), CLOUD),
        },
    ),
    Kind(
        "a transparent picture, or a palette with a transparent colour",
        {
            "clear.png": (lambda: encoded(clear("balloon"), "PNG"), BALLOON),
            "clear.webp": (lambda: encoded(clear("balloon"), "WEBP", lossless=True), BALLOON),
            "clear-grey.png": (lambda: encoded(clear("cloud").convert("LA"), "PNG"), CLOUD),
            "clear-palette.png": (palette, BALLOON),
            "clear-heart.png": (lambda: encoded(clear("red-heart"), "PNG"), HEART),
        },
    ),
    Kind(
        "an animation (GIF, APNG, WebP, AVIF)",
        {
            "animation.gif": (lambda: animated("GIF"), BALLOON),
            "animation.webp": (lambda: animated("WEBP"), BALLOON),
            "animation.png": (lambda: animated("PNG"), BALLOON),
            "animation.avif": (lambda: animated("AVIF"), BALLOON),
        },
    ),
    Kind(
        "HEIC, with pillow-heif",
        {
            "photo.heic": (heic, BALLOON),
        },
    ),
    Kind(
        "CMYK, YCbCr, LAB, a palette",
        {
            "cmyk.jpg": (
                lambda: encoded(Image.fromarray(emoji("balloon")).convert("CMYK"), "JPEG"),
                BALLOON,
            ),
            "palette.png": (
                lambda: encoded(Image.fromarray(emoji("balloon")).quantize(64), "PNG"),
                BALLOON,
            ),
            "old.bmp": (lambda: encoded(emoji("balloon"), "BMP"), BALLOON),
            "old.ppm": (lambda: encoded(emoji("balloon"), "PPM"), BALLOON),
        },
    ),
    Kind(
        "a JPEG whose name ends in `.png`, or in nothing",
        {"really-jpeg.png": (jpeg, BALLOON), "no-suffix": (jpeg, BALLOON)},
    ),
    Kind(
        "a name with blanks, quotes, line breaks, letters of any script, bytes that are none",
        {
            "two words.png": (png, BALLOON),
            "-dash.png": (png, BALLOON),
            "100%, really; 'yes'.png": (png, BALLOON),
            "ÜBER ☃.PNG": (png, BALLOON),
            "two\nlines.png": (png, BALLOON),
            os.fsdecode(b"latin-\xe9.png"): (png, BALLOON),
        },
    ),
    Kind(
        "a JPEG that is cut short",
        {"cut.jpg": (cut(jpeg, 0.98), Fails("the file is truncated"))},
    ),
    Kind(
        "another image that is cut short",
        {"cut.png": (cut(png, 0.6), Fails("Is the file whole? Copy or save it again"))},
    ),
    Kind("an empty file", {"empty.jpg": (lambda: b"", Fails("is empty (0 bytes)"))}),
    Kind(
        "a web page in the place of an image",
        {
            "page.jpg": (
                text("<!DOCTYPE html>\n<html>not found</html>"),
                Fails("is a web page (HTML), not an image; its download may have failed"),
            ),
        },
    ),
    Kind(
        "a text under an image's name",
        {"text.png": (text(), Fails("is not an image in a format that Pillow can read"))},
    ),
    Kind(
        "more pixels than Pillow's limit, 178,956,970",
        {"huge.png": (huge, Fails("is too large to decode safely"))},
    ),
    Kind(
        "a video, with an image model",
        {"video.png": (video, Fails("takes images only"))},
    ),
    Kind(
        "a video in a folder, with an image model",
        {"clip.mp4": (video, LeftOut(".mp4"))},
    ),
    Kind(
        "a `.txt` or `.caption` in a folder",
        {
            "turned-1.txt": (text(), LeftOut(".txt")),
            "turned-2.caption": (text(), LeftOut(".caption")),
        },
    ),
    Kind(
        "files `._*` that macOS left in a folder",
        {"._turned-1.jpg": (lambda: b"\0\5\x16\7" + bytes(100), LeftOut("._*"))},
    ),
    Kind(
        "files of other kinds in a folder",
        {
            "notes.md": (text(), LeftOut(".md")),
            "Thumbs.db": (lambda: bytes(64), LeftOut(".db")),
            "weights.h5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(64), LeftOut(".h5")),
            "paper.pdf": (text("%PDF-1.7\n"), LeftOut(".pdf")),
            "drawing.eps": (text(EPS), LeftOut(".eps")),
            "raw.cr2": (lambda: b"II*\0" + bytes(64), LeftOut(".cr2")),
            "readme": (text(), LeftOut("without a suffix")),
        },
    ),
)


REMEDIES = {".eps": "needs Ghostscript", ".mp4": "needs a video model"}


def write(folder: Path) -> dict[str, Outcome]:
    """Write all files into a folder; return what is to become of each, by name."""
    outcomes = {}
    for kind in KINDS:
        for name, (content, outcome) in kind.files.items():
            (folder / name).write_bytes(content())
            outcomes[name] = outcome
    return outcomes
