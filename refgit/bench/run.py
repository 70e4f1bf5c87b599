"""A whole run: workers started, cases made, all measured, figures put together."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import refgit_backends
from refgit.bench import BenchError
from refgit.bench.cases import Case, limit_cases, make_cases
from refgit.bench.checkpoint import cache_folder
from refgit.bench.peers import Peer, python_of
from refgit.bench.process import PATIENCE, Worker
from refgit.bench.report import summary
from refgit.bench.rounds import OURS, Results, Show, measure
from refgit.model.config import GitConfig
from refgit.sizes.memory import ITEMSIZE


@dataclass
class Plan:
    """What to measure.

    Attributes
    ----------
    model : Path
        Folder of the checkpoint.
    backend : str or None
        refgit's; the peers compute on the GPU where this is "cupy".
    dtype : str
    threads, repeats : int
    only : sequence of str, optional
        Names of cases; all by default.
    peers : sequence of Peer
    clock : {"wall", "processor"}
        Which seconds count; the processor's make sense on one thread.
    patience : float
        Seconds to wait for one answer.
    """

    model: Path
    backend: str | None = None
    dtype: str = "float32"
    threads: int = 1
    repeats: int = 7
    only: Sequence[str] | None = None
    peers: Sequence[Peer] = field(default_factory=list)
    clock: str = "wall"
    patience: float = PATIENCE


def measure_plan(
    plan: Plan, folder: Path, say: Callable[[str], None], show: Show = nullcontext
) -> tuple[dict[str, Any], bool]:
    """Measure; return the figures and whether something had to be left out.

    Raises
    ------
    BenchError, ValueError
        refgit itself cannot be measured, or the plan names what does not exist.
    """
    config = GitConfig.from_pretrained(plan.model)
    cases = make_cases(config, folder, plan.only)
    pythons = {OURS: sys.executable}
    notes = []
    for peer in plan.peers:
        try:
            pythons[peer.name] = python_of(peer, say)
        except BenchError as error:
            notes.append(f"left out: {error}")
    modules = {OURS: "refgit.bench.engine", **{p.name: p.module for p in plan.peers}}
    paths = {OURS: our_paths(), **{p.name: p.paths for p in plan.peers}}

    def start(name: str) -> Worker:
        return Worker(
            name,
            pythons[name],
            modules[name],
            threads=plan.threads,
            paths=paths[name],
            patience=plan.patience,
        )

    workers: list[Worker] = []
    try:
        for name in pythons:
            try:
                workers.append(start(name))
            except BenchError as error:
                notes.append(f"left out: {error}")
        results = measure(
            workers, start, settings_of(plan), cases, partial(limit_cases, config=config),
            repeats=plan.repeats, folder=folder, show=show,
        )  # fmt: skip
    finally:
        for worker in workers:
            worker.close()
    return figures_of(plan, results, cases, config, notes), results.failed or bool(notes)


def figures_of(
    plan: Plan, results: Results, cases: list[Case], config: GitConfig, notes: list[str]
) -> dict[str, Any]:
    """The JSON object, but for the machine."""
    size = sum(f.stat().st_size for f in plan.model.glob("*.safetensors"))
    data = summary(results, cases, config, ITEMSIZE[plan.dtype])
    return {
        "model": plan.model.name,
        "size": f"{size / 1e6:.0f} MB on disk",
        "dtype": plan.dtype,
        "repeats": plan.repeats,
        "clock": plan.clock,
        **data,
        "notes": notes + data["notes"],
    }


def settings_of(plan: Plan) -> dict[str, Any]:
    """What the workers are prepared with."""
    return {
        "model": str(plan.model),
        "backend": plan.backend,
        "dtype": plan.dtype,
        "threads": plan.threads,
        "clock": plan.clock,
        "device": "cuda" if _on_gpu(plan.backend) else "cpu",
        "cache": str(cache_folder()),
    }


def _on_gpu(backend: str | None) -> bool:
    """Whether a backend computes on a GPU; refgit's worker says what is wrong with its name."""
    try:
        return refgit_backends.backend_class(backend).on_gpu
    except refgit_backends.BackendError:
        return False


def our_paths() -> tuple[str, ...]:
    """Where refgit and its backends are imported from."""
    packages = (Path(__file__).parents[1], Path(str(refgit_backends.__file__)).parent)
    return tuple(str(package.parent) for package in packages)
