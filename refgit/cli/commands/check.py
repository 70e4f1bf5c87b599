"""`refgit check`: grade what a port wrote for the cases of a conformance kit."""

from __future__ import annotations

import argparse
from tempfile import TemporaryDirectory

from refgit.cli.arguments import add_output_options
from refgit.cli.output import one_line, print_json, put, say
from refgit.cli.terminal import waiting
from refgit.parity.kit.files import write_kit
from refgit.parity.kit.grading import Grading, grade

DESCRIPTION = (
    "Grade the outputs of a port: a table, the first failure with what to look "
    "at, and a badge line."
)
EPILOG = """\
examples:
  refgit kit --out kit
  my-port kit results                # writes results/ID.safetensors for each case it can compute
  refgit check results --kit kit

A port is an implementation of GIT in another language or framework. A case is one computation of
the kit, such as a layer or a caption; kit/README.md says which there are and what a results file
holds.

The table: error/tolerance is the largest error of a case, in multiples of what rounding may do
there; up to 1 passes. inf means what has no size: another word, shape or text. The last lines
are for the port's README.

exit codes: 0 all cases passed, 1 some failed or are missing, 2 nothing could be graded
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "results",
        metavar="RESULTS_DIR",
        help="what the port wrote: a file a case, named by the case's id, as in greedy.safetensors",
    )
    parser.add_argument(
        "--kit", metavar="DIR", help="the kit they were made with; by default one is made anew"
    )
    add_output_options(parser, "print a JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Grade and print."""
    grading = _grading(arguments.results, arguments.kit)
    if arguments.json:
        print_json(**grading.to_dict())
    else:
        notes = [f"note: {note}" for note in grading.notes]
        advice = [grading.advice] if grading.advice else []
        below = (*notes, *advice, grading.badge, grading.markdown)
        for line in (*grading.table().splitlines(), "", *below):
            put(one_line(line))
    return 0 if grading.ok else 1


def _grading(results: str, kit: str | None) -> Grading:
    if kit is not None:
        with waiting("grading"):
            return grade(results, kit)
    say("making the kit anew, since no --kit was given.")
    with TemporaryDirectory() as folder, waiting("making the kit and grading"):
        write_kit(folder)
        return grade(results, folder)
