"""GitProcessor: what it returns, how options find their part, files, and lazy imports."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from refgit.errors import CheckpointError
from refgit.processing import BatchFeature, BertTokenizer, CLIPImageProcessor, GitProcessor
from refgit_backends import Backend, get_backend

DATA = Path(__file__).parents[2] / "golden" / "data"
VOCAB = json.loads((DATA / "processing.json").read_text(encoding="utf-8"))["vocab"]
IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 24, 3), dtype=np.uint8))


@pytest.fixture
def processor() -> GitProcessor:
    return GitProcessor(CLIPImageProcessor(size=16, crop_size=16), BertTokenizer.from_vocab(VOCAB))


def test_images_and_text_give_what_the_parts_give(processor: GitProcessor) -> None:
    found = processor(images=IMAGE, text="a cat", return_tensors="np")
    assert set(found) == set(processor.model_input_names)
    expected = processor.image_processor(IMAGE).pixel_values
    np.testing.assert_array_equal(found.pixel_values, expected)
    assert found.input_ids.tolist() == [processor.tokenizer.encode("a cat")]
    assert found.attention_mask.tolist() == [[1, 1, 1, 1]]


def test_images_alone_give_no_text_and_text_alone_no_images(processor: GitProcessor) -> None:
    assert list(processor(IMAGE, return_tensors="np")) == ["pixel_values"]
    assert list(processor(text="a cat")) == ["input_ids", "attention_mask"]
    assert processor(text="a cat", add_special_tokens=False).input_ids == [5, 6]


def test_options_find_their_part(processor: GitProcessor) -> None:
    own = {"padding": True, "crop_size": 9, "do_rescale": False}
    flat = processor(IMAGE, ["a", "a cat"], return_tensors="np", **own)
    nested = processor(
        images=IMAGE,
        text=["a", "a cat"],
        text_kwargs={"padding": True},
        images_kwargs={"crop_size": 9, "do_rescale": False},
        common_kwargs={"return_tensors": "np"},
    )
    assert flat.pixel_values.shape == (1, 3, 9, 9)
    assert flat.input_ids.shape == (2, 4)
    for key, value in flat.items():
        np.testing.assert_array_equal(nested[key], value)


def test_length_limit_stored_with_the_tokenizer_applies_unless_overridden() -> None:
    tokenizer = BertTokenizer.from_vocab(VOCAB, {"max_length": 4})
    processor = GitProcessor(CLIPImageProcessor(), tokenizer)
    assert len(processor(text="a cat is the dog").input_ids) == 4
    assert len(processor(text="a cat is the dog", max_length=5).input_ids) == 5
    assert len(tokenizer("a cat is the dog").input_ids) == 7


def test_decoding_is_the_tokenizers(processor: GitProcessor) -> None:
    ids = np.array([[2, 5, 6, 3], [2, 8, 9, 3]])
    assert processor.batch_decode(ids, skip_special_tokens=True) == ["a cat", "the dog"]
    assert processor.decode(ids[0]) == "[CLS] a cat [SEP]"


class OnlyDLPack:
    """An array that offers DLPack and nothing else."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


@pytest.mark.parametrize("kind", [get_backend("strict").asarray, OnlyDLPack])
def test_arrays_of_other_libraries_are_brought_home(kind: Any, processor: GitProcessor) -> None:
    ids = np.array([[2, 5, 6, 3], [2, 8, 9, 3]])
    assert processor.batch_decode(kind(ids), skip_special_tokens=True) == ["a cat", "the dog"]
    assert processor.batch_decode([kind(row) for row in ids]) == processor.batch_decode(ids)
    assert processor.decode(kind(ids[0])) == "[CLS] a cat [SEP]"
    picture = np.asarray(IMAGE)
    np.testing.assert_array_equal(
        processor(images=kind(picture), return_tensors="np")["pixel_values"],
        processor(images=picture, return_tensors="np")["pixel_values"],
    )


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, ValueError, "Neither images nor text"),
        ({"text": "a", "return_tensors": "pt"}, ValueError, "'pt'.*\"np\""),
        ({"text": "a", "return_tensors": "tf"}, ValueError, "'tf'"),
        ({"text": "a", "return_tensors": "jax"}, ValueError, "'jax'"),
        ({"text": "a", "paddign": True}, TypeError, "paddign is not an option"),
        ({"text": "a", "text_kwargs": {"crop_size": 3}}, TypeError, "text_kwargs has crop_size"),
        ({"text": "a", "images_kwargs": {"padding": 3}}, TypeError, "images_kwargs has padding"),
        ({"text": "a", "common_kwargs": {"padding": 3}}, TypeError, "common_kwargs has padding"),
        (
            {"text": "a", "padding": True, "text_kwargs": {"padding": True}},
            TypeError,
            "padding: given both",
        ),
        ({"images": "a cat"}, TypeError, "images is of type str"),
        ({"text": "a", "audio": [0.5]}, ValueError, "audio is given.*takes no audio"),
        ({"videos": [IMAGE]}, ValueError, "videos is given.*passed as images"),
        ({"images": IMAGE, "data_format": "last"}, ValueError, "data_format is 'last'"),
    ],
)
def test_calls_without_meaning_are_refused_in_a_sentence(
    processor: GitProcessor, options: dict[str, Any], error: Any, words: str
) -> None:
    with pytest.raises(error, match=words):
        processor(**options)


