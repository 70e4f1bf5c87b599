"""Measure `refgit caption FOLDER --out FILE` beside an earlier commit, in turns.

    python docs/tools/measure/folder.py --peer 8366953                # 512 images, 2 threads
    python docs/tools/measure/folder.py --peer 8366953 --images 64 --rounds 3

Run it from a checkout. The images, 640 x 480 JPEGs, are drawn at random; the model has git-base's
size and random weights (707 MB, made once), so that every caption takes all 50 tokens. The earlier
commit gets a virtual environment with the libraries that are installed here. Both write the same
captions but for rounding; what is printed is seconds from start to end, their ratio round by round,
and peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from refgit.bench import machine
from refgit.bench.checkpoint import default_model
from refgit.bench.history import commit_of, repository

ROOT = Path(__file__).parents[3]


def draw_images(folder: Path, count: int) -> None:
    """Write JPEGs of smooth colours, as large as photographs of that size."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for i in range(count):
        small = Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8))
        small.resize((640, 480), Image.Resampling.BICUBIC).save(folder / f"{i:05}.jpg", quality=90)


def checkout(commit: str, folder: Path) -> Path:
    """Put the sources of a commit into a folder."""
    archive = subprocess.run(
        ["git", "-C", str(repository()), "archive", commit], check=True, capture_output=True
    )
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder


def run(sources: Path, images: Path, out: Path, model: Path, threads: int) -> tuple[float, float]:
    """Caption the folder in a process of its own; return seconds and MB at most."""
    timed = (
        "import resource, subprocess, sys, time; started = time.perf_counter(); "
        "code = subprocess.call([sys.executable, '-m', 'refgit', *sys.argv[1:]]); "
        "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss; "
        "print(code, time.perf_counter() - started, peak)"
    )
    paths = os.pathsep.join([str(sources), str(sources / "backends")])
    variables = os.environ | {"PYTHONPATH": paths, "REFGIT_NUM_THREADS": str(threads)}
    command = ["caption", str(images), "--model", str(model), "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-c", timed, *command],
        check=True, capture_output=True, text=True, cwd=sources, env=variables,
    )  # fmt: skip
    code, seconds, peak = done.stdout.split()
    if code != "0":
        raise SystemExit(f"{sources}: refgit caption failed: {done.stderr}")
    return float(seconds), int(peak) * 1024 / 1e6


def captions(out: Path) -> list[str]:
    """The captions of a file of rows."""
    return [json.loads(line)["caption"] for line in out.read_text().splitlines()]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Caption a folder beside an earlier commit.")
    parser.add_argument("--peer", required=True, metavar="COMMIT")
    parser.add_argument("--images", type=int, default=512, metavar="N")
    parser.add_argument("--rounds", type=int, default=1, metavar="N")
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    arguments = parser.parse_args()
    model = default_model(lambda text: print(text, file=sys.stderr))
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        draw_images(work / "images", arguments.images)
        peer = checkout(commit_of(arguments.peer), work / "peer")
        named = {"here": ROOT, arguments.peer: peer}
        ratios = []
        facts = machine.facts(arguments.threads)
        print(f"{arguments.images} images, {arguments.threads} threads, {facts['cpu']}")
        for turn in range(arguments.rounds):
            found = {}
            for label, sources in sorted(named.items(), reverse=bool(turn % 2)):
                out = work / f"{label}-{turn}.jsonl"
                found[label] = run(sources, work / "images", out, model, arguments.threads)
                seconds, peak = found[label]
                print(f"{label}: {seconds:.1f} s, {peak:.0f} MB at most", flush=True)
            here, there = (captions(work / f"{label}-{turn}.jsonl") for label in named)
            same = sum(a == b for a, b in zip(here, there, strict=True))
            ratios.append(found["here"][0] / found[arguments.peer][0])
            print(f"round {turn + 1}: {ratios[-1]:.3f}; {same} captions are equal", flush=True)


if __name__ == "__main__":
    main()
