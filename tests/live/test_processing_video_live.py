"""Live parity of the VideoMAE processor with transformers 4.56.2: drawn frames, equal pixels.

Needs torch and transformers (the `oracle` extra); run with `pytest tests/live`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers.oracle import only, transformers
from refgit.processing import GitProcessor, VideoMAEImageProcessor

only("4")

pytestmark = pytest.mark.oracle

VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat"]


@st.composite
def frames(draw: st.DrawFn, rgb: bool = False) -> Any:
    """A frame that the oracle takes: a picture of three channels, or an array of any dtype."""
    # A picture 1 pixel high is one the oracle refuses.
    height, width = draw(st.integers(2, 50)), draw(st.integers(1, 50))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = "RGB" if rgb else draw(st.sampled_from(["RGB", "YCbCr", "HSV", "LAB", "array"]))
    if kind != "array":
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        return Image.frombytes(kind, (width, height), pixels.tobytes())
    first = draw(st.booleans())
    # In these shapes the oracle sees one channel where there are three.
    shape = (3, height, width if width != 1 else 2) if first else (height, width, 3)
    dtype = draw(st.sampled_from(["u1", "i2", "i8", "f2", "f4", "f8", "?"]))
    if dtype == "?":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.startswith("f") and draw(st.booleans()):
        return rng.random(shape).astype(dtype)
    return rng.integers(0, 256, shape).astype(dtype)


side = st.integers(1, 40)
boxes = st.builds(lambda h, w: {"height": h, "width": w}, side, side)
edges = st.builds(lambda n: {"shortest_edge": n}, side)


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    config: dict[str, Any] = {"size": draw(st.one_of(boxes, edges)), "crop_size": draw(boxes)}
    for name in ("do_resize", "do_center_crop", "do_rescale", "do_normalize"):
        config[name] = draw(st.sampled_from([True, True, True, False]))
    if draw(st.booleans()):
        config["resample"] = draw(st.integers(0, 5))
    if draw(st.booleans()):
        config["rescale_factor"] = draw(st.sampled_from([1 / 255, 1 / 127.5, 0.01, 2]))
        config["image_mean"] = draw(st.sampled_from([0.5, [0.485, 0.456, 0.406]]))
        config["image_std"] = draw(st.sampled_from([0.5, [0.229, 0.224, 0.225]]))
    return config


def assert_equal_pixels(videos: Any, config: dict[str, Any]) -> None:
    expected = transformers.VideoMAEImageProcessor(**config)(videos)["pixel_values"]
    found = VideoMAEImageProcessor(**config)(videos, return_tensors=None)["pixel_values"]
    assert [len(video) for video in found] == [len(video) for video in expected]
    for ours, theirs in zip(found, expected, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert one.dtype == np.float32
            # transformers keeps other dtypes where it neither rescales nor normalizes.
            np.testing.assert_array_equal(one, np.asarray(other, np.float32), strict=True)


@settings(max_examples=300, deadline=None)
@given(st.lists(frames(), min_size=1, max_size=4), configurations())
def test_a_video_gives_equal_pixels(video: list[Any], config: dict[str, Any]) -> None:
    assert_equal_pixels(video, config)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(frames(), min_size=1, max_size=3), min_size=1, max_size=3), configurations()
)
def test_several_videos_give_equal_pixels(videos: Any, config: dict[str, Any]) -> None:
    assert_equal_pixels(videos, config)
    assert_equal_pixels(videos[0][0], config)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3).flatmap(
        lambda n: st.lists(st.lists(frames(), min_size=n, max_size=n), min_size=1, max_size=3)
    )
)
def test_arrays_have_equal_shape_and_values(videos: Any) -> None:
    config = {"size": 12, "crop_size": 9}
    theirs = transformers.VideoMAEImageProcessor(**config)(videos, return_tensors="np")
    ours = VideoMAEImageProcessor(**config)(videos)
    np.testing.assert_array_equal(ours["pixel_values"], theirs["pixel_values"], strict=True)


def test_default_settings_are_equal() -> None:
    theirs = transformers.VideoMAEImageProcessor().to_dict()
    assert theirs.pop("_processor_class") is None
    assert VideoMAEImageProcessor().to_dict() == theirs


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video checkpoint written by the oracle's own GitProcessor."""
    folder = tmp_path_factory.mktemp("video")
    (folder / "vocab.txt").write_text("\n".join(VOCAB) + "\n", encoding="utf-8")
    tokenizer = transformers.BertTokenizerFast(
        str(folder / "vocab.txt"), model_input_names=["input_ids", "attention_mask"]
    )
    image_processor = transformers.VideoMAEImageProcessor(size=20, crop_size=16)
    transformers.GitProcessor(image_processor, tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pair(checkpoint: Path) -> Any:
    theirs = transformers.GitProcessor(
        transformers.AutoImageProcessor.from_pretrained(checkpoint),
        transformers.BertTokenizerFast.from_pretrained(checkpoint),
    )
    return GitProcessor.from_pretrained(checkpoint), theirs


@settings(max_examples=60, deadline=None)
@given(video=st.lists(frames(rgb=True), min_size=1, max_size=6))
def test_git_processor_equals_the_oracles(pair: Any, video: list[Any]) -> None:
    ours, theirs = pair
    for images in (video, [video], [video, video[::-1]]):
        call: dict[str, Any] = {"images": images, "text": "a cat", "return_tensors": "np"}
        found, expected = ours(**call), theirs(**call)
        assert list(found) == list(expected)
        for key, value in expected.items():
            np.testing.assert_array_equal(found[key], value, strict=True)


def test_video_checkpoint_written_by_refgit_is_read_by_the_oracle(
    checkpoint: Path, tmp_path: Path
) -> None:
    GitProcessor.from_pretrained(checkpoint).save_pretrained(tmp_path)
    again = transformers.AutoProcessor.from_pretrained(tmp_path, use_fast=False)
    assert type(again.image_processor).__name__ == "VideoMAEImageProcessor"
    first = transformers.VideoMAEImageProcessor.from_pretrained(checkpoint).to_dict()
    assert {**again.image_processor.to_dict(), "processor_class": None} == {
        **first,
        "processor_class": None,
    }
