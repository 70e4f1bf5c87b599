"""How time grows: with images, their size, frames, prompt and beams; git-base's size, on a CPU.

    python docs/tools/measure/growth.py              # measures what is lacking, draws, writes
    python docs/tools/measure/growth.py --again      # forgets what was measured
    python docs/tools/measure/growth.py --write      # draws and writes only (needs matplotlib)

Each point goes to growth.json as it is measured, so a run that was cut off goes on where it was.
The table stands between two marks in docs/fast.md, the picture in docs/images/growth.svg.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from refgit.openblas import set_openblas_thread_timeout

TOOLS = Path(__file__).parent
DOCS = TOOLS.parents[1]
DATA, PAGE, PICTURE = TOOLS / "growth.json", DOCS / "fast.md", DOCS / "images" / "growth.svg"
TOKENS = 20
LONG = 20.0  # seconds; what takes longer is measured once
AXES: dict[str, tuple[str, list[int]]] = {
    "batch": ("images", [1, 2, 4, 8, 16, 32]),
    "size": ("pixels a side", [224, 320, 384, 480, 560, 640]),
    "frames": ("frames", [1, 2, 3, 4, 5, 6]),
    "prompt": ("tokens before the caption", [1, 8, 32, 64, 128, 256, 512]),
    "beams": ("beams", [1, 2, 3, 4, 6, 8]),
}
FIRST = {"beams": 2}  # where the line begins: from one beam to two there is a step
PARTS = {"read": "encode and read the prompt", "caption": f"caption of {TOKENS} tokens"}


@dataclass(frozen=True)
class Point:
    """One place on one axis; all else is as small as it can be."""

    axis: str
    value: int

    def of(self, axis: str, least: int) -> int:
        """The value on an axis: this point's on its own, the least one elsewhere."""
        return self.value if axis == self.axis else least

    def case(self, part: str, config: Any, folder: Path) -> dict[str, Any]:
        """What the benchmark's engine runs."""
        from refgit.bench.cases import write_pixels

        pixels = write_pixels(
            config,
            folder,
            self.of("batch", 1),
            side=self.of("size", 224),
            frames=self.of("frames", 0),
        )
        ids = [[101, *range(1000, 1000 + self.of("prompt", 1) - 1)]] * self.of("batch", 1)
        case = {"name": f"{self.axis} {self.value} {part}", "pixels": pixels, "ids": ids}
        if part == "read":
            return {**case, "kind": "prefill"}
        return {**case, "kind": "generate", "tokens": TOKENS, "beams": self.of("beams", 1)}

    def image_tokens(self) -> int:
        """N, of one row."""
        return self.of("frames", 1) * ((self.of("size", 224) // 16) ** 2 + 1)

    def gflop(self, part: str) -> float:
        """Additions and multiplications of the matrix products, in thousands of millions."""
        from refgit import GitConfig
        from refgit.sizes.products import (
            image_products,
            operations,
            projection_products,
            step_products,
            vision_products,
        )

        config = GitConfig()
        vision = config.vision_config.replace(image_size=self.of("size", 224))
        config = config.replace(vision_config=vision)
        batch, prompt, n = self.of("batch", 1), self.of("prompt", 1), self.image_tokens()
        # Frames pass the encoder one by one, then stand in one row.
        total = operations(vision_products(config, batch * self.of("frames", 1)))
        total += operations(projection_products(config, batch, n))
        total += operations(image_products(config, batch, n))
        for i in range(1, prompt + 1):
            total += operations(step_products(config, batch, n, i))
        total -= (prompt - 1) * head(config, batch)  # it looks at the last token alone
        if part == "caption":
            rows = batch * self.of("beams", 1)
            for i in range(1, TOKENS):
                total += operations(step_products(config, rows, n, prompt + i))
        return total / 1e9


def head(config: Any, rows: int) -> int:
    """Additions and multiplications of the head."""
    return int(2 * rows * config.hidden_size * config.vocab_size)


# ---- measuring


def points() -> list[Point]:
    """All of them, axis by axis."""
    return [Point(axis, value) for axis, (_, values) in AXES.items() for value in values]


def measure(repeats: int, threads: int, clock: str) -> None:
    """Measure what is missing and write it down."""
    from refgit import GitConfig, GitForCausalLM
    from refgit.bench import machine
    from refgit.bench.engine import Engine

    data = read()
    data.setdefault("machine", machine.facts(threads))
    for name, value in {"threads": threads, "clock": clock}.items():
        if data["points"] and data["settings"][name] != value:
            raise SystemExit(
                f"{DATA.name} was measured with {name}={data['settings'][name]}, not {value}; "
                "measure the rest so too, or all --again."
            )
    data["settings"] = {"threads": threads, "clock": clock}
    engines: dict[bool, Engine] = {}
    with tempfile.TemporaryDirectory() as folder:
        for point, part in in_order(missing(data)):
            video = point.axis == "frames"
            if video not in engines:
                engines.clear()  # one model in memory at a time
                frames = max(AXES["frames"][1]) if video else None
                model = GitForCausalLM(GitConfig(num_image_with_embedding=frames), seed=0)
                engines[video] = Engine({"threads": threads}, model)
            engine = engines[video]
            case = point.case(part, engine.model.config, Path(folder))
            _, run = engine.case(case)  # there is nothing to do before these
            seconds = [timed(run, clock)]  # warms up
            if seconds[0] < LONG:
                seconds = [timed(run, clock) for _ in range(repeats)]
            data["points"][key(point, part)] = {"seconds": seconds, "gflop": point.gflop(part)}
            DATA.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
            print(f"{key(point, part)}: {median(seconds):.3f} s", flush=True)


def timed(run: Callable[[], Any], clock: str) -> float:
    """Seconds of one run: by the clock on the wall, or those that the processor was ours."""
    now = time.process_time if clock == "processor" else time.perf_counter
    start = now()
    run()
    return now() - start


def key(point: Point, part: str) -> str:
    """The name of a point in the file."""
    return f"{point.axis} {point.value} {part}"


def missing(data: dict[str, Any]) -> list[tuple[Point, str]]:
    """What has not been measured yet; beams change nothing before the caption."""
    wanted = [(point, part) for point in points() for part in PARTS]
    return [
        (point, part)
        for point, part in wanted
        if key(point, part) not in data["points"] and (point.axis, part) != ("beams", "read")
    ]


def read() -> dict[str, Any]:
    """What was measured before."""
    return json.loads(DATA.read_text(encoding="utf-8")) if DATA.exists() else {"points": {}}


def in_order(wanted: list[tuple[Point, str]]) -> list[tuple[Point, str]]:
    """Short runs first, so that one that is cut off leaves much behind; videos by themselves."""
    return sorted(wanted, key=lambda x: (x[0].axis == "frames", x[0].gflop(x[1])))


# ---- what comes of it


@dataclass(frozen=True)
class Line:
    """The measured points of a part on an axis, and the straight line through those that count."""

    x: list[int]
    seconds: list[float]
    start: float
    slope: float
    first: int

    def at(self, x: float) -> float:
        """The line's height."""
        return self.start + self.slope * x

    @property
    def error(self) -> float:
        """The largest relative distance of a point from the line."""
        pairs = zip(self.x, self.seconds, strict=True)
        return max(abs(self.at(x) - s) / s for x, s in pairs if x >= self.first)


def line(data: dict[str, Any], axis: str, part: str) -> Line | None:
    """Fit a line to an axis, by relative errors; image size is counted in image tokens."""
    import numpy as np

    found = []
    for value in AXES[axis][1]:
        point = data["points"].get(key(Point(axis, value), part))
        if point is not None:
            x = Point(axis, value).image_tokens() if axis == "size" else value
            found.append((x, median(point["seconds"])))
    first = FIRST.get(axis, 0)
    if len([x for x, _ in found if x >= first]) < 3:
        return None
    x, y = np.array([pair for pair in found if pair[0] >= first]).T
    slope, start = np.polyfit(x, y, 1, w=1 / y)
    xs, seconds = zip(*found, strict=True)
    return Line(list(xs), list(seconds), float(start), float(slope), first)


def table(data: dict[str, Any]) -> str:
    """Every point, and below them the slopes."""
    from refgit.bench.report import markdown, short

    rows = [["axis", "value", "N", PARTS["read"], "GFLOP", PARTS["caption"], "GFLOP"]]
    for point in points():
        cells = [point.axis, str(point.value), str(point.image_tokens())]
        for part in PARTS:
            found = data["points"].get(key(point, part))
            if found is None:
                cells += ["", ""]
            else:
                cells += [short(median(found["seconds"])), f"{found['gflop']:.0f}"]
        rows.append(cells)
    slopes = [["axis", "unit", "part", "start", "one unit more", "largest distance"]]
    for axis, (unit, _) in AXES.items():
        for part in PARTS:
            fit = line(data, axis, part)
            if fit is not None:
                unit = "image tokens" if axis == "size" else unit
                start = ("-" if fit.start < 0 else "") + short(abs(fit.start))
                slope = short(fit.slope) if fit.slope > 0 else "none"
                slopes.append([axis, unit, PARTS[part], start, slope, f"{fit.error:.0%}"])
    m = data["machine"]
    about = (
        f"Measured {m['date']} by `python docs/tools/measure/growth.py` on {m['cpu']}, "
        f"{m['cores']} cores, "
        f"threads: {m['threads']}, NumPy {m['numpy']} with {m['blas']}, float32."
    )
    if data["settings"]["clock"] == "processor":
        about += (
            " Others were using the machine, so these are seconds of the processor on one thread, "
            "not of the clock."
        )
    return "\n\n".join([about, markdown(rows), markdown(slopes)])


def write_between(page: Path, name: str, text: str) -> None:
    """Put a text between the marks of its name on a page."""
    first, last = f"<!-- {name}: made by a script -->", f"<!-- /{name} -->"
    old = page.read_text(encoding="utf-8")
    before, found, rest = old.partition(first)
    _, closed, after = rest.partition(last)
    if not (found and closed):
        raise SystemExit(f"{page} lacks the lines {first} and {last}.")
    page.write_text(f"{before}{first}\n\n{text}\n\n{last}{after}", encoding="utf-8")


def draw(data: dict[str, Any]) -> None:
    """A picture of small panels, an axis each."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "growth", "font.size": 9})
    figure, panels = plt.subplots(1, 5, figsize=(13, 3), layout="constrained")
    colours = {"read": "#1f77b4", "caption": "#d95f02"}
    for panel, (axis, (unit, _)) in zip(panels, AXES.items(), strict=True):
        for part in PARTS:
            fit = line(data, axis, part)
            if fit is None:
                continue
            panel.plot(fit.x, fit.seconds, "o", color=colours[part], ms=4)
            ends = [max(fit.x[0], fit.first), fit.x[-1]]
            panel.plot(ends, list(map(fit.at, ends)), color=colours[part], lw=1, label=PARTS[part])
        panel.set_xlabel("image tokens N" if axis == "size" else unit)
        panel.set_title(axis)
        panel.set_ylim(bottom=0)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("seconds")
    named = {
        label: handle
        for panel in panels
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=2)
    figure.savefig(PICTURE, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--again", action="store_true", help="forget what was measured")
    parser.add_argument("--write", action="store_true", help="draw and write, measure nothing")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--processor",
        action="store_true",
        help="count the seconds of the processor, not of the clock: for a busy machine, one thread",
    )
    options = parser.parse_args()
    if options.processor:
        options.threads = 1
    if options.again:
        DATA.unlink(missing_ok=True)
    if not options.write:
        set_openblas_thread_timeout()  # as the command line does
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = str(options.threads)  # NumPy has not been imported yet
        measure(options.repeats, options.threads, "processor" if options.processor else "wall")
    write_between(PAGE, "growth", table(read()))
    try:
        draw(read())
    except ImportError:
        print("matplotlib is missing, so nothing was drawn: --write draws later")


if __name__ == "__main__":
    main()
