"""Rows of a job: what is known of each image, and the line of JSON that holds it."""

from __future__ import annotations

import json
from typing import Any, TypeAlias

from refgit.errors import reason

Row: TypeAlias = dict[str, Any]
OWN = ("index", "image", "caption", "error")  # what every row has
NUMBERS = ("score", "score_sum", "start", "end")  # what rows may have besides; a number each
LISTS = {"captions": str, "scores": float, "score_sums": float}  # and lists, of these
PRIVATE = "_"  # under it, what only the job itself needs; see `journal.ledger`
_BREAKS = "\x85\u2028\u2029"  # what some readers take for the end of a line


def row_of(index: int, image: str | None, found: str | Exception, **more: Any) -> Row:
    """One row: an image with its caption, or with why it has none; `more` is put behind."""
    error = reason(found) if isinstance(found, Exception) else None
    caption = found if error is None else None
    return {"index": index, "image": image, "caption": caption, "error": error, **more}


def line_of(row: Any) -> bytes:
    r"""A row as one line of JSON in UTF-8; what UTF-8 or a line cannot hold is escaped (\udcff)."""
    text = json.dumps(row, ensure_ascii=False)
    if any(letter in text for letter in _BREAKS):
        text = json.dumps(row)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:  # a file name that is not Unicode
        return json.dumps(row).encode() + b"\n"
