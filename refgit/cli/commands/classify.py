"""`refgit classify`: which of many labels fits an image or video best.

The model has no classifier: a label's probability is that of writing it, and nothing else, below
the image. (GIT paper, section 4.5.)
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from refgit.cli.arguments import (
    add_folder_options,
    add_images,
    add_model_options,
    add_output_options,
    add_reading_options,
    count_of,
)
from refgit.cli.decoding import OPTIONS, add_decoding_options, refuse_decoding
from refgit.cli.inputs import Sources, load_captioner, opened, refuse_stdin_twice, selection_of
from refgit.cli.output import Failures, one_line, print_json, put, say
from refgit.cli.terminal import waiting
from refgit.generation.classification.labels import LabelSet
from refgit.generation.classification.trie import LabelError
from refgit.pipeline import Captioner, RankedLabel

DESCRIPTION = "Rank labels by their probability as the text below each image or video."
EPILOG = """\
examples:
  refgit classify docs/images/star.png --labels labels.txt
  refgit classify photo.jpg --labels imagenet.txt --top 1 --model microsoft/git-base
  refgit classify pictures/ --labels labels.txt --json

LABELS is a text file in UTF-8 with a label a line. One image prints a line for each of its best
labels, best first: probability, tab, label. Several images, or a directory, print file, tab,
probability, tab, label. With --json each image is an object, its "labels" a list of objects with
label, probability, log_probability, share and score.

A label's probability is that of writing just this label, among all texts there are. Its share is
its probability divided by that of all labels together. Its score, which --scores prints behind it,
with the sum, is the mean log-probability of its tokens. All count the label's end, and the prompt
of --prompt counts towards none.

exit codes: 0 all well, 1 some images failed, 2 nothing could be started or written
"""


_WHY = "labels are ranked by their probability, and no text is searched for"
_REFUSED = dict.fromkeys((name for name in OPTIONS if name not in ("prompt", "scores")), _WHY)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_images(parser)
    add_folder_options(parser)
    parser.add_argument(
        "--labels", required=True, metavar="LABELS", help="text file with a label a line"
    )
    parser.add_argument(
        "--top", type=count_of(1), default=5, metavar="N", help="labels to print (default: 5)"
    )
    parser.add_argument(
        "--share",
        action="store_true",
        help="print each label's share of the probability of all labels together; the shares of "
        "all labels add up to 1",
    )
    add_model_options(parser)
    add_reading_options(parser)
    add_decoding_options(parser, without=_REFUSED)
    parser.add_argument(
        "--batch-size",
        type=count_of(1),
        default=128,
        metavar="N",
        help="beginnings of labels that the model reads at once; fewer take less memory "
        "(default: 128)",
    )
    add_output_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Classify what the arguments name; a file that fails does not stop the others."""
    refuse_decoding(arguments, _REFUSED)
    refuse_stdin_twice(arguments.images)
    lines = read_labels(arguments.labels)
    captioner = load_captioner(arguments)
    prompt = captioner.prompt(arguments.prompt, "--prompt")
    labels = prepared(lines, arguments.labels, captioner, prompt)
    sources = Sources(
        arguments.images,
        videos=captioner.frames is not None,
        recursive=arguments.recursive,
        selection=selection_of(arguments),
    )
    failures = Failures(arguments)
    with waiting("classifying") as bar:
        for i, (item, before) in enumerate(sources):

            def progress(done: float, total: float, i: int = i) -> None:
                bar.advance(i + done / total, len(sources))

            progress(0, 1)
            with failures.tolerated(item.name, index=i, image=item.name, labels=None):
                found = captioner.classify(
                    opened(item.content),
                    labels,
                    top=arguments.top,
                    batch_size=arguments.batch_size,
                    progress=progress,
                )
                print_ranking(i, item.name, found, arguments, before)
    return failures.exit_code


def print_ranking(
    index: int,
    file: str,
    found: Sequence[RankedLabel],
    arguments: argparse.Namespace,
    before: str,
) -> None:
    """Print the best labels of one file, in lines that begin with `before`."""
    if arguments.json:
        labels = [asdict(ranked) for ranked in found]
        print_json(index=index, image=file, labels=labels, error=None)
        return
    for ranked in found:
        shown = f"{ranked.share if arguments.share else ranked.probability:.4g}"
        scores = f"\t{ranked.score:.4f}\t{ranked.log_probability:.4f}" if arguments.scores else ""
        put(f"{before}{shown}\t{one_line(ranked.label)}{scores}")


# ---- labels


@dataclass(frozen=True)
class Label:
    """A line of the file of labels: its number, from 1, and its text."""

    line: int
    text: str

    @property
    def name(self) -> str:
        """The text as messages show it."""
        return repr(self.text if len(self.text) <= 40 else self.text[:37] + "...")


def read_labels(file: str) -> list[Label]:
    """Read a file of labels; blank lines are left out, and stderr says so.

    Raises
    ------
    ValueError
        The file cannot be read, is not a text in UTF-8, or holds no label.
    """
    try:
        with open(file, encoding="utf-8-sig") as stream:
            lines = stream.read().removesuffix("\n").split("\n")
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file} is not a text in UTF-8 (byte {error.start} is "
            f"{error.object[error.start]:#x}); expected a label a line."
        ) from error
    if any("\0" in line for line in lines):
        raise ValueError(f"{file} is not a text, it holds zero bytes; expected a label a line.")
    labels = [Label(i, line.strip()) for i, line in enumerate(lines, 1) if line.strip()]
    if not labels:
        raise ValueError(f"{file} holds no labels; expected one a line.")
    blank = len(lines) - len(labels)
    if blank:
        say(f"{file}: {blank} blank {'line' if blank == 1 else 'lines'} skipped.")
    return labels


def prepared(
    lines: Sequence[Label], file: str, captioner: Captioner, prompt: Sequence[int]
) -> LabelSet:
    """Turn the labels into tokens; those that read as an earlier one are left out.

    stderr says what was left out, and which labels have words that the tokenizer does not know.

    Raises
    ------
    ValueError
        A label has no words or does not fit the model; the message has its line. Or the model has
        no end token.
    """
    try:
        labels = captioner.labels([label.text for label in lines], prompt)
    except LabelError as error:
        label = lines[error.label]
        raise ValueError(f"{file}:{label.line}: {label.name} {error.why}") from error
    again = [
        f"{lines[i].name} on line {lines[i].line}, as on line {lines[earlier].line}"
        for i, earlier in labels.repeated
    ]
    unknown = [f"{lines[i].name} on line {lines[i].line}" for i in labels.unknown]
    if again:
        say(f"{file}: duplicates skipped: {_some(again)}.")
    if unknown:
        say(f"{file}: words that this model's tokenizer does not know, in {_some(unknown)}.")
    return labels


def _some(things: Sequence[str]) -> str:
    more = len(things) - 1
    return things[0] + (f", and {more} more" if more else "")
