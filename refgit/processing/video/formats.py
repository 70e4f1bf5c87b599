"""What kind of video a file is, by how it begins; its name may say anything."""

from __future__ import annotations

import re

HEAD = 4096  # bytes at the beginning of a file that say what it is

SUFFIXES = (
    ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".ivf", ".m1v", ".m2t",
    ".m2ts", ".m2v", ".m4v", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf",
    ".ogm", ".ogv", ".qt", ".ts", ".vob", ".webm", ".wmv",
)  # fmt: skip

# Types of ISO media files that are pictures: AVIF, HEIC, and JPEG 2000 in their wrappings, and raw
# files of cameras; an animated AVIF is one too, as a GIF is.
_PICTURES = (
    b"avif", b"avis", b"crx ", b"heic", b"heim", b"heis", b"heix", b"hevc", b"hevm", b"hevs",
    b"hevx", b"jp2 ", b"jpm ", b"jpx ", b"mif1", b"msf1",
)  # fmt: skip
_STARTS = (
    (b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
    (b"FLV\x01", "FLV"),
    (bytes.fromhex("3026b2758e66cf11"), "Windows Media"),
    (b"OggS", "Ogg"),
    (b"\0\0\1\xba", "MPEG"),
    (b"\0\0\1\xb3", "MPEG"),
    (b"DKIF", "IVF"),
    (b"YUV4MPEG2 ", "YUV4MPEG"),
    (bytes.fromhex("060e2b34020501010d010201"), "MXF"),
    (b"\x1f\x07\0\x3f", "DV"),
    (b"\x1f\x07\0\xbf", "DV"),
    (b"\0\0\0\1\x67", "H.264"),
    (b"\0\0\0\1\x09", "H.264"),
    (b"\0\0\0\1\x40\1", "HEVC"),
)
_QUICKTIME = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")


def video_format(head: bytes) -> str:
    """Name the format of a video that begins so.

    Parameters
    ----------
    head : bytes
        The first `HEAD` bytes, or all there are.

    Returns
    -------
    str
        Such as "MP4"; "" where it is not a video that is known.
    """
    if head[4:8] == b"ftyp":
        if head[8:12] in _PICTURES:
            return ""
        return "QuickTime" if head[8:12] == b"qt  " else "MP4"
    if head[4:8] in _QUICKTIME and head[:1] in (b"\0", b"\1"):
        return "QuickTime"
    if head[:4] == b"RIFF" and head[8:12] in (b"AVI ", b"AVIX"):
        return "AVI"
    if packet_of_transport_stream(head):
        return "MPEG-TS"
    return next((name for start, name in _STARTS if head.startswith(start)), "")


def packet_of_transport_stream(head: bytes) -> tuple[int, int] | None:
    """Return length and first place of a transport stream's packets; None where it is none.

    Their length is 188 bytes, 192 where each has a time before it, as camcorders write (.m2ts,
    .mts), and 204 with a checksum. A recording may begin in the middle of one.
    """
    if len(head) < 189 or 0x47 not in head[:204]:
        return None
    for length in (188, 192, 204):
        for found in re.finditer(b"G", head[:length]):
            places = range(found.start(), len(head), length)
            if len(places) >= min(5, len(head) // length) >= 2 and all(
                head[place] == 0x47 for place in places[:10]
            ):
                return length, found.start()
    return None


def may_be_several_pictures(head: bytes) -> bool:
    """Whether an image that begins so may be an animation: GIF, WebP, PNG or AVIF."""
    if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X":
        return bool(head[20:21] and head[20] & 2)
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return True  # acTL comes somewhere before the pixels
    brands = head[8 : min(int.from_bytes(head[:4], "big"), len(head))]
    return head[:4] == b"GIF8" or (head[4:8] == b"ftyp" and b"avis" in brands)
