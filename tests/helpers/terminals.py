"""Commands run on a pseudo-terminal, and what the terminal was sent."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from helpers.command_line import (
    ROOT,
    environment,
)

pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")


PLAIN = {"NO_COLOR": "", "FORCE_COLOR": "", "TERM": "xterm-256color", "COLUMNS": "100"}


# The command line with another delay of the bars.
CODE = (
    "import sys; from refgit.cli import terminal; from refgit.cli.main import main; "
    "terminal.DELAY = {delay}; {first}; sys.exit(main(sys.argv[1:]))"
)


def on_terminal(
    *arguments: object,
    delay: float = 1000.0,
    stdout_too: bool = False,
    first: str = "pass",
    **variables: str,
) -> tuple[int, str, str]:
    """Run a command with stderr on a terminal: exit code, stdout, what the terminal was sent."""
    master, slave = pty.openpty()
    command = [sys.executable, "-c", CODE.format(delay=delay, first=first), *map(str, arguments)]
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=slave if stdout_too else subprocess.PIPE,
        stderr=slave,
        cwd=ROOT,
        env=environment(**{**PLAIN, **variables}),
    )
    os.close(slave)
    sent = b"".join(until_closed(master))
    os.close(master)
    printed = b"" if child.stdout is None else child.stdout.read()
    if child.stdout is not None:
        child.stdout.close()
    return child.wait(timeout=120), printed.decode(), sent.decode()


def until_closed(file: int) -> Iterator[bytes]:
    while True:
        try:
            data = os.read(file, 1 << 16)
        except OSError:  # how Linux says that the other end is closed
            return
        if not data:
            return
        yield data
