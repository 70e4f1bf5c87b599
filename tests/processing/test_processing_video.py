"""Videos: the VideoMAE processor, the choice of frames, the decoding; and whole pictures."""

from __future__ import annotations

import importlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from refgit.errors import CheckpointError
from refgit.processing import (
    BertTokenizer,
    CLIPImageProcessor,
    GitProcessor,
    VideoFileError,
    VideoMAEImageProcessor,
    read_video,
    sample_frame_indices,
)
from refgit.processing.image.steps import min_max_size

SMALL = VideoMAEImageProcessor(size=8, crop_size=6)
VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat"]


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# -- frames to pixels ------------------------------------------------------------------------------


def test_each_frame_is_processed_as_a_picture() -> None:
    frames = [Image.fromarray(noise(9, 12, 3, seed=i)) for i in range(4)]
    pictures = CLIPImageProcessor(
        size=8, crop_size=6, resample=2, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    found = SMALL(frames).pixel_values
    assert found.shape == (1, 4, 3, 6, 6)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[0], pictures(frames).pixel_values)


def test_one_video_is_a_batch_of_one_in_every_form() -> None:
    array = noise(4, 9, 12, 3)
    expected = SMALL([Image.fromarray(frame) for frame in array]).pixel_values
    forms: list[Any] = [list(array), tuple(array), [list(array)], array, [array], array[None]]
    forms += [array.transpose(0, 3, 1, 2), [frame.transpose(2, 0, 1) for frame in array]]
    for form in forms:
        np.testing.assert_array_equal(SMALL(form).pixel_values, expected)


def test_several_videos_are_a_batch_in_every_form() -> None:
    array = noise(2, 3, 9, 12, 3)
    expected = np.concatenate([SMALL(video).pixel_values for video in array])
    assert expected.shape == (2, 3, 3, 6, 6)
    for form in ([list(video) for video in array], list(array), array, [list(array[0]), array[1]]):
        np.testing.assert_array_equal(SMALL(form).pixel_values, expected)


def test_a_frame_alone_is_a_video_of_one_frame() -> None:
    array = noise(9, 12, 3)
    assert SMALL(array).pixel_values.shape == (1, 1, 3, 6, 6)
    np.testing.assert_array_equal(
        SMALL(Image.fromarray(array)).pixel_values, SMALL(array)["pixel_values"]
    )


def test_the_layout_is_inferred_for_each_frame() -> None:
    array = noise(9, 12, 3)
    found = SMALL([array, array.transpose(2, 0, 1), Image.fromarray(array)]).pixel_values[0]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I", "F"])
def test_frames_without_three_channels_become_rgb(mode: str) -> None:
    frame = Image.fromarray(noise(9, 12, 3)).convert("L" if mode in "IF" else "RGB").convert(mode)
    expected = SMALL(frame.convert("RGB")).pixel_values
    np.testing.assert_array_equal(SMALL([frame]).pixel_values, expected)


def test_without_tensors_videos_come_as_lists_of_frames() -> None:
    found = SMALL([[noise(9, 12, 3)], [noise(9, 9, 3)] * 2], None, do_center_crop=False)
    assert [[f.shape for f in v] for v in found.pixel_values] == [[(3, 8, 10)], [(3, 8, 8)] * 2]


def test_fractions_that_will_be_rescaled_again_are_pointed_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    frame = np.random.default_rng(0).random((8, 8, 3))
    with caplog.at_level(logging.WARNING):
        SMALL([frame], do_rescale=False)
        assert not caplog.text
        SMALL([frame])
    assert "do_rescale=False" in caplog.text


