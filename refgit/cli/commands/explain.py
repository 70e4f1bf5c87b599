"""`refgit explain`: show what the model does with an image, word by word.

As a page for a browser, one file that needs nothing else, or in the terminal.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import sys
from collections.abc import Sequence

from refgit.cli.arguments import (
    STDIN,
    add_debug,
    add_image,
    add_model_options,
    add_reading_options,
)
from refgit.cli.decoding import OPTIONS, add_decoding_options, refuse_decoding
from refgit.cli.inputs import load_captioner, opened
from refgit.cli.output import one_line, put, say
from refgit.cli.terminal import has_colours, waiting
from refgit.demo import NAME
from refgit.explain.explanation import require_free
from refgit.explain.record import explain_pixels
from refgit.explain.text import lacks_blocks

_DEFAULT = "report.html"
DESCRIPTION = (
    "Show what the model does with an image, word by word: where it looks, what "
    "else it might have said, how its states grow."
)
EPILOG = """\
examples:
  refgit explain docs/images/red-apple.png             # writes report.html
  refgit explain photo.jpg --model microsoft/git-base-coco --out photo.html
  refgit explain photo.jpg --text "a dog on a beach"   # how likely that text is, and why
  refgit explain photo.jpg --text-only                 # in the terminal

The text goes to standard output, with --scores as the model itself rates it: before repetition
penalties and other such rules. docs/explorer.md says how to read the page.

exit codes: 0 all well, 2 nothing could be started or written
"""


_REFUSED = {"num_captions": "what is explained is one text"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_image(parser)
    parser.add_argument(
        "--text", metavar="TEXT", help="explain this text; by default what the model writes"
    )
    add_model_options(parser)
    add_reading_options(parser)
    add_decoding_options(parser, without=_REFUSED)
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--out", metavar="FILE", default=_DEFAULT, help=f"page to write (default: {_DEFAULT})"
    )
    where.add_argument(
        "--text-only", action="store_true", help="show it in the terminal, and write no page"
    )
    add_debug(parser)


def run(arguments: argparse.Namespace) -> int:
    """Explain one text below one image."""
    refuse_decoding(arguments, _REFUSED)
    if arguments.text is not None:
        why = "--text is explained as it is, and the model writes none"
        refuse_decoding(arguments, {name: why for name in OPTIONS if name != "scores"})
    if not arguments.text_only:
        require_free(arguments.out)
    captioner = load_captioner(arguments)
    with waiting("explaining"):
        pixels = captioner.read(opened(arguments.image))
        found = explain_pixels(
            captioner.model,
            captioner.processor,
            pixels,
            arguments.text,
            decoding=captioner.decoding,
            prompt=arguments.prompt,
        )
    scores = ""
    if arguments.scores:
        prompt = captioner.prompt(arguments.prompt)[1:]
        scores = _scores(found.probabilities[len(prompt) :].tolist())
    if arguments.text_only:  # with the letters and colours that the terminal has
        text = found.to_text(
            width=shutil.get_terminal_size().columns,
            ascii_only=lacks_blocks(getattr(sys.stdout, "encoding", None)),
            colour=has_colours(sys.stdout),
        )
        put(text, end="")
        put(scores.lstrip("\t"), end="\n" if scores else "")
        return 0
    file = arguments.image
    found.save(
        arguments.out,
        model_name=_model_name(arguments.model),
        image_name="standard input" if file == STDIN else os.path.basename(file),
    )
    put(one_line(found.text) + scores)
    size = os.path.getsize(arguments.out)
    say(f"wrote {arguments.out}, {size / 1000:,.0f} kB; open it in a browser.")
    return 0


def _scores(probabilities: Sequence[float]) -> str:
    """Mean and sum of the logarithms of what the model gave each token, a tab before each."""
    total = sum(math.log(p) if p else -math.inf for p in probabilities)
    return f"\t{total / len(probabilities):.4f}\t{total:.4f}"


def _model_name(name: str | None) -> str:
    """What the page calls the model: the bundled one, a repository's id, or a directory's name."""
    if name is None:
        return NAME
    return os.path.basename(os.path.abspath(name)) if os.path.isdir(name) else name
