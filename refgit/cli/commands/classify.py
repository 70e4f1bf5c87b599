"""`refgit classify`: which of many labels fits an image or video best.

The model has no classifier: a label's probability is that of writing it, and nothing else, below
the image. (GIT paper, section 4.5.)
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from refgit.cli.arguments import (
    add_images,
    add_model_options,
    add_output_options,
    any_size,
    count_of,
    files_of,
    load_model,
    read_pixels,
    refuse_stdin_twice,
)
from refgit.cli.output import one_line, print_json, put, say, say_failure
from refgit.cli.terminal import waiting

if TYPE_CHECKING:
    from refgit.generation.classification.trie import Trie
    from refgit.model.causal_lm import GitForCausalLM
    from refgit.processing import BertTokenizer, GitProcessor

DESCRIPTION = "Rank labels by their probability as the text below each image or video."
EPILOG = """\
examples:
  refgit classify docs/images/star.png --labels labels.txt
  refgit classify photo.jpg --labels imagenet.txt --top 1 --model microsoft/git-base
  refgit classify pictures/ --labels labels.txt --json

LABELS is a text file in UTF-8 with a label a line. One image prints a line for each of its best
labels, best first: probability, tab, label. Several images, or a directory, print file, tab,
probability, tab, label. With --json each image is an object, its "labels" a list of objects with
label, probability, log_probability and share.

A label's probability is that of writing just this label, among all texts there are. Its share is
its probability divided by that of all labels together. Both count the label's end, and the prompt
of --prompt counts towards neither.

exit codes: 0 all well, 1 some images failed, 2 nothing could be started or written
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_images(parser)
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
    parser.add_argument("--prompt", metavar="TEXT", help="words that stand before every label")
    add_model_options(parser)
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
    refuse_stdin_twice(arguments.images)
    lines = read_labels(arguments.labels)
    model, processor = load_model(arguments)
    prompt = prompt_ids(arguments.prompt, processor.tokenizer)
    labels = as_tokens(lines, arguments.labels, processor.tokenizer)
    trie = make_trie(labels, arguments.labels, model, len(prompt))
    frames = model.config.num_image_with_embedding
    alone = len(arguments.images) == 1 and not os.path.isdir(arguments.images[0])
    files = list(files_of(arguments.images, videos=frames is not None))
    failures = 0
    with waiting("classifying") as bar:
        for i, file in enumerate(files):

            def progress(done: float, total: float, i: int = i) -> None:
                bar.advance(i + done / total, len(files))

            progress(0, 1)
            try:
                found = ranking(file, model, processor, trie, prompt, arguments, progress)
            except Exception as error:
                if arguments.debug:
                    raise
                failures += 1
                say_failure(error, file, as_json=arguments.json)
                continue
            print_ranking(file, found, labels, arguments, alone=alone)
    return 1 if failures else 0


def print_ranking(
    file: str,
    found: Sequence[tuple[int, float, float, float]],
    labels: Sequence[Label],
    arguments: argparse.Namespace,
    *,
    alone: bool,
) -> None:
    """Print the best labels of one file, whose name is left out where it is the only one."""
    if arguments.json:
        keys = ("label", "probability", "log_probability", "share")
        named_labels = ((labels[i].text, *numbers) for i, *numbers in found)
        entries = [dict(zip(keys, entry, strict=True)) for entry in named_labels]
        print_json(image=file, labels=entries)
        return
    for i, probability, _, share in found:
        shown = f"{share if arguments.share else probability:.4g}"
        before = "" if alone else f"{one_line(file)}\t"
        put(f"{before}{shown}\t{one_line(labels[i].text)}")


def ranking(
    file: str,
    model: GitForCausalLM,
    processor: GitProcessor,
    trie: Trie,
    prompt: Sequence[int],
    arguments: argparse.Namespace,
    progress: Callable[[float, float], None],
) -> list[tuple[int, float, float, float]]:
    """Rank the labels below one image or video.

    Returns
    -------
    list of (label, probability, log probability, share), best first

    Raises
    ------
    refgit.processing.ImageFileError, refgit.processing.VideoFileError
        The file is missing, truncated or no image or video.
    """
    import numpy as np

    from refgit.generation.classification.ranking import classify

    pixels = read_pixels(file, processor, model.config.num_image_with_embedding)
    found = classify(
        model,
        pixels,
        trie,
        prompt,
        top=arguments.top,
        batch_size=arguments.batch_size,
        interpolate_pos_encoding=any_size(processor),
        progress=progress,
    )
    home = model.backend.to_numpy
    log_p = home(found.log_probabilities)[0]
    columns = (home(found.labels)[0], np.exp(log_p), log_p, home(found.shares)[0])
    return list(zip(*(column.tolist() for column in columns), strict=True))


