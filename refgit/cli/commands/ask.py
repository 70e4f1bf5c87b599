"""`refgit ask`: answer questions about an image or video, which is read once.

A question is a prompt: the opening token, then the question's, and the model goes on with the
answer. (GIT paper, section 3.3.)
"""

from __future__ import annotations

import argparse
import reprlib

from refgit.cli.arguments import (
    add_decoding_options,
    add_image,
    add_model_options,
    add_output_options,
    add_reading_options,
    count_of,
)
from refgit.cli.inputs import load_captioner, opened
from refgit.cli.output import Failures, one_line, print_as_it_comes, print_json
from refgit.cli.terminal import progress, waiting

DESCRIPTION = "Answer questions about an image or video."
EPILOG = """\
examples:
  refgit ask docs/images/star.png "what kind of thing is this?"
  refgit ask photo.jpg "how many dogs?" "what colour is the car?" --model microsoft/git-base-vqav2
  refgit ask clip.mp4 "what is he doing?" --model microsoft/git-base-msrvtt-qa

One question prints its answer, several print a line each: question, tab, answer. The image is
read once, however many there are. Put each question into quotes, so that the shell hands it on as
one. A model answers well what it was trained to answer: the names that end in -vqav2, -textvqa
and -qa are of such models.

exit codes: 0 all well, 1 some questions failed, 2 nothing could be started or written
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_image(parser)
    parser.add_argument("questions", nargs="+", metavar="QUESTION", help="a question, in quotes")
    add_model_options(parser)
    add_reading_options(parser)
    add_decoding_options(parser)
    parser.add_argument(
        "--max-new-tokens",
        type=count_of(1),
        default=20,
        metavar="N",
        help="longest answer, in tokens, which are words or pieces of words (default: 20)",
    )
    add_output_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Answer each question; one that fails does not stop the others."""
    captioner = load_captioner(arguments)
    with waiting("reading the image"):
        image = captioner.encode(opened(arguments.image))
    questions = arguments.questions
    failures = Failures(arguments)
    for question in progress(questions, "answering"):
        entries = {"image": arguments.image, "question": question}
        with failures.tolerated(reprlib.repr(question), **entries):
            texts = captioner.stream_answer(image, question, arguments.max_new_tokens)
            if arguments.json:
                *_, text = texts
                print_json(**entries, answer=text)
            else:
                before = "" if len(questions) == 1 else f"{one_line(question)}\t"
                print_as_it_comes(texts, before)
    return failures.exit_code
