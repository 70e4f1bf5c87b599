"""Image files as they are meant: orientation, transparency, wide pixels, limits, no images.

The upright, opaque picture of bytes that a file means is the expectation everywhere.
"""

from __future__ import annotations

import io
import struct
import sys
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageCms

from helpers.all_kinds import STORED
from refgit.processing import ImageFileError, load_image
from refgit.processing.image.depth import to_bytes
from refgit.processing.image.formats import HEAD, what_it_is
from refgit.processing.reading import Reading

ORIENTATION = 0x0112
LOSSLESS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "TIFF": {},
    "WEBP": {"lossless": True},
    "JPEG": {"quality": 95, "subsampling": 0},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
}


def smooth(height: int = 40, width: int = 64) -> np.ndarray:
    """A picture that survives JPEG and looks different after each turn."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 3, y * 5, 255 - x - y], axis=-1).astype(np.uint8)


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def turned(form: str, orientation: int) -> bytes:
    """The picture `smooth`, as a camera that was held in that way stores it."""
    image = Image.fromarray(np.ascontiguousarray(STORED[orientation](smooth())))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return saved(image, form, exif=exif, **LOSSLESS[form])


def rgb(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB")).astype(int)


# ---- orientation


@pytest.mark.parametrize("form", LOSSLESS)
@pytest.mark.parametrize("orientation", STORED)
def test_a_file_is_turned_as_its_exif_says(form: str, orientation: int) -> None:
    found = rgb(load_image(turned(form, orientation)))
    assert found.shape == smooth().shape
    assert np.abs(found - smooth()).max() <= (0 if form in ("PNG", "TIFF", "WEBP") else 8)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_picture_that_was_turned_is_not_turned_again(form: str) -> None:
    loaded = load_image(turned(form, 6))
    assert loaded.getexif().get(ORIENTATION, 1) == 1
    raw = load_image(turned(form, 6), exif_transpose=False)
    assert raw.getexif()[ORIENTATION] == 6
    assert raw.size == loaded.size[::-1]


def test_a_picture_that_is_left_lying_says_so_whatever_was_done_to_its_colours() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    for image in (Image.fromarray(half_transparent()), Image.fromarray(np.zeros((4, 4), "<u2"))):
        found = load_image(saved(image, "PNG", exif=exif), exif_transpose=False)
        assert found.getexif()[ORIENTATION] == 6
        assert "transparency" not in found.info


def test_an_orientation_in_xmp_counts_where_exif_has_none() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="3"></x:xmpmeta>'
    data = saved(Image.fromarray(STORED[3](smooth())), "JPEG", xmp=xmp, quality=95)
    assert np.abs(rgb(load_image(data)) - smooth()).max() <= 8
    assert load_image(data).getexif().get(ORIENTATION, 1) == 1


EXIF = Image.Exif()
EXIF[ORIENTATION] = 6
EXIF_BYTES = EXIF.tobytes()


@given(st.integers(0, len(EXIF_BYTES) - 1), st.binary(min_size=1, max_size=12), st.booleans())
@example(4, b"\xff\xff\xff\xff", False)
@example(0, b"\0", True)
def test_broken_exif_fails_no_image(place: int, bytes_: bytes, cut: bool) -> None:
    broken = EXIF_BYTES[:place] + bytes_ + (b"" if cut else EXIF_BYTES[place + len(bytes_) :])
    for form in ("JPEG", "PNG", "WEBP"):
        data = saved(Image.fromarray(smooth()), form, exif=broken)
        assert load_image(data).size in ((64, 40), (40, 64))


def avif_with_exif() -> tuple[bytes, int, int]:
    """An AVIF file, and where its EXIF begins and ends."""
    exif = Image.Exif()
    exif[0x010F] = "maker"
    data = saved(Image.fromarray(smooth()), "AVIF", exif=exif)
    end = data.index(b"maker")
    return data, data.rindex(b"\0\x2a", 0, end) - 2, end


AVIF_FILE, AVIF_START, AVIF_END = avif_with_exif()


@given(st.integers(AVIF_START, AVIF_END - 1), st.integers(0, 255))
@example(AVIF_START, 0)  # libavif refuses the whole picture
@example(AVIF_START + 9, 255)
def test_broken_exif_fails_no_avif_image(place: int, value: int) -> None:
    broken = AVIF_FILE[:place] + bytes([value]) + AVIF_FILE[place + 1 :]
    assert load_image(broken).size == (64, 40)


def tiff(kind: int, count: int, value: int) -> bytes:
    """A TIFF of 4 x 3 pixels on its side, and what its tag says of the EXIF directory."""
    tags = (
        (256, 3, 1, 4), (257, 3, 1, 3), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
        (273, 4, 1, 8), (274, 3, 1, 6), (277, 3, 1, 1), (278, 3, 1, 3), (279, 4, 1, 12),
        (0x8769, kind, count, value),
    )  # fmt: skip
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 20) + bytes(range(12)) + directory + b"\xff" * 40


@given(st.integers(0, 20), st.integers(0, 3), st.integers(0, 2**32 - 1) | st.integers(0, 300))
@example(9, 1, 2**32 - 5)  # a signed number: Pillow seeks before the beginning
def test_broken_exif_fails_no_tiff_image(kind: int, count: int, value: int) -> None:
    assert load_image(tiff(kind, count, value)).size == (3, 4)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(value: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = value
    found = load_image(saved(Image.fromarray(smooth()), "PNG", exif=exif))
    np.testing.assert_array_equal(rgb(found), smooth())


# ---- transparency


def chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png(bits: int, colour: int, row: bytes, width: int, key: tuple[int, ...] = ()) -> bytes:
    """A PNG of one row, written by hand; `key` is the colour that is transparent."""
    header = struct.pack(">IIBBBBB", width, 1, bits, colour, 0, 0, 0)
    transparent = chunk(b"tRNS", struct.pack(f">{len(key)}H", *key)) if key else b""
    pixels = chunk(b"IDAT", zlib.compress(b"\0" + row))
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", header) + transparent + pixels + chunk(b"IEND", b"")


def half_transparent() -> np.ndarray:
    """(H, W, 4): alpha grows from left to right, black below where it is 0."""
    pixels = np.concatenate([smooth(), np.zeros((40, 64, 1), np.uint8)], axis=-1)
    pixels[:, :, 3] = np.arange(64) * 4
    pixels[:, 0, :3] = 0
    return pixels


@pytest.mark.parametrize(
    ("name", "colour"),
    [("white", (255, 255, 255)), ("#102030", (16, 32, 48)), ("rgb(9, 8, 7)", (9, 8, 7))],
)
@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF", "AVIF"])
def test_transparent_parts_are_put_on_the_background(
    form: str, name: str, colour: tuple[int, int, int]
) -> None:
    pixels = half_transparent()
    options = {**LOSSLESS[form], **({"exact": True} if form == "WEBP" else {})}
    found = rgb(load_image(saved(Image.fromarray(pixels), form, **options), background=name))
    alpha = pixels[:, :, 3:] / 255
    expected = pixels[:, :, :3] * alpha + np.array(colour) * (1 - alpha)
    assert np.abs(found - expected).max() <= (12 if form == "AVIF" else 1)


def test_the_oracles_background_is_what_is_stored_below_the_transparency() -> None:
    image = Image.fromarray(half_transparent())
    found = load_image(saved(image, "PNG"), background="oracle")
    assert found.mode == "RGBA"
    np.testing.assert_array_equal(rgb(found), rgb(image))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_an_opaque_picture_is_the_oracles_whatever_its_mode(mode: str) -> None:
    image = Image.fromarray(smooth()).convert(mode)
    found = load_image(saved(image, "PNG"), background="red")
    np.testing.assert_array_equal(rgb(found), rgb(image))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (png(1, 0, b"\x40", 2, (1,)), [0, 9]),
        (png(2, 0, b"\x1b", 4, (2,)), [0, 85, 9, 255]),
        (png(4, 0, b"\x05", 2, (5,)), [0, 9]),
        (png(8, 0, b"\x05\x07", 2, (5,)), [9, 7]),
        (png(16, 0, struct.pack(">3H", 257, 2570, 65535), 3, (2570,)), [1, 9, 255]),
        (png(8, 2, bytes([4, 4, 4, 6, 6, 6]), 2, (4, 4, 4)), [9, 6]),
        (png(16, 2, struct.pack(">6H", *[256] * 3, *[1] * 3), 2, (256,) * 3), [9, 0]),
        (png(8, 4, bytes([7, 0, 7, 255]), 2), [9, 7]),
        (png(16, 4, struct.pack(">4H", 1792, 0, 1792, 65535), 2), [9, 7]),
    ],
    ids=["1 bit", "2 bits", "4 bits", "8 bits", "16 bits", "RGB", "RGB of 16", "LA", "LA of 16"],
)
def test_a_transparent_colour_is_found_at_every_depth(content: bytes, expected: list[int]) -> None:
    found = rgb(load_image(content, background="#090909"))
    assert found[0].tolist() == [[value] * 3 for value in expected]


def test_palettes_and_their_transparency_are_followed() -> None:
    image = Image.new("P", (3, 1))
    image.putdata([0, 1, 2])
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    on_white = [[255] * 3, [40, 50, 60], [70, 80, 90]]
    for form in ("PNG", "GIF"):
        found = rgb(load_image(saved(image, form, transparency=0)))
        assert found[0].tolist() == on_white
    several = saved(image, "PNG", transparency=bytes([0, 255, 0]))
    assert rgb(load_image(several))[0].tolist() == [[255] * 3, [40, 50, 60], [255] * 3]
    plain = rgb(load_image(saved(image, "PNG")))
    assert plain[0].tolist() == [[10, 20, 30], [40, 50, 60], [70, 80, 90]]


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_the_first_frame_of_an_animation_is_put_on_the_background(form: str) -> None:
    frames = [Image.new("RGBA", (8, 6), (0, 0, 0, 0)) for _ in range(3)]
    frames[0].paste((255, 0, 0, 255), (2, 2, 6, 4))
    frames[1].paste((0, 255, 0, 255), (0, 0, 8, 3))
    more = {"lossless": True} if form == "WEBP" else {}
    data = saved(frames[0], form, save_all=True, append_images=frames[1:], **more)
    found = rgb(load_image(data))
    expected = np.full((6, 8, 3), 255)
    expected[2:4, 2:6] = (255, 0, 0)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("whit", "background is 'whit'; expected a colour .* Did you mean white?"),
        ("#12345", "background is '#12345'; expected a colour"),
        ("#ff000080", "background is '#ff000080', which is transparent; expected"),
        (None, "background is None; expected a colour"),
    ],
)
def test_a_background_is_an_opaque_colour(name: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load_image(saved(Image.fromarray(smooth()), "PNG"), background=name)
    with pytest.raises(ValueError, match=words):
        Reading(background=name)


# ---- wide pixels


@pytest.mark.parametrize("form", ["PNG", "TIFF", "JPEG2000", "PPM"])
def test_of_16_bits_65535_is_white(form: str) -> None:
    wide = np.array([[0, 128, 129, 257, 32896, 65406, 65407, 65535]], np.uint16)
    found = load_image(saved(Image.fromarray(wide), form))
    assert rgb(found)[0, :, 0].tolist() == [0, 0, 1, 1, 128, 254, 255, 255]


def test_of_big_endian_16_bits_65535_is_white() -> None:
    wide = Image.fromarray(np.array([[0, 257, 65535]], ">u2"))
    assert wide.mode == "I;16B"
    assert np.asarray(load_image(saved(wide, "TIFF")))[0].tolist() == [0, 1, 255]


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 4))))
def test_bytes_that_are_widened_to_16_bits_come_back(pixels: np.ndarray) -> None:
    wide = pixels.astype(np.uint16) * 257
    np.testing.assert_array_equal(load_image(saved(Image.fromarray(wide), "PNG")), pixels)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 100, 255], [0, 100, 255]),  # bytes
        ([0, 257, 65535], [0, 1, 255]),  # 16 bits
        ([0, 1000, 100_000], [0, 3, 255]),  # counts: least to largest
        ([-100, 0, 100], [0, 128, 255]),
        ([0, 1, 3], [0, 85, 255]),  # labels, which would be black as bytes
        ([256, 1000, 4000], [0, 51, 255]),  # 12 bits, which would be black as 16
        ([7, 7, 7], [0, 0, 0]),
    ],
)
def test_integers_of_32_bits_are_scaled_by_what_they_hold(
    values: list[int], expected: list[int]
) -> None:
    wide = Image.fromarray(np.array([values], np.int32))
    assert np.asarray(load_image(saved(wide, "TIFF")))[0].tolist() == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.0, 254.6], [0, 100, 255]),
        ([0.0, 257.0, 65535.0], [0, 1, 255]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([0.0, 1.0, 4.0], [0, 64, 255]),  # brighter than white, and dark as bytes
        ([np.nan, 1.0, np.inf], [0, 255, 255]),
        ([np.nan, np.nan, np.nan], [0, 0, 0]),
        ([0.0, 1e36, 2.5e38], [0, 1, 255]),
    ],
)
def test_floats_are_scaled_by_what_they_hold(values: list[float], expected: list[int]) -> None:
    wide = Image.fromarray(np.array([values], np.float32))
    assert np.asarray(load_image(saved(wide, "TIFF")))[0].tolist() == expected


@given(hnp.arrays(np.float32, (2, 3)) | hnp.arrays(np.int32, (2, 3)))
def test_whatever_is_wide_becomes_bytes_in_the_same_order(values: np.ndarray) -> None:
    found = np.asarray(to_bytes(Image.fromarray(values)))
    assert (found.dtype, found.shape) == (np.uint8, (2, 3))
    real = np.nan_to_num(values.ravel(), nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    assert (np.diff(found.ravel()[np.argsort(real)].astype(int)) >= 0).all()


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB", "1", "L", "P"])
def test_other_modes_are_the_oracles(mode: str) -> None:
    image = Image.fromarray(smooth())
    if mode == "P":
        image = image.quantize()
    elif mode == "LAB":
        srgb, lab = (ImageCms.createProfile(name) for name in ("sRGB", "LAB"))
        image = ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB") or image
    else:
        image = image.convert(mode)
    form = {"CMYK": "JPEG", "YCbCr": "JPEG", "LAB": "TIFF"}.get(mode, "PNG")
    data = saved(image, form)
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.mode == ("RGB" if mode == "YCbCr" else mode)  # Pillow converts YCbCr itself
        np.testing.assert_array_equal(rgb(load_image(data)), rgb(opened))


# ---- HEIC


def heic(image: Image.Image, **options: Any) -> bytes:
    stream = io.BytesIO()
    pillow_heif.from_pillow(image).save(stream, quality=-1, **options)
    return stream.getvalue()


@pytest.fixture
def unregistered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow as it is before pillow-heif was ever asked for."""
    for table in (Image.OPEN, Image.MIME, Image.EXTENSION):
        names = [key for key, value in table.items() if "HEIF" in (key, value)]
        for name in names:
            monkeypatch.delitem(table, name)
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "HEIF"])


