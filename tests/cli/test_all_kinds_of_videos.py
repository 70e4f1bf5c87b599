"""A folder of videos of every kind, for a video model: captions, messages, and docs/files.md."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence

av = pytest.importorskip("av", reason="decoding needs PyAV: pip install av")

from helpers.backends import ROOT  # noqa: E402
from helpers.command_line import VOCABULARY  # noqa: E402
from helpers.videos import KINDS, all_frames, drawing, make_video, turn  # noqa: E402
from refgit import testing  # noqa: E402
from refgit.cli import main as cli  # noqa: E402
from refgit.pipeline import Captioner  # noqa: E402
from refgit.processing import BertTokenizer, CLIPImageProcessor, GitProcessor  # noqa: E402

FRAMES = 3
# How a camera that writes such a matrix wants its frames (H, W, 3) to be shown.
SHOWN: dict[tuple[int, ...], Callable[[Any], Any]] = {
    (1, 0, 0, 1): lambda x: x,
    (0, 1, -1, 0): lambda x: np.rot90(x, -1),
    (-1, 0, 0, -1): lambda x: np.rot90(x, 2),
    (0, -1, 1, 0): lambda x: np.rot90(x, 1),
    (-1, 0, 0, 1): lambda x: x[:, ::-1],
    (1, 0, 0, -1): lambda x: x[::-1],
    (0, 1, 1, 0): lambda x: x.swapaxes(0, 1),
    (0, -1, -1, 0): lambda x: np.rot90(x.swapaxes(0, 1), 2),
}
# What becomes of a file: its frames, or the words of its message, or None where it is left out.
Outcome = list[np.ndarray] | str | None


def middles(frames: list[np.ndarray]) -> list[np.ndarray]:
    """Of three equal parts of a video the frames in the middle."""
    return [frames[int((i + 0.5) * len(frames) / FRAMES)] for i in range(FRAMES)]


def codecs(folder: Path) -> dict[str, Outcome]:
    made = {}
    for kind, (suffix, codec, options) in KINDS.items():
        name = kind.replace(" ", "-")
        path = make_video(folder / f"{Path(name).stem}-{codec}{suffix}", codec, **options)
        made[path.name] = middles(all_frames(path))
    camcorder = make_video(folder / "camcorder.m2ts", "libx264")
    return {**made, camcorder.name: middles(all_frames(camcorder))}


def turned(folder: Path) -> dict[str, Outcome]:
    made: dict[str, Outcome] = {}
    for i, (matrix, shown) in enumerate(SHOWN.items()):
        path = make_video(folder / f"turned-{i}.mp4")
        stored = all_frames(path)
        turn(path, matrix)
        made[path.name] = [np.ascontiguousarray(shown(frame)) for frame in middles(stored)]
    return made


def animations(folder: Path) -> dict[str, Outcome]:
    made: dict[str, Outcome] = {}
    first, *others = [Image.fromarray(drawing(number)) for number in range(12)]
    for suffix, options in ((".gif", {}), (".webp", {"lossless": True}), (".png", {})):
        path = folder / f"animation{suffix}"
        first.save(path, save_all=True, append_images=others, duration=100, **options)
        with Image.open(path) as image:
            frames = [np.asarray(x.convert("RGB")) for x in ImageSequence.Iterator(image)]
        made[path.name] = middles(frames)
    return made


def misnamed(folder: Path) -> dict[str, Outcome]:
    path = make_video(folder / "video.mp4")
    path.rename(folder / "really-a-video.png")
    return {"really-a-video.png": middles(all_frames(folder / "really-a-video.png"))}


def cut(folder: Path) -> dict[str, Outcome]:
    path = make_video(folder / "half.mp4")
    path.write_bytes(path.read_bytes()[:-2000])
    return {"half.mp4": "is cut short"}


def no_video(folder: Path) -> dict[str, Outcome]:
    (folder / "text.mp4").write_text("not a video")
    return {"text.mp4": "cannot be decoded as a video"}


def empty(folder: Path) -> dict[str, Outcome]:
    (folder / "empty.mp4").write_bytes(b"")
    return {"empty.mp4": "is empty (0 bytes)"}


def beside(folder: Path) -> dict[str, Outcome]:
    (folder / "turned-0.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nHello\n")
    return {"turned-0.srt": None}


MAKERS: dict[str, Callable[[Path], dict[str, Outcome]]] = {
    "MP4, MKV, WebM, AVI, FLV, MPEG, TS or M2TS, with a codec that FFmpeg has": codecs,
    "a video of a telephone held sideways, upside down or mirrored": turned,
    "a GIF, an animated WebP or PNG": animations,
    "a video with an image's name": misnamed,
    "a video that is cut short": cut,
    "a text with a video's name": no_video,
    "an empty video": empty,
    "subtitles beside a video": beside,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny video model, which says random letters."""
    folder = tmp_path_factory.mktemp("model")
    config = testing.CONFIG.replace(num_image_with_embedding=FRAMES)
    testing.tiny_model(3, config).save_pretrained(folder)
    GitProcessor(
        CLIPImageProcessor(size=8, crop_size=8), BertTokenizer.from_vocab(VOCABULARY)
    ).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_every_video_of_a_folder_has_its_caption_or_its_message(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command, and the same by a job; the frames come from decoding everything."""
    outcomes: dict[str, Outcome] = {}
    (tmp_path / "in").mkdir()
    for make in MAKERS.values():
        outcomes |= make(tmp_path / "in")
    captioner = Captioner.from_pretrained(model)
    arguments = ["caption", str(tmp_path / "in"), "--model", str(model)]
    assert cli.main([*arguments, "--json"]) == 1
    said = capsys.readouterr()
    assert "refgit: left out: 1 .srt." in said.err
    assert cli.main([*arguments, "--out", str(tmp_path / "rows.jsonl")]) == 1
    wanted = sorted(name for name, outcome in outcomes.items() if outcome is not None)
    for lines in (said.out, (tmp_path / "rows.jsonl").read_text()):
        found = [json.loads(line) for line in lines.splitlines()]
        assert [row["image"] for row in found] == [str(tmp_path / "in" / name) for name in wanted]
        for name, row in zip(wanted, found, strict=True):
            outcome = outcomes[name]
            if isinstance(outcome, str):
                assert outcome in row["error"], name
            else:
                assert row["caption"] == captioner.caption(outcome), name
    captions = {captioner.caption(x) for n, x in outcomes.items() if "turned-" in n and x}
    assert len(captions) > 4  # what is turned wrongly is seen


def test_each_kind_of_video_is_a_row_of_the_page_and_each_row_a_kind() -> None:
    page = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    part = page.split("\n## A folder of videos\n")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|", part, re.M)[1:])
    assert list(rows) == list(MAKERS)
    quoted = [re.findall("`([^`]+)`", said)[0] for said in rows.values() if said[0] == "`"]
    assert quoted == ["is cut short", "cannot be decoded as a video", "is empty (0 bytes)"]
