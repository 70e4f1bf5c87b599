"""Pixels in either layout, and the single steps of the image processors as methods."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from refgit.processing import CLIPImageProcessor, VideoMAEImageProcessor

CLIP = CLIPImageProcessor(size=8, crop_size={"height": 6, "width": 5})
VIDEO = VideoMAEImageProcessor(size=8, crop_size={"height": 6, "width": 5})
KINDS = [CLIPImageProcessor, VideoMAEImageProcessor]


def noise(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("processor", [CLIP, VIDEO])
def test_channels_stand_where_they_are_asked_for(processor: Any) -> None:
    image = noise(10, 12, 3)
    first = processor(image).pixel_values
    assert first.shape[-3:] == (3, 6, 5)
    last = processor(image, data_format="channels_last").pixel_values
    assert last.shape == (*first.shape[:-3], 6, 5, 3)
    np.testing.assert_array_equal(np.moveaxis(last, -1, -3), first)
    assert last.dtype == np.float32
    assert last.flags.c_contiguous


@pytest.mark.parametrize("processor", [CLIP, VIDEO])
def test_without_a_layout_the_first_picture_decides(processor: Any) -> None:
    image = noise(10, 12, 3)
    for given, wanted in (
        (image, "channels_last"),
        (Image.fromarray(image), "channels_last"),
        (image[:, :, 0], "channels_last"),
        (image.transpose(2, 0, 1), "channels_first"),
    ):
        found = processor(given, data_format=None).pixel_values
        np.testing.assert_array_equal(
            found, processor(given, data_format=wanted).pixel_values, strict=True
        )


def test_lists_of_different_pictures_stand_in_the_layout_too() -> None:
    batch = [noise(10, 12, 3), noise(9, 20, 3)]
    found = CLIP(batch, None, do_center_crop=False, data_format="channels_last").pixel_values
    assert [array.shape for array in found] == [(8, 9, 3), (8, 17, 3)]
    with pytest.raises(ValueError, match=r"different sizes \[\(8, 9\), \(8, 17\)\]"):
        CLIP(batch, do_center_crop=False, data_format="channels_last")


@pytest.mark.parametrize("kind", KINDS)
def test_the_single_steps_make_up_the_pixels(kind: Any) -> None:
    processor = kind(size=8, crop_size=6)
    image = noise(10, 12, 3).transpose(2, 0, 1)
    step = processor.resize(image, processor.size, processor.resample)
    np.testing.assert_array_equal(step, processor.resize(image, 8))
    step = processor.center_crop(step, processor.crop_size)
    step = processor.rescale(step, processor.rescale_factor)
    step = processor.normalize(step, processor.image_mean, processor.image_std)
    np.testing.assert_array_equal(processor(image).pixel_values.reshape(3, 6, 6), step, strict=True)


STEPS: list[tuple[str, tuple[Any, ...]]] = [
    ("resize", ({"height": 4, "width": 7},)),
    ("center_crop", ({"height": 12, "width": 7},)),
    ("rescale", (1 / 255,)),
    ("normalize", (0.5, 0.25)),
]


@pytest.mark.parametrize(("name", "arguments"), STEPS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_step_keeps_the_layout_unless_told_otherwise(
    name: str, arguments: tuple[Any, ...], channels: int
) -> None:
    last = noise(10, 12, channels)
    first = last.transpose(2, 0, 1)
    step = getattr(CLIP, name)
    wanted = step(last, *arguments)
    assert wanted.shape[2] == channels
    np.testing.assert_array_equal(step(first, *arguments).transpose(1, 2, 0), wanted, strict=True)
    np.testing.assert_array_equal(step(first, *arguments, data_format="channels_last"), wanted)
    stated = step(last, *arguments, data_format="channels_first", input_data_format="channels_last")
    np.testing.assert_array_equal(stated.transpose(1, 2, 0), wanted)


def test_a_step_has_the_dtype_of_its_arithmetic() -> None:
    image = noise(10, 12, 3)
    assert CLIP.resize(image, 4).dtype == np.uint8
    assert CLIP.resize(image / 255, 4).dtype == np.float32
    assert CLIP.center_crop(image.astype(np.int16), 4).dtype == np.int16
    assert CLIP.rescale(image, 0.5).dtype == np.float32
    assert CLIP.normalize(image, 0.5, 0.5).dtype == np.float32
    assert CLIP.normalize(image.astype(np.float64), 0.5, 0.5).dtype == np.float64


def test_the_usual_filter_is_that_of_the_class_whatever_the_settings() -> None:
    image = noise(10, 12, 3)
    clip, video = CLIPImageProcessor(resample=0), VideoMAEImageProcessor(resample=0)
    np.testing.assert_array_equal(clip.resize(image, 5), clip.resize(image, 5, 3))
    np.testing.assert_array_equal(video.resize(image, 5), video.resize(image, 5, 2))
    assert not np.array_equal(clip.resize(image, 5), video.resize(image, 5))


IMAGE = noise(10, 12, 3)


@pytest.mark.parametrize(
    ("name", "arguments", "options", "error", "words"),
    [
        ("resize", (Image.fromarray(IMAGE), 4), {}, TypeError, "image is a PIL image"),
        ("resize", ("a.png", 4), {}, TypeError, "image is of type str; expected an array"),
        ("resize", (IMAGE[:, :, 0], 4), {}, ValueError, "image has 2 dimensions"),
        ("resize", (noise(5, 6, 2), 4), {}, ValueError, "neither its first nor its last axis"),
        ("resize", (IMAGE, {"longest_edge": 4}), {}, ValueError, "size is"),
        ("resize", (IMAGE, 4, 9), {}, ValueError, "resample is 9"),
        ("center_crop", (IMAGE, {"shortest_edge": 4}), {}, ValueError, "size is"),
        ("rescale", (IMAGE, "half"), {}, ValueError, "scale is 'half'"),
        ("rescale", (IMAGE * np.nan, 2), {}, ValueError, "NaN or infinite"),
        ("normalize", (IMAGE, [0.5], 1), {}, ValueError, "mean has 1 values.*expected 3"),
        ("normalize", (IMAGE, 0.5, [1, 0, 1]), {}, ValueError, "std is .*no value may be 0"),
        ("rescale", (IMAGE, 2), {"data_format": "up"}, ValueError, "data_format is 'up'"),
        ("rescale", (IMAGE, 2), {"input_data_format": "up"}, ValueError, "input_data_format is"),
    ],
)
def test_a_step_without_meaning_is_refused_in_a_sentence(
    name: str, arguments: Any, options: dict[str, Any], error: Any, words: str
) -> None:
    with pytest.raises(error, match=words):
        getattr(CLIP, name)(*arguments, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_settings_as_text_are_their_file(kind: Any, tmp_path: Path) -> None:
    processor = kind(size=9, image_mean=[0.1, 0.2, 0.3], extra={"note": "é"})
    processor.save_pretrained(tmp_path)
    text = processor.to_json_string()
    assert text == (tmp_path / "preprocessor_config.json").read_text(encoding="utf-8")
    assert kind.from_dict(json.loads(text)).to_json_string() == text