@pytest.mark.usefixtures("unregistered")
def test_a_heic_image_is_opened_through_pillow_heif(tmp_path: Path) -> None:
    (tmp_path / "IMG_0001.HEIC").write_bytes(heic(Image.fromarray(smooth())))
    found = rgb(load_image(tmp_path / "IMG_0001.HEIC"))
    assert np.abs(found - smooth()).max() <= 8
    half = rgb(load_image(heic(Image.fromarray(half_transparent()))))
    assert np.abs(half[:, 0] - 255).max() <= 3


@pytest.mark.usefixtures("unregistered")
def test_without_pillow_heif_the_message_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_pillow_heif(monkeypatch)
    (tmp_path / "a.heic").write_bytes(heic(Image.fromarray(smooth())))
    with pytest.raises(
        ImageFileError, match=r"a\.heic .* needs pillow-heif: pip install pillow-heif\.$"
    ):
        load_image(tmp_path / "a.heic")


def hide_pillow_heif(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)


# ---- limits


def test_more_pixels_than_pillow_allows_are_taken_on_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    data = saved(Image.fromarray(smooth()), "PNG")
    with pytest.raises(ImageFileError, match=r"too large to decode safely.*--max-pixels"):
        load_image(data)
    assert load_image(data, max_pixels=40 * 64).size == (64, 40)
    assert Image.MAX_IMAGE_PIXELS == 100
    with pytest.raises(
        ImageFileError, match=r"has 64 x 40 = 2560 pixels; expected at most 2559.*--max-pixels 2560"
    ):
        load_image(data, max_pixels=2559)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_a_limit_that_is_lifted_in_one_thread_holds_in_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    data = saved(Image.fromarray(smooth()), "PNG")
    inside, go_on = threading.Event(), threading.Event()

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            inside.set()
            assert go_on.wait(20)
            return super().read(size)

    found: list[Image.Image] = []
    thread = threading.Thread(target=lambda: found.append(load_image(Slow(data), max_pixels=9999)))
    thread.start()
    try:
        assert inside.wait(20)
        with pytest.raises(ImageFileError, match="expected at most 200"):
            load_image(data)
    finally:
        go_on.set()
        thread.join(20)
    assert found[0].size == (64, 40)
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("value", [0, -1, 2.5, "many"])
def test_a_limit_is_a_number_of_pixels(value: Any) -> None:
    with pytest.raises(ValueError, match=r"max_pixels is .*; expected a whole number"):
        load_image(saved(Image.fromarray(smooth()), "PNG"), max_pixels=value)
    with pytest.raises(ValueError, match=r"max_pixels is .*; expected a whole number"):
        Reading(max_pixels=value)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_last_bytes_is_taken_on_request(
    tmp_path: Path, progressive: bool
) -> None:
    whole = saved(Image.fromarray(smooth(400, 640)), "JPEG", quality=95, progressive=progressive)
    file = tmp_path / "cut.jpg"
    file.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(ImageFileError, match=r"the file is truncated .* --truncated ok"):
        load_image(file)
    with Image.open(io.BytesIO(whole)) as opened:
        expected = rgb(opened)
    found = rgb(load_image(file, truncated=True))
    assert found.shape == expected.shape
    assert np.abs(found - expected)[:150].mean() < 12
    for source in (file.read_bytes(), io.BytesIO(file.read_bytes())):
        np.testing.assert_array_equal(rgb(load_image(source, truncated=True)), found)
    np.testing.assert_array_equal(rgb(load_image(whole, truncated=True)), expected)


