"""`refgit caption`: say in words what is on images and videos."""

from __future__ import annotations

import argparse
import re
from typing import Any

from refgit.cli.arguments import (
    add_folder_options,
    add_images,
    add_model_options,
    add_output_options,
    add_reading_options,
    add_video_inputs,
    count_of,
)
from refgit.cli.decoding import add_decoding_options
from refgit.cli.inputs import (
    Sources,
    load_captioner,
    opened,
    refuse_stdin_twice,
    selection_of,
    video_inputs_of,
)
from refgit.cli.output import Failures, print_as_it_comes, print_json, print_texts
from refgit.cli.terminal import progress
from refgit.cli.texts import add_treatment_options
from refgit.jobs.rows import row_of
from refgit.jobs.videos import times_of
from refgit.pipeline import Captioner, WrittenText
from refgit.pipeline.texts import row_fields
from refgit.processing.media import suffixes

DESCRIPTION = "Say in words what is on each image or video."
EPILOG = """\
examples:
  refgit caption docs/images/star.png
  refgit caption photo.jpg --model microsoft/git-base-coco
  refgit caption a.png b.png                  # a line for each: file, tab, caption
  refgit caption pictures/ --json             # a JSON object for each image of a directory
  refgit caption clip.mp4 --model microsoft/git-base-vatex
  refgit caption film.mp4 --segments 10       # a caption for each ten seconds
  cat photo.jpg | refgit caption -            # an image or video from standard input
  refgit caption pictures/ --recursive --exclude thumbs --glob '*.jpg'
  refgit caption pictures/ --recursive --out captions.jsonl
  refgit caption photos.txt data/*.parquet --out captions.parquet --batch-size 8
  refgit caption photo.jpg --num-captions 3 --scores
  refgit caption photo.jpg --temperature 0.7 --top-p 0.9 --seed 1
  refgit caption photo.jpg --prompt "a picture of"

One image prints its caption and nothing else. With --num-captions there are so many lines for each
image, and with --scores each line ends with a tab, the mean, a tab, and the sum of the tokens'
log-probabilities. Whatever goes wrong is said on stderr, and the images after it are still
captioned.

A list of files (.txt, a path on each line, relative to the working directory) and a table
(.parquet) stand for their images; a .txt beside an image of its name is the caption of that, and
left out.

With --out it is a job: a row for each image, in a file that comes into being when all rows are
there. A job that was interrupted, or killed, goes on when the same command is given again.
docs/scale.md says more.

exit codes: 0 all well, 1 some images failed, 2 nothing could be started or written, 130 interrupted
"""

_COLUMN = "image"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_images(parser, required=False)
    add_folder_options(parser)
    add_model_options(parser)
    add_reading_options(parser)
    add_video_inputs(parser)
    add_decoding_options(parser)
    add_treatment_options(parser)
    add_output_options(parser)
    add_job_options(parser)


def add_job_options(parser: argparse.ArgumentParser) -> None:
    """Declare what only jobs have."""
    many = parser.add_argument_group("many images", "how they are worked through")
    many.add_argument(
        "--batch-size",
        type=_size,
        metavar="N",
        help="images that are captioned at once, or auto: what proves fastest on the first ones, "
        "64 at most (default: auto); captions do not depend on it",
    )
    many.add_argument(
        "--workers",
        type=count_of(1),
        metavar="N",
        help="threads that decode images meanwhile (default: one for each core)",
    )
    many.add_argument(
        "--column",
        metavar="NAME",
        help=f"column of tables that holds the images (default: {_COLUMN})",
    )
    job = parser.add_argument_group(
        "jobs", "rows in a file, or texts beside the images: what goes on after a kill"
    )
    job.add_argument(
        "--out",
        metavar="FILE",
        help="write a row for each image to this file, which ends in .jsonl, .parquet, .csv or "
        ".json, or texts into this directory; and go on with what an earlier run of the same "
        "command has left undone, or what is new",
    )
    job.add_argument(
        "--format",
        choices=("jsonl", "parquet", "csv", "imagefolder", "json", "sidecar"),
        help="what the file is, where its name does not say so: metadata.jsonl is imagefolder "
        "(file_name and text), .json a training script's object of captions by path; docs/files.md "
        "has a table",
    )
    job.add_argument(
        "--sidecar",
        type=_suffix,
        metavar="SUFFIX",
        help="write a text for each image, such as a.txt beside a.png; with --out DIR into that "
        "directory, in the same folders. refgit.txt.jsonl there has all rows",
    )
    job.add_argument(
        "--existing",
        choices=("error", "skip", "overwrite", "append", "prepend"),
        help="what to do where a text is there already: error does not start (the default), skip "
        "leaves the image alone, append and prepend put the caption behind or before it, with a "
        "comma",
    )
    job.add_argument(
        "--retry-failed", action="store_true", help="caption once more what has failed before"
    )
    job.add_argument(
        "--drop-missing",
        action="store_true",
        help="leave out the rows of images that are not among the inputs any more; they are kept "
        "otherwise",
    )
    job.add_argument(
        "--restart", action="store_true", help="throw away the rows of an earlier run, begin anew"
    )


