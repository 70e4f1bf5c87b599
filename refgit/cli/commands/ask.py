"""`refgit ask`: answer questions about images or videos, each of which is read once.

A question is a prompt: the opening token, then the question's, and the model goes on with the
answer. (GIT paper, section 3.3.)
"""

from __future__ import annotations

import argparse
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from refgit.cli.arguments import (
    add_folder_options,
    add_model_options,
    add_output_options,
    add_reading_options,
)
from refgit.cli.decoding import add_decoding_options, refuse_decoding
from refgit.cli.inputs import (
    Content,
    Sources,
    load_captioner,
    opened,
    refuse_stdin_twice,
    selection_of,
)
from refgit.cli.output import Failures, one_line, print_as_it_comes, print_json, print_texts, say
from refgit.cli.questions import questions_in, told_apart
from refgit.cli.terminal import waiting
from refgit.cli.texts import add_raw
from refgit.model.cache import KeyValueCache
from refgit.pipeline import Captioner
from refgit.pipeline.texts import row_fields

DESCRIPTION = "Answer questions about images or videos."
EPILOG = """\
examples:
  refgit ask docs/images/star.png "what kind of thing is this?"
  refgit ask photo.jpg "how many dogs?" "what colour is the car?" --model microsoft/git-base-vqav2
  refgit ask a.jpg b.jpg "how many dogs?" --model microsoft/git-base-vqav2
  refgit ask pictures/ --questions questions.txt --json
  refgit ask --questions pairs.csv --model microsoft/git-base-textvqa
  refgit ask clip.mp4 "what is he doing?" --model microsoft/git-base-msrvtt-qa

The images come first, then the questions, each in quotes, so that the shell hands it on as one.
Every question is asked of every image. --questions takes them from a text file, one on each line,
or from a table (.csv) whose first line is image,question: then each is asked of its own image, and
no images are named besides. One question about one image prints its answer; a line begins with the
image and a tab where there are several, and then with the question and a tab where there are
several. With --scores it ends with a tab, the mean, a tab, and the sum of the log-probabilities of
the answer's tokens.

A model answers well what it was trained to answer: the names that end in -vqav2, -textvqa and -qa
are of such models. One that has never learned to answer questions mostly ends at once, so that the
answer is empty; stderr says so.

exit codes: 0 all well, 1 some questions failed, 2 nothing could be started or written
"""
_REFUSED = {"prompt": "the text begins with the question"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar="IMAGE|QUESTION",
        help="images first: image or video files, directories of such files, or - for an image on "
        "standard input; then questions, each in quotes",
    )
    parser.set_defaults(rest="words")
    parser.add_argument(
        "--questions",
        metavar="FILE",
        help="text file with a question on each line, or .csv with the columns image and question",
    )
    add_model_options(parser)
    add_reading_options(parser)
    add_folder_options(parser)
    add_decoding_options(parser, default="20 after the question", without=_REFUSED)
    add_raw(parser)
    add_output_options(parser)


@dataclass(frozen=True)
class Asked:
    """An image and the questions about it; a line of output begins with its name, if `named`."""

    image: str
    source: Content
    questions: list[str]
    named: bool


def run(arguments: argparse.Namespace) -> int:
    """Answer each question; one that fails does not stop the others."""
    refuse_decoding(arguments, _REFUSED)
    images, questions, pairs = chosen(arguments)
    captioner = load_captioner(arguments)
    found = {"videos": captioner.frames is not None, "recursive": arguments.recursive}
    found |= {"selection": selection_of(arguments)}
    asked = asked_of(images, questions, pairs, **found)
    several = pairs != [] or len(questions) > 1
    total = sum(len(each.questions) for each in asked)
    failures, done, empty = Failures(arguments), 0, 0
    with waiting("answering") as bar:
        for each in asked:
            bar.advance(done, total)
            try:
                pixels = captioner.read(opened(each.source))
                cache = captioner.encode_pixels(pixels)
            except Exception as error:
                for i, question in enumerate(each.questions, done):
                    entries = {"index": i, "image": each.image, "question": question}
                    failures.add(each.image, error, silent=i > done, **entries, answer=None)
                done += len(each.questions)
                continue
            for question in each.questions:
                bar.advance(done, total)
                entries = {"index": done, "image": each.image, "question": question}
                before = f"{one_line(each.image)}\t" if each.named else ""
                before += f"{one_line(question)}\t" if several else ""
                with failures.tolerated(reprlib.repr(question), **entries, answer=None):
                    seed = captioner.seed_of(pixels, question)
                    empty += not _answer(
                        captioner, cache, question, seed, entries, before, arguments
                    )
                done += 1
    if empty:
        say(_nothing_learned(empty, total))
    return failures.exit_code


def chosen(arguments: argparse.Namespace) -> tuple[list[str], list[str], list[tuple[str, str]]]:
    """Return images, questions about all of them, and questions about an image of their own.

    Raises
    ------
    ValueError
        There is no question or no image, or one stands in the other's place.
    """
    images, questions = told_apart(arguments.words)
    pairs: list[tuple[str, str]] = []
    if arguments.questions is not None:
        more = questions_in(arguments.questions)
        pairs = [x for x in more if isinstance(x, tuple)]
        questions += [x for x in more if isinstance(x, str)]
    if pairs and arguments.words:
        raise ValueError(
            f"{arguments.questions} names an image for each question; expected no others besides "
            f"(got {arguments.words[0]!r})."
        )
    if not (pairs or images):
        raise ValueError("there is no image; expected one before the questions.")
    if not (pairs or questions):
        raise ValueError(
            f"there is no question; expected one after {images[-1]}, in quotes, or --questions "
            "FILE."
        )
    refuse_stdin_twice(images or [image for image, _ in pairs])
    return images, questions, pairs


def asked_of(
    images: Sequence[str],
    questions: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    **options: Any,
) -> list[Asked]:
    """Bring the questions to their images; neighbours about one image are asked together.

    The options are those of `Sources`.
    """
    if not pairs:
        return [
            Asked(item.name, item.content, list(questions), before != "")
            for item, before in Sources(images, **options)
        ]
    return [
        Asked(item.name, item.content, [question for _, question in group], True)
        for image, several in groupby(pairs, key=lambda pair: pair[0])
        for group in [list(several)]
        for item, _ in Sources([image], **options)
    ]


def _answer(
    captioner: Captioner,
    image: KeyValueCache,
    question: str,
    seed: int | None,
    entries: dict[str, Any],
    before: str,
    arguments: argparse.Namespace,
) -> bool:
    """Print the answers to one question; return whether there is any word among them."""
    if not (arguments.json or arguments.scores or (arguments.num_captions or 1) > 1):
        texts = captioner.stream_answer(image, question, seed=seed)
        return print_as_it_comes(texts, before) != ""
    found = captioner.answers(image, question, seed=seed)
    if arguments.json:
        more = row_fields(found, "answers")
        print_json(**entries, answer=found[0].text, error=None, **more)
    else:
        print_texts(found, before)
    return any(text.text for text in found)


def _nothing_learned(empty: int, total: int) -> str:
    which = "the answer is" if total == 1 else f"{empty} of {total} answers are"
    return (
        f"{which} empty: the model ended at once. Those do that have never learned to answer "
        "questions; names that end in -vqav2, -textvqa and -qa are of models that have."
    )
