"""`refgit caption --out FILE`: how a job is started."""

from __future__ import annotations

import argparse
from collections import Counter

from refgit.cli.inputs import load_captioner
from refgit.cli.output import say
from refgit.cli.terminal import waiting
from refgit.demo import NAME, find_model
from refgit.jobs.batching import BatchSize
from refgit.jobs.job import describe_job, fingerprint
from refgit.jobs.journal import Journal, check_out
from refgit.jobs.run import run_job
from refgit.jobs.sources import parts_of
from refgit.model.config import GitConfig
from refgit.processing.media import describe_left_out
from refgit_backends.numpy.threads import cores


def run(arguments: argparse.Namespace) -> int:
    """Begin a job, or go on with it."""
    if arguments.json:
        raise ValueError(
            "--json prints to standard output and --out writes a file; expected one of the two. "
            "A file that ends in .jsonl has a JSON object on each line."
        )
    check_out(arguments.out)
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
        left_out=left_out,
    )
    if left_out:
        say(f"{describe_left_out(left_out)}.")
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
    )
    journal = Journal(arguments.out, job, restart=arguments.restart)
    done = journal.complete
    try:
        if not done:
            if journal.rows:
                say(f"going on after {journal.rows} of {job['rows']} rows.")
            size = arguments.batch_size
            with waiting("captioning", "images") as bar:
                run_job(
                    parts,
                    captioner,
                    journal,
                    workers=arguments.workers or cores(),
                    batch_size=BatchSize(size if isinstance(size, int) else None),
                    advance=bar.advance,
                )
    except KeyboardInterrupt:
        journal.sync()
        say(
            f"interrupted; {journal.rows} of {job['rows']} rows are kept. The same command goes "
            "on from there."
        )
        return 130
    finally:
        journal.close()
    wrote = f"{arguments.out} is complete:" if done else f"wrote {arguments.out}:"
    failed = f", {journal.failures} of them without a caption; their error says why"
    say(f"{wrote} {journal.rows} rows{failed if journal.failures else ''}.")
    return 1 if journal.failures else 0
