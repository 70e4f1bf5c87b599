"""How image files are read, alike in every command: --no-exif-transpose, --background, limits."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.command_line import model  # noqa: F401  # a fixture
from refgit.cli import main as cli
from refgit.traces.container import Trace

Command = Callable[..., str]
COMMANDS = ["caption", "job", "ask", "classify", "explain", "trace", "standard input"]


@pytest.fixture
def command(
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Command:
    """Run a command on an image; what it makes of the image, as text."""
    labels = tmp_path / "labels.list"
    labels.write_text("a\nb\nr r\n")
    before = {
        "caption": lambda file: ["caption", file],
        "job": lambda file: ["caption", file, "--restart", "--out", tmp_path / "rows.jsonl"],
        "ask": lambda file: ["ask", file, "a b"],
        "classify": lambda file: ["classify", file, "--labels", labels],
        "explain": lambda file: ["explain", file, "--text-only", "--text", "a b"],
        "trace": lambda file: [
            "trace", "--image", file, "--out", tmp_path / "t.safetensors", "--noise", "none",
            "--select", "output",
        ],
        "standard input": lambda file: ["caption", "-"],
    }  # fmt: skip

    def run(name: str, file: Path, *options: str) -> str:
        stdin = io.TextIOWrapper(io.BytesIO(file.read_bytes()))
        monkeypatch.setattr(sys, "stdin", stdin)
        arguments = [*before[name](file), "--model", model, *options]
        assert cli.main(list(map(str, arguments))) == 0, capsys.readouterr().err
        out = capsys.readouterr().out
        if name == "job":
            (line,) = (tmp_path / "rows.jsonl").read_text().splitlines()
            return str(json.loads(line)["caption"])
        if name == "trace":
            return str(Trace.load(tmp_path / "t.safetensors")["input.pixel_values"].tolist())
        return out

    return run


def photograph() -> Image.Image:
    """Half of it transparent, in colours of its own."""
    colours = np.random.default_rng(7).integers(0, 256, (4, 4, 4), np.uint8)
    colours[..., 3] = [[0, 255, 0, 255]] * 4
    return Image.fromarray(colours).resize((40, 32), Image.Resampling.NEAREST)


def on(colour: str) -> Image.Image:
    under = Image.new("RGBA", (40, 32), colour)
    return Image.alpha_composite(under, photograph()).convert("RGB")


@pytest.fixture
def turned(tmp_path: Path) -> Path:
    """The photograph, as a camera held sideways stores it."""
    exif = Image.Exif()
    exif[0x0112] = 8
    photograph().transpose(Image.Transpose.ROTATE_270).save(tmp_path / "turned.png", exif=exif)
    return tmp_path / "turned.png"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_sees_the_image_as_it_is_meant_or_as_it_is_asked_to(
    command: Command, turned: Path, tmp_path: Path, name: str
) -> None:
    stored = photograph().convert("RGB").transpose(Image.Transpose.ROTATE_270)
    expected = {
        ("--background", "#102030"): on("#102030"),
        ("--no-exif-transpose", "--background", "oracle"): stored,
    }
    if name == "trace":  # quick
        expected[()] = on("white")
        expected[("--background", "oracle")] = photograph().convert("RGB")
    seen = []
    for i, (options, picture) in enumerate(expected.items()):
        plain = tmp_path / f"plain{i}.png"
        picture.save(plain)
        seen.append(command(name, turned, *options))
        assert seen[-1] == command(name, plain)
    assert len(set(seen)) > 1


def test_limits_are_lifted_on_request(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut, whole = tmp_path / "cut.jpg", tmp_path / "whole.jpg"
    on("red").save(whole, quality=95)
    cut.write_bytes(whole.read_bytes()[:-2])  # the marker of the end, no more
    assert command("caption", cut, "--truncated", "ok") == command("caption", whole)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert command("caption", whole, "--max-pixels", "1280")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--background", "whit"],
            "--background: must be a colour such as white or #rrggbb, or oracle",
        ),
        (["--background", "whit"], "(got 'whit'; did you mean white?)"),
        (["--background", "#ff000080"], "(got '#ff000080')"),
        (["--max-pixels", "0"], "argument --max-pixels: must be an integer >= 1 (got '0')"),
        (["--truncated", "yes"], "argument --truncated: must be one of error, ok (got 'yes')"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_the_work(
    options: list[str], words: str, turned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["caption", str(turned), *options])
    assert words in capsys.readouterr().err
