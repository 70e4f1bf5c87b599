"""Where a job writes, and in which format: what --out, --format and --sidecar come to."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence

from refgit.errors import JobError
from refgit.jobs.formats import FORMATS, SIDECAR, format_name
from refgit.jobs.formats.base import Format
from refgit.jobs.formats.sidecar import EXISTING, SidecarFormat
from refgit.jobs.parquet import Table
from refgit.jobs.sources import Part, items
from refgit.jobs.wanted import Wanted

_SIDECAR = ".txt"
_OF_FILES = (SIDECAR, "imagefolder")


def check_target(arguments: argparse.Namespace) -> str:
    """Say in which format the arguments write; refused before a model is loaded.

    Raises
    ------
    ValueError, JobError
        Options contradict each other; the file's name means no format, it is a directory, or no job
        has made it.
    ImportError
        It is a Parquet file, and pyarrow is not installed.
    """
    out, chosen = arguments.out, arguments.format
    if out == "":
        raise ValueError("--out is empty; expected the name of a file to write, or of a directory.")
    if arguments.sidecar is not None and chosen not in (None, SIDECAR):
        raise ValueError(
            f"--sidecar writes a text for each image, and --format {chosen} one file; expected one "
            "of the two."
        )
    chosen = SIDECAR if arguments.sidecar is not None else chosen
    chosen = format_name(out, chosen) if out is not None else SIDECAR
    if chosen == SIDECAR:
        arguments.sidecar = arguments.sidecar or _SIDECAR
        if out is not None and os.path.isfile(out):
            raise JobError(f"--out is {out}, which is a file; expected a directory for the texts.")
        return chosen
    if arguments.existing is not None:
        raise ValueError("--existing is about the texts of --sidecar; expected that as well.")
    form = FORMATS[chosen](out)
    if os.path.isdir(out):
        raise JobError(f"{out} is a directory; expected the name of a file to write.")
    if not os.path.isdir(os.path.dirname(out) or "."):
        raise JobError(
            f"--out is {out}, and there is no directory {os.path.dirname(out)}; expected one that "
            "exists. Make it first."
        )
    for path in (out, form.failures_apart):
        if path is not None and os.path.exists(path) and not os.path.exists(out + ".job"):
            raise JobError(
                f"{path} exists and no job of refgit made it ({out}.job is missing). Move it "
                "away, or choose another name."
            )
    return chosen


def format_of(arguments: argparse.Namespace, chosen: str, parts: Sequence[Part]) -> Format:
    """The format by its name, for these images.

    Raises
    ------
    JobError
        Images are in tables, and the format has to do with files.
    """
    tables = [part for part in parts if isinstance(part, Table)]
    if tables and chosen in _OF_FILES:
        raise JobError(
            f"{tables[0].file} is a table, and {chosen} has to do with image files; expected files "
            "and directories, or --format jsonl, csv, parquet or json."
        )
    if chosen != SIDECAR:
        return FORMATS[chosen](arguments.out)
    suffix, target = arguments.sidecar, arguments.out
    folders = [name for name in arguments.images if os.path.isdir(name)]
    above = common_folder(folders, [item.name for item in items(parts)])
    if target is not None:
        os.makedirs(target, exist_ok=True)
    rows = os.path.join(target or _shown(above), f"refgit{suffix}.jsonl")
    mirror = None if target is None else (above, target)
    return SidecarFormat(rows, suffix, arguments.existing or EXISTING[0], mirror)


def suffixes_of_own_files(
    form: Format, wanted: Wanted, arguments: argparse.Namespace
) -> Iterator[str]:
    """The suffixes of files that the job itself has put into the folders of its images."""
    folders = [os.path.abspath(name) for name in arguments.images if os.path.isdir(name)]
    searched = tuple(os.path.join(folder, "") for folder in folders)
    for path in form.own_files(wanted.names()):
        folder = os.path.dirname(os.path.abspath(path))
        inside = arguments.recursive and os.path.join(folder, "").startswith(searched)
        if (folder in folders or inside) and os.path.exists(path):
            yield os.path.splitext(path)[1].lower()


def _shown(folder: str) -> str:
    """A folder from the working directory, where it is within that."""
    inside = os.path.join(folder, "").startswith(os.path.join(os.getcwd(), ""))
    return os.path.relpath(folder) if inside else folder


def common_folder(folders: Sequence[str], images: Sequence[str]) -> str:
    """The innermost folder that has all others in it, and all images.

    Raises
    ------
    JobError
        There is none: they lie on several drives.
    """
    above = {os.path.abspath(folder) for folder in folders}
    inside = tuple(os.path.join(folder, "") for folder in above)
    for folder in {os.path.dirname(os.path.abspath(image)) for image in images}:
        if not os.path.join(folder, "").startswith(inside):
            above.add(folder)
    try:
        return os.path.commonpath(sorted(above))
    except ValueError as error:
        raise JobError(
            f"the images have no folder in common: {error}. Caption each by itself."
        ) from error
