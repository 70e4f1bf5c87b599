"""`refgit caption --out FILE`: the options of a job, and how one is started."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refgit.cli.arguments import count_of, load_model
from refgit.cli.output import say
from refgit.cli.terminal import waiting

if TYPE_CHECKING:
    from refgit.jobs.sources import Part
    from refgit.model.causal_lm import GitForCausalLM

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
        if Path(name).suffix.lower() in (".txt", ".parquet") and os.path.isfile(name):
            raise ValueError(
                f"{name} is a list or a table; its images are captioned into a file. Add --out, "
                "such as --out captions.jsonl."
            )


def run(arguments: argparse.Namespace) -> int:
    """Begin a job, or go on with it."""
    from refgit.jobs.batching import BatchSize
    from refgit.jobs.captioner import Captioner
    from refgit.jobs.journal import Journal, check_out
    from refgit.jobs.run import run_job
    from refgit.jobs.sources import count

    if arguments.json:
        raise ValueError(
            "--json prints to standard output and --out writes a file; expected one of the two. "
            "A file that ends in .jsonl has a JSON object on each line."
        )
    check_out(arguments.out)
    checkpoint = _pin(arguments)
    parts = _parts(arguments, checkpoint)
    model, processor = load_model(arguments)
    captioner = Captioner(model, processor, arguments.max_length)
    job = {**_facts(arguments, parts, checkpoint, model), "max_length": captioner.max_length}
    journal = Journal(arguments.out, job, restart=arguments.restart)
    done = journal.complete
    try:
        if not done:
            _say_where_it_begins(journal.rows, count(parts))
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
    return _say_how_it_went(wrote, journal.rows, journal.failures)


def _pin(arguments: argparse.Namespace) -> Path:
    """The model's directory; one from the hub is looked up once, so that it cannot change."""
    from refgit.demo import NAME, demo_path
    from refgit.hub import find_checkpoint

    arguments.model_name = arguments.model or NAME
    if arguments.model in (None, NAME):
        return demo_path()
    folder = find_checkpoint(arguments.model)
    arguments.model = str(folder)
    return folder


def _parts(arguments: argparse.Namespace, checkpoint: Path) -> list[Part]:
    from refgit.jobs.sources import parts_of
    from refgit.model.config import GitConfig

    config = GitConfig.from_pretrained(checkpoint)
    return parts_of(
        arguments.images,
        recursive=arguments.recursive,
        column=arguments.column or _COLUMN,
        videos=config.num_image_with_embedding is not None,
    )


def _facts(
    arguments: argparse.Namespace, parts: Sequence[Part], checkpoint: Path, model: GitForCausalLM
) -> dict[str, Any]:
    """All that the rows depend on."""
    from refgit.jobs.captioner import fingerprint
    from refgit.jobs.sources import count

    with waiting("reading the model's files"):
        digest = fingerprint(checkpoint)
    return {
        "model": arguments.model_name,
        "model_sha256": digest,
        "backend": model.backend.name,
        "dtype": arguments.dtype,
        "column": arguments.column or _COLUMN,
        "directory": os.getcwd() if any(part.relative for part in parts) else None,
        "inputs": [part.identity() for part in parts],
        "rows": count(parts),
    }


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _say_where_it_begins(rows: int, total: int) -> None:
    if rows:
        say(f"going on after {rows} of {total} rows.")


def _say_how_it_went(wrote: str, rows: int, failures: int) -> int:
    if failures:
        say(f"{wrote} {rows} rows, {failures} of them without a caption; their error says why.")
        return 1
    say(f"{wrote} {rows} rows.")
    return 0
