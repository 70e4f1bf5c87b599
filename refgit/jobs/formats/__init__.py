"""The files that a job can write: a format each, chosen by `--format` or by the name of `--out`."""

from __future__ import annotations

import os

from refgit.errors import JobError
from refgit.jobs.formats.base import Format
from refgit.jobs.formats.comma import CommaFormat
from refgit.jobs.formats.imagefolder import ImageFolderFormat
from refgit.jobs.formats.lines import LinesFormat
from refgit.jobs.formats.table import TableFormat
from refgit.jobs.formats.trainer import TrainerFormat

FORMATS: dict[str, type[Format]] = {
    "jsonl": LinesFormat,
    "parquet": TableFormat,
    "csv": CommaFormat,
    "imagefolder": ImageFolderFormat,
    "json": TrainerFormat,
}
SIDECAR = "sidecar"  # a text for each image: `formats.sidecar`, which takes more to make
_BY_NAME = {".jsonl": "jsonl", ".parquet": "parquet", ".csv": "csv", ".json": "json"}


def format_name(out: str, chosen: str | None) -> str:
    """Say which format a job writes: the one chosen, or what the name of its file means.

    Raises
    ------
    JobError
        The name means none.
    """
    if chosen is not None:
        return chosen
    if os.path.basename(out) == "metadata.jsonl":
        return "imagefolder"
    found = _BY_NAME.get(os.path.splitext(out)[1].lower())
    if found is None and (os.path.isdir(out) or out.endswith(("/", os.sep))):
        return SIDECAR
    if found is None:
        raise JobError(
            f"--out is {out}; expected a name that ends in {', '.join(_BY_NAME)}, a directory for "
            f"a text for each image, or --format {'|'.join([*FORMATS, SIDECAR])} as well."
        )
    return found
