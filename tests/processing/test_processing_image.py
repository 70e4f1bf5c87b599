"""The image processor: golden values of the oracle, properties of each step, refusals."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from safetensors.numpy import load_file

from refgit.errors import CheckpointError
from refgit.processing import CLIPImageProcessor, ImageFileError, load_image
from refgit.processing.image.steps import (
    center_crop,
    normalize,
    rescale,
    resize,
    shortest_edge_size,
)

DATA = Path(__file__).parents[2] / "golden" / "data"
CASES = json.loads((DATA / "processing.json").read_text(encoding="utf-8"))
SMALL = CLIPImageProcessor(size=8, crop_size=6)


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    return load_file(DATA / "processing.safetensors")


def picture_of(case: dict[str, Any], tensors: dict[str, np.ndarray]) -> Image.Image:
    name, data = case["name"], tensors[f"{case['name']}.input"].tobytes()
    picture = Image.frombytes(case["mode"], tuple(case["size"]), data)
    if case["mode"] == "P":
        picture.putpalette(tensors[f"{name}.palette"].tobytes())
    return picture


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# -- golden ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES["pictures"], ids=lambda case: case["name"])
def test_picture_gives_the_oracles_pixels(case: Any, tensors: dict[str, np.ndarray]) -> None:
    processor = CLIPImageProcessor.from_dict(case["settings"])
    found = processor(picture_of(case, tensors), **case["options"])["pixel_values"]
    np.testing.assert_array_equal(found, tensors[f"{case['name']}.pixel_values"], strict=True)


@pytest.mark.parametrize("case", CASES["arrays"], ids=lambda case: case["name"])
def test_array_gives_the_oracles_pixels(case: Any, tensors: dict[str, np.ndarray]) -> None:
    processor = CLIPImageProcessor.from_dict(case["settings"])
    found = processor(tensors[f"{case['name']}.input"], **case["options"])["pixel_values"]
    np.testing.assert_array_equal(found, tensors[f"{case['name']}.pixel_values"], strict=True)


# -- steps -----------------------------------------------------------------------------------------

images = hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3)))
lengths = st.integers(1, 20)


@given(images, lengths, lengths)
def test_centre_crop_has_the_size_asked_for_and_loses_nothing_it_need_not(
    image: np.ndarray, height: int, width: int
) -> None:
    cropped = center_crop(image, height, width)
    assert cropped.shape == (height, width, 3)
    assert cropped.dtype == image.dtype
    if height >= image.shape[0] and width >= image.shape[1]:
        assert np.sort(cropped, None)[-image.size :].tolist() == np.sort(image, None).tolist()
        assert np.count_nonzero(cropped) == np.count_nonzero(image)


@given(images)
def test_centre_crop_to_the_same_size_changes_nothing(image: np.ndarray) -> None:
    np.testing.assert_array_equal(center_crop(image, *image.shape[:2]), image)


def test_odd_padding_puts_the_extra_zero_before_the_image() -> None:
    padded = center_crop(np.ones((1, 2, 3)), 2, 5)[..., 0]
    assert padded.tolist() == [[0, 0, 0, 0, 0], [0, 0, 1, 1, 0]]


def test_odd_crop_leaves_the_extra_pixel_after_it() -> None:
    row = np.arange(6.0).reshape(1, 6, 1)
    assert center_crop(row, 1, 3).ravel().tolist() == [1, 2, 3]


@given(st.integers(1, 2000), st.integers(1, 2000), st.integers(1, 500))
def test_shortest_edge_keeps_the_aspect_ratio_to_within_a_pixel(
    height: int, width: int, edge: int
) -> None:
    new_height, new_width = shortest_edge_size(height, width, edge)
    assert min(new_height, new_width) == edge
    exact = edge * max(height, width) / min(height, width)
    assert max(new_height, new_width) <= exact < max(new_height, new_width) + 1
    assert (new_height >= new_width) == (height >= width) or new_height == new_width


@given(st.integers(0, 255), lengths, lengths)
def test_resizing_an_image_of_one_colour_keeps_the_colour(
    value: int, height: int, width: int
) -> None:
    resized = resize(np.full((5, 4, 3), value, np.uint8), height, width, resample=3)
    assert resized.shape == (height, width, 3)
    assert np.unique(resized).tolist() == [value]


def test_fractions_are_truncated_to_bytes_before_resizing() -> None:
    image = np.full((2, 2, 3), 0.999, np.float32)  # 0.999 * 255 = 254.7
    assert np.unique(resize(image, 2, 2, 3)).tolist() == [np.float32(254 / 255)]


def test_values_next_to_whole_numbers_count_as_whole_numbers() -> None:
    assert np.unique(resize(np.full((2, 2, 3), 200.001), 2, 2, 3)).tolist() == [200]
    with pytest.raises(ValueError, match=r"200\.1"):
        resize(np.full((2, 2, 3), 200.1), 2, 2, 3)


@pytest.mark.parametrize("value", [-1.0, 256.0, 1.5, -0.25])
def test_values_that_cannot_be_bytes_are_refused_when_resizing(value: float) -> None:
    with pytest.raises(ValueError, match="whole numbers from 0 to 255 or fractions from 0 to 1"):
        SMALL(np.full((4, 4, 3), value))
    result = SMALL(np.full((4, 4, 3), value), do_resize=False, do_rescale=False)
    assert np.isfinite(result.pixel_values).all()


def test_a_strip_that_would_grow_beyond_the_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="less extreme aspect ratio"):
        CLIPImageProcessor()(Image.new("RGB", (1, 6000)))


@given(images)
def test_normalizing_undoes_scaling_and_shifting(image: np.ndarray) -> None:
    mean, std = [10.0, 20.0, 30.0], [2.0, 4.0, 8.0]
    shifted = image * np.array(std) + np.array(mean)
    np.testing.assert_allclose(normalize(shifted, mean, std), image)


@given(images)
def test_rescaling_brings_bytes_to_the_unit_interval(image: np.ndarray) -> None:
    scaled = rescale(image, 1 / 255)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled * 255, image, rtol=1e-6)


# -- inputs ----------------------------------------------------------------------------------------


@settings(deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(4, 9), st.integers(4, 9), st.just(3))))
def test_channels_first_channels_last_and_pictures_agree(image: np.ndarray) -> None:
    expected = SMALL(Image.fromarray(image)).pixel_values
    for array in (image, image.transpose(2, 0, 1), image.astype(np.float64)):
        np.testing.assert_array_equal(SMALL(array).pixel_values, expected)
    both = SMALL(np.stack([image, image])).pixel_values
    np.testing.assert_array_equal(both, np.concatenate([expected, expected]))
    nested = SMALL([[image], (image,)]).pixel_values
    np.testing.assert_array_equal(nested, both)


def test_pixel_values_are_float32_and_channels_first() -> None:
    pixel_values = CLIPImageProcessor()([Image.new("RGB", (30, 20))] * 2)["pixel_values"]
    assert pixel_values.shape == (2, 3, 224, 224)
    assert pixel_values.dtype == np.float32
    assert pixel_values.flags.c_contiguous


@pytest.mark.parametrize("shape", [(7, 5), (7, 5, 1), (1, 7, 5)])
def test_grey_image_becomes_three_equal_channels(shape: tuple[int, ...]) -> None:
    grey = noise(*shape)
    expected = SMALL(Image.fromarray(grey.reshape(7, 5))).pixel_values
    np.testing.assert_array_equal(SMALL(grey).pixel_values, expected)
    red, green, blue = SMALL(grey, image_mean=0.5, image_std=0.5).pixel_values[0]
    np.testing.assert_array_equal(red, green)
    np.testing.assert_array_equal(green, blue)


def test_picture_one_pixel_high_is_read_as_a_picture() -> None:
    column = noise(9, 1, 3)
    tall = SMALL(Image.fromarray(column)).pixel_values
    wide = SMALL(Image.fromarray(column.transpose(1, 0, 2))).pixel_values
    np.testing.assert_array_equal(wide, tall.transpose(0, 1, 3, 2))


def test_later_image_that_does_not_fit_the_first_ones_layout_is_read_by_its_own() -> None:
    image = noise(7, 5, 3)
    both = SMALL([image, image.transpose(2, 0, 1), Image.fromarray(image)]).pixel_values
    np.testing.assert_array_equal(both[0], both[1])
    np.testing.assert_array_equal(both[0], both[2])


def test_ambiguous_shape_is_read_channels_first_and_said_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    image = noise(3, 8, 3)
    with caplog.at_level(logging.WARNING):
        found = SMALL(image).pixel_values
    assert "(3, 8, 3)" in caplog.text
    first = SMALL(image, input_data_format="channels_first").pixel_values
    last = SMALL(image, input_data_format="channels_last").pixel_values
    np.testing.assert_array_equal(found, first)
    assert not np.array_equal(found, last)


def test_fractions_that_will_be_rescaled_again_are_pointed_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    image = np.random.default_rng(0).random((8, 8, 3))
    with caplog.at_level(logging.WARNING):
        SMALL(image, do_rescale=False)
        assert not caplog.text
        SMALL(image)
    assert "do_rescale=False" in caplog.text


def test_exif_orientation_is_applied_only_when_asked() -> None:
    image = Image.fromarray(noise(8, 6, 3))
    turned = Image.fromarray(np.asarray(image))
    turned.getexif()[0x0112] = 6  # to be seen upright, turn it by 90 degrees clockwise
    plain = SMALL(image).pixel_values
    np.testing.assert_array_equal(SMALL(turned).pixel_values, plain)
    upright = SMALL(image.transpose(Image.Transpose.ROTATE_270)).pixel_values
    np.testing.assert_array_equal(SMALL(turned, exif_transpose=True).pixel_values, upright)
    assert not np.array_equal(upright, plain)


def test_alpha_of_a_palette_is_left_out_without_a_warning() -> None:
    picture = Image.fromarray(noise(8, 8, 3)).quantize(4)
    plain = SMALL(picture).pixel_values
    picture.info["transparency"] = b"\x00\xff\x80\x10"
    np.testing.assert_array_equal(SMALL(picture).pixel_values, plain)
    assert picture.info["transparency"] == b"\x00\xff\x80\x10"


def test_anything_with_an_array_interface_is_an_array() -> None:
    class Wrapped:
        def __init__(self, array: np.ndarray) -> None:
            self.array = array

        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            return self.array

    class Device(Wrapped):
        __cuda_array_interface__: dict[str, Any] = {}  # noqa: RUF012

        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            raise TypeError("copy explicitly")

        def get(self) -> np.ndarray:
            return self.array

    image = noise(7, 5, 3)
    for kind in (Wrapped, Device):
        np.testing.assert_array_equal(SMALL(kind(image)).pixel_values, SMALL(image).pixel_values)


def test_without_tensors_images_of_different_sizes_come_as_a_list() -> None:
    batch = [Image.new("RGB", (8, 8)), Image.new("RGB", (16, 8))]
    shapes = [a.shape for a in SMALL(batch, None, do_center_crop=False).pixel_values]
    assert shapes == [(3, 8, 8), (3, 8, 16)]
    with pytest.raises(ValueError, match="different sizes"):
        SMALL(batch, do_center_crop=False)


@pytest.mark.parametrize(
    ("images", "error", "words"),
    [
        ([], ValueError, "images is empty"),
        (np.zeros((0, 4, 4, 3), np.uint8), ValueError, "images is empty"),
        (None, TypeError, "images is of type NoneType"),
        ("cat.png", TypeError, "load_image"),
        ([Path("cat.png")], TypeError, r"images\[0\].*load_image"),
        ([noise(4, 4, 3), 7], TypeError, r"images\[1\] is of type int"),
        (noise(4), ValueError, "1 dimensions"),
        (noise(1, 1, 4, 4, 3), ValueError, "5 dimensions"),
        (noise(4, 4, 4), ValueError, r"shape \(4, 4, 4\)"),
        (noise(4, 4, 2), ValueError, "1 or 3 channels"),
        (np.zeros((0, 4, 3)), ValueError, "no pixels"),
        (Image.new("RGB", (0, 4)), ValueError, "no pixels"),
        (np.full((4, 4, 3), np.nan), ValueError, "NaN"),
        (np.full((4, 4, 3), np.inf, np.float16), ValueError, "NaN or infinite"),
        (np.zeros((4, 4, 3), complex), ValueError, "dtype complex128"),
        (np.zeros((4, 4, 3), object), ValueError, "dtype object"),
        (Image.new("La", (4, 4)), ValueError, "mode La"),
    ],
)
def test_what_is_no_image_is_refused_in_a_sentence(images: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        SMALL(images)


def test_unconverted_pictures_need_one_or_three_channels() -> None:
    grey = Image.fromarray(noise(6, 6))
    expected = SMALL(grey).pixel_values
    np.testing.assert_array_equal(SMALL(grey, do_convert_rgb=False).pixel_values, expected)
    with pytest.raises(ValueError, match="mode RGBA, 4 channels"):
        SMALL(Image.new("RGBA", (6, 6)), do_convert_rgb=False)
    with pytest.raises(ValueError, match="a palette needs do_convert_rgb=True"):
        SMALL(Image.new("P", (6, 6)), do_convert_rgb=False)


def test_picture_that_breaks_while_decoding_is_refused_in_a_sentence() -> None:
    stream = io.BytesIO()
    Image.fromarray(noise(64, 64, 3)).save(stream, "PNG")
    lazy = Image.open(io.BytesIO(stream.getvalue()[:-4000]))
    with pytest.raises(ValueError, match=r"images\[1\], a PIL image of mode RGB, cannot be read"):
        SMALL([Image.new("RGB", (4, 4)), lazy])


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"return_tensors": "pt"}, ValueError, 'accepts "np"'),
        ({"input_data_format": "none"}, ValueError, "input_data_format"),
        ({"input_data_format": "channels_first"}, ValueError, "4 channels"),
        ({"sise": 3}, TypeError, "sise"),
        ({"size": {"longest_edge": 3}}, ValueError, "size is"),
        ({"size": 0}, ValueError, "whole number of pixels"),
        ({"crop_size": {"shortest_edge": 3}}, ValueError, "crop_size is"),
        ({"crop_size": 2.5}, ValueError, "crop_size is 2.5"),
        ({"resample": 6}, ValueError, "bicubic"),
        ({"rescale_factor": "1/255"}, ValueError, "rescale_factor"),
        ({"image_mean": [0.5, 0.5]}, ValueError, "image_mean has 2 values"),
        ({"image_std": [0.5, 0.0, 0.5]}, ValueError, "image_std.*divided by"),
        ({"do_resize": "yes"}, ValueError, "do_resize"),
    ],
)
def test_settings_without_meaning_are_refused_by_name(
    options: dict[str, Any], error: Any, words: str
) -> None:
    with pytest.raises(error, match=words):
        SMALL(noise(4, 5, 3), **options)


# -- files -----------------------------------------------------------------------------------------


def test_settings_survive_saving_with_the_keys_that_mean_nothing_here(tmp_path: Path) -> None:
    config = {
        "image_processor_type": "CLIPImageProcessorFast",
        "size": 20,
        "crop_size": [18, 16],
        "image_mean": [0.1, 0.2, 0.3],
        "do_pad": None,
        "default_to_square": False,
    }
    processor = CLIPImageProcessor.from_dict(config)
    processor.save_pretrained(tmp_path / "new")
    again = CLIPImageProcessor.from_pretrained(tmp_path / "new")
    assert again == processor
    written = json.loads((tmp_path / "new" / "preprocessor_config.json").read_text())
    assert written["size"] == {"shortest_edge": 20}
    assert written["crop_size"] == {"height": 18, "width": 16}
    assert written["image_processor_type"] == "CLIPImageProcessorFast"
    assert (written["do_pad"], written["default_to_square"]) == (None, False)


def test_settings_are_also_read_from_a_combined_processor_config(tmp_path: Path) -> None:
    combined = {"image_processor": {"size": {"height": 5, "width": 7}}}
    (tmp_path / "processor_config.json").write_text(json.dumps(combined))
    assert CLIPImageProcessor.from_pretrained(tmp_path).size == {"height": 5, "width": 7}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "preprocessor_config.json does not exist"),
        ("{", "preprocessor_config.json is not valid JSON"),
        ("[" * 99999, "preprocessor_config.json is not valid JSON"),
        ("[]", "holds a JSON list"),
        ('{"size": "big"}', "preprocessor_config.json: size is 'big'"),
        ('{"image_processor_type": "BlipImageProcessor"}', "BlipImageProcessor"),
    ],
)
def test_unusable_settings_file_is_named(tmp_path: Path, content: str | None, words: str) -> None:
    if content is not None:
        (tmp_path / "preprocessor_config.json").write_text(content)
    with pytest.raises(CheckpointError, match=words):
        CLIPImageProcessor.from_pretrained(tmp_path)


def test_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match="nowhere does not exist; expected a checkpoint directory"
    ):
        CLIPImageProcessor.from_pretrained(tmp_path / "nowhere")


@pytest.mark.parametrize("key", ["image_processor_type", "feature_extractor_type"])
def test_videomae_settings_are_not_those_of_pictures(tmp_path: Path, key: str) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({key: "VideoMAEImageProcessor"}))
    with pytest.raises(CheckpointError, match="VideoMAEImageProcessor"):
        CLIPImageProcessor.from_pretrained(tmp_path)


FORMATS = ["PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM"]


@pytest.mark.parametrize("form", FORMATS)
def test_image_file_is_decoded_from_path_bytes_and_stream(form: str, tmp_path: Path) -> None:
    image = Image.fromarray(noise(6, 5)).convert("RGB")
    path = tmp_path / "image"
    image.save(path, form, **({"lossless": True} if form == "WEBP" else {}))
    with path.open("rb") as stream:
        sources: list[Any] = [path, str(path), path.read_bytes(), stream]
        found = [load_image(source) for source in sources]
    for loaded in found:
        assert type(loaded) is Image.Image  # not a file class, which would need its open file
        np.testing.assert_array_equal(np.array(loaded.convert("RGB")), np.array(image))


def test_loaded_file_keeps_its_orientation_for_the_processor(tmp_path: Path) -> None:
    image = Image.fromarray(noise(8, 6, 3))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    loaded = load_image(tmp_path / "turned.png", exif_transpose=False)
    upright = SMALL(image.transpose(Image.Transpose.ROTATE_270)).pixel_values
    np.testing.assert_array_equal(SMALL(loaded, exif_transpose=True).pixel_values, upright)


def png(width: int = 64) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(noise(width, width, 3)).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "picture.png does not exist"),
        (b"", "picture.png is empty"),
        (b"not an image", "picture.png is not an image"),
        (png()[:-4000], "picture.png cannot be decoded: the file is truncated"),
        (
            png()[:60] + b"\0" * 20 + png()[80:],
            "picture.png cannot be decoded: the file is damaged",
        ),
    ],
)
def test_unusable_image_file_is_named_in_one_line(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    path = tmp_path / "picture.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageFileError, match=words) as caught:
        load_image(path)
    assert "\n" not in str(caught.value)


def test_directory_bomb_and_wrong_type_are_refused_as_image_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ImageFileError, match="is a directory"):
        load_image(tmp_path)
    with pytest.raises(ImageFileError, match="0 bytes"):
        load_image(b"")
    with pytest.raises(ImageFileError, match="found int"):
        load_image(3)  # type: ignore[arg-type]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageFileError, match="too large to decode safely"):
        load_image(png())