@pytest.mark.parametrize(
    ("videos", "error", "words"),
    [
        ([], ValueError, "videos is empty"),
        (np.zeros((0, 4, 4, 3), np.uint8), ValueError, "videos is empty"),
        ([[]], ValueError, r"videos\[0\] is empty"),
        ([[noise(4, 4, 3)], noise(4, 4, 3)], TypeError, r"videos\[1\] is of type ndarray"),
        ([noise(4, 4, 3), [noise(4, 4, 3)]], TypeError, r"videos\[0\] is of type ndarray"),
        ([[[noise(4, 4, 3)]]], TypeError, r"videos\[0\]\[0\] is a list"),
        ([noise(4, 4, 3), 7], TypeError, r"videos\[1\] is of type int"),
        ([[noise(4, 4, 3), noise(4, 4, 4)]], ValueError, r"videos\[0\]\[1\] has shape \(4, 4, 4\)"),
        ("clip.mp4", TypeError, "videos is of type str"),
        ([[noise(4, 4, 3)], [noise(4, 4, 3)] * 2], ValueError, r"numbers of frames, \[1, 2\]"),
    ],
)
def test_what_is_no_video_is_refused_in_a_sentence(videos: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        SMALL(videos)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"return_tensors": "pt"}, ValueError, 'accepts "np"'),
        ({"do_convert_rgb": True}, TypeError, "do_convert_rgb"),
        ({"size": 0}, ValueError, "whole number of pixels"),
        ({"image_std": 0.0}, ValueError, "divided by"),
        ({"do_center_crop": False}, ValueError, "different sizes"),
    ],
)
def test_settings_without_meaning_are_refused_by_name(
    options: dict[str, Any], error: Any, words: str
) -> None:
    with pytest.raises(error, match=words):
        SMALL([noise(4, 5, 3), noise(4, 9, 3)], **options)


# -- settings --------------------------------------------------------------------------------------

VATEX = {
    "do_center_crop": True,
    "do_normalize": True,
    "crop_size": {"height": 6, "width": 5},
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": {"shortest_edge": 8},
}
TYPES = [
    ("image_processor_type", "VideoMAEImageProcessor"),
    ("feature_extractor_type", "VideoMAEFeatureExtractor"),
]


@pytest.mark.parametrize(("key", "kind"), TYPES)
def test_the_checkpoint_says_which_processor_it_has(key: str, kind: str, tmp_path: Path) -> None:
    GitProcessor(CLIPImageProcessor(), BertTokenizer.from_vocab(VOCAB)).save_pretrained(tmp_path)
    assert isinstance(GitProcessor.from_pretrained(tmp_path).image_processor, CLIPImageProcessor)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**VATEX, key: kind}))
    processor = GitProcessor.from_pretrained(tmp_path)
    assert isinstance(processor.image_processor, VideoMAEImageProcessor)
    frames = [noise(9, 12, 3)] * 2
    found = processor(images=frames, text="a cat", return_tensors="np", do_resize=False)
    assert list(found) == ["input_ids", "attention_mask", "pixel_values"]
    assert found.pixel_values.shape == (1, 2, 3, 6, 5)
    assert processor([frames] * 3, return_tensors="np").pixel_values.shape == (3, 2, 3, 6, 5)
    with pytest.raises(TypeError, match="do_convert_rgb is not an option"):
        processor(images=frames, do_convert_rgb=True)


def test_the_type_is_written_back_with_every_setting(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({**VATEX, "feature_extractor_type": "VideoMAEFeatureExtractor", "more": 1})
    )
    processor = VideoMAEImageProcessor.from_pretrained(tmp_path)
    processor.save_pretrained(tmp_path / "new")
    assert VideoMAEImageProcessor.from_pretrained(tmp_path / "new").to_dict() == processor.to_dict()
    written = json.loads((tmp_path / "new" / "preprocessor_config.json").read_text())
    assert written["image_processor_type"] == "VideoMAEImageProcessor"
    assert {key: written[key] for key in VATEX} == VATEX
    assert written["more"] == 1
    assert "do_convert_rgb" not in written
    assert "respect_ratio_max" not in written


def test_settings_of_pictures_are_not_those_of_videos(tmp_path: Path) -> None:
    CLIPImageProcessor().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="VideoMAEImageProcessor expects one of"):
        VideoMAEImageProcessor.from_pretrained(tmp_path)


# -- whole pictures: respect_ratio_max -------------------------------------------------------------

