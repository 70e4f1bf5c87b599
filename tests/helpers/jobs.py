"""Jobs run by the command, in this process."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from refgit.cli import main as cli

Run = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def job(model: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process: exit code and lines of stderr; stdout stays empty."""

    def run_it(*arguments: object, directory: object = model) -> tuple[int, list[str]]:
        try:
            code = cli.main(["caption", *map(str, arguments), "--model", str(directory)])
        except SystemExit as end:  # of argparse
            code = int(str(end.code))
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert out == ""
        return code, err.splitlines()

    return run_it


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text().splitlines()]


def wrote(found: tuple[int, list[str]], rows: int) -> Path:
    """Hold that a job ended well after so many rows, all of them new; returns its file."""
    code, (line,) = found
    match = re.fullmatch(
        r"refgit: wrote (.+): (\d+) rows?(; (\d+) done in [\d.]+ s, [\d.e+]+ images/s)?\.", line
    )
    assert match is not None, line
    assert (code, int(match[2]), int(match[4] or 0)) == (0, rows, rows)
    return Path(match[1])


def refused(found: tuple[int, list[str]]) -> str:
    code, (line,) = found
    assert code == 2
    return line
