"""Opening an image file: the one place where bytes from outside become a decoded picture.

A picture comes out as its file means it: upright, transparent parts on a background, wide numbers
scaled to bytes. Whatever is wrong with the file is said in one sentence that names it.
"""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from PIL import Image, UnidentifiedImageError

from refgit.errors import MediaFileError
from refgit.processing.image.background import Colour, colour_of, has_transparency, on_background
from refgit.processing.image.depth import has_wide_pixels, to_bytes
from refgit.processing.image.formats import HEAD, is_heic, register_heif, what_it_is
from refgit.processing.image.orientation import (
    may_fail_by_exif,
    orientation_of,
    upright,
    without_exif,
)
from refgit.validation import expect, is_size

_JPEG, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"


class ImageFileError(MediaFileError):
    """An image file cannot be used: missing, a directory, not an image, damaged or too large."""


def load_image(
    source: str | os.PathLike[str] | bytes | IO[bytes],
    *,
    exif_transpose: bool = True,
    background: str = "white",
    max_pixels: int | None = None,
    truncated: bool = False,
) -> Image.Image:
    """Open an image and decode it completely, as its file means it.

    The first frame of an animation is taken. A grey picture of 16 or 32 bits is scaled to bytes:
    of 16 bits 65535 is white; of 32 bits the least of 1 (floats only), 255 and 65535 that no pixel
    exceeds; otherwise the least number is black and the largest white.

    Parameters
    ----------
    source : str, path, bytes, or binary file
        Where the encoded image is.
    exif_transpose : bool
        Turn the picture as its EXIF orientation says; broken EXIF is passed over. Without, the
        orientation stays as metadata. (Pillow turns TIFF by itself, pillow-heif HEIC.)
    background : str
        The colour behind transparent parts, as Pillow names colours; "oracle" leaves the picture
        transparent, and converting it to RGB then shows the colours that are stored there.
    max_pixels : int, optional
        The most pixels an image may have; by default Pillow's limit against decompression bombs,
        178,956,970.
    truncated : bool
        Take a JPEG whose last bytes are missing; what is missing of the picture is grey.

    Returns
    -------
    PIL.Image.Image
        The decoded picture, independent of the file.

    Raises
    ------
    ImageFileError
        If the file is missing, a directory, unreadable, empty, not an image that can be read here,
        truncated or damaged, or has too many pixels.
    ValueError
        If `background` is not a colour, or `max_pixels` not a number of pixels.
    """
    colour = colour_of(background)
    known = max_pixels is None or is_size(max_pixels)
    expect("max_pixels", max_pixels, known, "a whole number of at least 1, or None")
    name, stream = _describe(source)
    try:
        if truncated:
            stream = _ended(stream)
        with warnings.catch_warnings(), _pillows_limit(max_pixels):
            # What Pillow warns of (many pixels, odd metadata) is decoded all the same.
            warnings.simplefilter("ignore")
            return _decoded(stream, name, colour, exif_transpose, max_pixels)
    except ImageFileError:
        raise
    except Exception as error:
        raise ImageFileError(f"{name} {_fault(error, stream, name)}") from error


def _decoded(stream: Path | IO[bytes], *how: Any) -> Image.Image:
    """Decode an image; where its EXIF is to blame for a failure, without that."""
    try:
        return _picture(stream, *how)
    except ImageFileError:
        raise
    except Exception:
        hidden = without_exif(_whole(stream)) if may_fail_by_exif(_head(stream)) else None
        if hidden is None:
            raise
        return _picture(io.BytesIO(hidden), *how)


def _picture(
    stream: Path | IO[bytes],
    name: str,
    colour: Colour | None,
    exif_transpose: bool,
    max_pixels: int | None,
) -> Image.Image:
    with _open(stream) as image:
        _check_pixels(image, name, max_pixels)
        raw = _raw_mode(image)  # before it is decoded
        image.load()
        picture = _as_bytes_on(image, colour, raw)
        return upright(picture, orientation_of(image) if exif_transpose else 1)


def _open(stream: Path | IO[bytes]) -> Image.Image:
    try:
        return Image.open(stream)
    except UnidentifiedImageError:
        if is_heic(_head(stream)) and register_heif():
            return Image.open(stream)
        raise


def _raw_mode(image: Image.Image) -> str:
    """How a PNG stores its pixels, as Pillow calls it: L;4, RGB;16B, ...; "" of other formats."""
    tiles = getattr(image, "tile", None)
    return str(tiles[0][3]) if tiles and image.format == "PNG" else ""


def _as_bytes_on(image: Image.Image, colour: Colour | None, raw: str) -> Image.Image:
    """A plain image of at most a byte a channel: closing the file cannot take its pixels away."""
    if colour is not None and has_transparency(image):
        picture = on_background(image, colour, raw)
    elif has_wide_pixels(image):
        picture = to_bytes(image, image.format)
    else:
        return image.copy()
    picture.info = {name: x for name, x in image.info.items() if name != "transparency"}
    return picture


