"""`refgit compare`: whether another implementation agrees, and where it first does not.

It walks through the tensors of both in the order of execution, measures each in noise floors, and
names the first that is off. With the model at hand it also says why.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refgit.cli.arguments import add_output_options
from refgit.cli.commands.trace import weights_checksum
from refgit.cli.compare_table import print_table
from refgit.cli.output import one_line, print_json, put, reason, say
from refgit.cli.terminal import waiting

if TYPE_CHECKING:
    from refgit.model.causal_lm import GitForCausalLM
    from refgit.parity.comparison.row import Comparison, Row
    from refgit.parity.numerics.noise import NoiseFloor
    from refgit.traces.container import Trace

DESCRIPTION = "Compare another implementation's tensors with a reference from refgit trace."
EPILOG = """\
examples:
  refgit trace --image photo.jpg --model DIR --out ref.safetensors
  refgit compare ref.safetensors mine.safetensors
  refgit compare ref.safetensors mine.npz --map names.toml
  refgit compare ref.safetensors dumps/ --model DIR --html report.html

OTHER is a .safetensors or .npz file, or a directory with a .npy file a tensor; order.json (a list
of names) or names.txt in it says in which order they were computed. The map is a TOML file of
lines such as
  "blocks.{i}.attn.q" = "git.encoder.layer.{i}.attention.self.query"
Names that differ in prefixes or separators need none, and what no name tells is matched by shape,
order and values; the table says how each was.

The tolerance is measured: how far rounding alone moves a tensor, which is its difference between
float32 and float64 on this very input, is its noise floor, and --multiple of them are allowed. In
float32 sums are taken in two orders, and the larger difference counts. The reference carries its
floors; with --model they are measured where it does not. float16 and bfloat16 have floors of their
own.

The table: * marks a tensor that differs; x floor is its largest error in noise floors, and decides;
max abs and max rel are the largest error as it is and relative to the reference's number there; rms
is the root of the mean square error; cosine is that of the angle between both, each as one vector;
ulp is the largest error in units of the last place, the steps between neighbouring numbers of that
precision; off is the share of its numbers beyond the tolerance; worst at is where the largest error
is. Large max rel and ulp mostly mean that a number near 0 is off.

The diagnosis recomputes each operation by itself, which shows what the noise of a whole run hides.
It is made with --model, and with the reference's own model, if that is here, once an error is
above 3 noise floors.

exit codes: 0 agreement, 1 something differs or is there only in part, 2 nothing could be compared
"""
_NEIGHBOURS = 5


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
        metavar="X",
        help="up to how many noise floors (see below) a difference counts as rounding (default: 8)",
    )
    parser.add_argument(
        "--precision",
        choices=("float64", "float32", "float16", "bfloat16"),
        help="the type of number OTHER was computed in; found from its numbers by default",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="list all tensors; by default those around the first that differs",
    )
    add_output_options(parser)


def positive(text: str) -> float:
    """Read a number above 0; a type of argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return value


def run(arguments: argparse.Namespace) -> int:
    """Compare, diagnose if something differs, and say what was found."""
    from refgit.parity.comparison.procedure import compare, precision_between
    from refgit.parity.matching.maps import read_map
    from refgit.parity.numerics.floor import MULTIPLE, SUSPECT
    from refgit.parity.numerics.precision import precision_of
    from refgit.traces.container import Trace

    check_page(arguments.html)
    with waiting("reading the tensors"):
        reference, other = Trace.load(arguments.reference), Trace.load(arguments.other)
    names = None if arguments.map is None else read_map(arguments.map)
    model, about_model, same_weights = find_model(arguments.model, reference)
    precision = arguments.precision or precision_between(reference, other)
    noise = floors(model, reference, precision)
    with waiting("comparing"):
        found = compare(
            reference,
            other,
            names=names,
            noise=noise,
            multiple=arguments.multiple or MULTIPLE,
            precision=precision,
        )
    diagnosis, about_diagnosis = None, about_model
    suspect = any(row.error > SUSPECT for row in found.rows)
    if model is not None and (arguments.model is not None or suspect):
        theirs = arguments.precision or precision_of(other)  # however narrow the reference is
        diagnosis, about_diagnosis = diagnosed(
            reference, found, model, theirs, debug=arguments.debug
        )
    fine = found.ok and (diagnosis is None or diagnosis.ok or not same_weights)
    if arguments.json:
        entries = found.to_dict()
        entries["diagnosis"] = None if diagnosis is None else diagnosis.to_dict()
        print_json(**entries)
    else:
        print_comparison(found, everything=arguments.all)
        for sentence in diagnosis.sentences if diagnosis is not None else ():
            put(f"diagnosis: {one_line(sentence)}")
    if about_diagnosis and not (found.ok and arguments.model is None):
        say(about_diagnosis)
    if arguments.html is not None:
        from refgit.parity.report.write import write_report

        with waiting(f"writing {arguments.html}"):
            write_report(arguments.html, found, diagnosis, reference, found.canonical)
    return 0 if fine else 1


