"""Frames of video files are those of decoding everything, whatever codec, container and choice."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

av = pytest.importorskip("av", reason="decoding needs PyAV: pip install av")

from helpers.videos import (  # noqa: E402
    KINDS,
    add_track,
    all_frames,
    drawing,
    encoded,
    make_video,
    turn,
)
from refgit.processing import VideoFileError, read_video, sample_frame_indices  # noqa: E402
from refgit.processing.video.decoding import film as films  # noqa: E402
from refgit.processing.video.decoding.film import Film  # noqa: E402
from refgit.processing.video.decoding.pixels import turns  # noqa: E402
from refgit.processing.video.decoding.seeking import plan  # noqa: E402
from refgit.processing.video.opening import origin_of  # noqa: E402

ONE_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def assert_frames(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


# ---- which frames


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_is_that_of_decoding_everything(kind: str, tmp_path: Path) -> None:
    suffix, codec, options = KINDS[kind]
    path = make_video(tmp_path / f"clip{suffix}", codec, **options)
    expected = all_frames(path)
    assert_frames(read_video(path, range(len(expected))), expected)
    for frames in (1, 3, 30):
        indices = sample_frame_indices(len(expected), frames)
        assert_frames(read_video(path, frames), [expected[i] for i in indices])


@settings(ONE_FOLDER, max_examples=15)
@given(data=st.data())
def test_chosen_frames_of_drawn_videos_are_those_of_decoding_everything(
    data: st.DataObject, tmp_path: Path
) -> None:
    suffix, codec, options = KINDS[data.draw(st.sampled_from(sorted(KINDS)))]
    count = data.draw(st.integers(1, 40))
    gaps = data.draw(st.none() | st.lists(st.integers(1, 40), min_size=count, max_size=count))
    varied = suffix in (".mp4", ".mkv", ".webm") and codec in ("libx264", "ffv1", "libvpx-vp9")
    path = make_video(
        tmp_path / f"clip{suffix}",
        codec,
        count,
        gop=data.draw(st.integers(1, 15)),
        bframes=data.draw(st.integers(0, 3)),
        times=(10 * np.cumsum(gaps)).tolist() if varied and gaps else None,
        drop=data.draw(st.sampled_from([0, 0, 1, 3])) if suffix == ".ts" and count > 15 else 0,
        **options,
    )
    expected = all_frames(path)
    wanted = data.draw(st.lists(st.integers(0, len(expected) - 1), min_size=1, max_size=8))
    assert_frames(read_video(path, wanted), [expected[i] for i in wanted])


def test_six_frames_of_a_long_video_decode_a_fraction_of_it(tmp_path: Path) -> None:
    film = Film(origin_of(make_video(tmp_path / "long.mp4", frames=240, gop=24)))
    packets = film._packets
    assert (packets.regular, int(packets.entry.sum())) == (True, 10)
    times = packets.times()
    wanted = [int(np.flatnonzero(packets.pts == times[i])[0]) for i in (20, 60, 100, 140, 180, 220)]
    runs = plan(packets, wanted)
    assert [run.wanted for run in runs] == [{number} for number in wanted]
    assert all(packets.entry[run.first] and run.last - run.first < 24 for run in runs)


def test_only_the_chosen_frames_become_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    convert = films.frame_to_rgb

    def counted(*arguments: Any) -> Any:
        made.append(1)
        return convert(*arguments)

    monkeypatch.setattr(films, "frame_to_rgb", counted)
    for name in ("a.mp4", "a.avi"):  # one that is sought in, one that is decoded as a whole
        path = make_video(tmp_path / name, frames=60)
        made.clear()
        read_video(path, 6)
        assert len(made) == 6


def test_a_picture_that_is_built_up_bit_by_bit_is_no_place_to_start(tmp_path: Path) -> None:
    refresh = {"x264-params": "intra-refresh=1"}
    film = Film(origin_of(make_video(tmp_path / "a.ts", frames=40, **refresh)))
    assert film._packets.entry.tolist() == [True] + [False] * 39


def test_frames_that_refer_to_what_was_not_recorded_do_not_count(tmp_path: Path) -> None:
    for name, codec in (("a.ts", "mpeg2video"), ("b.ts", "libx264")):
        path = make_video(tmp_path / name, codec, 40, drop=3)
        expected = all_frames(path)
        assert len(expected) < 40
        assert len(Film(origin_of(path)).timeline.seconds) == len(expected)


def test_frames_before_an_edit_lists_start_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "edit.mp4"
    unshifted = {"avoid_negative_ts": "disabled"}
    with av.open(str(path), "w", container_options=unshifted) as container:
        stream = add_track(container, "libx264", gop=30)
        for packet in encoded(stream, 30):
            shift = round(Fraction(12, 10) / packet.time_base)  # 12 frames
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            container.mux(packet)
    packets = Film(origin_of(path))._packets
    assert (len(packets.pts), int(packets.shown.sum())) == (30, 18)
    expected = all_frames(path)
    assert len(expected) == 18
    assert_frames(read_video(path, [0, 5, 17]), [expected[i] for i in (0, 5, 17)])
    whole = all_frames(make_video(tmp_path / "whole.mp4", frames=30, gop=30))
    assert_frames(expected, whole[12:])


# ---- times


def test_times_choose_among_the_frames_shown_between_them(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=40)
    expected = all_frames(path)
    assert_frames(read_video(path, range(5), start=1.0, end=1.5), expected[10:15])
    assert_frames(read_video(path, [0], start=3.9), expected[39:])
    assert_frames(read_video(path, 2, start=1.01, end=1.42), [expected[i] for i in (12, 14)])
    indices = 10 + sample_frame_indices(30, 6, "document", 5, 2)
    found = read_video(path, 6, "document", 5, 2, start=1)
    assert_frames(found, [expected[i] for i in indices])


def test_a_frame_that_stands_long_is_the_one_at_a_time_within(tmp_path: Path) -> None:
    path = make_video(tmp_path / "slides.mkv", frames=4, times=[0, 500, 1000, 1010])
    expected = all_frames(path)
    assert_frames(read_video(path, 3, start=6, end=7), [expected[1]] * 3)


def test_times_without_frames_and_frames_that_are_not_there_are_refused(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=20)
    with pytest.raises(VideoFileError, match=r"a.mp4 is 2.000 s long; .* \(start is 2 s\)"):
        read_video(path, 1, start=2)
    with pytest.raises(VideoFileError, match=r"has 20 frames; frame 20 is not among them"):
        read_video(path, [3, 20])
    with pytest.raises(VideoFileError, match=r"has 10 frames in the part chosen; frame 11"):
        read_video(path, [11], start=1)
    with pytest.raises(ValueError, match=r"end is 1; expected None, or seconds after start, 1"):
        read_video(path, 1, start=1, end=1)
    for wrong in ([], [-1], [1.5], "x"):
        with pytest.raises(ValueError, match=r"frames is .*; expected a number of frames, or"):
            read_video(path, wrong)  # type: ignore[arg-type]
    for wrong_start in (-1, float("nan"), float("inf"), "1"):
        with pytest.raises(ValueError, match=r"start is .*; expected seconds"):
            read_video(path, 1, start=wrong_start)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["h264.mp4", "h264.avi"])
def test_a_generator_moves_on_by_one_draw(kind: str, tmp_path: Path) -> None:
    suffix, codec, options = KINDS[kind]
    path = make_video(tmp_path / f"a{suffix}", codec, 40, **options)
    used, fresh = np.random.RandomState(3), np.random.RandomState(3)
    read_video(path, 3, "document", used)
    sample_frame_indices(40, 3, "document", fresh)
    assert used.randint(2**31) == fresh.randint(2**31)


# ---- pixels

# What a player shows of a picture stored as [[1, 2], [3, 4]], for each matrix of a camera.
TURNED = {
    (1, 0, 0, 1): [[1, 2], [3, 4]],
    (0, 1, -1, 0): [[3, 1], [4, 2]],
    (-1, 0, 0, -1): [[4, 3], [2, 1]],
    (0, -1, 1, 0): [[2, 4], [1, 3]],
    (-1, 0, 0, 1): [[2, 1], [4, 3]],
    (1, 0, 0, -1): [[3, 4], [1, 2]],
    (0, 1, 1, 0): [[1, 3], [2, 4]],
    (0, -1, -1, 0): [[4, 2], [3, 1]],
}


@pytest.mark.parametrize("matrix", TURNED)
def test_a_display_matrix_turns_the_picture(matrix: tuple[int, ...], tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=3)
    (stored,) = read_video(path, 1)
    (found,) = read_video(turn(path, matrix), 1)
    (a, b), (c, d) = TURNED[matrix]
    corners = {1: stored[0, 0], 2: stored[0, -1], 3: stored[-1, 0], 4: stored[-1, -1]}
    assert found.shape == ((64, 96, 3) if matrix[0] else (96, 64, 3))
    for place, number in (((0, 0), a), ((0, -1), b), ((-1, 0), c), ((-1, -1), d)):
        np.testing.assert_array_equal(found[place], corners[number])
    assert found.sum(dtype=int) == stored.sum(dtype=int)  # nothing was scaled


def test_an_angle_between_is_rotated_and_nonsense_is_not() -> None:
    half = round(65536 * 2**-0.5)
    matrix = np.array([half, half, 0, -half, half, 0, 0, 0, 1 << 30], np.int32)
    assert turns(matrix) == [("rotate", "45*PI/180")]
    assert turns(np.zeros(9, np.int32)) == []
    assert turns(None) == []


def test_pixels_that_are_not_square_become_square(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=3, aspect=Fraction(3, 2))
    (found,) = read_video(path, 1)
    assert found.shape == (64, 144, 3)
    assert_frames([found], [all_frames(path, Fraction(3, 2))[1]])
    plain = all_frames(path)[1]
    assert abs(found.mean() - plain.mean()) < 1
    turned = turn(path, (0, 1, -1, 0))
    assert read_video(turned, 1)[0].shape == (96, 42, 3)  # 64 / 1.5


def test_fields_of_interlaced_frames_stay_woven(tmp_path: Path) -> None:
    lossless = {"qp": "0", "x264-params": "tff=1"}

    path = make_video(tmp_path / "a.mkv", frames=4, interlaced=True, **lossless)
    with av.open(str(path)) as container:
        assert all(frame.interlaced_frame for frame in container.decode(video=0))
    same = make_video(tmp_path / "b.mkv", frames=4, qp="0")
    assert_frames(read_video(path, range(4)), read_video(same, range(4)))


@pytest.mark.parametrize("planes", [(600, 400, 700), (940, 512, 512), (300, 560, 480)])
def test_wide_frames_of_hdr_are_converted_and_not_tone_mapped(
    planes: tuple[int, int, int], tmp_path: Path
) -> None:
    path = tmp_path / "hdr.mkv"
    with av.open(str(path), "w") as container:
        stream = add_track(container, "ffv1", pixels="yuv420p10le")
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace = 9, 16, 9  # BT.2020, PQ
        context.color_range = 1
        frame = av.VideoFrame(96, 64, "yuv420p10le")
        for plane, value in zip(frame.planes, planes, strict=True):
            plane.update(np.full(plane.buffer_size // 2, value, np.uint16).tobytes())
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    y, u, v = (planes[0] - 64) / 876, (planes[1] - 512) / 896, (planes[2] - 512) / 896
    red, blue = y + 1.4746 * v, y + 1.8814 * u
    green = (y - 0.2627 * red - 0.0593 * blue) / 0.6780
    expected = np.clip([red, green, blue], 0, 1) * 255
    (found,) = read_video(path, 1)
    assert found.shape == (64, 96, 3)
    assert np.abs(found - expected).max() < 4  # by the tables of swscale; PQ mapped is far off


def test_the_matrix_of_colours_that_a_file_names_counts(tmp_path: Path) -> None:
    plain = read_video(make_video(tmp_path / "a.mkv", frames=1), 1)[0]
    named = read_video(make_video(tmp_path / "b.mkv", frames=1, colour=(1, 1, 1)), 1)[0]
    assert np.abs(plain.astype(int) - named).max() > 10


# ---- tracks


def two_tracks(path: Path, sizes: list[tuple[int, int]], default: int | None) -> Path:
    with av.open(str(path), "w") as container:
        tracks = [add_track(container, "ffv1", size=size, pixels="yuv444p") for size in sizes]
        for number, track in enumerate(tracks):
            track.disposition = 1 if number == default else 0
        for track, size in zip(tracks, sizes, strict=True):
            for packet in encoded(track, 4, None, "yuv444p", size):
                container.mux(packet)
    return path


def test_of_several_tracks_it_is_the_default_one_or_the_largest(tmp_path: Path) -> None:
    small, large = (16, 16), (48, 32)
    first = two_tracks(tmp_path / "a.mkv", [small, large], 0)
    assert read_video(first, 1)[0].shape == (16, 16, 3)
    best = two_tracks(tmp_path / "b.nut", [small, large], None)
    assert read_video(best, 1)[0].shape == (32, 48, 3)


class _Track:
    def __init__(self, index: int, *marks: str, frames: int = 0, width: int = 40) -> None:
        self.index, self.frames, self.width, self.height = index, frames, width, 30
        self.disposition = av.stream.Disposition(0)
        for mark in marks:
            self.disposition |= av.stream.Disposition[mark]


class _Container:
    def __init__(self, *tracks: _Track) -> None:
        self.streams = self
        self.video = tracks


def test_a_cover_picture_or_the_still_of_an_avif_is_never_the_video() -> None:
    cover = _Track(0, "default", "attached_pic", width=900)
    still, film = _Track(1, "default", frames=1, width=900), _Track(2, frames=10)
    assert films.track_of(_Container(cover, still, film), "a.avif") is film
    assert films.track_of(_Container(cover, still), "a.avif") is still
    with pytest.raises(VideoFileError, match=r"a.mp3 has a cover picture only; expected a video"):
        films.track_of(_Container(cover), "a.mp3")
    with pytest.raises(VideoFileError, match=r"a.mp3 has no video stream; expected a video"):
        films.track_of(_Container(), "a.mp3")


# ---- sources


def test_a_video_may_be_bytes_or_a_stream(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=20)
    expected = read_video(path, 3)
    assert_frames(read_video(path.read_bytes(), 3), expected)
    with path.open("rb") as stream:
        assert_frames(read_video(stream, 3), expected)
    with pytest.raises(VideoFileError, match=r"The video data \(0 bytes\) is empty"):
        read_video(b"", 3)
    with pytest.raises(VideoFileError, match="A video is a path, bytes or a binary file; found"):
        read_video(3, 3)  # type: ignore[arg-type]


def test_a_name_with_a_colon_is_a_file(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=4)
    odd = path.rename(tmp_path / "concat:b %03d.mp4")
    assert read_video(odd, 1)[0].shape == drawing(0).shape