sides = st.integers(1, 3000)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (480, 640)),  # as it is
        ((240, 320), (480, 640)),
        ((500, 500), (480, 480)),
        ((333, 1000), (213, 639)),  # 213.12, then 639.6
        ((667, 1000), (427, 640)),  # 426.88, then 640.2
        ((15, 1000), (10, 666)),  # 9.6 rounds up, and the long side passes the limit
        ((1, 1000), (1, 1000)),  # 0.64 rounds up
        ((1, 1280), (1, 640)),  # 0.5 rounds to the even 0, which no picture can be
        ((1, 100000), (1, 640)),
        ((1, 1), (480, 480)),
    ],
)
def test_whole_picture_has_the_size_of_the_published_evaluation(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert min_max_size(*size, 480, 640) == expected
    assert min_max_size(*size[::-1], 480, 640) == expected[::-1]


@given(sides, sides, st.integers(1, 500), st.integers(1, 700))
def test_whole_picture_stays_within_its_limits(
    height: int, width: int, edge: int, longest: int
) -> None:
    short, long = sorted(min_max_size(height, width, edge, longest))
    ratio = max(height, width) / min(height, width)
    assert 1 <= short <= edge
    assert long <= longest + ratio / 2 + 1e-9
    if ratio * edge <= longest:  # computed as the rule does, so equal at the limit
        assert short == edge
    if longest / ratio >= 1:
        assert long / ratio - 1e-9 <= short < (long + 1) / ratio + 1e-9


def test_whole_picture_is_resized_and_not_cropped() -> None:
    picture = Image.fromarray(noise(12, 40, 3))
    processor = CLIPImageProcessor(size=12, crop_size=6, respect_ratio_max=30)
    found = processor(picture, image_mean=0.0, image_std=1.0).pixel_values
    assert found.shape == (1, 3, 9, 30)
    resized = np.asarray(picture.resize((30, 9), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(np.rint(found[0] * 255).transpose(1, 2, 0), resized)
    assert CLIPImageProcessor(size=12, crop_size=6)(picture).pixel_values.shape == (1, 3, 6, 6)
    same = CLIPImageProcessor(size=12, crop_size=6)(picture, respect_ratio_max=30).pixel_values
    np.testing.assert_array_equal(same, processor(picture).pixel_values)


def test_respect_ratio_max_is_written_only_when_set(tmp_path: Path) -> None:
    assert "respect_ratio_max" not in CLIPImageProcessor().to_dict()
    processor = CLIPImageProcessor(size=480, respect_ratio_max=640)
    processor.save_pretrained(tmp_path)
    assert CLIPImageProcessor.from_pretrained(tmp_path).respect_ratio_max == 640


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"respect_ratio_max": 0}, "respect_ratio_max is 0"),
        ({"respect_ratio_max": True}, "respect_ratio_max is True"),
        ({"respect_ratio_max": 6.5}, "respect_ratio_max is 6.5"),
        ({"respect_ratio_max": 640, "size": [4, 5]}, "keeps the aspect ratio"),
    ],
)
def test_respect_ratio_max_without_meaning_is_refused(options: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        CLIPImageProcessor(**options)


# -- which frames ----------------------------------------------------------------------------------

counts = st.integers(1, 300)


@given(counts, st.integers(1, 20))
def test_even_frames_are_the_middles_of_equal_parts(count: int, frames: int) -> None:
    indices = sample_frame_indices(count, frames)
    assert indices.dtype == np.int64
    assert indices.shape == (frames,)
    middles = (np.arange(frames) + 0.5) * count / frames
    assert np.all((indices <= middles + 1e-9) & (middles < indices + 1 + 1e-9))
    assert np.all(np.diff(indices) >= (1 if frames <= count else 0))
    assert 0 <= indices[0] <= indices[-1] < count


def test_even_frames_of_a_short_video_repeat() -> None:
    assert sample_frame_indices(2, 6).tolist() == [0, 0, 0, 1, 1, 1]
    assert sample_frame_indices(6, 6).tolist() == [0, 1, 2, 3, 4, 5]
    assert sample_frame_indices(12, 6).tolist() == [1, 3, 5, 7, 9, 11]


@given(counts, st.integers(1, 8), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_document_frames_spread_over_a_clip(count: int, frames: int, rate: int, seed: int) -> None:
    clip = frames * rate
    if count <= clip:
        with pytest.raises(ValueError, match=f"expected more than {clip}"):
            sample_frame_indices(count, frames, "document", seed, rate)
        return
    indices = sample_frame_indices(count, frames, "document", seed, rate)
    assert indices.shape == (frames,)
    assert 0 <= indices[0] <= indices[-1] < count
    assert indices[-1] - indices[0] == (clip - 1 if frames > 1 else 0)
    assert np.all(np.diff(indices) >= 1)
    again = sample_frame_indices(count, frames, "document", np.random.default_rng(seed), rate)
    np.testing.assert_array_equal(again, indices)


def test_legacy_generator_draws_what_the_documents_example_draws() -> None:
    end = np.random.RandomState(45).randint(24, 300)
    expected = [end - 24, end - 20, end - 15, end - 10, end - 5, end - 1]
    found = sample_frame_indices(300, 6, "document", np.random.RandomState(45))
    assert found.tolist() == expected


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"frames": 0}, "frames is 0"),
        ({"frames": True}, "frames is True"),
        ({"num_frames_in_video": 0}, "num_frames_in_video is 0"),
        ({"frame_sample_rate": 1.5}, "frame_sample_rate is 1.5"),
        ({"sampling": "random"}, 'sampling is \'random\'; expected "even" or "document"'),
    ],
)
def test_choices_without_meaning_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        sample_frame_indices(**{"num_frames_in_video": 9, "frames": 2, **options})


