"""Videos on the command line: frames, times, parts, frames in files, standard input, jobs."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("av", reason="decoding needs PyAV: pip install av")

from helpers.command_line import letters_model, process
from helpers.videos import make_video
from refgit import GitForCausalLM, GitProcessor
from refgit.cli import arguments
from refgit.cli import main as cli
from refgit.processing import (
    CLIPImageProcessor,
    VideoMAEImageProcessor,
    read_video,
)

FRAMES, LONGEST = 3, 10
Run = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command within this process: exit code, lines of stdout, lines of stderr."""

    def run(*words: object) -> tuple[int, list[str], list[str]]:
        try:
            code = cli.main([str(word) for word in words])
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        out, err = capsys.readouterr()
        return code, out.splitlines(), err.splitlines()

    return run


@pytest.fixture(scope="module")
def video_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    return letters_model(folder, FRAMES, VideoMAEImageProcessor(size=8, crop_size=8))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds."""
    return make_video(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=30)


def caption(model: Path, frames: list[np.ndarray] | list[Image.Image]) -> str:
    processor = GitProcessor.from_pretrained(model)
    pixels = processor(images=frames, return_tensors="np").pixel_values
    ids = GitForCausalLM.from_pretrained(model).generate(pixels, max_length=LONGEST)
    return str(processor.batch_decode(ids, skip_special_tokens=True)[0].strip())


def test_frames_and_times_are_those_that_the_options_choose(
    run: Run,
    video_model: Path,
    clip: Path,
) -> None:
    options = ["--model", video_model, "--max-length", LONGEST]
    for chosen, frames in (
        ([], read_video(clip, FRAMES)),
        (["--frames", "1,5,9"], read_video(clip, [1, 5, 9])),
        (["--frames", "0,29"], read_video(clip, [0, 29])),
        (["--frames", "document"], read_video(clip, FRAMES, "document", 0)),
        (["--start", "0:01", "--end", "2.5"], read_video(clip, FRAMES, start=1, end=2.5)),
    ):
        assert run("caption", clip, *options, *chosen) == (0, [caption(video_model, frames)], [])


def test_each_part_of_a_video_has_a_caption_with_its_times(
    run: Run,
    video_model: Path,
    clip: Path,
    tmp_path: Path,
) -> None:
    options = ["--model", video_model, "--max-length", LONGEST, "--segments", 1.25]
    times = [(0, 1.25), (1.25, 2.5), (2.5, 3)]
    captions = [caption(video_model, read_video(clip, FRAMES, start=a, end=b)) for a, b in times]
    names = [f"{clip}#0-1.25", f"{clip}#1.25-2.5", f"{clip}#2.5-3"]
    lines = [f"{name}\t{text}" for name, text in zip(names, captions, strict=True)]
    assert run("caption", clip, *options) == (0, lines, [])
    code, out, _ = run("caption", clip, *options, "--json")
    rows = [json.loads(line) for line in out]
    assert code == 0
    assert [(row["image"], row["start"], row["end"], row["caption"]) for row in rows] == [
        (name, *time, text) for name, time, text in zip(names, times, captions, strict=True)
    ]
    target = tmp_path / "captions.jsonl"
    assert run("caption", clip, *options, "--out", target)[0] == 0
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert [(row["image"], row["start"], row["end"], row["caption"]) for row in rows] == [
        (name, *time, text) for name, time, text in zip(names, times, captions, strict=True)
    ]


def test_pictures_in_a_folder_are_one_video(
    run: Run,
    video_model: Path,
    clip: Path,
    tmp_path: Path,
) -> None:
    frames = read_video(clip, range(12))
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"f{number}.png")
    options = ["--model", video_model, "--max-length", LONGEST, "--frames-from", tmp_path]
    expected = caption(video_model, [frames[i] for i in (2, 6, 10)])
    assert run("caption", *options) == (0, [expected], [])
    code, out, _ = run("caption", clip, *options)
    assert (code, out[-1]) == (0, f"{tmp_path}\t{expected}")
    code, out, (line,) = run("caption", *options[:-1], tmp_path / "missing")
    assert (code, out) == (1, [])
    assert "missing: No such file" in line


def test_a_video_may_come_on_standard_input(video_model: Path, clip: Path) -> None:
    options = ["--model", video_model, "--max-length", LONGEST]
    done = process(["caption", "-", *options], clip.read_bytes())
    assert done.stdout.decode().strip() == caption(video_model, read_video(clip, FRAMES))


def test_an_animation_is_a_video_for_video_models_and_its_first_frame_for_others(
    run: Run,
    video_model: Path,
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)) for _ in range(6)]
    path = tmp_path / "a.png"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
    options = ["--max-length", LONGEST, "--model"]
    expected = caption(video_model, [frames[i] for i in (1, 3, 5)])
    assert run("caption", path, *options, video_model) == (0, [expected], [])
    images = letters_model(tmp_path / "images", None, CLIPImageProcessor(size=8, crop_size=8))
    assert run("caption", path, *options, images) == (0, [caption(images, [frames[0]])], [])


def test_a_video_is_said_to_be_one_whatever_its_name(
    run: Run,
    clip: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "photo.png").write_bytes(clip.read_bytes())
    code, out, err = run("caption", tmp_path / "photo.png")
    assert (code, out) == (1, [])
    assert "photo.png is a video; this model takes images only" in err[-1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--frames", "some"], "must be even, document, or numbers of frames such as 1,5,9"),
        (["--start", "1h"], "must be seconds, or HH:MM:SS (got '1h')"),
        (["--segments", "0"], "must be at least 0.001 seconds (got '0')"),
        (["--start", "2", "--end", "1"], "--end is 1 s and --start 2 s; expected"),
    ],
)
def test_options_without_meaning_are_refused(
    options: list[str],
    words: str,
    run: Run,
    clip: Path,
    video_model: Path,
) -> None:
    code, out, (line,) = run("caption", clip, "--model", video_model, *options)
    assert (code, out) == (2, [])
    assert words in line


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [
        ("caption", "--frames", "document"),
        ("caption", "--segments", 2),
        ("explain", "--start", 1),
        ("explain", "--end", 2),
    ],
)
def test_options_about_videos_are_refused_for_a_model_of_images(
    command: str, option: str, value: object, run: Run, tmp_path: Path
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    code, out, err = run(command, tmp_path / "a.png", option, value)
    assert (code, out) == (2, [])
    assert f"{option} means nothing here: it is about videos" in err[-1]


def test_frames_from_a_folder_have_no_times_to_be_divided_by(
    run: Run, video_model: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    options = ["--frames-from", tmp_path, "--segments", 2]
    code, out, (line,) = run("caption", *options, "--model", video_model)
    assert (code, out) == (2, [])
    assert "--segments means nothing here" in line


def test_times_are_seconds_or_have_colons() -> None:
    for text, seconds in (("90", 90), ("1:30", 90), ("01:01:01.5", 3661.5), ("0.25", 0.25)):
        assert arguments.seconds_of(text) == seconds


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_video_may_come_through_a_named_pipe(
    run: Run, video_model: Path, clip: Path, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(clip.read_bytes(),))
    writer.start()
    expected = caption(video_model, read_video(clip, FRAMES))
    found = run("caption", pipe, "--model", video_model, "--max-length", LONGEST)
    writer.join()
    assert found == (0, [expected], [])
