"""Formats of image files: which can be read here, and what a file is that cannot.

Pillow reads most by itself. HEIC, what phones write, needs the package pillow-heif; PostScript
needs Ghostscript; of some formats Pillow only knows the names.
"""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec

from PIL import EpsImagePlugin, Image, features

from refgit.processing.video.formats import video_format

HEAD = 4096  # bytes at the beginning of a file that say what it is
_HEIC_SUFFIXES = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})
_EPS_SUFFIXES = frozenset({".eps", ".ps"})
_NAMES_ONLY = {"BUFR", "GRIB", "HDF5", "MPEG", "WMF"}  # Pillow identifies them and decodes nothing

_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_NEEDS_HEIF = "is a HEIC image, which needs pillow-heif: pip install pillow-heif"
_NEEDS_AVIF = (
    "is an AVIF image, for which this Pillow was built without a decoder: pip install --upgrade "
    "pillow"
)
_POSTSCRIPT = (b"%!PS", b"\xc5\xd0\xd3\xc6")
_NEEDS_GHOSTSCRIPT = (
    "is PostScript (EPS), which Pillow reads with Ghostscript, and that is not installed here "
    "(there is no program gs). Install Ghostscript, or save the picture as PNG"
)
_WMF = b"\xd7\xcd\xc6\x9a"
_METAFILE = "is a Windows metafile, which Pillow reads on Windows only; save it as PNG first"
_JPEG_XL = "is a JPEG XL image, which Pillow cannot read; save it as PNG or JPEG first"
# The first bytes, and what a file is that begins so; what Pillow reads never comes here.
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"\x89HDF\r\n\x1a\n", "is an HDF5 file, which holds tables of numbers, not an image; save its "
     "pictures as PNG or JPEG first"),
    (b"CDF\x01", "is a NetCDF file, not an image; save its pictures as PNG or JPEG first"),
    (b"\x93NUMPY", "is an array of NumPy (.npy), not an image; save it as PNG first"),
    (b"GRIB", "is weather data (GRIB), not an image; save its pictures as PNG first"),
    (b"BUFR", "is weather data (BUFR), not an image; save its pictures as PNG first"),
    (b"\x00\x05\x16\x07", "is not the image: macOS keeps notes about a file of the same name, "
     "without ._, in it"),
    (b"%PDF", "is a PDF document; save its pages or pictures as PNG first"),
    (b"version https://git-lfs", "is a pointer of Git LFS, not the image itself; fetch the images "
     "with git lfs pull"),
    (b"\xff\x0a", _JPEG_XL),
    (b"\x00\x00\x00\x0cJXL ", _JPEG_XL),
    (b"FUJIFILMCCD-RAW", "is a camera's raw file (RAF), which Pillow cannot read; save it as JPEG "
     "first"),
    (b"PK\x03\x04", "is a ZIP archive; unpack it first"),
    (b"\x1f\x8b", "is compressed by gzip; unpack it first"),
)  # fmt: skip


def image_suffixes() -> set[str]:
    """How the names of the image files end that can be read here, such as .png."""
    formats = Image.registered_extensions()  # {".png": "PNG", ...}, with formats only written
    found = {x for x, form in formats.items() if form in Image.OPEN and form not in _NAMES_ONLY}
    if sys.platform == "win32":
        found |= {".emf", ".wmf"}
    if not EpsImagePlugin.has_ghostscript():
        found -= _EPS_SUFFIXES
    return found | _HEIC_SUFFIXES if has_heif() else found - _HEIC_SUFFIXES


def what_is_missing(suffix: str) -> str:
    """What to install so that files of a suffix can be read; "" where nothing would help."""
    if suffix in _HEIC_SUFFIXES:
        return "pip install pillow-heif"
    return "needs Ghostscript" if suffix in _EPS_SUFFIXES else ""


def is_heic(head: bytes) -> bool:
    """Whether a file that begins so is an HEIC image."""
    return head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS and b"avif" not in head[12:40]


def is_avif(head: bytes) -> bool:
    """Whether a file that begins so is an AVIF image, still or moving."""
    return head[4:8] == b"ftyp" and (head[8:12] in (b"avif", b"avis") or b"avif" in head[12:40])


def has_heif() -> bool:
    """Whether pillow-heif is installed."""
    try:
        return find_spec("pillow_heif") is not None
    except (ImportError, ValueError):
        return False


def register_heif() -> bool:
    """Let Pillow open HEIC images through pillow-heif; False where that is not installed."""
    try:
        module = importlib.import_module("pillow_heif")
    except ImportError:
        return False
    module.register_heif_opener()
    return True


def is_image(head: bytes) -> bool:
    """Whether a file without a suffix begins as the usual image formats do."""
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    bmp = head[:2] == b"BM" and head[6:10] == bytes(4)
    usual = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*")
    return webp or bmp or is_avif(head) or head.startswith(usual) or (is_heic(head) and has_heif())


def what_it_is(head: bytes) -> str:
    """Say what a file is that Pillow cannot read, and what to do.

    Parameters
    ----------
    head : bytes
        The first `HEAD` bytes.

    Returns
    -------
    str
        What follows the file's name in a sentence, without the full stop; "" if that is not known.
    """
    if is_heic(head):
        return "" if has_heif() else _NEEDS_HEIF
    if is_avif(head):
        return "" if features.check("avif") else _NEEDS_AVIF
    if head.startswith(_POSTSCRIPT):
        return "" if EpsImagePlugin.has_ghostscript() else _NEEDS_GHOSTSCRIPT
    if head.startswith(_WMF) or head[40:44] == b" EMF":
        return "" if sys.platform == "win32" else _METAFILE
    for start, said in _OTHERS:
        if head.startswith(start):
            return said
    kind = video_format(head)
    if kind:
        return f"is a video ({kind}), not an image; only a video model takes videos"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "is a web page (HTML), not an image; its download may have failed"
    if text.startswith(b"<svg") or (text.startswith(b"<?xml") and b"<svg" in text):
        return "is an SVG drawing, which Pillow cannot read; save it as PNG first"
    return ""
