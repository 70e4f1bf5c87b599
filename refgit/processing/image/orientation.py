"""EXIF orientation: cameras store a turned picture as the sensor saw it and say how to turn it."""

from __future__ import annotations

from PIL import Image

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
