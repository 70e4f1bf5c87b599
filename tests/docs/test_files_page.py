"""docs/files.md: of every row there is a file, and what is said of it happens.

A row whose second cell quotes a message is of a file that fails with these words; of the others the
caption is that of the picture which the file means.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from helpers.backends import ROOT
from refgit.cli import main as cli
from refgit.pipeline import Captioner

PAGE = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
FACE = ROOT / "docs" / "images" / "slightly-smiling-face.png"
CAPTION = "slightly smiling face"
Maker = Callable[[], Mapping[str, bytes]]


def rows(heading: str) -> dict[str, str]:
    """What one has, and the message that is quoted; "" where it is captioned."""
    part = re.split(rf"^## {heading}\n", PAGE, flags=re.M)[1].split("\n## ")[0]
    cells = re.findall(r"^\| ([^|]+) \| ([^|]+) \|[^|]*\|$", part, re.M)
    messages = ((name, re.fullmatch(r"`([^`]+)`", said)) for name, said in cells)
    return {name: "" if found is None else found[1] for name, found in messages}


def face() -> Image.Image:
    return Image.open(FACE).convert("RGB")


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


# Image.Transpose of a camera that is held in such a way.
HELD = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}


def sideways() -> dict[str, bytes]:
    files = {}
    for orientation, transpose in HELD.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        image = face().transpose(Image.Transpose(transpose))
        for form in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF") if orientation == 6 else ("PNG",):
            files[f"{orientation}.{form.lower()}"] = saved(image, form, exif=exif)
    return files


def cutout() -> Image.Image:
    """The face without its white background, below which it is black."""
    pixels = np.asarray(face())
    seen = ~(pixels > 250).all(axis=2)
    return Image.fromarray(np.dstack([pixels * seen[..., None], seen * np.uint8(255)]))


def grey() -> np.ndarray:
    return np.asarray(face().convert("L"))


def wide(scale: float, dtype: type) -> bytes:
    return saved(Image.fromarray((grey() * float(scale)).astype(dtype)), "TIFF")


def heic() -> bytes:
    stream = io.BytesIO()
    pillow_heif.from_pillow(face()).save(stream, quality=90)
    return stream.getvalue()


def animation(form: str) -> bytes:
    return saved(cutout(), form, save_all=True, append_images=[Image.new("RGBA", (256, 256))])


CAPTIONED: dict[str, Maker] = {
    "a photograph taken sideways or mirrored, in JPEG, PNG, WebP, TIFF or AVIF": sideways,
    "EXIF that is broken": lambda: {
        "a.jpg": saved(face(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    },
    "a transparent picture, or a palette with a transparent colour": lambda: {
        "a.png": saved(cutout(), "PNG"),
        "a.webp": saved(cutout(), "WEBP", lossless=True),
        "a.gif": saved(cutout(), "GIF"),
        "a.tif": saved(cutout(), "TIFF"),
    },
    "CMYK, YCbCr, LAB, a palette": lambda: {
        "a.jpg": saved(face().convert("CMYK"), "JPEG"),
        "b.png": saved(face().quantize(), "PNG"),
    },
    "an animation (GIF, APNG, WebP, AVIF)": lambda: {
        f"a.{form.lower()}": animation(form) for form in ("GIF", "PNG", "WEBP", "AVIF")
    },
    "a TIFF of several pages": lambda: {
        "a.tif": saved(face(), "TIFF", save_all=True, append_images=[Image.new("RGB", (9, 9))])
    },
    "HEIC, with pillow-heif": lambda: {"IMG_1.HEIC": heic()},
    "a JPEG whose name ends in `.png`, or in nothing": lambda: {
        "a.png": saved(face(), "JPEG"),
        "5d41402abc4b2a76b9719d911017c592": saved(face(), "JPEG"),
        "Ünïcode name, with\nlines": saved(face(), "PNG"),
    },
}
GREY: dict[str, Maker] = {
    "grey of 16 bits": lambda: {
        "a.png": saved(Image.fromarray(grey().astype(np.uint16) * 257), "PNG"),
        "a.tif": wide(257, np.uint16),
    },
    "integers or floats of 32 bits": lambda: {
        "a.tif": wide(1, np.int32),
        "b.tif": wide(257, np.int32),
        "c.tif": wide(1 / 255, np.float32),
    },
}
FAILING: dict[str, Maker] = {
    "HEIC, without": lambda: {"a.heic": heic()},
    "a JPEG that is cut short": lambda: {"a.jpg": saved(face(), "JPEG")[:4000]},
    "another image that is cut short": lambda: {"a.png": saved(face(), "PNG")[:4000]},
    "more pixels than Pillow's limit, 178,956,970": lambda: {"a.png": saved(face(), "PNG")},
    "more pixels than `--max-pixels`": lambda: {"a.png": saved(face(), "PNG")},
    "PostScript, without": lambda: {"a.eps": saved(face(), "EPS")},
    "HDF5 (`.h5`)": lambda: {"a.h5": b"\x89HDF\r\n\x1a\n" + bytes(99)},
    "a file `._photo.jpg`, which macOS writes to foreign disks": lambda: {
        "._photo.jpg": b"\x00\x05\x16\x07" + bytes(99)
    },
    "a video, with an image model": lambda: {"a.dat": b"\0\0\0\x18ftypisom" + bytes(99)},
    "a web page in the place of an image": lambda: {"a.jpg": b"<!DOCTYPE html>\n<p>404</p>"},
    "a pointer of Git LFS": lambda: {"a.png": b"version https://git-lfs.github.com/spec/v1\n"},
    "an SVG drawing": lambda: {"a.svg": b"<svg xmlns='http://www.w3.org/2000/svg'></svg>"},
    "an empty file": lambda: {"a.png": b""},
    "a name that does not exist": lambda: {},
}


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return Captioner.from_pretrained()


def written(maker: Maker, folder: Path) -> list[Path]:
    contents = maker()
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in contents]


def test_every_row_has_its_files() -> None:
    found = rows("Pictures")
    found.pop("what you have")
    drawn = "PostScript, with Ghostscript"  # which need not be here; Pillow's own tests have it
    assert {name for name, said in found.items() if said} == set(FAILING)
    assert {name for name, said in found.items() if not said} - {drawn} == {*CAPTIONED, *GREY}


@pytest.mark.parametrize("name", CAPTIONED)
def test_a_file_is_captioned_as_the_picture_it_means(
    name: str, captioner: Captioner, tmp_path: Path
) -> None:
    files = written(CAPTIONED[name], tmp_path)
    assert captioner.captions(files) == [CAPTION] * len(files)


@pytest.mark.parametrize("name", GREY)
def test_a_wide_picture_is_captioned_as_that_of_bytes(
    name: str, captioner: Captioner, tmp_path: Path
) -> None:
    files = written(GREY[name], tmp_path)
    expected = captioner.read(Image.fromarray(grey()))
    for file in files:
        assert np.abs(captioner.read(file) - expected).max() < 0.02  # less than a byte


@pytest.mark.parametrize("name", FAILING)
def test_a_file_that_fails_is_said_in_the_words_of_the_page(
    name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = written(FAILING[name], tmp_path) or [tmp_path / "missing.png"]
    options = ["--max-pixels", "9"] if "--max-pixels" in name else []
    if "Pillow's limit" in name:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    if name == "HEIC, without":
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        monkeypatch.setattr(Image, "ID", [form for form in Image.ID if form != "HEIF"])
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", False)
    assert (
        cli.main(["caption", *map(str, files), "--json", "--model", "refgit-emoji", *options]) == 1
    )
    out, err = capsys.readouterr()
    assert rows("Pictures")[name] in err
    assert json.loads(out)["error"] in err
    assert "Traceback" not in err
