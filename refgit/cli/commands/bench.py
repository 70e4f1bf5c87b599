"""`refgit bench`: how fast it is here, beside what the machine allows and beside its peers."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from refgit.bench import machine
from refgit.bench.checkpoint import default_model
from refgit.bench.peers import Peer, parse_peers
from refgit.bench.report import legend, table
from refgit.bench.run import Plan, measure_plan
from refgit.cli.arguments import add_dtype, add_output_options, count_of
from refgit.cli.output import one_line, print_json, put, say
from refgit.cli.table import print_table
from refgit.cli.terminal import waiting
from refgit.demo import find_model
from refgit_backends.numpy.threads import cores

DESCRIPTION = (
    "Measure how long refgit takes on this machine, against what the machine "
    "allows and against other implementations."
)
EPILOG = """\
examples:
  refgit bench                                      # random weights of git-base's size
  refgit bench --model refgit-emoji --repeats 3     # the bundled model, in seconds
  refgit bench --peers transformers,onnxruntime     # each in an environment of its own
  refgit bench --only vision-1,decode --json
  refgit bench --peers transformers --peer-python transformers=/opt/t5/bin/python
  refgit bench --peers refgit@COMMIT                # has it become slower since? (in a checkout)

Programs run in turns, A B A B, one at a time, with as many threads each, on the same weights.
A peer whose result differs from refgit's is not timed. The ratio is refgit's time by the peer's,
round by round; the limit is what the bare matrix products take, for decode what reading the
weights takes.

exit codes: 0 all measured, 1 some left out, 2 nothing could be started
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="checkpoint directory, name on the model hub, or refgit-emoji, the bundled model; "
        "random weights of git-base's size by default (707 MB, written once to a cache folder)",
    )
    parser.add_argument("--backend", help="numpy (default), cupy ...")
    add_dtype(parser, "what to compute in (default: float32)")
    parser.add_argument(
        "--peers",
        default="",
        metavar="NAMES",
        help="transformers, transformers4, onnxruntime, each with ==VERSION if you like, or "
        "refgit@COMMIT, an earlier commit of the checkout that refgit runs from; commas between",
    )
    parser.add_argument(
        "--peer-python",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="run a peer with this Python instead of an environment made for it",
    )
    parser.add_argument("--threads", type=count_of(1), help="for each program (default: all cores)")
    parser.add_argument(
        "--clock",
        choices=("wall", "processor"),
        default="wall",
        help="count the seconds on the wall (default) or those that the processor worked: for a "
        "machine that others use too, on one thread",
    )
    parser.add_argument("--repeats", type=count_of(1), default=7, help="rounds (default: 7)")
    parser.add_argument("--only", metavar="NAMES", help="some of the cases, separated by commas")
    add_output_options(parser, "print a JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    peers = parse_peers(arguments.peers, arguments.peer_python)
    threads = arguments.threads or (1 if arguments.clock == "processor" else cores())
    if arguments.clock == "processor" and threads > 1:
        raise ValueError(
            f"--clock processor was given with --threads {threads}, whose seconds it would add up; "
            "expected --threads 1."
        )
    facts = machine.facts(threads)
    busy = facts["load_average"] is not None and facts["load_average"] > threads
    if busy and arguments.clock == "wall":
        say(
            f"the machine is busy (load average {facts['load_average']:.1f} on {threads} threads); "
            "times will be too long, ratios may do; --clock processor suffers less."
        )
    data, failed = _measure(arguments, peers, threads)
    data = {"machine": facts, "busy": busy, **data}
    if arguments.json:
        print_json(**data)
    else:
        put(f"{facts['cpu']}, {facts['cores']} cores, {threads} threads, {facts['date']}")
        clock = ", seconds of the processor" if arguments.clock == "processor" else ""
        put(f"{data['model']}: {data['size']}, {arguments.dtype}{clock}")
        put()
        header, *rows = table(data)
        print_table("", header, rows)
        for line in legend(data):
            put(one_line(line))
    return 1 if failed else 0


def _measure(
    arguments: argparse.Namespace, peers: list[Peer], threads: int
) -> tuple[dict[str, Any], bool]:
    plan = Plan(
        model=default_model(say) if arguments.model is None else find_model(arguments.model),
        backend=arguments.backend,
        dtype=arguments.dtype,
        threads=threads,
        repeats=arguments.repeats,
        clock=arguments.clock,
        only=[x.strip() for x in arguments.only.split(",")] if arguments.only else None,
        peers=peers,
    )
    with tempfile.TemporaryDirectory(prefix="refgit-bench-") as folder:
        return measure_plan(plan, Path(folder), say, waiting)
