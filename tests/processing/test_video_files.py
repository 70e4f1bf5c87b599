"""What a video file is, whether it is whole; animations and pictures in files as videos."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

av = pytest.importorskip("av", reason="decoding needs PyAV: pip install av")

from helpers.videos import KINDS, make_video  # noqa: E402
from refgit.processing import VideoFileError, read_video  # noqa: E402
from refgit.processing.media import is_video, suffixes  # noqa: E402
from refgit.processing.video.formats import video_format  # noqa: E402
from refgit.processing.video.parts import (  # noqa: E402
    FrameFiles,
    listed,
    natural,
    parts_of_video,
    seconds_as_text,
)
from refgit.processing.video.timeline import Choice  # noqa: E402
from refgit.processing.video.wholeness import missing_bytes  # noqa: E402

FORMATS = {
    ".mp4": "MP4", ".mkv": "Matroska or WebM", ".webm": "Matroska or WebM", ".ts": "MPEG-TS",
    ".avi": "AVI", ".flv": "FLV", ".mpg": "MPEG", ".mov": "QuickTime", ".m2ts": "MPEG-TS",
    ".wmv": "Windows Media", ".nut": "",
}  # fmt: skip
CODECS = {".m2ts": "libx264", ".mov": "libx264", ".wmv": "wmv2", ".nut": "ffv1"}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A video of each format."""
    folder = tmp_path_factory.mktemp("clips")
    codecs = {suffix: (codec, options) for suffix, codec, options in KINDS.values()}
    codecs |= {suffix: (codec, {}) for suffix, codec in CODECS.items()}
    return {
        suffix: make_video(folder / f"clip{suffix}", codec, 40, **options)
        for suffix, (codec, options) in codecs.items()
    }


# ---- what a file is


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_videos_content_says_what_it_is(
    suffix: str, clips: dict[str, Path], tmp_path: Path
) -> None:
    data = clips[suffix].read_bytes()
    assert video_format(data[:4096]) == FORMATS[suffix]
    renamed = tmp_path / "picture.png"
    renamed.write_bytes(data)
    if FORMATS[suffix]:
        assert is_video(renamed)
        assert is_video(data)
        assert read_video(renamed, 2)[0].shape == (64, 96, 3)


def test_a_transport_stream_is_known_from_the_middle_of_a_packet(clips: dict[str, Path]) -> None:
    for suffix in (".ts", ".m2ts"):
        data = clips[suffix].read_bytes()
        assert video_format(data[100:4196]) == "MPEG-TS"
    assert clips[".m2ts"].read_bytes()[4] == 0x47  # packets of 192 bytes


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"])
def test_an_image_is_no_video_whatever_its_name(form: str, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    Image.new("RGB", (40, 30), "red").save(path, form)
    assert not is_video(path)
    assert not is_video(path.read_bytes())


@given(st.binary(max_size=2000))
def test_what_is_known_of_any_bytes_never_fails(data: bytes) -> None:
    assert isinstance(video_format(data), str)
    assert missing_bytes(io.BytesIO(data), len(data)) >= 0


def test_names_decide_only_where_content_does_not(tmp_path: Path) -> None:
    text = tmp_path / "a.mp4"
    text.write_text("not a video")
    assert is_video(text)  # so that what is said of it is of videos
    assert is_video(tmp_path / "missing.mts")
    assert not is_video(tmp_path)
    assert {".m2ts", ".mts", ".vob", ".mp4"} <= suffixes(videos=True) - suffixes(videos=False)


# ---- whether it is whole

WITH_LENGTH = [".mp4", ".mov", ".mkv", ".webm", ".avi", ".flv", ".mpg", ".ts", ".m2ts", ".wmv"]


@pytest.mark.parametrize("suffix", WITH_LENGTH)
def test_a_file_that_is_cut_is_an_error_that_says_how_far_it_can_be_read(
    suffix: str, clips: dict[str, Path], tmp_path: Path
) -> None:
    data = clips[suffix].read_bytes()
    assert missing_bytes(io.BytesIO(data), len(data)) == 0
    for share in (0.4, 0.6, 0.9):
        size = int(len(data) * share)
        size -= int(size % 188 == 0 or size % 192 == 0)
        cut = tmp_path / f"cut{suffix}"
        cut.write_bytes(data[:size])
        if suffix == ".mpg" and not missing_bytes(io.BytesIO(data[:size]), size):
            continue  # between two packs
        with pytest.raises(VideoFileError, match=r"cut\.\w+ is cut short: .* bytes") as caught:
            read_video(cut, 2)
        said = str(caught.value)
        assert "can be read up to" in said or "nothing can be read" in said
        if "--end " in said:
            end = float(said.split("--end ")[1].split()[0])
            whole = read_video(clips[suffix], 3, end=end)
            for a, b in zip(read_video(cut, 3, end=end), whole, strict=True):
                np.testing.assert_array_equal(a, b)


def test_a_cut_file_whose_index_comes_first_can_be_read_in_part(tmp_path: Path) -> None:
    first = {"movflags": "faststart"}
    path = make_video(tmp_path / "a.mp4", frames=60, container_options=first)
    data = path.read_bytes()
    (tmp_path / "half.mp4").write_bytes(data[: len(data) // 2 + 400])
    with pytest.raises(VideoFileError, match=r"up to [1-5]\.\d\d s of 6\.00 s \(\d+ frames\)"):
        read_video(tmp_path / "half.mp4", 6)
    assert len(read_video(tmp_path / "half.mp4", 3, end=1)) == 3


# ---- animations


def animation(path: Path, count: int = 8, **options: Any) -> Path:
    frames = [Image.new("RGB", (24, 16), (20 * i, 0, 0)) for i in range(count)]
    lossless = {"lossless": True} if path.suffix == ".webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], **lossless, **options)
    return path


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".avif"])
def test_an_animation_is_a_video_of_its_frames(suffix: str, tmp_path: Path) -> None:
    path = animation(tmp_path / f"a{suffix}", duration=100)
    reds = [int(frame[0, 0, 0]) for frame in read_video(path, 4)]
    np.testing.assert_allclose(reds, [20, 60, 100, 140], atol=3)
    (later,) = read_video(path.read_bytes(), 1, start=0.5, end=0.6)
    np.testing.assert_allclose(later[0, 0], [100, 0, 0], atol=3)
    with pytest.raises(VideoFileError, match="has 8 frames; frame 9 is not among them"):
        read_video(path, [9])


def test_transparent_frames_lie_on_the_background(tmp_path: Path) -> None:
    frames = [Image.new("RGBA", (8, 8), (0, 0, 250, 255 * (i % 2))) for i in range(2)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:], duration=50)
    clear, solid = read_video(tmp_path / "a.png", 2, background="#112233")
    assert clear[0, 0].tolist() == [0x11, 0x22, 0x33]
    assert solid[0, 0].tolist() == [0, 0, 250]