def test_tensors_are_returned_on_the_backend_asked_for(
    processor: GitProcessor, backend: Backend
) -> None:
    options: dict[str, Any] = {"images": [IMAGE, IMAGE], "text": ["a cat", "the dog"]}
    plain = processor(**options, return_tensors="np")
    moved = processor(**options, return_tensors=backend.name)
    assert list(moved) == list(plain)
    for name, array in moved.items():
        assert backend.owns(array)
        np.testing.assert_array_equal(backend.to_numpy(array), plain[name], strict=True)
    ids = moved["input_ids"]
    assert processor.batch_decode(ids) == processor.batch_decode(plain["input_ids"])


def test_a_gpu_that_is_missing_is_named_before_any_work(
    processor: GitProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ValueError, match=r'backend "cupy" needs the CuPy package'):
        processor(images="not looked at", return_tensors="cupy")


def test_saved_processor_reads_back_the_same(processor: GitProcessor, tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path / "new")
    again = GitProcessor.from_pretrained(tmp_path / "new")
    assert again.image_processor.to_dict().pop("processor_class") == "GitProcessor"
    found, expected = (p(IMAGE, "a cat", return_tensors="np") for p in (again, processor))
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value)
    for name in ("preprocessor_config.json", "tokenizer_config.json"):
        assert (
            json.loads((tmp_path / "new" / name).read_text())["processor_class"] == "GitProcessor"
        )


def test_an_interrupted_save_leaves_every_old_file_whole(
    processor: GitProcessor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the disk is full: each file is the old one or the new one, never half of one."""
    processor.save_pretrained(tmp_path / "old")
    changed = GitProcessor(CLIPImageProcessor(size=5), BertTokenizer.from_vocab([*VOCAB, "more"]))
    changed.save_pretrained(tmp_path / "new")
    old, new = (contents(tmp_path / name) for name in ("old", "new"))
    differing = {name for name in old if old[name] != new[name]}
    assert {"preprocessor_config.json", "tokenizer.json", "vocab.txt"} <= differing
    real = Path.write_text
    for full_at in range(1, len(old)):
        writes = []

        def fill_the_disk(
            path: Path, text: str, limit: int = full_at, written: list[Path] = writes, **rest: Any
        ) -> None:
            written.append(path)
            real(path, text[:5] if len(written) == limit else text, **rest)
            if len(written) == limit:
                raise OSError("No space left on device")

        monkeypatch.setattr(Path, "write_text", fill_the_disk)
        with pytest.raises(OSError, match="No space"):
            changed.save_pretrained(tmp_path / "old")
        monkeypatch.undo()
        found = contents(tmp_path / "old")
        assert set(found) == set(old)
        assert all(content in (old[name], new[name]) for name, content in found.items())
        processor.save_pretrained(tmp_path / "old")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_interrupted_save_of_the_vocabulary_leaves_the_old_one_whole(
    processor: GitProcessor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor.save_pretrained(tmp_path)
    before = contents(tmp_path)
    real = Path.replace

    def pull_the_plug(path: Path, target: Path) -> Path:
        if path.name == "vocab.txt":
            raise KeyboardInterrupt
        return real(path, target)

    monkeypatch.setattr(Path, "replace", pull_the_plug)
    with pytest.raises(KeyboardInterrupt):
        BertTokenizer.from_vocab([*VOCAB, "more"]).save_pretrained(tmp_path)
    found = contents(tmp_path)
    assert set(found) == set(before)
    assert found["vocab.txt"] == before["vocab.txt"]


def test_another_image_processor_is_refused(processor: GitProcessor, tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text('{"image_processor_type": "ViTImageProcessor"}')
    with pytest.raises(CheckpointError, match="ViTImageProcessor"):
        GitProcessor.from_pretrained(tmp_path)


def test_entries_of_a_batch_feature_are_attributes_that_survive_copying() -> None:
    feature = BatchFeature(input_ids=[1, 2])
    assert feature.input_ids is feature["input_ids"]
    for again in (copy.deepcopy(feature), pickle.loads(pickle.dumps(feature))):
        assert again == feature
        assert type(again) is BatchFeature
    with pytest.raises(AttributeError, match="no entry 'pixel_values'; its entries: input_ids"):
        _ = feature.pixel_values


def test_importing_refgit_needs_neither_pillow_nor_tokenizers() -> None:
    code = "import sys, refgit; print(sorted({'PIL', 'tokenizers'} & set(sys.modules)))"
    root = Path(__file__).parents[2]
    path = [str(root), str(root / "backends")]
    prefix = f"import sys; sys.path[:0] = {path!r}; "
    found = subprocess.run(
        [sys.executable, "-c", prefix + code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
