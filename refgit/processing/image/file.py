"""Opening an image file: the one place where bytes from outside become a decoded picture.

Whatever is wrong with the file is said in one sentence that names it.
"""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import IO

from PIL import Image, UnidentifiedImageError

from refgit.errors import MediaFileError


class ImageFileError(MediaFileError):
    """An image file cannot be used: missing, a directory, not an image, damaged or too large."""


def load_image(source: str | os.PathLike[str] | bytes | IO[bytes]) -> Image.Image:
    """Open an image and decode it completely.

    The first frame of an animation is taken. EXIF orientation is kept as metadata, not applied:
    pass `exif_transpose=True` to the image processor for that.

    Parameters
    ----------
    source : str, path, bytes, or binary file
        Where the encoded image is.

    Returns
    -------
    PIL.Image.Image
        The decoded picture, independent of the file.

    Raises
    ------
    ImageFileError
        If the file is missing, a directory, unreadable, empty, not an image that Pillow knows,
        truncated or damaged, or so large that Pillow takes it for a decompression bomb.
    """
    name, stream = _describe(source)
    try:
        with warnings.catch_warnings():
            # What Pillow warns of (many pixels, odd metadata) is decoded all the same.
            warnings.simplefilter("ignore")
            with Image.open(stream) as image:
                image.load()
                return image.copy()  # a plain image: closing the file cannot take its pixels away
    except FileNotFoundError as error:
        web = " Download it first." if name.startswith(("http:", "https:")) else ""
        raise ImageFileError(f"{name} does not exist; expected an image file.{web}") from error
    except UnidentifiedImageError as error:
        raise ImageFileError(
            f"{name} is not an image in a format that Pillow can read; "
            "convert it to PNG or JPEG first."
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageFileError(
            f"{name} is too large to decode safely: {error} Scale it down first."
        ) from error
    except Exception as error:
        # Decoders meet hostile input: besides OSError they raise SyntaxError, struct.error,
        # EOFError, zlib.error, ... and all of them mean the same to the caller.
        raise ImageFileError(
            f"{name} cannot be decoded: {_cause(error)}. Is the file whole? Copy or save it again."
        ) from error


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
        return str(getattr(source, "name", "The image stream")), source
    raise ImageFileError(
        f"An image source is a path, bytes or a binary file; found {type(source).__name__}."
    )


def _cause(error: Exception) -> str:
    text = str(error).strip().rstrip(".") or type(error).__name__
    if isinstance(error, EOFError) or "truncated" in text.lower():
        return f"the file is truncated ({text})"
    if isinstance(error, PermissionError):
        return "permission denied"
    return f"the file is damaged ({text})"
