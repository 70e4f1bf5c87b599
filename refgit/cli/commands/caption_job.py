"""`refgit caption --out FILE`: how a job is started, and what is said at its end."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from refgit.cli.inputs import load_captioner, selection_of, video_inputs_of
from refgit.cli.job_target import check_target, format_of, suffixes_of_own_files
from refgit.cli.output import say
from refgit.cli.terminal import Bar, is_terminal, waiting
from refgit.demo import NAME, find_model
from refgit.jobs.batching import BatchSize
from refgit.jobs.formats import SIDECAR
from refgit.jobs.job import describe_job, fingerprint
from refgit.jobs.journal.journal import Journal
from refgit.jobs.run import run_job
from refgit.jobs.sources import parts_of
from refgit.jobs.videos import with_videos
from refgit.jobs.wanted import Wanted
from refgit.model.config import GitConfig
from refgit.parts import find_parts
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
    chosen = check_target(arguments)
    name = arguments.model or NAME
    checkpoint = find_parts(find_model(name), base=arguments.base, processor=arguments.processor)
    if name != NAME:  # one from the hub is looked up once: it cannot change
        arguments.model = str(checkpoint.directory)
    config = GitConfig.from_pretrained(checkpoint.model)
    left_out: Counter[str] = Counter()
    frames = config.num_image_with_embedding
    parts = parts_of(
        arguments.images,
        recursive=arguments.recursive,
        column=arguments.column,
        videos=frames is not None,
        selection=selection_of(arguments),
        left_out=left_out,
    )
    parts = with_videos(parts, video_inputs_of(arguments, frames))
    form = format_of(arguments, chosen, parts)
    wanted = Wanted(parts, form.named, once=form.once)
    left_out -= Counter(suffixes_of_own_files(form, wanted, arguments))
    if left_out:
        say(f"{describe_left_out(left_out)}.")
    form.refuse(wanted.names())
    captioner = load_captioner(arguments)
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
        **({"sidecar": arguments.sidecar} if chosen == SIDECAR else {}),
    )
    journal = Journal(
        form,
        job,
        wanted,
        restart=arguments.restart,
        retry_failed=arguments.retry_failed,
        drop_missing=arguments.drop_missing,
        tell=say,
    )
    started, done = time.monotonic(), journal.complete
    try:
        if not done:
            if journal.rows:
                say(f"going on after {journal.rows} of {journal.total} rows.")
            with waiting("captioning", "images") as bar:
                run_job(
                    captioner,
                    journal,
                    workers=arguments.workers or cores(),
                    batch_size=BatchSize(arguments.batch_size, captioner.model.backend.lanes),
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
    seconds = time.monotonic() - started
    say(summary(journal, complete=done, seconds=seconds, left_out=describe_left_out(left_out)))
    return 1 if journal.failures else 0


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


def summary(journal: Journal, *, complete: bool, seconds: float, left_out: str) -> str:
    """What a job has done, in a line."""
    rows, form = journal.total + journal.gone, journal.form
    there = f"{form.out} is complete" if complete else f"wrote {form.out}"
    said = [f"{there}: {rows} row{'' if rows == 1 else 's'}"]
    if journal.left_alone:
        those = "1 image has a text already and is"
        if journal.left_alone > 1:
            those = f"{journal.left_alone} images have a text already and are"
        said.append(f"{those} left alone")
    if journal.failures:
        where = form.failures_apart or form.out
        said.append(f"{journal.failures} failed, {where} says why")
    if journal.gone:
        said.append(f"{journal.gone} of images that are gone are kept (--drop-missing drops them)")
    if left_out:
        said.append(left_out)
    if journal.appended:
        pace = journal.captioned / max(seconds, 1e-3)
        said.append(f"{journal.captioned} done in {seconds:.1f} s, {pace:.3g} images/s")
    return "; ".join(said) + "."
