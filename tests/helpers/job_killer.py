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


def check(spec: dict[str, Any]) -> None:
    """Hold what must hold at every moment: see refgit/jobs/journal."""
    expected, rows = spec["expected"], Path(spec["rows"])
    partial = Path(f"{rows}.partial")
    if partial.exists():
        lines = partial.read_bytes().splitlines(keepends=True)
        found = [json.loads(line) for line in lines if line.endswith(b"\n")]
        assert lines[: len(found)] == [line for line in lines if line.endswith(b"\n")]
        images = [(row["image"], row.get("_", {}).get("again", 0)) for row in found]
        assert len(set(images)) == len(images), "a row is double"
        for row in found:
            assert [row["caption"], row["error"]] == expected[row["image"]], "a row is wrong"
    if spec["whole"] is not None and rows.exists():
        assert rows.read_bytes() == Path(spec["whole"]).read_bytes(), "OUT is not whole"
    for file, texts in spec["texts"].items():  # each text is what it was, or what it is to be
        assert not Path(file).exists() or Path(file).read_text() in texts


def main() -> None:
    """Read a JSON object from a file: what to run, how to kill it, and what must come out.

    arguments: of the command; rows: the file whose .partial takes the rows; expected: caption and
    error of each image; whole: a file that the rows' must equal as soon as it is there, or null;
    texts: what each file beside an image may hold; grow: pairs of folders, of which the first is
    renamed to the second after so many kills, as in [[7, "later", "pictures/more"]].
    """
    spec = json.loads(Path(sys.argv[1]).read_text())
    random_, kills, longest = random.Random(spec["seed"]), 0, 0.0
    left = list(spec["grow"])
    while True:
        while left and (kills >= left[0][0] or kills >= spec["most"]):
            os.rename(*left.pop(0)[1:])
        options = ["--batch-size", str(random_.randint(1, spec["batch"]))]
        options += ["--workers", str(random_.randint(1, 3))]
        process = os.fork()
        peaceful = kills >= spec["most"]
        if process == 0:
            seeds = random.Random(random_.random())
            child([*spec["arguments"], *options], "peace" if peaceful else spec["how"], seeds)
        random_.random()
        if spec["how"] == "time" and not peaceful:
            time.sleep(random_.uniform(0.0, spec["pause"] + longest))
            os.kill(process, signal.SIGKILL)
            longest += 0.01  # so that it comes to an end on a slow machine
        _, status = os.waitpid(process, 0)
        check(spec)
        if os.WIFEXITED(status) and not left:
            break
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) < 2
            os.rename(*left.pop(0)[1:])
            continue
        kills += 1
    print(json.dumps({"kills": kills, "code": os.WEXITSTATUS(status)}))


if __name__ == "__main__":
    main()