def test_other_truncated_files_stay_errors() -> None:
    data = saved(Image.effect_noise((64, 40), 50), "PNG")[:-500]
    with pytest.raises(ImageFileError, match="cannot be decoded") as caught:
        load_image(data, truncated=True)
    assert "--truncated" not in str(caught.value)
    with pytest.raises(ImageFileError, match=r"cannot be decoded|not an image"):
        load_image(b"\xff\xd8\xff\xe0\x00\x10JF", truncated=True)


# ---- what is no image


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("table.h5", b"\x89HDF\r\n\x1a\n" + bytes(64), "is an HDF5 file, .* not an image"),
        ("a.npy", b"\x93NUMPY\x01\0" + bytes(64), "is an array of NumPy"),
        ("._photo.jpg", b"\x00\x05\x16\x07" + bytes(64), "macOS keeps notes"),
        ("figure.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "with Ghostscript"),
        ("paper.pdf", b"%PDF-1.7\n", "is a PDF document"),
        ("clip.jpg", b"\0\0\0\x18ftypisom" + bytes(64), r"is a video \(MP4\), not an image"),
        ("clip.jpg", b"\0\0\0\x14ftypqt  " + bytes(64), r"is a video \(QuickTime\)"),
        ("clip.jpg", b"\x1aE\xdf\xa3" + bytes(64), r"is a video \(Matroska or WebM\)"),
        ("clip.jpg", b"RIFF\0\0\0\0AVI LIST", r"is a video \(AVI\)"),
        ("clip.jpg", (b"G" + bytes(187)) * 2, r"is a video \(MPEG-TS\)"),
        ("clip.jpg", (bytes(4) + b"G" + bytes(187)) * 2, r"is a video \(MPEG-TS\)"),
        ("clip.mpg", b"\0\0\x01\xba" + bytes(64), r"is a video \(MPEG\)"),
        ("page.jpg", b"\n<!DOCTYPE html><title>404</title>", "is a web page"),
        ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is an SVG drawing"),
        ("a.jpg", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("a.jxl", b"\xff\x0a" + bytes(64), "is a JPEG XL image"),
        ("a.png", b"PK\x03\x04" + bytes(64), "is a ZIP archive"),
        ("a.grib", b"GRIB" + bytes(64), "is weather data"),
        ("a.emf", b"\x01\0\0\0" + bytes(36) + b" EMF" + bytes(64), "is a Windows metafile"),
        ("a.raf", b"FUJIFILMCCD-RAW " + bytes(64), "is a camera's raw file"),
        ("a.gz", b"\x1f\x8b" + bytes(64), "is compressed by gzip"),
        ("a.nc", b"CDF\x01" + bytes(64), "is a NetCDF file"),
        ("a.wmf", b"\xd7\xcd\xc6\x9a" + bytes(64), "is a Windows metafile"),
    ],
)
def test_what_is_not_an_image_is_called_what_it_is(
    tmp_path: Path, name: str, content: bytes, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # without Ghostscript
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ImageFileError, match=words) as caught:
        load_image(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)
    with pytest.raises(ImageFileError, match=words):
        load_image(content)


def test_damaged_files_of_known_formats_are_called_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImageFileError, match=r"cannot be decoded|not an image in a format"):
        load_image(AVIF_FILE[:300])
    for cut in (300, -10):
        with pytest.raises(ImageFileError, match=r"file is damaged.*Is the file whole\?"):
            load_image(heic(Image.fromarray(smooth()))[:cut])
    monkeypatch.setattr("PIL.features.check", lambda name: False)
    assert "pip install --upgrade pillow" in what_it_is(AVIF_FILE[:HEAD])
    monkeypatch.setattr("PIL.EpsImagePlugin.has_ghostscript", lambda: True)
    assert what_it_is(b"%!PS-Adobe") == ""
