"""`refgit caption`: say in words what is on images and videos."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
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
from refgit.cli.commands import caption_job
from refgit.cli.output import (
    OutputError,
    one_line,
    print_as_it_comes,
    print_json,
    say_failure,
)
from refgit.cli.terminal import progress
from refgit.cli.writing import write_one

if TYPE_CHECKING:
    from refgit.model.causal_lm import GitForCausalLM
    from refgit.processing import GitProcessor

DESCRIPTION = "Say in words what is on each image or video."
EPILOG = """\
examples:
  refgit caption docs/images/star.png
  refgit caption photo.jpg --model microsoft/git-base-coco
  refgit caption a.png b.png                  # a line for each: file, tab, caption
  refgit caption pictures/ --json             # a JSON object for each image of a directory
  refgit caption clip.mp4 --model microsoft/git-base-vatex
  cat photo.jpg | refgit caption -            # an image from standard input
  refgit caption pictures/ --recursive --out captions.jsonl
  refgit caption photos.txt data/*.parquet --out captions.parquet --batch-size 8

One image prints its caption and nothing else. Whatever goes wrong is said on stderr, and the
images after it are still captioned.

With --out it is a job: a row for each image, in a file that comes into being when all rows are
there. A job that was interrupted, or killed, goes on when the same command is given again. Lists of
files (.txt, a path on each line, relative to the working directory) and tables (.parquet) can be
inputs of a job alone. docs/scale.md says more.

exit codes: 0 all well, 1 some images failed, 2 nothing could be started or written, 130 interrupted
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_images(parser)
    add_model_options(parser)
    parser.add_argument(
        "--max-length",
        type=count_of(2),
        default=50,
        metavar="N",
        help="longest caption, in tokens, which are words or pieces of words, the token that "
        "opens every text included (default: 50)",
    )
    add_output_options(parser)
    caption_job.add_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Caption what the arguments name; a file that fails does not stop the others."""
    if arguments.out is not None:
        return caption_job.run(arguments)
    caption_job.refuse_without_out(arguments)
    refuse_stdin_twice(arguments.images)
    model, processor = load_model(arguments)
    frames = model.config.num_image_with_embedding
    image_tokens = model.config.vision_config.num_positions * (frames or 1)
    longest = min(arguments.max_length, model.config.text_room(image_tokens))
    alone = len(arguments.images) == 1 and not os.path.isdir(arguments.images[0])
    failures = 0
    files = list(files_of(arguments.images, videos=frames is not None))
    for file in progress(files, len(files), "captioning"):
        try:
            texts = captions(file, model, processor, longest)
            if arguments.json:
                *_, text = texts
                print_json(image=file, caption=text)
            else:
                print_as_it_comes(texts, "" if alone else f"{one_line(file)}\t")
        except OutputError:
            raise
        except Exception as error:
            if arguments.debug:
                raise
            failures += 1
            say_failure(error, file, as_json=arguments.json)
    return 1 if failures else 0


def captions(
    file: str, model: GitForCausalLM, processor: GitProcessor, max_length: int
) -> Iterator[str]:
    """Caption one image or video.

    Parameters
    ----------
    file : str
        File name, or - for standard input.
    model : GitForCausalLM
    processor : GitProcessor
    max_length : int
        Longest caption in tokens.

    Returns
    -------
    iterator of str
        The caption so far, a word longer each time.

    Raises
    ------
    refgit.processing.ImageFileError, refgit.processing.VideoFileError
        The file is missing, truncated or no image or video.
    """
    pixels = read_pixels(file, processor, model.config.num_image_with_embedding)
    return write_one(
        model,
        processor,
        pixel_values=pixels,
        max_length=max_length,
        interpolate_pos_encoding=any_size(processor),
    )
