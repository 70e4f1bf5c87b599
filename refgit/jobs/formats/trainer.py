"""The metadata of training scripts: a JSON object with the caption of each image under its path.

    {
      "photos/a.jpg": {"caption": "a dog on a beach"}
    }

Images without a caption are listed in a file beside it, which ends in .failed.jsonl.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence

from refgit.jobs.formats.base import Format
from refgit.jobs.journal.disk import write_whole
from refgit.jobs.rows import OWN, Row, line_of


class TrainerFormat(Format):
    """One JSON object for all images."""

    name = "json"
    once = True

    def __init__(self, out: str) -> None:
        super().__init__(out)
        self.failures_apart = os.path.splitext(out)[0] + ".failed.jsonl"

    def read(self) -> Iterator[Row]:
        """Read the rows back."""
        with open(self.out, "rb") as stream:
            found = json.loads(stream.read())  # its errors are ValueErrors
        if not isinstance(found, dict):
            raise ValueError("it is not a JSON object.")
        for image, entry in found.items():
            if not isinstance(entry, dict) or not isinstance(entry.get("caption"), str):
                raise ValueError(f'{image!r} has no {{"caption": ...}}.')
            more = {name: value for name, value in entry.items() if name not in OWN}
            yield {
                "index": 0, "image": image, "caption": entry["caption"], "error": None, **more
            }  # fmt: skip

    def write(self, path: str, rows: Iterable[Row], fields: Sequence[str], job: str) -> None:
        """Write rows to a file."""
        write_whole(path, _pieces(rows))


def _pieces(rows: Iterable[Row]) -> Iterator[bytes]:
    before = b"{\n  "
    for row in rows:
        more = {name: value for name, value in row.items() if name not in OWN}
        entry = {row["image"]: {"caption": row["caption"], **more}}
        yield before + line_of(entry).rstrip(b"\n")[1:-1]
        before = b",\n  "
    yield b"{}\n" if before.startswith(b"{") else b"\n}\n"