# -- files -----------------------------------------------------------------------------------------


def test_missing_decoder_is_said_with_the_file_and_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> None:
        raise ImportError(name)

    (tmp_path / "clip.mp4").write_bytes(b"x")
    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(ImportError, match=r"clip.mp4 needs PyAV.*pip install av"):
        read_video(tmp_path / "clip.mp4", 6)


def test_files_that_are_none_are_named_without_a_decoder(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(VideoFileError, match=r"empty.mp4 is empty"):
        read_video(tmp_path / "empty.mp4", 6)
    with pytest.raises(VideoFileError, match="is a directory"):
        read_video(tmp_path, 6)
    with pytest.raises(VideoFileError, match=r"none.mp4 does not exist"):
        read_video(str(tmp_path / "none.mp4"), 6)
    with pytest.raises(ValueError, match="sampling is 'odd'"):
        read_video(tmp_path / "none.mp4", 6, sampling="odd")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty frames of 48 x 32 pixels, frame i grey 8 i, without loss but for the colour space."""
    av = pytest.importorskip("av", reason="decoding needs PyAV: pip install av")
    path = tmp_path_factory.mktemp("video") / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv444p"
        for i in range(30):
            grey = np.full((32, 48, 3), 8 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def brightness(frames: list[np.ndarray]) -> list[int]:
    return [round(float(frame.mean()) / 8) for frame in frames]


def test_frames_read_are_the_frames_chosen(clip: Path) -> None:
    frames = read_video(clip, 6)
    assert all(frame.shape == (32, 48, 3) and frame.dtype == np.uint8 for frame in frames)
    assert brightness(frames) == sample_frame_indices(30, 6).tolist()
    assert brightness(read_video(clip, 40)) == sample_frame_indices(30, 40).tolist()
    for seed in range(3):
        expected = sample_frame_indices(30, 6, "document", seed).tolist()
        assert brightness(read_video(clip, 6, "document", seed)) == expected
    assert SMALL(frames).pixel_values.shape == (1, 6, 3, 6, 6)


def test_video_too_short_for_the_document_is_named(clip: Path) -> None:
    with pytest.raises(VideoFileError, match=r"clip.mkv: .*clip of 32, and the video has 30"):
        read_video(clip, 8, "document")


def test_file_that_is_no_video_is_named(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.mkv").write_bytes(clip.read_bytes()[:100])
    with pytest.raises(VideoFileError, match=r"cut.mkv is cut short: 100 of at least"):
        read_video(tmp_path / "cut.mkv", 6)
    (tmp_path / "text.mp4").write_text("not a video" * 100)
    with pytest.raises(VideoFileError, match=r"text.mp4 cannot be decoded as a video: Invalid"):
        read_video(tmp_path / "text.mp4", 6)
