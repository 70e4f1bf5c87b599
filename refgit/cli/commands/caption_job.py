"""`refgit caption --out FILE`: how a job is started, and what is said at its end."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from refgit.cli.inputs import load_captioner, selection_of
from refgit.cli.output import say
from refgit.cli.terminal import Bar, is_terminal, waiting
from refgit.demo import NAME, find_model
from refgit.errors import JobError
from refgit.jobs.batching import BatchSize
from refgit.jobs.formats import FORMATS, format_name
from refgit.jobs.formats.base import Format
from refgit.jobs.job import describe_job, fingerprint
from refgit.jobs.journal.journal import Journal
from refgit.jobs.run import run_job
from refgit.jobs.sources import parts_of
from refgit.jobs.wanted import Wanted
from refgit.model.config import GitConfig
from refgit.processing.media import describe_left_out
from refgit_backends.numpy.threads import cores

PROGRESS = 30.0  # seconds between two lines where there is no terminal


def run(arguments: argparse.Namespace) -> int:
    """Begin a job, or go on with it."""
    if arguments.json:
        raise ValueError(
            "--json prints to standard output and --out writes a file; expected one of the two. "
            "A file that ends in .jsonl has a JSON object on each line."
        )
    form = format_of(arguments)
    name = arguments.model or NAME
    checkpoint = find_model(name)
    if name != NAME:
        arguments.model = str(checkpoint)  # one from the hub is looked up once: it cannot change
    config = GitConfig.from_pretrained(checkpoint)
    left_out: Counter[str] = Counter()
    parts = parts_of(
        arguments.images,
        recursive=arguments.recursive,
        column=arguments.column,
        videos=config.num_image_with_embedding is not None,
        selection=selection_of(arguments),
        left_out=left_out,
    )
    if left_out:
        say(f"{describe_left_out(left_out)}.")
    wanted = Wanted(parts, form.named, once=form.once)
    form.refuse(wanted.names())
    captioner = load_captioner(arguments, max_length=arguments.max_length)
    with waiting("reading the model's files"):
        digest = fingerprint(checkpoint)
    job = describe_job(
        parts,
        captioner,
        model=name,
        model_sha256=digest,
        dtype=arguments.dtype,
        column=arguments.column,
        form=form.name,
    )
    journal = Journal(
        form,
        job,
        wanted,
        restart=arguments.restart,
        retry_failed=arguments.retry_failed,
        drop_missing=arguments.drop_missing,
    )
    if journal.thrown_away:
        say(f"--restart: threw away {journal.thrown_away} rows of an earlier run.")
    started, done = time.monotonic(), journal.complete
    try:
        if not done:
            if journal.rows:
                say(f"going on after {journal.rows} of {journal.total} rows.")
            size = arguments.batch_size
            with waiting("captioning", "images") as bar:
                run_job(
                    captioner,
                    journal,
                    workers=arguments.workers or cores(),
                    batch_size=BatchSize(size if isinstance(size, int) else None),
                    advance=told(bar),
                )
    except KeyboardInterrupt:
        journal.sync()
        say(
            f"interrupted; {journal.rows} of {journal.total} rows are kept. The same command goes "
            "on from there."
        )
        return 130
    finally:
        journal.close()
    say(summary(journal, complete=done, seconds=time.monotonic() - started))
    return 1 if journal.failures else 0


def format_of(arguments: argparse.Namespace) -> Format:
    """The format that the arguments choose; refused before a model is loaded.

    Raises
    ------
    JobError
        The file's name means no format, it is a directory, or no job has made it.
    OSError
        Its directory does not exist.
    ImportError
        It is a Parquet file, and pyarrow is not installed.
    """
    out = arguments.out
    form = FORMATS[format_name(out, arguments.format)](out)
    if os.path.isdir(out):
        raise JobError(f"{out} is a directory; expected the name of a file to write.")
    os.stat(os.path.dirname(out) or ".")
    for path in (out, form.failures_apart):
        if path is not None and os.path.exists(path) and not os.path.exists(out + ".job"):
            raise JobError(
                f"{path} exists and no job of refgit made it ({out}.job is missing). Move it "
                "away, or choose another name."
            )
    return form


def told(bar: Bar) -> Callable[[int, int], Any]:
    """What is called after each batch: the bar, or without a terminal a line now and then."""
    if is_terminal(sys.stderr):
        return bar.advance
    last = time.monotonic()

    def advance(done: int, total: int) -> None:
        nonlocal last
        bar.advance(done, total)
        if time.monotonic() - last >= PROGRESS and done < total:
            last = time.monotonic()
            say(f"captioning: {done} of {total} rows,{bar.pace()}.")

    return advance


def summary(journal: Journal, *, complete: bool, seconds: float) -> str:
    """What a job has done, in a line."""
    rows, new, form = journal.total + journal.gone, journal.appended, journal.form
    said = [
        f"{form.out} is complete: {rows} rows" if complete else f"wrote {form.out}: {rows} rows"
    ]
    if journal.failures:
        where = form.failures_apart or form.out
        said.append(f"{journal.failures} failed, {where} says why")
    if journal.gone:
        said.append(f"{journal.gone} of images that are gone are kept (--drop-missing drops them)")
    if new:
        said.append(f"{new} done in {seconds:.1f} s, {new / max(seconds, 1e-3):.3g} images/s")
    return "; ".join(said) + "."
