"""parameter.yaml, the few settings beside one of Microsoft's checkpoints, read without PyYAML.

These files are lines of ``key: value`` and nothing else, so only that is read. What YAML
has beyond it (nesting, lists, anchors, tags, several documents) is refused with its line.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeAlias

from refgit.errors import CheckpointError

Scalar: TypeAlias = int | float | bool | str | None

_LINE = re.compile(r"([A-Za-z_]\w*):(?: +(.*))?", re.ASCII)
_COMMENT = re.compile(r"(?:^|\s)#.*")
_INTEGER = re.compile(r"[-+]?(?:0|[1-9]\d*)", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:0|[1-9]\d*)(?:\.\d*)?(?:[eE][-+]?\d+)?", re.ASCII)
_PLAIN = re.compile(r"[A-Za-z_/.][\w /.+-]*")
_SINGLE = re.compile(r"'((?:[^']|'')*)'")
_DOUBLE = re.compile(r'"([^"\\]*)"')
# As YAML 1.1 has it, in lower case, capitalized or in upper case.
_WORDS: dict[str, bool | None] = {
    "true": True, "yes": True, "on": True, "false": False, "no": False, "off": False, "null": None,
}  # fmt: skip


def read_parameters(path: Path) -> dict[str, Scalar]:
    """Read a file of ``key: value`` lines.

    Parameters
    ----------
    path : Path
        UTF-8 text. Blank lines and comments are passed over.

    Returns
    -------
    dict
        Values are int, float, bool, None or str, in the file's order.

    Raises
    ------
    CheckpointError
        The file is missing or not UTF-8, or a line is not one ``key: value`` or comes twice; the
        message has the line's number.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist; expected a file of settings.") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not UTF-8 text: {error}.") from error
    found: dict[str, Scalar] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not _COMMENT.sub("", line, count=1).strip():
            continue
        try:
            key, value = _read_line(line.rstrip())
            if key in found:
                raise ValueError(f"{key} is there for the second time")
        except ValueError as error:
            raise CheckpointError(
                f"{path}, line {number}: {error}. refgit reads lines of the form key: value, with "
                "a number, true, false, null or a text; write the settings in that form."
            ) from None
        found[key] = value
    return found


def _read_line(line: str) -> tuple[str, Scalar]:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(f"{line!r} is not a line of that form")
    key, rest = match[1], (match[2] or "").strip()
    for quoted in (_SINGLE, _DOUBLE):
        text = quoted.match(rest)
        if text is not None and not _COMMENT.sub("", rest[text.end() :]).strip():
            return key, text[1].replace("''", "'") if quoted is _SINGLE else text[1]
    return key, _plain(key, _COMMENT.sub("", rest, count=1).strip())


def _plain(key: str, text: str) -> Scalar:
    """A value without quotes."""
    if text in ("", "~"):
        return None
    lower = text.lower()
    if lower in _WORDS and text in (lower, lower.capitalize(), lower.upper()):
        return _WORDS[lower]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _PLAIN.fullmatch(text):
        return text
    raise ValueError(f"the value {text!r} of {key} is neither a number nor plain text")