def _suffix(text: str) -> str:
    if not re.fullmatch(r"\.[\w-]+", text) or text.lower() in suffixes(videos=True):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a suffix of texts, such as .txt or .caption"
        )
    return text


def _size(text: str) -> int | None:
    if text == "auto":
        return None
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be auto or an integer >= 1 (got {text!r})")
    return int(text)


def refuse_without_out(arguments: argparse.Namespace) -> None:
    """Refuse what only a job can do.

    Raises
    ------
    ValueError
        An option or an input belongs to jobs, and there is no --out.
    """
    for name in ("format", "existing", "retry_failed", "drop_missing", "restart"):
        if getattr(arguments, name) not in (None, False):
            option = "--" + name.replace("_", "-")
            how = "--sidecar .txt" if name == "existing" else "--out captions.jsonl"
            raise ValueError(
                f"{option} belongs to a job, which writes a file; expected --out or --sidecar as "
                f"well, such as {how}."
            )


def run(arguments: argparse.Namespace) -> int:
    """Caption what the arguments name; a file that fails does not stop the others."""
    if not arguments.images and not arguments.frames_from:
        raise ValueError(
            "there is no IMAGE; expected a file, a directory, or -, standard input. "
            "refgit caption --help has examples."
        )
    if arguments.segments is not None and not arguments.images:
        raise ValueError(
            "--segments means nothing here: it divides videos by their times, which the pictures "
            "of --frames-from do not have."
        )
    if arguments.out is not None or arguments.sidecar or arguments.format == "sidecar":
        from refgit.cli.commands import caption_job  # jobs take time to import

        if arguments.restart and arguments.existing in ("append", "prepend"):
            raise ValueError(
                f"--restart and --existing {arguments.existing}: the texts hold captions of the "
                "earlier run, which would be there twice; expected one of the two options. Restore "
                "the texts, and give the command without --restart."
            )
        arguments.column = arguments.column or _COLUMN
        return caption_job.run(arguments)
    refuse_without_out(arguments)
    refuse_stdin_twice(arguments.images)
    captioner = load_captioner(arguments)
    sources = Sources(
        arguments.images,
        videos=captioner.frames is not None,
        recursive=arguments.recursive,
        selection=selection_of(arguments),
        column=arguments.column or _COLUMN,
        video_inputs=video_inputs_of(arguments, captioner.frames),
    )
    if len(sources) > 1:
        from refgit.cli.commands import caption_many

        return caption_many.run(arguments, captioner, sources)
    failures = Failures(arguments)
    for item, before in progress(sources, "captioning"):
        times = times_of(item.content)
        entries = {"index": item.index, "image": item.name, **times}
        with failures.tolerated(item.name, **entries, caption=None):
            source = opened(item.content)
            if arguments.json or arguments.scores or (arguments.num_captions or 1) > 1:
                texts = _all_texts(captioner, source)
                if arguments.json:
                    more = {**times, **row_fields(texts)}
                    print_json(**row_of(item.index, item.name, texts[0].text, **more))
                else:
                    print_texts(texts, before)
            else:
                print_as_it_comes(captioner.stream(source), before)
    return failures.exit_code


def _all_texts(captioner: Captioner, source: Any) -> list[WrittenText]:
    (texts,) = captioner.write_texts([captioner.read(source)])
    if isinstance(texts, Exception):
        raise texts
    return texts
