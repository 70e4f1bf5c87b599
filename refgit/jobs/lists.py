"""Lists: text files with a path on each line; and the files beside images that are none.

These are captions, and what a job that writes captions beside images keeps there. ``photos/*``
names them without meaning them.
"""

from __future__ import annotations

import codecs
import os
import re
from pathlib import Path

from refgit.errors import JobError
from refgit.processing.media import suffixes

LIST = ".txt"
_CAPTIONS = (".txt", ".caption")
_OF_A_JOB = re.compile(r"refgit\..+\.jsonl(?:\.job|\.partial|\.writing)?")
# The first bytes of text files by Windows' programs; UTF-32's begin as UTF-16's do.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip


def paths_in(file: str) -> list[str]:
    """Return the paths in a list, those of empty lines left out.

    Parameters
    ----------
    file : str
        UTF-8, with a mark or without, or UTF-16 with one; lines end in LF, CR LF or CR. Bytes that
        are not UTF-8 are kept, as file names may hold them.

    Raises
    ------
    JobError
        It has no paths, or is not a text.
    OSError
        It cannot be read.
    """
    names = [line for line in re.split(r"\r\n|\n|\r", _text(file)) if line.strip()]
    if not names:
        raise JobError(f"{file} names no images; expected a path on each line.")
    if any("\0" in name for name in names):
        raise JobError(
            f"{file} has zero bytes; expected a list: a path on each line, in UTF-8, or in UTF-16 "
            "that begins with a byte-order mark. Save it as UTF-8."
        )
    return names


def _text(file: str) -> str:
    data = Path(file).read_bytes()
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            try:
                return data.decode(encoding)
            except UnicodeDecodeError as error:
                raise JobError(
                    f"{file} begins as {encoding.upper()} and is not: {error.reason}, at byte "
                    f"{error.start}. Save it as UTF-8."
                ) from error
    return os.fsdecode(data.removeprefix(codecs.BOM_UTF8))


class Neighbours:
    """Tell captions and a job's own files from lists and images."""

    def __init__(self) -> None:
        self._stems: dict[str, set[str]] = {}
        self._suffixes = suffixes(videos=True)

    def is_result(self, file: str) -> bool:
        """Whether a file lies there because a job has written it, as photos/refgit.txt.jsonl."""
        name = os.path.basename(file)
        return self.is_caption(file) or _OF_A_JOB.fullmatch(name) is not None

    def is_caption(self, file: str) -> bool:
        """Whether a file, such as a.txt, lies beside an image, such as a.png."""
        folder, name = os.path.split(file)
        stem, suffix = os.path.splitext(name)
        lies = suffix.lower() in _CAPTIONS and stem in self._images(folder)
        return lies and not os.path.isdir(file)

    def _images(self, folder: str) -> set[str]:
        """The names of images in a folder, with their suffixes and without."""
        if folder not in self._stems:
            try:
                names = [Path(name) for name in os.listdir(folder or ".")]
            except OSError:
                names = []
            images = [name for name in names if name.suffix.lower() in self._suffixes]
            self._stems[folder] = {name.stem for name in images} | {name.name for name in images}
        return self._stems[folder]
