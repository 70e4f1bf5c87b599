"""The table and the JSON object of a run."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from refgit.bench.cases import Case, limit_of
from refgit.bench.rounds import OURS, Results, Series
from refgit.model.config import GitConfig
from refgit.sizes.products import step_bytes


def summary(
    results: Results, cases: Sequence[Case], config: GitConfig, itemsize: int
) -> dict[str, Any]:
    """All figures as plain data: a row for each case.

    Each program's `seconds` is the median of the rounds, with `least` and `most` of all runs.
    `ratio` is refgit's time by the peer's, round by round, of which the median; `of_limit` is
    refgit's time by the limit.
    """
    seconds = {
        name: series.median
        for timed in results.times.values()
        for name, series in timed.items()
        if name.startswith("limit ")
    }
    rows = []
    for case in cases:
        timed = results.times[case["name"]]
        ours = timed[OURS]
        row: dict[str, Any] = {"case": case["name"], "meaning": case["meaning"]}
        row[OURS] = figures(ours)
        limit = limit_of(case, seconds)
        row["limits"] = {}
        if limit is not None:
            row["limits"]["products"] = against(ours, limit)
        if case["kind"] == "decode" and "limit read" in seconds:
            read = seconds["limit read"]
            size = step_bytes(config, itemsize)
            row["limits"]["read"] = {
                **against(ours, read), "bytes": size, "gb_per_s": size / read / 1e9,
            }  # fmt: skip
        row["peers"] = {
            name: {**figures(series), **paired(ours, series)}
            for name, series in timed.items()
            if name != OURS and not name.startswith("limit ")
        }
        rows.append(row)
    return {"cases": rows, "programs": results.facts, "notes": results.notes}


def figures(series: Series) -> dict[str, Any]:
    """Median, least and most of a series."""
    return {
        "seconds": series.median,
        "least": series.least,
        "most": series.most,
        "rounds": len(series.rounds),
    }


def paired(ours: Series, theirs: Series) -> dict[str, float]:
    """The ratio of refgit's time to the peer's, round by round."""
    ratios = [a / b for a, b in zip(ours.medians, theirs.medians, strict=False)]
    return {"ratio": median(ratios), "ratio_least": min(ratios), "ratio_most": max(ratios)}


def against(ours: Series, limit: float) -> dict[str, float]:
    """The ratio of refgit's time to a limit."""
    return {"seconds": limit, "of_limit": ours.median / limit}


def table(data: dict[str, Any]) -> list[list[str]]:
    """Rows of text: a header, then a row for each case."""
    peers = list(dict.fromkeys(name for row in data["cases"] for name in row["peers"]))
    head = ["case", OURS, "min .. max", "limit", "x limit"]
    for name in peers:
        head += [name, "ratio"]
    rows = [head]
    for row in data["cases"]:
        ours = row[OURS]
        spread = f"{short(ours['least'])} .. {short(ours['most'])}"
        limit = row["limits"].get("read") or row["limits"].get("products")
        cells = [row["case"], short(ours["seconds"]), spread]
        cells += [short(limit["seconds"]), f"{limit['of_limit']:.2f}"] if limit else ["", ""]
        for name in peers:
            peer = row["peers"].get(name)
            cells += [short(peer["seconds"]), f"{peer['ratio']:.2f}"] if peer else ["-", "-"]
        rows.append(cells)
    return rows


def short(seconds: float) -> str:
    """Three figures, in s, ms or us."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale or unit == "us":
            value = seconds / scale
            digits = 0 if value >= 100 else 1 if value >= 10 else 2
            return f"{value:.{digits}f} {unit}"
    raise AssertionError


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a table in Markdown."""
    head, *body = rows
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in body)])


def legend(data: dict[str, Any]) -> list[str]:
    """What the table's rows and columns mean, and what to be careful about."""
    lines = [f"{row['case']}: {row['meaning']}" for row in data["cases"]]
    for row in data["cases"]:
        read, bare = row["limits"].get("read"), row["limits"].get("products")
        if read:
            lines.append(
                f"limit of {row['case']}: {read['bytes'] / 1e6:.0f} MB of weights at "
                f"{read['gb_per_s']:.1f} GB/s, as measured"
                + (f"; its bare products take {short(bare['seconds'])}" if bare else "")
            )
    captions = [row["case"] for row in data["cases"] if row["case"].startswith(("greedy", "beam"))]
    if any(row["limits"] for row in data["cases"] if row["case"] in captions):
        lines.append(
            f"limit of {', '.join(captions)}: that of prefill, then one reading of the decoder's "
            "weights for each token after the first, whatever the batch"
        )
    return [*lines, *(f"note: {note}" for note in data["notes"])]
