"""`refgit trace`: run a model on an image and store every intermediate, for others to compare with.

The file is the reference of `refgit compare`. It carries the noise floor of each tensor, measured
on this very input, so that comparing needs no model.
"""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path

import numpy as np

from refgit.cli.arguments import (
    add_model_options,
    add_output_options,
    add_reading_options,
    count_of,
)
from refgit.cli.inputs import check_target, load_captioner, opened
from refgit.cli.output import human_bytes, one_line, print_json, put, say
from refgit.cli.terminal import waiting
from refgit.parity.numerics.noise import NoiseFloor
from refgit.parity.provenance import origin
from refgit.traces.recorder import record

DESCRIPTION = "Run a model on an image and a text and store every intermediate tensor."
EPILOG = """\
examples:
  refgit trace --image docs/images/star.png --out star.safetensors
  refgit trace --model DIR --image photo.jpg --text "how many dogs?" --tokens 3 --out ref.safetensors
  refgit trace --image a.png --select "git.encoder.layer.3" "*.scores" --out part.safetensors

A tensor is an array of numbers. The tensors are named by the checkpoint's modules, as its
parameters are, and come in the order of execution. Names of decode steps, each of which adds one
token, begin with step.N. A pattern of --select is a name with * and ?, or a module, which means all
that is in it; the inputs are always there. --max-bytes leaves out the largest kinds of tensors
until the rest fits.

The noise floor of a tensor is how far rounding alone moves it, measured by computing all of it
again in other precisions. refgit compare judges by it.

exit codes: 0 all well, 2 nothing could be started or written
"""  # noqa: E501  # a command that wraps cannot be copied
_NOISE = {"none": (), "float32": ("float32",), "all": ("float32", "float16", "bfloat16")}
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--image", required=True, metavar="IMAGE", help="image or video file, or - for stdin"
    )
    parser.add_argument(
        "--out", required=True, metavar="FILE", help="the .safetensors file to write"
    )
    parser.add_argument(
        "--text",
        metavar="TEXT",
        help="prompt: what the text begins with, after the opening token",
    )
    parser.add_argument(
        "--tokens",
        type=count_of(0),
        default=0,
        metavar="N",
        help="decode steps after the prompt, each the likeliest token (default: 0)",
    )
    add_model_options(parser)
    add_reading_options(parser)
    parser.add_argument(
        "--select", nargs="+", metavar="PATTERN", help="keep only these tensors and the inputs"
    )
    parser.add_argument(
        "--max-bytes", type=size, metavar="SIZE", help="how large the file may be: 500M, 2G"
    )
    parser.add_argument(
        "--noise",
        choices=tuple(_NOISE),
        default="float32",
        help="for which precisions to measure the noise floor (see below), which takes a run in "
        "each, a slower one in float32 and one in float64 (default: float32; all: float16 and "
        "bfloat16 too)",
    )
    add_output_options(parser)


def size(text: str) -> int:
    """Read a number of bytes such as 500M; a type of argparse."""
    hit = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)b?", text.lower())
    if hit is None:
        raise argparse.ArgumentTypeError(
            f"must be a size such as 500000, 500M or 2G (got {text!r})"
        )
    return int(float(hit[1]) * _UNITS[hit[2]])


def run(arguments: argparse.Namespace) -> int:
    """Record, measure the noise floors, write and say what was written."""
    out = Path(arguments.out)
    if out.suffix != ".safetensors":
        raise ValueError(f"--out is {out}; expected a name that ends in .safetensors.")
    check_target("--out", out)
    captioner = load_captioner(arguments, photographs=False)
    pixels = captioner.read(opened(arguments.image))
    prompt = np.array([captioner.prompt(arguments.text)]) if arguments.text else None  # (1, T)
    started = time.perf_counter()
    with waiting("recording"):
        found = record(
            captioner.model,
            pixels,
            prompt,
            tokens=arguments.tokens,
            select=arguments.select,
            max_bytes=arguments.max_bytes,
            interpolate_pos_encoding=captioner.processor.keeps_aspect_ratio,
        )
    recorded = time.perf_counter()
    precisions = _NOISE[arguments.noise]
    if precisions:
        with waiting("measuring the noise floors") as bar:
            floors = NoiseFloor.measure(captioner.model, found, precisions, progress=bar.advance)
        found.meta["noise"] = floors.to_json()
    measured = time.perf_counter()
    with waiting(f"writing {one_line(str(out))}"):
        found.meta |= origin(arguments.model, captioner.reading)
        found.save(out)
    if len(found) == len(found.inputs):
        say("--select fits none of the tensors, so the file holds only the inputs.")
    if "left_out" in found.meta:
        say(f"left out to fit into --max-bytes: {found.meta['left_out']}")
    if arguments.json:
        print_json(
            file=str(out),
            tensors=len(found),
            bytes=found.nbytes,
            steps=int(found.meta["calls"]),
            seconds=round(recorded - started, 3),
            noise_seconds=round(measured - recorded, 3),
        )
        return 0
    many = f"{arguments.tokens} decode step{'s' if arguments.tokens > 1 else ''}"
    steps = f", {many} included" if arguments.tokens else ""
    put(
        f"{one_line(str(out))}: {len(found)} tensors{steps}, {human_bytes(found.nbytes, '.1f')}, "
        f"recorded in {recorded - started:.1f} s"
        + (f", noise floors in {measured - recorded:.1f} s" if precisions else "")
    )
    return 0