def _describe(
    source: str | os.PathLike[str] | bytes | IO[bytes],
) -> tuple[str, Path | IO[bytes]]:
    """Return what to call the source in an error, and what Pillow is to open."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        if not len(source):
            raise ImageFileError("The image data is empty (0 bytes); expected an encoded image.")
        return f"The image data ({len(source)} bytes)", io.BytesIO(source)
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if path.is_dir():  # said here because Windows reports it as a permission error
            raise ImageFileError(f"{path} is a directory; expected an image file.")
        if path.is_file() and path.stat().st_size == 0:
            raise ImageFileError(f"{path} is empty (0 bytes); expected an encoded image.")
        return str(path), path
    if hasattr(source, "read"):
        name = str(getattr(source, "name", "The image stream"))
        back_and_forth = hasattr(source, "seekable") and source.seekable()  # which a pipe is not
        return name, source if back_and_forth else io.BytesIO(source.read())
    raise ImageFileError(
        f"An image source is a path, bytes or a binary file; found {type(source).__name__}."
    )


def _head(stream: Path | IO[bytes]) -> bytes:
    """The first bytes, or none where they cannot be read."""
    try:
        if isinstance(stream, Path):
            with stream.open("rb") as file:
                return file.read(HEAD)
        stream.seek(0)
        return stream.read(HEAD)
    except (OSError, ValueError):
        return b""


def _whole(stream: Path | IO[bytes]) -> bytes:
    if isinstance(stream, Path):
        return stream.read_bytes()
    stream.seek(0)
    return stream.read()


# ---- limits


def _ended(stream: Path | IO[bytes]) -> Path | IO[bytes]:
    """Give a JPEG the marker of its end, at which its decoder stops; bytes behind it are ignored.

    Pillow has a switch for that, but one for all threads and all formats.
    """
    if not _head(stream).startswith(_JPEG):
        return stream
    return io.BytesIO(_whole(stream) + _JPEG_END)


_lock = threading.Lock()
_lifted: list[int | None] = []  # Pillow's limit, once for each thread that has lifted it


@contextmanager
def _pillows_limit(max_pixels: int | None) -> Iterator[None]:
    """Lift Pillow's own limit, one for all threads, while there is one to hold instead."""
    if max_pixels is None:
        yield
        return
    with _lock:
        _lifted.append(_lifted[0] if _lifted else Image.MAX_IMAGE_PIXELS)
        Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        with _lock:
            limit = _lifted.pop()
            if not _lifted:
                Image.MAX_IMAGE_PIXELS = limit


def _check_pixels(image: Image.Image, name: str, max_pixels: int | None) -> None:
    """Hold the limit: the caller's, or Pillow's, which another thread may have lifted meanwhile."""
    limit = max_pixels
    if limit is None:
        with _lock:
            pillows = _lifted[0] if _lifted else Image.MAX_IMAGE_PIXELS
        limit = None if pillows is None else 2 * pillows
    count = image.width * image.height
    if limit is not None and count > limit:
        raise ImageFileError(
            f"{name} has {image.width} x {image.height} = {count} pixels; expected at most {limit}."
            f"{_allow(count)}"
        )


def _allow(count: object) -> str:
    return f" Scale it down, or allow as many: --max-pixels {count} (in Python max_pixels)."


# ---- errors


def _fault(error: Exception, stream: Path | IO[bytes], name: str) -> str:
    """Say what is wrong with a file: what follows its name."""
    if isinstance(error, FileNotFoundError):
        web = " Download it first." if name.startswith(("http:", "https:")) else ""
        return f"does not exist; expected an image file.{web}"
    if isinstance(error, Image.DecompressionBombError):
        return f"is too large to decode safely: {error}{_allow('N')}"
    head = _head(stream)
    other = what_it_is(head)
    if other:
        return f"{other}."
    if isinstance(error, UnidentifiedImageError) and not is_heic(head):
        return "is not an image in a format that Pillow can read; convert it to PNG or JPEG first."
    # Decoders meet hostile input: besides OSError they raise SyntaxError, struct.error,
    # EOFError, zlib.error, ... and all of them mean the same to the caller.
    cause = _cause(error)
    cut = head.startswith(_JPEG) and "truncated" in cause
    take = " To take what there is of it: --truncated ok (in Python truncated=True)." if cut else ""
    return f"cannot be decoded: {cause}. Is the file whole? Copy or save it again.{take}"


def _cause(error: Exception) -> str:
    text = str(error).strip().rstrip(".") or type(error).__name__
    if isinstance(error, UnidentifiedImageError):  # its text is about the stream
        return "the file is damaged"
    if isinstance(error, EOFError) or "truncated" in text.lower():
        return f"the file is truncated ({text})"
    if isinstance(error, PermissionError):
        return "permission denied"
    return f"the file is damaged ({text})"