# ---- labels


@dataclass(frozen=True)
class Label:
    """A line of the file of labels: its number, from 1, its text, and the token ids of that."""

    line: int
    text: str
    ids: Sequence[int] = ()

    @property
    def name(self) -> str:
        """The text as messages show it."""
        return repr(self.text if len(self.text) <= 40 else self.text[:37] + "...")


def read_labels(file: str) -> list[Label]:
    """Read a file of labels; blank lines are left out, and stderr says so.

    Raises
    ------
    ValueError
        The file cannot be read, is no text in UTF-8, or holds no label.
    """
    try:
        with open(file, encoding="utf-8-sig") as stream:
            lines = stream.read().removesuffix("\n").split("\n")
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file} is no text in UTF-8 (byte {error.start} is {error.object[error.start]:#x}); "
            "expected a label a line."
        ) from error
    if any("\0" in line for line in lines):
        raise ValueError(f"{file} is no text, it holds zero bytes; expected a label a line.")
    labels = [Label(i, line.strip()) for i, line in enumerate(lines, 1) if line.strip()]
    if not labels:
        raise ValueError(f"{file} holds no labels; expected one a line.")
    blank = len(lines) - len(labels)
    if blank:
        say(f"{file}: {blank} blank {'line' if blank == 1 else 'lines'} skipped.")
    return labels


def as_tokens(labels: Sequence[Label], file: str, tokenizer: BertTokenizer) -> list[Label]:
    """Give labels their token ids; those that read as an earlier one are left out.

    stderr says what was left out, and which labels have words that the tokenizer does not know.

    Raises
    ------
    ValueError
        A label has no words.
    """
    texts = [label.text for label in labels]
    all_ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    first: dict[tuple[int, ...], Label] = {}
    again, unknown = [], []
    for label, ids in zip(labels, all_ids, strict=True):
        if not ids:
            raise ValueError(f"{file}:{label.line}: {label.name} has no words to read.")
        earlier = first.setdefault(tuple(ids), Label(label.line, label.text, ids))
        if earlier.line != label.line:
            again.append(f"{label.name} on line {label.line}, as on line {earlier.line}")
        elif tokenizer.unk_token_id in ids:
            unknown.append(f"{label.name} on line {label.line}")
    if again:
        say(f"{file}: duplicates skipped: {_some(again)}.")
    if unknown:
        say(f"{file}: words that this model's tokenizer does not know, in {_some(unknown)}.")
    return list(first.values())


def _some(things: Sequence[str]) -> str:
    """The first of many things, and how many more there are."""
    more = len(things) - 1
    return things[0] + (f", and {more} more" if more else "")


def prompt_ids(text: str | None, tokenizer: BertTokenizer) -> list[int]:
    """Tokens that stand before the label: the opening one, and those of the prompt."""
    words: list[int] = []
    if text is not None:
        words = tokenizer(text, add_special_tokens=False)["input_ids"]
        if not words:
            raise ValueError("--prompt has no words; expected some, in quotes.")
    return [tokenizer.cls_token_id, *words]  # type: ignore[list-item]  # every BERT has one


def make_trie(labels: Sequence[Label], file: str, model: GitForCausalLM, prompt: int) -> Trie:
    """Put the labels in a trie, once they are found to fit the model below its images.

    Raises
    ------
    ValueError
        A label does not fit; the message has its line. Or the model has no end token.
    """
    from refgit.generation.classification.ranking import check_labels, trie_of
    from refgit.generation.classification.trie import LabelError

    if not model.generation_config.eos_ids:
        raise ValueError(
            "the model names no token that ends a text; expected eos_token_id in its "
            "generation_config.json or config.json."
        )
    frames = model.config.num_image_with_embedding or 1
    try:
        trie = trie_of(model, [label.ids for label in labels])
        n_image = model.config.vision_config.num_positions * frames
        check_labels(trie, model.config, prompt, n_image)
    except LabelError as error:
        label = labels[error.label]
        raise ValueError(f"{file}:{label.line}: {label.name} {error.why}") from error
    return trie
