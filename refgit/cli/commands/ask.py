"""`refgit ask`: answer questions about an image or video, which is read once.

A question is a prompt: the opening token, then the question's, and the model goes on with the
answer. (GIT paper, section 3.3.)
"""

from __future__ import annotations

import argparse
import reprlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from refgit.cli.arguments import (
    add_model_options,
    add_output_options,
    any_size,
    count_of,
    load_model,
    read_pixels,
)
from refgit.cli.output import (
    OutputError,
    one_line,
    print_as_it_comes,
    print_json,
    reason,
    say,
)
from refgit.cli.terminal import progress, waiting
from refgit.cli.writing import write_one

if TYPE_CHECKING:
    from refgit.model.cache import KeyValueCache
    from refgit.model.causal_lm import GitForCausalLM
    from refgit.processing import GitProcessor

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
    parser.add_argument("image", metavar="IMAGE", help="image or video file, or - for stdin")
    parser.add_argument("questions", nargs="+", metavar="QUESTION", help="a question, in quotes")
    add_model_options(parser)
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
    model, processor = load_model(arguments)
    frames = model.config.num_image_with_embedding
    with waiting("reading the image"):
        pixels = read_pixels(arguments.image, processor, frames)
        image = model.encode_image(pixels, interpolate_pos_encoding=any_size(processor))
    alone = len(arguments.questions) == 1
    failures = 0
    for question in progress(arguments.questions, len(arguments.questions), "answering"):
        try:
            texts = answers(question, image, model, processor, arguments.max_new_tokens)
            if arguments.json:
                *_, text = texts
                print_json(image=arguments.image, question=question, answer=text)
            else:
                print_as_it_comes(texts, "" if alone else f"{one_line(question)}\t")
        except OutputError:
            raise
        except Exception as error:
            if arguments.debug:
                raise
            failures += 1
            why = f"{reprlib.repr(question)}: {reason(error)}"
            say(why)
            if arguments.json:
                print_json(image=arguments.image, question=question, error=why)
    return 1 if failures else 0


def answers(
    question: str,
    image: KeyValueCache,
    model: GitForCausalLM,
    processor: GitProcessor,
    max_new_tokens: int,
) -> Iterator[str]:
    """Answer one question about an image that has been read.

    Parameters
    ----------
    question : str
    image : KeyValueCache
        From `model.encode_image`; left as it was.
    model : GitForCausalLM
    processor : GitProcessor
    max_new_tokens : int
        Longest answer; less where the model has no positions for so many.

    Returns
    -------
    iterator of str
        The answer so far, a word longer each time.

    Raises
    ------
    ValueError
        The question is empty, or leaves no positions for an answer.
    """
    words = processor.tokenizer(question, add_special_tokens=False)["input_ids"]
    if not words:
        raise ValueError("the question has no words; expected some, in quotes.")
    prompt = [processor.tokenizer.cls_token_id, *words]
    room = model.config.text_room(image.image_length) - len(prompt)
    if room < 1:
        raise ValueError(
            f"the question is {len(prompt)} tokens, its opening one included; this model has "
            f"positions for {len(prompt) + room}, the answer included. Ask a shorter one."
        )
    return write_one(
        model,
        processor,
        past_key_values=image,
        input_ids=[prompt],
        attention_mask=[[1] * len(prompt)],  # a question may speak of [PAD]
        max_new_tokens=min(max_new_tokens, room),
    )
