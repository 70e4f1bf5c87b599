"""Jobs that are killed: nothing is lost, nothing is there twice, whenever the kill comes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.command_line import ROOT, ctrl_c_interrupts, environment, model, picture
from refgit.cli import main as cli

__all__ = ["model"]  # a fixture
pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'refgit[parquet]'")
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
    """The rows of a job that nobody interrupts; beside them, as a table."""
    rows = tmp_path_factory.mktemp("expected") / "rows.jsonl"
    for out in (rows, Path(f"{rows}.parquet")):
        options = ["--model", str(model), "--out", str(out), "--batch-size", "4"]
        assert cli.main(["caption", str(inputs), *options]) == 1
    assert len(rows.read_text().splitlines()) == 20
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("how", ["call", "time"])
@pytest.mark.parametrize("name", ["captions.jsonl", "captions.parquet"])
def test_a_job_that_is_killed_again_and_again_ends_as_if_it_had_not_been(
    name: str, how: str, inputs: Path, expected: Path, model: Path, tmp_path: Path
) -> None:
    kills = 0
    for seed in range(3 if how == "call" else 1):
        out = tmp_path / f"{seed}-{name}"
        command = [
            sys.executable,
            ROOT / "tests" / "helpers" / "job_killer.py",
            out,
            expected,
            str(seed),
            how,
        ]
        done = subprocess.run(
            [*command, "caption", inputs, "--model", model],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=environment(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1"),
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["code"] == 1  # two are no images, whoever found that out
        kills += found["kills"]
        assert sorted(p.name for p in tmp_path.glob(f"{seed}-*")) == [out.name, f"{out.name}.job"]
        whole = Path(f"{expected}.parquet") if out.suffix == ".parquet" else expected
        assert out.read_bytes() == whole.read_bytes()
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
