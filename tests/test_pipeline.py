"""One way from files, bytes, pictures and videos to texts."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import refgit
from helpers.command_line import ROOT
from refgit.demo import demo_path, find_model
from refgit.errors import MediaFileError
from refgit.generation.classification.trie import LabelError
from refgit.pipeline import Captioner, RankedLabel
from refgit.processing.media import describe_left_out, find_media, is_video
from refgit.processing.reading import Reading

STAR, BALLOON = ROOT / "docs/images/star.png", ROOT / "docs/images/balloon.png"
QUESTION = "what kind of thing is this?"


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return Captioner.from_pretrained()


class Pipe(io.BytesIO):
    """A stream that only goes forward."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: object) -> int:
        raise OSError("Illegal seek")


SOURCES = {
    "name": lambda: str(STAR),
    "path": lambda: STAR,
    "bytes": STAR.read_bytes,
    "buffer": lambda: memoryview(STAR.read_bytes()),
    "file": lambda: STAR.open("rb"),
    "pipe": lambda: Pipe(STAR.read_bytes()),
    "picture": lambda: Image.open(STAR),
    "array": lambda: np.asarray(Image.open(STAR).convert("RGB")),
}


def test_the_class_is_exported() -> None:
    assert refgit.Captioner is Captioner


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_source_is_the_same_image(kind: str, captioner: Captioner) -> None:
    source = SOURCES[kind]()
    try:
        pixels = captioner.read(source)
    finally:
        if kind in ("file", "picture"):
            source.close()
    assert (pixels.shape[:2], pixels.dtype) == ((1, 3), np.float32)
    if kind in ("name", "path", "bytes", "buffer", "file", "pipe"):
        np.testing.assert_array_equal(pixels, captioner.read(STAR))
    assert captioner.write([pixels]) == ["star"]


def test_a_caption_is_the_end_of_its_stream_and_a_row_of_its_batch(captioner: Captioner) -> None:
    *_, streamed = captioner.stream(STAR)
    assert captioner.caption(STAR) == streamed == "star"
    missing = ROOT / "missing.png"
    first, error, last = captioner.captions([STAR, missing, BALLOON])
    assert (first, last) == ("star", "balloon")
    assert isinstance(error, MediaFileError)
    assert str(missing) in str(error)
    (ids,) = captioner.token_ids(captioner.read(STAR))
    assert captioner.processor.tokenizer.decode(ids, skip_special_tokens=True) == "star"
    assert ids[-1] in captioner.model.generation_config.eos_ids


def test_an_error_in_the_place_of_a_source_is_raised(captioner: Captioner) -> None:
    error = OSError("gone")
    with pytest.raises(OSError, match="gone"):
        captioner.caption(error)
    assert captioner.read_or_error(error) is error
    assert captioner.captions([error]) == [error]


@pytest.mark.parametrize("several", [list, np.stack], ids=["list", "array"])
def test_several_images_are_not_one_source(several: Any, captioner: Captioner) -> None:
    image = SOURCES["array"]()
    with pytest.raises(ValueError, match="the source is 2 images or videos; expected one"):
        captioner.caption(several([image, image]))
    assert captioner.captions(several([image, image])) == ["star", "star"]


@pytest.mark.parametrize("single", ["star", b"star", None, 3])
def test_a_single_name_is_not_taken_letter_by_letter(single: Any, captioner: Captioner) -> None:
    with pytest.raises(TypeError, match=r"sources is (b?'star'|None|3); expected a list of images"):
        captioner.captions(single)
    with pytest.raises(TypeError, match=r"labels is (b?'star'|None|3); expected a list of texts"):
        captioner.classify(STAR, single)


@pytest.mark.parametrize("length", [0, -1, 2.5, "a"])
def test_a_longest_caption_has_at_least_a_token(length: Any, captioner: Captioner) -> None:
    with pytest.raises(ValueError, match=r"max_length is .*; expected an integer of at least 1"):
        Captioner(captioner.model, captioner.processor, length)


def test_an_image_model_refuses_a_video_before_decoding(captioner: Captioner) -> None:
    with pytest.raises(MediaFileError, match=r"takes images only .* Use a video model"):
        captioner.caption("clip.mp4")


def test_questions_are_asked_of_an_image_or_of_what_was_read_of_it(captioner: Captioner) -> None:
    image = captioner.encode(STAR)
    assert captioner.ask(image, QUESTION) == captioner.ask(STAR, QUESTION) == "travel and places"
    assert list(captioner.stream_answer(image, QUESTION))[-1] == "travel and places"
    with pytest.raises(ValueError, match="the question has no words"):
        captioner.ask(image, "")


def test_labels_are_ranked_each_once(captioner: Captioner) -> None:
    texts = ["balloon", "star", "Star", "zzqq"]
    labels = captioner.labels(texts)
    assert (labels.numbers, labels.repeated) == ((0, 1, 3), ((2, 1),))
    found = captioner.classify(STAR, labels, top=2)
    assert [ranked.label for ranked in found] == ["star", "balloon"]
    assert found == captioner.classify(STAR, texts, top=2)
    assert isinstance(found[0], RankedLabel)
    assert found[0].probability == pytest.approx(np.exp(found[0].log_probability))
    with pytest.raises(LabelError) as caught:
        captioner.labels(["star", "star", ""])
    assert caught.value.label == 2


