"""Measuring in turns: refgit, peer, peer, limit, and again.

What slows the machine down for a minute slows all of them; ratios are taken round by round.
Nothing is timed before it is known to be the same computation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from refgit.bench import BenchError
from refgit.bench.cases import Case
from refgit.bench.process import Worker

Show = Callable[[str], AbstractContextManager[object]]
OURS = "refgit"
LEAST = 0.2  # seconds; a shorter case is run again until so much has passed
PAUSE = 0.1  # seconds between two turns: threads that wait for work stop spinning
SLOW, VERY_SLOW = 10.0, 30.0  # seconds a run, over which a program gets fewer turns
TOLERANCES = {"float64": 1e-3, "float32": 1e-3, "float16": 3e-2, "bfloat16": 1e-1}


@dataclass
class Series:
    """Seconds of one program in one case, a list a round: short cases run several times in each."""

    rounds: list[list[float]] = field(default_factory=list)

    @property
    def medians(self) -> list[float]:
        """Of each round."""
        return [median(r) for r in self.rounds]

    @property
    def median(self) -> float:
        """Of the rounds' medians."""
        return median(self.medians)

    @property
    def least(self) -> float:
        """The shortest of all runs."""
        return min(map(min, self.rounds))

    @property
    def most(self) -> float:
        """The longest of all runs."""
        return max(map(max, self.rounds))


