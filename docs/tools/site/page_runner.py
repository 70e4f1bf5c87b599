"""The Python of a page, run as a reader would: block after block, in one process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_CHILD = """
import contextlib, io, json, sys
space, printed = {"__name__": "__main__"}, []
for line, code in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            exec(compile("\\n" * line + code, sys.argv[1], "exec"), space)
        except BaseException as error:
            import traceback
            at = [f.lineno for f in traceback.extract_tb(error.__traceback__)
                  if f.filename == sys.argv[1]]
            what = "".join(traceback.format_exception_only(error)).strip()
            sys.exit(f"line {at[0] if at else line}: {what}")
    printed.append(out.getvalue())
json.dump(printed, sys.stdout)
"""


class BlockFailedError(RuntimeError):
    """A block of a page raised an error."""


def run(page: str, blocks: list[tuple[int, str]]) -> list[str]:
    """Return what each block of a page printed.

    Parameters
    ----------
    page : str
        Its path, for messages.
    blocks : list of (int, str)
        The line on which each begins, and its code.

    Raises
    ------
    BlockFailedError
        If one raised an error, with the error and its line.
    """
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, page],
        input=json.dumps(blocks),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **_ONE_THREAD, "PYTHONPATH": f"{ROOT}:{ROOT / 'backends'}"},
    )
    if done.returncode != 0:
        raise BlockFailedError(done.stderr.strip() or f"exit code {done.returncode}")
    printed: list[str] = json.loads(done.stdout)
    return printed
