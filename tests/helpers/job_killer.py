"""Kill a job at random moments, and start it again, until it is done; see test_jobs_kill.py.

A process of its own, with a single thread, so that it may fork: its children have everything
imported and run the command at once.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy  # noqa: F401  # that the children need not
import PIL.PngImagePlugin  # noqa: F401
import pyarrow.parquet  # noqa: F401
import safetensors.numpy  # noqa: F401
import tokenizers  # noqa: F401

import refgit.generation.api
import refgit.jobs.run
import refgit.model.git
import refgit.processing  # noqa: F401
from refgit.cli import main as cli
from refgit.jobs.journal import ledger
from refgit.jobs.rows import line_of

MOST = 80  # kills; then the job may end in peace


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_a_call(number: int, random_: random.Random) -> None:
    """Kill this process at the n-th call that changes a file, before it, after it or within."""
    left = number

    def deadly(call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any) -> Any:
            nonlocal left
            left -= 1
            if left:
                return call(*arguments)
            if call.__name__ == "write":
                file, data = arguments
                os_write(file, bytes(data)[: random_.randint(0, len(data))])
            elif random_.random() < 0.5:
                call(*arguments)
            die()

        return called

    os_write = os.write
    for name in ("write", "fsync", "replace", "ftruncate", "unlink"):
        setattr(os, name, deadly(getattr(os, name)))


def child(arguments: list[str], how: str, random_: random.Random) -> None:
    """Run the command; never returns."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    ledger.SYNC = 0.0
    if how == "call":
        die_at_a_call(random_.randint(1, 24), random_)
    code = 99
    try:
        code = cli.main(arguments)
    finally:
        os._exit(code)


def check(out: Path, expected: bytes, table: bytes | None) -> None:
    """Hold what must hold at every moment: see refgit/jobs/journal."""
    partial = Path(f"{out}.partial")
    if partial.exists():
        lines = partial.read_bytes().splitlines(keepends=True)
        whole = b"".join(map(public, lines[:-1]))
        rows = whole + (public(lines[-1]) if lines and lines[-1].endswith(b"\n") else b"")
        assert expected.startswith(rows), "a row is missing, double or wrong"
    if out.exists():
        assert out.read_bytes() == (expected if table is None else table), "OUT is not whole"


def public(line: bytes) -> bytes:
    """A line as the result has it, without what only the job needs."""
    row = json.loads(line)
    row.pop("_", None)
    return line_of(row)


def main() -> None:
    out, expected, seed, how, *arguments = sys.argv[1:]
    rows = Path(expected).read_bytes()
    table = Path(f"{expected}.parquet").read_bytes() if out.endswith(".parquet") else None
    random_, kills, longest = random.Random(int(seed)), 0, 0.0
    while True:
        options = ["--out", out, "--batch-size", str(random_.randint(1, 5))]
        options += ["--workers", str(random_.randint(1, 3))]
        process = os.fork()
        peaceful = kills >= MOST
        if process == 0:
            seeds = random.Random(random_.random())
            child([*arguments, *options], "peace" if peaceful else how, seeds)
        random_.random()
        if how == "time" and not peaceful:
            time.sleep(random_.uniform(0.0, 0.04 + longest))
            os.kill(process, signal.SIGKILL)
            longest += 0.01  # so that it comes to an end on a slow machine
        _, status = os.waitpid(process, 0)
        check(Path(out), rows, table)
        if os.WIFEXITED(status):
            break
        kills += 1
    print(json.dumps({"kills": kills, "code": os.WEXITSTATUS(status)}))


if __name__ == "__main__":
    main()
