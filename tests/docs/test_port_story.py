"""docs/port-story.md: its commands print what the page quotes, and its mistakes are found.

The commands run in one folder, in the order of the page. Figures that hang on rounding or on the
machine are left out of the comparison; words, names and counts are not.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.backends import ROOT

PAGE = (ROOT / "docs" / "port-story.md").read_text()
BLOCK = re.compile(r"^```sh\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", re.S | re.M)
# Numbers, indices, and which tensor has the largest of errors that are all rounding.
FIGURE = re.compile(r"\d+\.\d+(?:e[+-]\d+)?|\d+e[+-]\d+|\[\d[\d, ]*\]|(?<=floor )\(\S+\)")


def without_figures(text: str) -> list[str]:
    """The lines, less the table's (they are figures) and less the figures of the others."""
    lines = [line for line in text.splitlines() if not re.match(r"\*? {2,}\S.*\d$|.*\]$", line)]
    # the root mean square is said where it is the larger number, which differs by machine
    lines = [re.sub(r" \(its rms: \S+ x\)", "", line) for line in lines]
    return [FIGURE.sub("#", line).rstrip() for line in lines]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str, str]]:
    """Of each command: what was run, what the page quotes, what was printed."""
    folder = tmp_path_factory.mktemp("story")
    for name in ("docs", "tests"):
        (folder / name).symlink_to(ROOT / name)
    programs = tmp_path_factory.mktemp("bin")
    for name, start in (("python", ""), ("refgit", "-m refgit ")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {start}"$@"\n')
        (programs / name).chmod(0o755)
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'backends'}",
        "OMP_NUM_THREADS": "1",
    }
    found = []
    for code, quoted in BLOCK.findall(PAGE):
        if code.startswith("node") and shutil.which("node") is None:
            continue
        run = subprocess.run(
            ["bash", "-c", code],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            env=environment,
        )
        found.append((code, quoted, run.stdout))
    assert Path(folder, "report.html").stat().st_size > 10_000
    return found


@pytest.mark.slow
def test_every_command_prints_what_the_page_quotes(outputs: list[tuple[str, str, str]]) -> None:
    quoted = [(code, without_figures(text)) for code, text, _ in outputs if text]
    printed = [(code, without_figures(text)) for code, wanted, text in outputs if wanted]
    assert printed == quoted
    assert len(printed) >= 9


def test_both_mistakes_are_named_at_once_and_none_is_left_at_the_end() -> None:
    assert PAGE.index("the class token gets no position") < PAGE.index("it should be quick-gelu")
    assert "all 125 tensors agree" in PAGE


@pytest.mark.slow
def test_captions_are_right_before_the_port_is(outputs: list[tuple[str, str, str]]) -> None:
    both, second = (text for code, _, text in outputs if " caption " in code)
    assert "red-heart.png: heart suit" in both
    right = dict(re.findall(r"([\w-]+\.png)\t(.*)", both))
    assert dict(re.findall(r"([\w-]+\.png): (.*)", second)) == right
