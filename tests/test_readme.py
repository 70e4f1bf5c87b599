"""The README's Python blocks run in order, and print what their comments say."""

from __future__ import annotations

import re
import subprocess
import sys

from conftest import ROOT

README = (ROOT / "README.md").read_text()


def test_the_python_blocks_run_and_print_what_they_say() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) >= 3
    code = "\n".join(blocks)
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
    compared = 0
    for found, wanted in zip(printed, expected, strict=True):
        if wanted.startswith("["):
            assert found == wanted
            compared += 1
    assert compared >= 2


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
