"""The README's Python blocks run in order, and print what their comments say."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from conftest import ROOT

README = (ROOT / "README.md").read_text()
PAGES = {
    page.relative_to(ROOT).as_posix(): re.findall(r"```python\n(.*?)```", page.read_text(), re.S)
    for page in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))
}
# A page whose blocks need what is not here says why.
NEEDS_A_FILE = {"docs/microsoft.md": "a checkpoint of Microsoft's"}


@pytest.mark.parametrize("page", [p for p, blocks in PAGES.items() if blocks])
def test_the_python_blocks_run_and_print_what_they_say(page: str) -> None:
    if page in NEEDS_A_FILE:
        pytest.skip(f"{page} shows {NEEDS_A_FILE[page]}")
    code = "\n".join(PAGES[page])
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'backends'}"},
    )
    assert run.returncode == 0, run.stderr
    printed = run.stdout.splitlines()
    expected = [line.partition("  # ")[2] for line in code.splitlines() if "print(" in line]
    assert len(printed) == len(expected)
    exact = [(f, w) for f, w in zip(printed, expected, strict=True) if re.match(r"[\[\d]", w)]
    assert exact
    for found, wanted in exact:
        assert found == wanted


def test_there_are_blocks_to_run() -> None:
    assert len(PAGES["README.md"]) >= 3
    assert sum(bool(blocks) for blocks in PAGES.values()) >= 3


def test_start_here_is_the_two_commands() -> None:
    block = re.search(r"## Start here.*?```sh\n(.*?)```", README, re.S)
    assert block is not None
    assert block[1].splitlines() == [
        "python -m pip install . && refgit caption docs/images/red-apple.png",
        "python -m pip install '.[test]' && python -m pytest",
    ]


def test_every_link_into_the_repository_leads_somewhere() -> None:
    pages = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *ROOT.glob("docs/*.md"),
        ROOT / "refgit/demo/README.md",
    ]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page}: {target}"
