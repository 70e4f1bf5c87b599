"""`refgit caption --out FILE`: the options of a job, and how one is started."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from refgit.cli.arguments import count_of
from refgit.cli.inputs import load_captioner
from refgit.cli.output import say
from refgit.cli.terminal import waiting
from refgit.demo import NAME, find_model
from refgit.jobs.batching import BatchSize
from refgit.jobs.job import describe_job, fingerprint
from refgit.jobs.journal import Journal, check_out
from refgit.jobs.run import run_job
from refgit.jobs.sources import LIST, TABLE, count, parts_of
from refgit.model.config import GitConfig

_DEFAULTS = {
    "batch_size": None, "workers": None, "column": None, "recursive": False, "restart": False
}  # fmt: skip
_COLUMN = "image"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what only jobs have."""
    job = parser.add_argument_group("jobs", "for many images; all of these need --out")
    job.add_argument(
        "--out",
        metavar="FILE",
        help="write a row for each image to this file, which ends in .jsonl or .parquet, and go on "
        "with what an earlier run of the same command has left undone",
    )
    job.add_argument(
        "--batch-size",
        type=_size,
        metavar="N",
        help="images that are captioned at once, or auto: what proves fastest on the first ones, "
        "64 at most (default: auto); captions do not depend on it",
    )
    job.add_argument(
        "--workers",
        type=count_of(1),
        metavar="N",
        help="threads that decode images meanwhile (default: one for each core)",
    )
    job.add_argument(
        "--column",
        metavar="NAME",
        help=f"column of tables that holds the images (default: {_COLUMN})",
    )
    job.add_argument(
        "--recursive", action="store_true", help="take images of directories within directories too"
    )
    job.add_argument(
        "--restart", action="store_true", help="throw away the rows of an earlier run, begin anew"
    )


def _size(text: str) -> int | str:
    if text == "auto":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is neither auto nor an integer of 1 or more")
    return int(text)


def refuse_without_out(arguments: argparse.Namespace) -> None:
    """Refuse what only a job can do.

    Raises
    ------
    ValueError
        An option or an input belongs to jobs, and there is no --out.
    """
    for name, default in _DEFAULTS.items():
        if getattr(arguments, name) != default:
            option = "--" + name.replace("_", "-")
            raise ValueError(
                f"{option} belongs to a job, which writes a file; expected --out as well, such as "
                "--out captions.jsonl."
            )
    for name in arguments.images:
        if Path(name).suffix.lower() in (LIST, TABLE) and os.path.isfile(name):
            raise ValueError(
                f"{name} is a list or a table; its images are captioned into a file. Add --out, "
                "such as --out captions.jsonl."
            )


def run(arguments: argparse.Namespace) -> int:
    """Begin a job, or go on with it."""
    if arguments.json:
        raise ValueError(
            "--json prints to standard output and --out writes a file; expected one of the two. "
            "A file that ends in .jsonl has a JSON object on each line."
        )
    check_out(arguments.out)
    name, column = arguments.model or NAME, arguments.column or _COLUMN
    checkpoint = find_model(name)
    if name != NAME:
        arguments.model = str(checkpoint)  # one from the hub is looked up once: it cannot change
    config = GitConfig.from_pretrained(checkpoint)
    parts = parts_of(
        arguments.images,
        recursive=arguments.recursive,
        column=column,
        videos=config.num_image_with_embedding is not None,
    )
    captioner = load_captioner(arguments, max_length=arguments.max_length)
    with waiting("reading the model's files"):
        digest = fingerprint(checkpoint)
    job = describe_job(
        parts,
        captioner,
        model=name,
        model_sha256=digest,
        dtype=arguments.dtype,
        column=column,
    )
    journal = Journal(arguments.out, job, restart=arguments.restart)
    done = journal.complete
    try:
        if not done:
            if journal.rows:
                say(f"going on after {journal.rows} of {count(parts)} rows.")
            size = arguments.batch_size
            with waiting("captioning", "images") as bar:
                run_job(
                    parts,
                    captioner,
                    journal,
                    workers=arguments.workers or _cores(),
                    batch_size=BatchSize(size if isinstance(size, int) else None),
                    advance=bar.advance,
                )
    except KeyboardInterrupt:
        journal.sync()
        say(
            f"interrupted; {journal.rows} of {count(parts)} rows are kept. The same command goes "
            "on from there."
        )
        return 130
    finally:
        journal.close()
    wrote = f"{arguments.out} is complete:" if done else f"wrote {arguments.out}:"
    failed = f", {journal.failures} of them without a caption; their error says why"
    say(f"{wrote} {journal.rows} rows{failed if journal.failures else ''}.")
    return 1 if journal.failures else 0


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
