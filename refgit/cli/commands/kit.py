"""`refgit kit`: write the conformance kit, golden cases for a port in any language."""

from __future__ import annotations

import argparse
from pathlib import Path

from refgit.cli.arguments import add_output_options
from refgit.cli.output import human_bytes, one_line, print_json, put, say
from refgit.cli.terminal import waiting
from refgit.parity.kit.files import write_kit

DESCRIPTION = (
    "Write the conformance kit: inputs, expected outputs and tolerances as "
    "safetensors and JSON, for an implementation of GIT in any language."
)
EPILOG = """\
examples:
  refgit kit --out kit
  refgit kit --out kit --model microsoft/git-base-coco

kit/README.md says what is in it and how to use it. All of it is made from seeds; the same version
writes the same bytes. safetensors is a file format for arrays that every language reads easily: a
header in JSON, then the numbers.

exit codes: 0 written, 2 not written
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        help="the directory to write: new, empty, or an older kit, which is replaced",
    )
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="add cases of a checkpoint of your own, a directory or a name on the Hugging Face hub "
        "(takes minutes)",
    )
    add_output_options(parser, "print a JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Write the kit and say what is in it."""
    with waiting(f"writing {one_line(arguments.out)}"):
        index = write_kit(arguments.out, model=arguments.model)
    for case in index["left_out"]:
        say(f"left out: {case['reason']}")
    size = sum(path.stat().st_size for path in Path(arguments.out).rglob("*") if path.is_file())
    if arguments.json:
        print_json(out=arguments.out, cases=len(index["cases"]), bytes=size)
    else:
        put(
            f"{arguments.out}: {len(index['cases'])} cases, {human_bytes(size, '.1f')}; "
            f"see {Path(arguments.out) / 'README.md'}"
        )
    return 0
