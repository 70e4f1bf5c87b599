"""Jobs that are killed: nothing is lost, nothing is there twice, whenever the kill comes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import ROOT, ctrl_c_interrupts, encoded, environment, model, picture
from refgit.cli import main as cli

__all__ = ["model"]  # a fixture
pytest.importorskip("pyarrow", reason="needs pyarrow: pip install pyarrow")
NAMES = ["captions.jsonl", "captions.parquet", "captions.csv", "captions.json", "metadata.jsonl"]
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of twenty images; two are the same, two are none."""
    folder = tmp_path_factory.mktemp("inputs")
    names = [str(picture(folder / f"{i}.png", i)) for i in range(17)]
    names[5:5] = [str(folder / "missing.png"), names[3]]
    (folder / "text.png").write_text("this is no image")
    names.append(str(folder / "text.png"))
    (folder / "list.txt").write_text("\n".join(names))
    return folder / "list.txt"


@pytest.fixture(scope="module")
def expected(inputs: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rows of a job that nobody interrupts; beside them, in the other formats."""
    folder = tmp_path_factory.mktemp("expected")
    for name in NAMES:
        out = (inputs.parent if name == "metadata.jsonl" else folder) / name
        options = ["--model", str(model), "--out", str(out), "--batch-size", "4"]
        assert cli.main(["caption", str(inputs), *options]) == 1
        out.replace(folder / name)
    for file in inputs.parent.glob("*.jsonl*"):
        file.unlink()
    assert len((folder / NAMES[0]).read_text().splitlines()) == 20
    return folder / NAMES[0]


def killed(spec: dict[str, Any], tmp_path: Path) -> dict[str, int]:
    """Have job_killer.py kill a job again and again; returns how often, and the exit code."""
    given = {"grow": [], "texts": {}, "whole": None, "most": 80, "batch": 5, "pause": 0.04} | spec
    (tmp_path / "spec").write_text(json.dumps(given))
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "helpers" / "job_killer.py", tmp_path / "spec"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1"),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


def expected_of(rows: Path) -> dict[str, list[str | None]]:
    found = map(json.loads, rows.read_text().splitlines())
    return {row["image"]: [row["caption"], row["error"]] for row in found}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["call", "time"])
@pytest.mark.parametrize("name", NAMES)
def test_a_job_that_is_killed_again_and_again_ends_as_if_it_had_not_been(
    name: str, how: str, inputs: Path, expected: Path, model: Path, tmp_path: Path
) -> None:
    kills = 0
    whole = expected.parent / name
    for seed in range(3 if how == "call" else 1):
        out = inputs.parent / name if name == "metadata.jsonl" else tmp_path / f"{seed}-{name}"
        arguments = ["caption", inputs, "--model", model, "--out", out]
        spec = {
            "arguments": [*map(str, arguments)],
            "rows": str(out),
            "expected": expected_of(expected),
            "whole": str(whole),
            "seed": seed,
            "how": how,
        }
        found = killed(spec, tmp_path)
        assert found["code"] == 1  # two are no images, whoever found that out
        kills += found["kills"]
        assert out.read_bytes() == whole.read_bytes()
        beside = {p.name: p for p in [*out.parent.glob(f"{seed}-*"), *out.parent.glob("*.jsonl*")]}
        failed = {
            "metadata.jsonl": "failed.jsonl",
            "captions.json": f"{seed}-captions.failed.jsonl",
        }
        assert set(beside) == {out.name, f"{out.name}.job", failed.get(name, out.name)}
        for file in beside.values():
            file.unlink()
    assert kills >= 6


@pytest.mark.slow
@pytest.mark.parametrize("how", ["call", "time"])
def test_texts_beside_the_images_are_neither_torn_nor_appended_to_twice(
    how: str, model: Path, tmp_path: Path
) -> None:
    names = [f"{i}.png" for i in range(12)]
    for where in ("whole", "killed"):
        for i, name in enumerate(names):
            picture(tmp_path / where / "a" / name, i)
            if i % 3 == 0:
                (tmp_path / where / "a" / f"{i}.txt").write_text("from before\n")
    tail = ["--sidecar", ".txt", "--existing", "append", "--model", str(model)]
    assert cli.main(["caption", str(tmp_path / "whole"), "--recursive", *tail]) == 0
    texts = {
        str(tmp_path / "killed" / "a" / file.name): [file.read_text(), "from before\n"]
        for file in (tmp_path / "whole" / "a").glob("*.txt")
    }
    rows = tmp_path / "whole" / "refgit.txt.jsonl"
    whole = rows.read_text().replace(str(tmp_path / "whole"), str(tmp_path / "killed"))
    (tmp_path / "rows").write_text(whole)
    spec = {
        "arguments": ["caption", str(tmp_path / "killed"), "--recursive", *tail],
        "rows": str(tmp_path / "killed" / "refgit.txt.jsonl"),
        "expected": expected_of(tmp_path / "rows"),
        "whole": str(tmp_path / "rows"),
        "texts": texts,
        "how": how,
    }
    kills = 0
    for seed in range(3 if how == "call" else 1):
        found = killed({**spec, "seed": seed}, tmp_path)
        assert found["code"] == 0
        kills += found["kills"]
        for text, (end, _) in texts.items():
            assert Path(text).read_text() == end
        assert not list((tmp_path / "killed" / "a").glob(".*"))
        for file in [*map(Path, texts), *(tmp_path / "killed").glob("refgit*")]:
            file.unlink()
        for i in range(0, 12, 3):
            (tmp_path / "killed" / "a" / f"{i}.txt").write_text("from before\n")
    assert kills >= 6


def test_ctrl_c_keeps_the_rows_and_says_how_to_go_on(
    inputs: Path, expected: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "captions.jsonl"
    code = (
        "import sys, time\nfrom refgit.cli import main as cli\n"
        "from refgit.pipeline import Captioner\n"
        "write = Captioner.write\n"
        "def slow(*arguments):\n    time.sleep(0.2)\n    return write(*arguments)\n"
        "Captioner.write = slow\nsys.exit(cli.main(sys.argv[1:]))"
    )
    arguments = ["caption", inputs, "--model", model, "--out", out, "--batch-size", "2"]
    child = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(),
        preexec_fn=ctrl_c_interrupts,
    )
    partial = Path(f"{out}.partial")
    while child.poll() is None and not (partial.exists() and partial.stat().st_size):
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert err.startswith("refgit: interrupted; ")
    assert "of 20 rows are kept. The same command goes on from there." in err
    kept = partial.read_bytes()
    assert kept
    assert expected.read_bytes().startswith(kept)
    assert cli.main(list(map(str, arguments))) == 1
    assert out.read_bytes() == expected.read_bytes()


FOLDERS = [f"{a}/{b}" for a in ("", "cats", "dogs", "dogs/old") for b in ("", "x", "x/y", "z")]


def many_pictures(folder: Path, count: int, first: int = 0) -> None:
    """So many pictures in nested folders; a few are none."""
    kinds = [encoded(seed) for seed in range(16)]
    for i in range(first, first + count):
        file = folder / FOLDERS[i % len(FOLDERS)].strip("/") / f"{i:05}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(kinds[i * 7 % 16] if i % 499 else b"this is no image")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["sidecar", "imagefolder"])
def test_five_thousand_images_killed_twenty_times_and_grown_twice_end_as_in_one_go(
    form: str, model: Path, tmp_path: Path
) -> None:
    whole, grown = tmp_path / "whole", tmp_path / "grown"
    parts = [(grown, 3000, 0), (tmp_path / "1", 1000, 3000), (tmp_path / "2", 1000, 4000)]
    for (folder, count, first), name in zip(parts, ("", "cats/more", "more"), strict=True):
        many_pictures(folder, count, first)
        shutil.copytree(folder, whole / name, dirs_exist_ok=True)
    out = {"sidecar": "refgit.txt.jsonl", "imagefolder": "metadata.jsonl"}[form]

    def command(folder: Path, form: str, out: str) -> list[str]:
        where = ["--sidecar", ".txt"] if form == "sidecar" else ["--out", str(folder / out)]
        return ["caption", str(folder), "--recursive", *where, "--model", str(model)]

    rows = tmp_path / "rows.jsonl"
    assert cli.main([*command(whole, "jsonl", "../rows.jsonl"), "--batch-size", "16"]) == 1
    rows.write_text(rows.read_text().replace(str(whole), str(grown)))
    assert cli.main([*command(whole, form, out), "--batch-size", "16"]) == 1
    spec = {
        "arguments": command(grown, form, out),
        "rows": str(grown / out),
        "expected": expected_of(rows),
        "grow": [[7, str(parts[1][0]), str(grown / "cats" / "more")],
                 [14, str(parts[2][0]), str(grown / "more")]],
        "most": 20, "batch": 32, "pause": 4.0, "seed": 0, "how": "time",
    }  # fmt: skip
    found = killed(spec, tmp_path)
    assert found == {"kills": 20, "code": 1}
    files = {p.relative_to(whole).as_posix(): p for p in whole.rglob("*") if p.is_file()}
    ends = {p.relative_to(grown).as_posix(): p for p in grown.rglob("*") if p.is_file()}
    assert set(ends) == set(files)
    for name, file in files.items():
        if not name.endswith(".job"):
            text = ends[name].read_bytes().replace(bytes(grown), bytes(whole))
            assert text == file.read_bytes(), name
    texts = len(list(grown.rglob("*.txt")))
    assert texts == (5000 - 11 if form == "sidecar" else 0)
