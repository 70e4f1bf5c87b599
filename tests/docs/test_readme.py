"""The README begins with two commands, and shows how to call refgit from Python.

Its Python blocks run, and its links are followed, in test_docs.py; its commands install, and
.ci/run runs them in a fresh environment.
"""

from __future__ import annotations

import re

from helpers.backends import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_there_are_blocks_to_run() -> None:
    assert len(re.findall(r"```python\n", README)) >= 3


def test_start_here_is_the_two_commands() -> None:
    block = re.search(r"## Start here.*?```sh\n(.*?)```", README, re.S)
    assert block is not None
    assert block[1].splitlines() == [
        "python -m pip install . && refgit caption docs/images/red-apple.png",
        "python -m pip install '.[test]' && python -m pytest",
    ]
