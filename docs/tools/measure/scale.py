"""Measure what an image costs a processor's core, and write the table of docs/scale.md.

    python docs/tools/measure/scale.py            # prints the table
    python docs/tools/measure/scale.py --write    # puts it into docs/scale.md

Captions are computed on one thread and timed by the processor's clock, so other programs on the
machine matter little: what is printed is seconds of one core. The model of git-base's size has
random weights (707 MB, made once); time does not depend on them. Its captions have 12 words of the
vocabulary, the bundled model's are as long as they are.
"""

from __future__ import annotations

import os

# ruff: noqa: E402
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "REFGIT_NUM_THREADS"):
    os.environ[name] = "1"  # before NumPy is imported

import argparse
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from refgit import GitForCausalLM, GitProcessor
from refgit.bench import machine
from refgit.bench.checkpoint import default_model
from refgit.demo import demo_path
from refgit.jobs.formats.lines import LinesFormat
from refgit.jobs.journal.journal import Journal
from refgit.jobs.rows import row_of
from refgit.jobs.sources import Paths
from refgit.jobs.wanted import Wanted
from refgit.pipeline import Captioner

PAGE = Path(__file__).parents[2] / "scale.md"
BEGIN, END = "<!-- scale: made by a script -->", "<!-- /scale -->"
PICTURES = ("balloon", "cloud", "pencil", "red-apple", "red-heart", "star")
WORDS, DAY, MANY = 12, 86_400, 1_000_000_000


def core_seconds(work: Callable[[], object], repeats: int) -> float:
    """Median seconds of one core that the work takes; the first time does not count."""
    found = []
    for _ in range(repeats + 1):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return statistics.median(found[1:])


def photograph(width: int, height: int) -> bytes:
    """A JPEG with smooth colours and some noise, about as large as a photograph of that size."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
    smooth = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    noisy = np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noisy).save(stream, "JPEG", quality=85)
    return stream.getvalue()


def load(folder: Path) -> Captioner:
    model = GitForCausalLM.from_pretrained(folder)
    return Captioner(model, GitProcessor.from_pretrained(folder), 50)


def decoding(captioner: Captioner, repeats: int) -> list[tuple[str, float]]:
    rows = []
    for width, height in ((640, 480), (1024, 768), (2048, 1536)):
        data = photograph(width, height)
        seconds = core_seconds(lambda data=data: captioner.read(data), 5 * repeats)  # type: ignore[misc]
        rows.append((f"decode {width} x {height} JPEG, {len(data) / 1000:.0f} kB", seconds))
    return rows


def bundled(captioner: Captioner, batch: int, repeats: int) -> tuple[str, float]:
    folder = PAGE.parent / "images"
    images = [captioner.read((folder / f"{name}.png").read_bytes()) for name in PICTURES]
    images = (images * batch)[: max(batch, len(images))]

    def work() -> None:
        for i in range(0, len(images), batch):
            captioner.write(images[i : i + batch], range(batch))

    seconds = core_seconds(work, 5 * repeats) / len(images)
    return f"caption, bundled model, batch {batch}", seconds


def base(captioner: Captioner, batch: int, repeats: int) -> tuple[str, float]:
    image = captioner.read(photograph(640, 480))
    pixels = np.concatenate([image] * batch)  # (1, 3, H, W) -> (B, 3, H, W)
    lengths = {"min_new_tokens": WORDS, "max_new_tokens": WORDS}
    seconds = core_seconds(lambda: captioner.model.generate(pixels, **lengths), repeats) / batch
    return f"caption of {WORDS} words, git-base's size, batch {batch}", seconds


def writing(rows: int = 20_000) -> tuple[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        names = [f"photos/{i:09}.jpg" for i in range(rows)]
        journal = Journal(LinesFormat(f"{folder}/rows.jsonl"), {}, Wanted([Paths(names)]))
        todo = journal.todo()

        def work() -> None:
            some = islice(todo, rows // 10)
            text = "a dog on a beach beside a boat"
            journal.append([row_of(item.index, item.name, text) for item in some])

        seconds = core_seconds(work, 9) / (rows // 10)
        size = os.path.getsize(f"{folder}/rows.jsonl.partial") / journal.rows
        journal.close()
    return f"write a row, {size:.0f} bytes", seconds


def table(rows: list[tuple[str, float]]) -> str:
    facts = machine.facts(1)
    lines = [
        f"Measured {date.today()} by `python docs/tools/measure/scale.py` on {facts['cpu']}, "
        "one thread, "
        f"float32, NumPy {np.__version__}; seconds of the processor.",
        "",
        "| step | ms of a core for an image | images a second and core | 10^9 images, core-days |",
        "|---|---:|---:|---:|",
    ]
    for name, seconds in rows:
        rate = f"{1 / seconds:,.0f}" if seconds < 0.05 else f"{1 / seconds:.2f}"
        days = MANY * seconds / DAY
        lines.append(f"| {name} | {1000 * seconds:.3g} | {rate} | {float(f'{days:.3g}'):,.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batches", default="1,8", help="sizes, separated by commas")
    parser.add_argument("--bundled-only", action="store_true", help="without git-base's size")
    parser.add_argument("--write", action="store_true", help="into docs/scale.md")
    arguments = parser.parse_args()
    batches = [int(x) for x in arguments.batches.split(",")]
    captioner = load(demo_path())
    rows = [writing()]
    rows += [bundled(captioner, batch, arguments.repeats) for batch in batches]
    if not arguments.bundled_only:
        captioner = load(default_model(lambda text: print(text, file=sys.stderr)))
        rows += decoding(captioner, arguments.repeats)
        rows += [base(captioner, batch, arguments.repeats) for batch in batches]
    text = table(rows)
    print(text)
    if arguments.write:
        page = PAGE.read_text(encoding="utf-8")
        before, after = page.split(BEGIN)[0], page.split(END)[1]
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