# ---- the model


def check_page(page: str | None) -> None:
    """Find out before the work whether the report could be written.

    Raises
    ------
    ValueError
        It is a directory, or would lie in one that does not exist.
    """
    if page is None:
        return
    if Path(page).is_dir():
        raise ValueError(f"--html is {page}, which is a directory; expected the name of a file.")
    if not Path(page).parent.is_dir():
        raise ValueError(
            f"--html is {page}; there is no directory {Path(page).parent}. Make it first."
        )


def find_model(wanted: str | None, reference: Trace) -> tuple[GitForCausalLM | None, str, bool]:
    """Load the model of a comparison.

    Parameters
    ----------
    wanted : str or None
        What --model says; what the reference says by default, if that is on this machine.
    reference : Trace

    Returns
    -------
    (GitForCausalLM or None, str, bool)
        And a sentence where there is none, and whether the weights may be the reference's.

    Raises
    ------
    ValueError
        The model of --model is of another architecture than the reference's.
    """
    from refgit.demo import NAME, demo_path
    from refgit.hub import find_checkpoint
    from refgit.model.causal_lm import GitForCausalLM
    from refgit.model.config import GitConfig
    from refgit.parity.comparison.configs import config_differences

    name = wanted or reference.meta.get("model", "")
    if name == NAME and not Path(name).is_dir():
        path = demo_path()
    elif wanted is not None:
        path = find_checkpoint(wanted)
    elif name and Path(name).is_dir():
        path = Path(name)
    else:
        said = "for a diagnosis pass the model the reference was made with: --model MODEL."
        return None, said, False
    config = GitConfig.from_pretrained(path)
    for key, ours, theirs in config_differences(reference.config, config):
        said = (
            f"{name} is another model than the reference's: its config says {key} = {theirs!r}, "
            f"the reference's {ours!r}"
        )
        if wanted is None:
            return None, f"{said}; for a diagnosis pass the right one: --model MODEL.", False
        raise ValueError(f"--model {said}. Pass the one it was made with.")
    checksum, expected = weights_checksum(path), reference.meta.get("sha256")
    same = checksum is None or expected is None or checksum == expected
    if not same:
        said = (
            f"{name} holds other weights than those the reference was made with (SHA-256 "
            f"{str(checksum)[:12]}..., expected {str(expected)[:12]}...)"
        )
        if wanted is None:
            return None, f"{said}; for a diagnosis pass the right ones: --model MODEL.", False
        say(f"{said}; the noise floors and the diagnosis are of these.")
    with waiting(f"loading {name}"):
        return GitForCausalLM.from_pretrained(path), "", same


def floors(model: GitForCausalLM | None, reference: Trace, precision: str) -> NoiseFloor | None:
    """Return the reference's own noise floors, or measure them where it carries none."""
    from refgit.parity.numerics.noise import NoiseFloor

    stored = NoiseFloor.of_trace(reference)
    base = "float32" if precision == "float64" else precision
    if (stored is not None and stored.has(base)) or model is None or not reference.inputs:
        return stored
    with waiting("measuring the noise floors") as bar:
        return NoiseFloor.measure(model, reference, (base,), progress=bar.advance)


def diagnosed(
    reference: Trace, found: Comparison, model: GitForCausalLM, precision: str, *, debug: bool
) -> tuple[Any, str]:
    """Return the diagnosis, or None and why there is none; the comparison stands without it."""
    try:
        from refgit.parity.diagnosis.procedure import diagnose

        with waiting("looking for the cause"):
            return diagnose(reference, found.canonical, model, precision=precision), ""
    except Exception as error:
        if debug:
            raise
        return None, f"no diagnosis: {reason(error)}"


# ---- what is printed


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
