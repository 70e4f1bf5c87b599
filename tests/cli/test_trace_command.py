"""refgit trace: the file it writes, what it prints and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refgit import GitProcessor
from refgit.cli import main as cli
from refgit.cli.commands import trace as trace_command
from refgit.demo import NAME, demo_path
from refgit.parity.diagnosis.pixels import diagnose_pixels
from refgit.parity.numerics.noise import NoiseFloor
from refgit.parity.provenance import recorded_reading
from refgit.traces.container import Trace
from refgit.traces.names import TensorName, is_input

STAR = Path(__file__).parents[2] / "docs" / "images" / "star.png"


@pytest.fixture
def command() -> Callable[..., int]:
    return lambda *arguments: cli.main(["trace", *map(str, arguments)])


@pytest.mark.slow
def test_the_command_writes_a_trace_with_its_floors(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "star.safetensors"
    assert command("--image", STAR, "--out", out, "--tokens", 2) == 0
    said = capsys.readouterr().out
    found = Trace.load(out)
    assert said.startswith(f"{out}: {len(found)} tensors, 2 decode steps included, ")
    assert "noise floors in" in said
    floors = NoiseFloor.of_trace(found)
    assert floors is not None
    assert set(floors.floors) == {"float32"}
    assert found.meta["model"] == NAME
    assert len(found.meta["sha256"]) == 64
    assert "step.2.output" in found


def test_the_command_reads_a_prompt_and_prints_json(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t.safetensors"
    arguments = ("--image", STAR, "--out", out, "--text", "a star", "--noise", "none", "--json")
    assert command(*arguments, "--dtype", "float64", "--select", "output", "*.residual") == 0
    told = json.loads(capsys.readouterr().out)
    found = Trace.load(out)
    assert (told["file"], told["tensors"], told["steps"]) == (str(out), len(found), 0)
    assert told["bytes"] == found.nbytes
    ids = found["input.input_ids"]
    assert ids.shape[1] >= 3
    assert {TensorName.parse(n).path.split(".")[-1] for n in found if not is_input(n)} == {
        "output",
        "residual",
    }
    assert found["output"].dtype == np.float64
    assert "noise" not in found.meta


@pytest.mark.slow
def test_the_command_keeps_to_a_size(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t.safetensors"
    assert command("--image", STAR, "--out", out, "--max-bytes", "1.5M") == 0
    assert "left out to fit into --max-bytes" in capsys.readouterr().err
    assert Trace.load(out).nbytes <= 1_500_000


def test_a_pattern_that_fits_nothing_is_said(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t.safetensors"
    assert command("--image", STAR, "--out", out, "--select", "nothing", "--noise", "none") == 0
    assert "--select fits none of the tensors" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--out", "t.npz"], "expected a name that ends in .safetensors"),
        (["--out", "no/such/t.safetensors"], "there is no directory no/such"),
        (["--out", "t.safetensors", "--tokens", "9999"], "tokens is 9999"),
        (["--out", "t.safetensors", "--max-bytes", "1"], "the inputs alone take"),
        (["--out", "t.safetensors", "--model", "no/such/model/at/all"], "no/such/model/at/all"),
    ],
)
def test_what_cannot_be_done_is_said_and_leaves_no_file(
    command: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("--image", STAR, *arguments) == 2
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", ["", "x", "5X", "-1", "1..2M"])
def test_a_size_that_is_none_is_refused(
    command: Callable[..., int], size: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        command("--image", STAR, "--out", "t.safetensors", f"--max-bytes={size}")
    assert stopped.value.code == 2
    assert "must be a size such as 500000, 500M or 2G (got" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "bytes_"), [("500", 500), ("1.5k", 1500), ("2GB", 2 * 10**9)])
def test_sizes_are_read_as_people_write_them(text: str, bytes_: int) -> None:
    assert trace_command.size(text) == bytes_


def test_a_trace_is_of_the_picture_that_was_asked_for_and_says_so(
    command: Callable[..., int], tmp_path: Path
) -> None:
    file, out = tmp_path / "turned.png", tmp_path / "t.safetensors"
    exif = Image.Exif()
    exif[0x0112] = 6
    colours = np.random.default_rng(0).integers(0, 256, (9, 12, 4), dtype=np.uint8)
    Image.fromarray(colours).save(file, exif=exif)
    common = ("--image", file, "--out", out, "--noise", "none", "--select", "output")
    assert command(*common, "--no-exif-transpose", "--background", "oracle") == 0
    found = Trace.load(out)
    reading = recorded_reading(found)
    assert (reading.exif_transpose, reading.background) == (False, "oracle")
    processor = GitProcessor.from_pretrained(demo_path()).image_processor
    pixels = found["input.pixel_values"]
    assert diagnose_pixels(file, processor, pixels, reading).ok
    assert not diagnose_pixels(file, processor, pixels).ok