def test_a_seed_makes_a_sampled_caption_repeat(tmp_path: Path) -> None:
    folder = shutil.copytree(demo_path(), tmp_path / "model")
    file = folder / "generation_config.json"
    settings = {"do_sample": True, "temperature": 3.0}
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    captioner = Captioner.from_pretrained(folder, max_length=8)
    drawn = {captioner.caption(STAR, seed=seed) for seed in range(3)}
    assert len(drawn) > 1
    assert captioner.caption(STAR, seed=3) == captioner.caption(STAR, seed=3)


def test_a_model_is_found_by_name_or_is_the_bundled_one(tmp_path: Path) -> None:
    assert find_model() == find_model("refgit-emoji") == demo_path()
    assert find_model(tmp_path) == tmp_path


def test_files_bytes_and_streams_are_read_as_asked_and_pictures_as_the_oracle_does(
    captioner: Captioner,
) -> None:
    pixels = np.asarray(Image.open(BALLOON))
    seen = np.dstack([pixels, np.where((pixels > 250).all(axis=2), 0, 255).astype(np.uint8)])
    seen[seen[:, :, 3] == 0, :3] = 0  # a transparent picture, black below
    exif = Image.Exif()
    exif[0x0112] = 3
    stream = io.BytesIO()
    Image.fromarray(seen[::-1, ::-1]).save(stream, "PNG", exif=exif)
    data = stream.getvalue()
    upright = captioner.read(Image.fromarray(np.where(seen[..., 3:] == 0, 255, seen[..., :3])))
    for source in (data, io.BytesIO(data), Pipe(data)):
        np.testing.assert_array_equal(captioner.read(source), upright)
    asked = Reading(exif_transpose=False, background="oracle")
    as_oracle = Captioner(captioner.model, captioner.processor, reading=asked)
    picture = Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(as_oracle.read(data), captioner.read(picture))
    assert captioner.caption(data) == captioner.caption(BALLOON) == "balloon"
    assert captioner.caption(picture) != "balloon"


def test_what_is_left_out_of_a_directory_is_counted_by_suffix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", False)
    heic, others = (
        ("a.HEIC", "b.heic", "c.heic"),
        ("a.txt", "figure.eps", "t.h5", "t.mp4", "README"),
    )
    for name in (*heic, *others, "._a.png", "._b.JPG", "a.png"):
        (tmp_path / name).touch()
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "inner.png").mkdir()
    (tmp_path / "BMW").write_text("BMW is no bitmap")
    (tmp_path / "hashed").write_bytes(STAR.read_bytes())  # no suffix: the content says what it is
    found = find_media(str(tmp_path), videos=False)
    assert found.paths == [str(tmp_path / "a.png"), str(tmp_path / "hashed")]
    assert describe_left_out(found.left_out) == (
        "left out: 3 .heic (pip install pillow-heif), 2 ._*, 2 without a suffix, "
        "1 .eps (needs Ghostscript), 1 .h5, 1 .mp4 (needs a video model), 1 .txt, "
        "1 broken links or devices"
    )
    assert describe_left_out({}) == ""
    for path in found.paths:
        os.remove(path)
    with pytest.raises(MediaFileError, match=r"no image files \(left out: 3 \.heic .*\); expected"):
        find_media(str(tmp_path), videos=False)


def test_with_pillow_heif_heic_images_are_taken(tmp_path: Path) -> None:
    for name in ("a.heic", "b.HIF", "c.avif"):
        (tmp_path / name).touch()
    found = find_media(str(tmp_path), videos=False)
    assert (len(found.paths), found.left_out) == (3, {})


def test_media_are_found_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inner").mkdir()
    for name in ("b.PNG", "a.jpg", "clip.mp4", "notes.txt", "inner/c.png"):
        (tmp_path / name).touch()
    flat = [str(tmp_path / name) for name in ("a.jpg", "b.PNG")]
    assert find_media(str(tmp_path), videos=False).paths == flat
    found = find_media(str(tmp_path), videos=True, recursive=True).paths
    assert found == [*flat, str(tmp_path / "clip.mp4"), str(tmp_path / "inner" / "c.png")]
    monkeypatch.chdir(tmp_path)  # a directory's name stays as it was given
    assert find_media("./inner", videos=False).paths == [os.path.join("./inner", "c.png")]
    assert (is_video("a.MP4"), is_video("a.png")) == (True, False)
    with pytest.raises(MediaFileError, match="holds no image files"):
        find_media(str(ROOT / "docs" / "reference"), videos=True)


@pytest.mark.parametrize("prompt", [None, "a"])
def test_a_batch_is_encoded_in_the_backends_groups(
    prompt: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner = Captioner.from_pretrained(prompt=prompt)
    files = sorted((ROOT / "docs" / "images").glob("[a-s]*.png"))
    images = [captioner.read(file) for file in files[:6]]
    singly = [captioner.write([image])[0] for image in images]
    sizes, encode = [], captioner.model.encode_image

    def counted(pixel_values: Any, **options: Any) -> Any:
        sizes.append(len(pixel_values))
        return encode(pixel_values, **options)

    monkeypatch.setattr(captioner.model, "encode_image", counted)
    assert captioner.write(images) == singly
    assert sizes == [4, 2]
