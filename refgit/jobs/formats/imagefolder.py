"""The imagefolder convention of Hugging Face's `datasets`: metadata.jsonl above the images.

Each line has `file_name`, the image's path below the file's directory, and `text`, its caption.
An image without a caption would be a line without a text, which training programs do not expect,
so such rows are in failed.jsonl beside it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from refgit.errors import JobError
from refgit.jobs.formats.base import Format
from refgit.jobs.formats.lines import object_in
from refgit.jobs.journal.disk import write_whole
from refgit.jobs.rows import OWN, Row, line_of


class ImageFolderFormat(Format):
    """A line of JSON for each image, with file_name and text."""

    name = "imagefolder"

    def __init__(self, out: str) -> None:
        super().__init__(out)
        self._folder = os.path.dirname(out) or "."
        self._above = os.path.abspath(self._folder)
        self.failures_apart = os.path.join(os.path.dirname(out), "failed.jsonl")

    def named(self, image: str) -> str:
        """The path below the file's directory, with slashes."""
        path = os.path.abspath(image)
        start = self._above if self._above.endswith(os.sep) else self._above + os.sep
        if path.startswith(start):
            return path[len(start) :].replace(os.sep, "/")
        return os.path.relpath(path, self._above).replace(os.sep, "/")

    def refuse(self, images: Iterable[str]) -> None:
        """Refuse images that do not lie below the file's directory."""
        for image in images:
            if self.named(image).startswith("../"):
                raise JobError(
                    f"{image} does not lie below {self._folder}, the directory of {self.out}, "
                    "as the imagefolder convention wants it. Write the file above all images, "
                    "or choose --format jsonl."
                )

    def read(self) -> Iterator[Row]:
        """Read the rows back."""
        with open(self.out, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                row = object_in(line, number)
                name, text = row.pop("file_name", None), row.pop("text", None)
                if not (isinstance(name, str) and isinstance(text, str)) or set(row) & set(OWN):
                    raise ValueError(f"line {number} has not file_name and text, as texts.")
                image = os.path.join(os.path.dirname(self.out), *name.split("/"))
                yield {"index": 0, "image": image, "caption": text, "error": None, **row}

    def write(self, path: str, rows: Iterable[Row], fields: Sequence[str], job: str) -> None:
        """Write rows to a file."""
        write_whole(path, map(self._line, rows))

    def _line(self, row: Row) -> bytes:
        more = {name: value for name, value in row.items() if name not in OWN}
        return line_of({"file_name": self.named(row["image"]), "text": row["caption"], **more})
