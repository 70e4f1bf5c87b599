"""`refgit compare`: whether another implementation agrees, and where it first does not.

`refgit.parity.compare_files` does the work; here are its arguments, and what is printed of it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from refgit.cli.arguments import add_output_options
from refgit.cli.compare_table import print_table
from refgit.cli.inputs import check_target
from refgit.cli.output import one_line, print_json, put, say
from refgit.cli.terminal import Bar, is_terminal, waiting
from refgit.parity.comparison.row import Comparison, Row
from refgit.parity.numerics.floor import MULTIPLE
from refgit.parity.numerics.precision import PRECISIONS
from refgit.parity.session import TIME, compare_files

DESCRIPTION = "Compare another implementation's tensors with a reference from refgit trace."
EPILOG = """\
examples:
  refgit trace --image photo.jpg --model DIR --out ref.safetensors
  refgit compare ref.safetensors mine.safetensors
  refgit compare ref.safetensors mine.npz --map names.toml
  refgit compare ref.safetensors dumps/ --model DIR --html report.html

OTHER is a .safetensors or .npz file, or a directory with a .npy file for each tensor; order.json (a
list of names) or names.txt in it says in which order they were computed. The map is a TOML file of
lines such as
  "blocks.{i}.attn.q" = "git.encoder.layer.{i}.attention.self.query"
Names that differ in prefixes or separators need none, and tensors of unknown names are matched by
shape, order and values; the table says how each was matched.

The tolerance is measured. The noise floor of a tensor is how far rounding alone moves it: its
difference between float32 and float64 on this very input; --multiple of them are allowed. In
float32 sums are taken in two orders, and the larger difference counts. The reference carries its
floors; with --model they are measured where it does not. float16 and bfloat16 have their own.

The table: * marks a tensor that differs; x floor is its error in noise floors, of the largest
element or of the rms, whichever is more, and decides; max abs and max rel are the largest absolute
and relative error; rms is the root of the mean square error; cosine is that of the angle between
both, each as one vector; ulp is the largest error in units of the last place, the steps between
neighbouring numbers of that precision; off is the share of elements beyond the tolerance; worst at
is where the largest error is. Large max rel and ulp mostly mean that a number near 0 is off.

The table comes first, then the diagnosis. It recomputes each operation by itself, which shows what
the noise of a whole run hides, and tries hypotheses, the likeliest first. It is made with --model,
and with the reference's own model, if that is here, once an error is above 3 noise floors; it ends
after --time and says what it did not reach. With --json one object comes at the end.

exit codes: 0 agreement, 1 something differs or is there only in part, 2 nothing could be compared
"""
_NEIGHBOURS = 5
_LINES = 30.0  # seconds between two lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("reference", metavar="REFERENCE", help="the file that refgit trace wrote")
    parser.add_argument(
        "other",
        metavar="OTHER",
        help="the other implementation's tensors: a .safetensors or .npz file, or a directory of "
        ".npy files",
    )
    parser.add_argument(
        "--map",
        metavar="FILE",
        help='TOML file of lines "their.name" = "our.name", where refgit cannot tell by itself',
    )
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="what the reference was made with, for a diagnosis: a directory, a name on the "
        "Hugging Face hub, or refgit-emoji, the model that comes with refgit; by default what the "
        "reference says, if that is here",
    )
    parser.add_argument("--html", metavar="FILE", help="write a report as one HTML file")
    parser.add_argument(
        "--multiple",
        type=positive,
        default=MULTIPLE,
        metavar="X",
        help="up to how many noise floors (see below) a difference counts as rounding (default: "
        f"{MULTIPLE})",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="the type of number OTHER was computed in; found from its numbers by default",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="list all tensors; by default those around the first that differs",
    )
    parser.add_argument(
        "--time",
        type=seconds,
        default=TIME,
        metavar="SECONDS",
        help="how long to look for the cause, and to measure noise floors where that must be done "
        f"(default: {TIME:g}; 0: not at all); what there was no time for is said",
    )
    add_output_options(parser)


def seconds(text: str) -> float:
    """Read a number of seconds, 0 or more; a type of argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number >= 0 (got {text!r})")
    return value


def positive(text: str) -> float:
    """Read a number above 0; a type of argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number > 0 (got {text!r})")
    return value


def run(arguments: argparse.Namespace) -> int:
    """Compare, say what was found, and diagnose if something differs."""
    if arguments.html is not None:
        check_target("--html", Path(arguments.html))

    def show_table(comparison: Comparison) -> None:
        print_comparison(comparison, everything=arguments.all)

    with stages() as progress:
        found = compare_files(
            arguments.reference,
            arguments.other,
            names=arguments.map,
            model=arguments.model,
            multiple=arguments.multiple,
            precision=arguments.precision,
            strict=arguments.debug,
            time=arguments.time,
            progress=progress,
            compared=None if arguments.json else show_table,
        )
    if arguments.json:
        print_json(**found.to_dict())
    else:
        for sentence in found.diagnosis.sentences if found.diagnosis is not None else ():
            put(f"diagnosis: {one_line(sentence)}")
    for note in found.notes:
        say(note)
    if arguments.html is not None:
        with waiting(f"writing {arguments.html}"):
            found.write_report(arguments.html)
    return 0 if found.ok else 1


@contextmanager
def stages() -> Iterator[Callable[[str, int, int | None], None]]:
    """Yield a callback that shows a bar for what is done now, until something else is.

    Where there is no terminal for it, a line says it every half a minute.
    """
    with ExitStack() as shown:
        bar: Bar | None = None
        said = time.monotonic()

        def show(what: str, done: int, total: int | None) -> None:
            nonlocal bar, said
            if not is_terminal(sys.stderr) and time.monotonic() - said >= _LINES:
                said = time.monotonic()
                say(f"{what}: {done} of {total}" if total is not None else what)
            if bar is None or bar.what != what:
                shown.close()
                bar = shown.enter_context(waiting(what))
            if total is not None:
                bar.advance(done, total)

        yield show


def print_comparison(found: Comparison, *, everything: bool) -> None:
    """Print what was found, and the tensors around the first that differs.

    Parameters
    ----------
    found : Comparison
    everything : bool
        Print all tensors.
    """
    put(one_line(found.sentence))
    shown = list(found.rows) if everything else around_first(found)
    put()
    print_table(shown)
    left_out = len(found.rows) - len(shown)
    if left_out:
        put(f"({left_out} more tensors: --all lists them)")
    for sentence in found.sentences[1:]:
        put(f"- {one_line(sentence)}")


def around_first(found: Comparison) -> list[Row]:
    """Rows next to the first that differs; the worst ones where none does."""
    first = found.first
    if first is None:
        worst = sorted(found.rows, key=lambda row: -row.error)[: 2 * _NEIGHBOURS]
        return [row for row in found.rows if row in worst]
    place = found.rows.index(first)
    return list(found.rows[max(0, place - _NEIGHBOURS) : place + _NEIGHBOURS + 1])
