"""Measure the speed on this machine and put the table into docs/fast.md.

    python docs/tools/measure/speed.py --peers transformers,onnxruntime  # as `refgit bench`
    refgit bench --json ... > speed.json; python docs/tools/measure/speed.py --from speed.json

The table stands between two marks on the page; the rest of the page is left as it is.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from growth import PAGE, write_between


def text_of(data: dict[str, Any]) -> str:
    """The part of the page: where, what, the table, what its rows mean."""
    from refgit.bench.report import legend, markdown, table

    m = data["machine"]
    peers = "; ".join(
        f"{name}: " + ", ".join(f"{k} {v}" for k, v in facts.items() if isinstance(v, str))
        for name, facts in data["programs"].items()
    )
    about = (
        f"Measured {m['date']} on {m['cpu']}, {m['cores']} cores, threads each: {m['threads']}, "
        f"NumPy {m['numpy']} with {m['blas']}, Python {m['python']}; {data['model']}, "
        f"{data['size']}, {data['dtype']}; {data['repeats']} rounds. {peers}."
    )
    if data["clock"] == "processor":
        about += (
            " Others were using the machine, so these are seconds of the processor on one thread, "
            "not of the clock."
        )
    elif data["busy"]:
        about += (
            f"\n\n**The machine was busy** (load average {m['load_average']:.1f}): times are too "
            "long, and ratios are uncertain."
        )
    return "\n\n".join([about, markdown(table(data)), "\n".join(f"- {x}" for x in legend(data))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", dest="file", type=Path, help="what refgit bench --json printed")
    options, rest = parser.parse_known_args()
    if options.file is not None:
        printed = options.file.read_text(encoding="utf-8")
    else:
        command = [sys.executable, "-m", "refgit", "bench", "--json", *rest]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if not done.stdout.strip():
            sys.exit(done.returncode or 2)  # it has said why
        printed = done.stdout
    write_between(PAGE, "speed", text_of(json.loads(printed)))


if __name__ == "__main__":
    main()
