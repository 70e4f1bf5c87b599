"""A worker seen from here: a process with pipes, one question at a time."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from refgit.bench import BenchError
from refgit.openblas import SPINNING

SERVE = Path(__file__).parent / "workers" / "serve.py"
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
# With it a checkout would be compiled at every cold start; what pip installs is compiled already.
_UNCOMPILED = "PYTHONDONTWRITEBYTECODE"
PATIENCE = 900.0  # seconds for one answer


class Worker:
    """One program to be measured, in a process of its own.

    Parameters
    ----------
    name : str
        What messages call it.
    python : str or Path
        The interpreter.
    module : str
        What `serve.py` loads: a module beside it, or one on `paths`.
    threads : int
        For every library that reads one of the usual variables.
    paths : sequence of str
        PYTHONPATH; nothing of this process's own is handed on.
    patience : float
        Seconds to wait for an answer.

    Raises
    ------
    BenchError
        The interpreter cannot be started.
    """

    def __init__(
        self,
        name: str,
        python: str | Path,
        module: str,
        *,
        threads: int,
        paths: tuple[str, ...] = (),
        patience: float = PATIENCE,
    ) -> None:
        self.name, self.patience = name, patience
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self.started = time.perf_counter()
        try:
            self.process = subprocess.Popen(
                [str(python), str(SERVE), module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                env=environment(threads, paths),
                encoding="utf-8",
            )
        except OSError as error:
            self.errors.close()
            raise BenchError(
                f"{name}: {python} cannot be run ({error.strerror}); expected a Python "
                "interpreter, see --peer-python."
            ) from error
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def ask(self, **message: Any) -> dict[str, Any]:
        """Send a message and return the answer.

        Raises
        ------
        BenchError
            The worker reports an error, answers nothing in time, no JSON, or is gone.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
            line = self.lines.get(timeout=self.patience)
        except queue.Empty:
            self.close(kill=True)
            raise BenchError(
                f"{self.name}: no answer to {message['do']!r} within {self.patience:.0f} s; "
                "it has been stopped."
            ) from None
        except OSError:  # it is gone, and reads no more
            line = None
        if line is None:
            raise BenchError(f"{self.name}: {self._last_words(message['do'])}")
        try:
            answer = json.loads(line)
        except json.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict):
            self.close(kill=True)
            raise BenchError(
                f"{self.name}: answered {line.strip()[:80]!r} to {message['do']!r}; expected a "
                "JSON object."
            )
        if "error" in answer:
            raise BenchError(f"{self.name}: {answer['error']}")
        return answer

    def _last_words(self, asked: str) -> str:
        """Why it is gone, by its exit code and the last line on its stderr."""
        code = self.process.wait(10)
        self.errors.seek(0)
        lines = [line.strip() for line in self.errors.read().splitlines() if line.strip()]
        last = f": {lines[-1]}" if lines else ""
        return f"ended with exit code {code} when asked for {asked!r}{last}"

    def close(self, *, kill: bool = False) -> None:
        """Let the worker go."""
        if kill:
            self.process.kill()
        if self.process.stdin is not None and not self.process.stdin.closed:
            with suppress(OSError):  # it has gone before
                self.process.stdin.write('{"do": "end"}\n')
                self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.join()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.errors.close()


def environment(threads: int, paths: tuple[str, ...]) -> Mapping[str, str]:
    """Variables of this process with equal threads for all, and no download of anything."""
    dropped = ("PYTHONPATH", "PYTHONHOME", "REFGIT_NUM_THREADS", _UNCOMPILED)
    variables = SPINNING | {k: v for k, v in os.environ.items() if k not in dropped}
    variables |= dict.fromkeys(THREAD_VARIABLES, str(threads))
    variables |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if paths:
        variables["PYTHONPATH"] = os.pathsep.join(paths)
    return variables
