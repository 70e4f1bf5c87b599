"""EXIF orientation: cameras store a turned picture as the sensor saw it and say how to turn it."""

from __future__ import annotations

import re
import struct

from PIL import Image

from refgit.processing.image.formats import HEAD, is_avif

ORIENTATION = 0x0112  # the tag
_METADATA = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")  # where Pillow reads it
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1, which is upright, where EXIF is broken or silent."""
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # a parser that meets hostile bytes; the picture itself is well
        return 1
    return found if isinstance(found, int) and found in _TURNS else 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turn a picture as its orientation says; what it carries then no longer says so."""
    if orientation not in _TURNS:
        return image
    turned = image.transpose(_TURNS[orientation])
    for name in _METADATA:
        turned.info.pop(name, None)
    return turned


# ---- EXIF so broken that a decoder refuses the picture

_EXIF_ITEM = re.compile(
    rb"(infe[\x02\x03].{7}(?:..)?)Exif", re.DOTALL
)  # of an AVIF's list of items
_EXIF_DIRECTORY, _UNUSED = 0x8769, 0xFFFE  # tags of TIFF
_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}


def may_fail_by_exif(head: bytes) -> bool:
    """Whether a file that begins so is of a format for which `without_exif` is there."""
    return is_avif(head) or head[:4] in _ORDERS


def without_exif(data: bytes) -> bytes | None:
    """Hide the EXIF of an AVIF or TIFF file from its decoder, which fails where it is broken.

    Both store the orientation elsewhere.

    Parameters
    ----------
    data : bytes
        The file.

    Returns
    -------
    bytes or None
        The file with the EXIF renamed; None where there is none, or it is another format.
    """
    if is_avif(data[:HEAD]):
        hidden, count = _EXIF_ITEM.subn(rb"\1none", data)
        return hidden if count else None
    order = _ORDERS.get(data[:4], "")
    if not order:
        return None
    try:
        (start,) = struct.unpack_from(order + "I", data, 4)
        (entries,) = struct.unpack_from(order + "H", data, start)
        for place in range(start + 2, start + 2 + 12 * entries, 12):
            if struct.unpack_from(order + "H", data, place) == (_EXIF_DIRECTORY,):
                return data[:place] + struct.pack(order + "H", _UNUSED) + data[place + 2 :]
    except struct.error:  # the directory lies behind the end
        pass
    return None
