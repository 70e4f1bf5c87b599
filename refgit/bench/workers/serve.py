"""The worker's end of the line protocol: read a JSON object a line, answer with one.

    python serve.py MODULE

`MODULE` supplies a class and a function:

    Engine(settings)      reads the model
    .facts                dict, what the report says of it: versions, threads
    .case(case)           (before, run): two functions, the first or None; only `run` is timed
    .wait()               return when the device has done its work
    .host(result)         what `run` returned, as a NumPy array or None
    once(settings, case)  a caption of an image file, from nothing: process start to here

Messages: ``{"do": "prepare", "settings": {...}}``, ``{"do": "result", "case": {...}, "file": F}``
(run once, write the result to the file), ``{"do": "time", "case": {...}, "least": SECONDS}`` (run
once; a short case again until so much time has passed), ``{"do": "once", "case": {...}, "settings":
{...}}``, ``{"do": "end"}``. An answer has "error" where something went wrong.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module
from typing import Any

MOST_RUNS = 50  # of a short case, in one answer


class Server:
    """One engine, and the cases it has been asked for."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.engine: Any = None
        self.cases: dict[str, Any] = {}
        self.now = time.perf_counter

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """Do what a message asks for."""
        action = message["do"]
        if action == "prepare":
            if message["settings"].get("clock") == "processor":
                self.now = time.process_time
            self.engine = import_module(self.module).Engine(message["settings"])
            return {"facts": self.engine.facts}
        if action == "once":
            found = import_module(self.module).once(message["settings"], message["case"])
            return {"result": found, "processor": time.process_time()}  # since the process began
        before, run = self.case(message["case"])
        if action == "result":
            return self.result(before, run, message["file"])
        return {"seconds": self.seconds(before, run, message["least"])}

    def case(self, case: dict[str, Any]) -> Any:
        """The two functions of a case, made once."""
        if case["name"] not in self.cases:
            self.cases[case["name"]] = self.engine.case(case)
        return self.cases[case["name"]]

    def timed(self, before: Any, run: Any) -> tuple[float, Any]:
        """Seconds of one run, and what it returned."""
        if before is not None:
            before()
        self.engine.wait()
        start = self.now()
        result = run()
        self.engine.wait()
        return self.now() - start, result

    def result(self, before: Any, run: Any, file: str) -> dict[str, Any]:
        """Run once and write down what comes of it."""
        import numpy as np

        seconds, result = self.timed(before, run)
        array = self.engine.host(result)
        if array is not None:
            np.save(file, array)
        return {"seconds": seconds, "written": array is not None}

    def seconds(self, before: Any, run: Any, least: float) -> list[float]:
        """Seconds of each run; of short ones the first does not count, it warms the caches."""
        found = [self.timed(before, run)[0]]
        if found[0] < least / 2:
            found = []
            while sum(found) < least and len(found) < MOST_RUNS:
                found.append(self.timed(before, run)[0])
        return found


def main() -> None:
    """Serve until the parent says "end" or goes away."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # a library that prints must not disturb the protocol
    server = Server(sys.argv[1])
    for line in sys.stdin:
        message = json.loads(line)
        if message["do"] == "end":
            break
        try:
            reply = server.answer(message)
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