@dataclass
class Results:
    """All that was measured: `times[case][program]`, and what was left out and why."""

    times: dict[str, dict[str, Series]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: bool = False


def measure(
    workers: Sequence[Worker],
    start: Callable[[str], Worker],
    settings: dict[str, Any],
    cases: Sequence[Case],
    limits: Callable[[Case], list[Case]],
    *,
    repeats: int,
    folder: Path,
    show: Show = nullcontext,
) -> Results:
    """Measure every case with every worker that computes the same as the first.

    Parameters
    ----------
    workers : sequence of Worker
        The first is refgit.
    start : callable
        Starts one more worker of a name, for cold starts.
    settings : dict
        What the workers prepare with.
    cases : sequence of dict
    limits : callable
        The limit cases that belong to a case; refgit's worker runs them.
    repeats : int
        Rounds.
    folder : Path
        For results on their way to be compared.
    show : callable
        Makes a context that says what is going on.

    Raises
    ------
    BenchError
        refgit's own worker fails.
    """
    results, live = Results(), []
    for worker in workers:
        try:
            with show(f"loading {worker.name}"):
                results.facts[worker.name] = worker.ask(do="prepare", settings=settings)["facts"]
            live.append(worker)
        except BenchError as error:
            if worker.name == OURS:
                raise
            _leave_out(results, worker.name, str(error))
    tolerance = TOLERANCES.get(settings["dtype"], 1e-3)
    for case in cases:
        with show(f"measuring {case['name']}"):
            if case["kind"] == "once":
                cold = partial(_cold, start=start, settings=settings, case=case)
                turns = _turns_of(live, case, cold, 0, results)
            else:
                warm = partial(_warm, case=case, folder=folder)
                turns = _turns_of(live, case, warm, tolerance, results)
                known = {name for timed in results.times.values() for name in timed}
                for limit in limits(case):
                    if limit["name"] not in known:
                        run = partial(_seconds, live[0], limit)
                        turns.append(Turn(limit["name"], run, sum(run())))
            results.times[case["name"]] = _in_turns(turns, repeats, case["name"], results)
    return results


@dataclass
class Turn:
    """One program in one case: what runs it, and how long that took when it was tried."""

    name: str
    run: Callable[[], list[float]]
    tried: float


def _turns_of(
    live: list[Worker],
    case: Case,
    attempt: Callable[[Worker], tuple[Any, Turn]],
    tolerance: float,
    results: Results,
) -> list[Turn]:
    """Run each once and compare; the programs that agree with the first get a turn."""
    turns, expected = [], None
    for worker in list(live):
        try:
            found, turn = attempt(worker)
            if worker is live[0]:
                expected = found
            elif expected is not None:
                same_or_raise(worker.name, case["name"], found, expected, tolerance)
        except BenchError as error:
            if worker is live[0]:
                raise
            _leave_out(results, f"{worker.name}, {case['name']}", str(error))
            if worker.process.poll() is not None:
                live.remove(worker)
            continue
        turns.append(turn)
    return turns


def _warm(worker: Worker, case: Case, folder: Path) -> tuple[Any, Turn]:
    """Run a case once in a worker that has loaded its model."""
    file = folder / f"{worker.name.replace('/', '_')}.npy"
    file.unlink(missing_ok=True)
    answer = worker.ask(do="result", case=case, file=str(file))
    found = np.load(file) if answer["written"] else None
    return found, Turn(worker.name, partial(_seconds, worker, case), answer["seconds"])


def _cold(
    worker: Worker, start: Callable[[str], Worker], settings: dict[str, Any], case: Case
) -> tuple[Any, Turn]:
    """Start a fresh process for a case, as for every further run of it."""

    def run() -> tuple[Any, float]:
        fresh = start(worker.name)
        try:
            answer = fresh.ask(do="once", settings=settings, case=case)
            wall = time.perf_counter() - fresh.started
            busy = settings.get("clock") == "processor"
            return np.array(answer["result"]), answer["processor"] if busy else wall
        finally:
            fresh.close()

    found, seconds = run()
    return found, Turn(worker.name, lambda: [run()[1]], seconds)


def _seconds(worker: Worker, case: Case) -> list[float]:
    seconds: list[float] = worker.ask(do="time", case=case, least=LEAST)["seconds"]
    return seconds


def same_or_raise(
    name: str, case: str, found: Any, expected: np.ndarray[Any, Any], tolerance: float
) -> None:
    """Raise a BenchError unless a result is what refgit's is.

    Integers are token ids and must be equal; floats may differ by `tolerance` times the largest
    magnitude.
    """
    what = "not the same computation, so it is not timed"
    if found is None or found.shape != expected.shape:
        shape = None if found is None else found.shape
        raise BenchError(f"{case} gives shape {shape}, refgit's has {expected.shape}: {what}.")
    if np.issubdtype(expected.dtype, np.integer):
        if (found != expected).any():
            place = tuple(map(int, np.argwhere(found != expected)[0]))
            raise BenchError(
                f"{case} writes token {found[place]} at {place}, refgit {expected[place]}: {what}."
            )
        return
    scale = float(np.abs(expected).max()) or 1.0
    error = float(np.abs(found.astype(np.float64) - expected).max()) / scale
    if not error <= tolerance:
        raise BenchError(
            f"{case} differs from refgit's by {error:.1e} of the largest value, more than "
            f"{tolerance:g}: {what}."
        )


def _in_turns(
    turns: Sequence[Turn], repeats: int, case: str, results: Results
) -> dict[str, Series]:
    """A B C, A B C, ...; who is slow sits out the later rounds."""
    times = {turn.name: Series() for turn in turns}
    rounds = {turn.name: _rounds_of(turn, repeats) for turn in turns}
    for name, count in rounds.items():
        if count < repeats:
            results.notes.append(f"{name}, {case}: {count} rounds, since one run is so long")
    for number in range(repeats):
        for turn in turns:
            if number >= rounds[turn.name]:
                continue
            time.sleep(PAUSE)
            try:
                times[turn.name].rounds.append(turn.run())
            except BenchError as error:
                if turn is turns[0]:
                    raise
                _leave_out(results, f"{turn.name}, {case}", str(error))
                rounds[turn.name] = 0
    return {name: series for name, series in times.items() if series.rounds}


def _rounds_of(turn: Turn, repeats: int) -> int:
    if turn.tried > VERY_SLOW:
        return min(repeats, 2)
    return min(repeats, 3) if turn.tried > SLOW else repeats


def _leave_out(results: Results, what: str, why: str) -> None:
    results.notes.append(f"left out: {what}: {why.removeprefix(what.split(',')[0] + ': ')}")
    results.failed = True
