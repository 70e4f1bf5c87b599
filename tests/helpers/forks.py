"""Python code in processes of its own that need not import refgit again: forks of one that has.

That one process has a single thread, so that it may fork; its children run one piece of code each,
as `python -c` would.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import IO, Any


class Forks:
    """A process that has refgit imported, to be forked for each piece of code."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder, self._environment = folder, environment
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Forks:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=self._folder,
            env=self._environment,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.communicate()

    def run(self, code: str) -> tuple[int, str, str]:
        """Run a piece of code: exit code, stdout, stderr."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(code) + "\n")
        self._process.stdin.flush()
        status, printed, errors = json.loads(self._process.stdout.readline())
        return status, printed, errors


def child(code: str, out: IO[Any], err: IO[Any]) -> None:
    """Run the code in this process, a fork; never returns."""
    status = 1
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        exec(compile(code, "<page>", "exec"), {"__name__": "__main__"})
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    """Answer each line of code on stdin by its exit code and what it printed."""
    import numpy  # noqa: F401  # that the children need not
    import PIL.PngImagePlugin  # noqa: F401
    import safetensors.numpy  # noqa: F401
    import tokenizers  # noqa: F401

    import refgit.generation.api
    import refgit.model.causal_lm
    import refgit.processing  # noqa: F401

    sys.path[0] = ""  # as with -c
    for line in sys.stdin:
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            process = os.fork()
            if process == 0:
                child(json.loads(line), out, err)
            _, status = os.waitpid(process, 0)
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read())
        sys.stdout.write(json.dumps([os.waitstatus_to_exitcode(status), *texts]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