def test_an_animation_that_is_cut_is_an_error(tmp_path: Path) -> None:
    for suffix in (".gif", ".webp", ".png"):
        data = animation(tmp_path / f"a{suffix}", duration=100).read_bytes()
        (tmp_path / f"cut{suffix}").write_bytes(data[: len(data) * 3 // 4])
        with pytest.raises(VideoFileError, match=rf"cut\{suffix} (is cut|cannot be decoded)"):
            read_video(tmp_path / f"cut{suffix}", 2)


# ---- frames in files, and parts


def test_frames_in_a_directory_follow_their_numbers(tmp_path: Path) -> None:
    for number in range(12):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"frame{number}.png")
    (tmp_path / "notes.txt").write_text("x")
    frames = FrameFiles(str(tmp_path))
    found = frames.choose(Choice([0, 2, 10, 11]))
    assert [image.getpixel((0, 0))[0] for image in found] == [0, 2, 10, 11]
    assert [image.getpixel((0, 0))[0] for image in frames.choose(Choice(3))] == [2, 6, 10]
    with pytest.raises(VideoFileError, match="without their times"):
        frames.choose(Choice(3, start=1))
    with pytest.raises(VideoFileError, match="has 12 frames; frame 12 is not among them"):
        frames.choose(Choice([12]))


@pytest.mark.parametrize(
    "encode",
    [
        lambda names: "\n".join(names).encode(),
        lambda names: b"\xef\xbb\xbf" + "\r\n".join(names).encode(),
        lambda names: "\r\n".join([*names, ""]).encode("utf-16"),
    ],
)
def test_frames_in_a_list_are_in_its_order(encode: Any, tmp_path: Path) -> None:
    names = []
    for number in (3, 1, 2):
        names.append(str(tmp_path / f"é{number}.png"))
        Image.new("RGB", (8, 8), (number, 0, 0)).save(names[-1])
    assert listed(encode(names)) == names
    (tmp_path / "frames.txt").write_bytes(encode(names))
    found = FrameFiles(str(tmp_path / "frames.txt")).choose(Choice(3))
    assert [image.getpixel((0, 0))[0] for image in found] == [3, 1, 2]


def test_what_holds_no_frames_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "empty").mkdir()
    for name, words in (
        ("a.txt", "holds no images"), ("empty", "holds no images"),
        ("a.png", "is neither a directory nor a list"), ("missing", "No such file"),
    ):  # fmt: skip
        with pytest.raises(VideoFileError, match=words):
            FrameFiles(str(tmp_path / name)).choose(Choice(2))


@given(st.lists(st.integers(0, 10**6), unique=True))
def test_names_sort_by_the_numbers_in_them(numbers: list[int]) -> None:
    names = [f"shot2_{number}.png" for number in numbers]
    expected = [f"shot2_{number}.png" for number in sorted(numbers)]
    assert sorted(names, key=natural) == expected


def test_a_video_is_divided_into_parts_of_a_length(clips: dict[str, Path]) -> None:
    path = str(clips[".mp4"])  # 4 seconds
    parts = parts_of_video(path, 1.5)
    assert [(part.start, part.end) for part in parts] == [(0, 1.5), (1.5, 3), (3, 4)]
    assert str(parts[0]) == f"{path}#0-1.5"
    parts = parts_of_video(path, 10, start=0.5, end=2.25)
    assert [(part.start, part.end) for part in parts] == [(0.5, 2.25)]
    with pytest.raises(VideoFileError, match="expected a start before that"):
        parts_of_video(path, 1, start=9)
    assert [seconds_as_text(x) for x in (0, 10, 100, 1.25, 2 / 3)] == [
        "0", "10", "100", "1.25", "0.667"
    ]  # fmt: skip
