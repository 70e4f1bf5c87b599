"""The JSON files of a checkpoint directory: read with a reason for every failure, written whole.

All of refgit reads and writes its settings here; the weights are in refgit/checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refgit.errors import CheckpointError

CONFIG_NAME = "config.json"


def json_text(content: Mapping[str, Any]) -> str:
    """Return a JSON object as the configs are written: two spaces, sorted keys, a newline."""
    return json.dumps(content, indent=2, sort_keys=True, default=_for_json) + "\n"


def _for_json(value: Any) -> Any:
    """Find something that JSON has in the place of what it has not."""
    if isinstance(value, set | frozenset):
        return sorted(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{value!r} cannot be written to a JSON file, which holds plain values alone.")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    CheckpointError
        The file is missing, unreadable, not UTF-8, not JSON, nested without end, or no object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{path} does not exist; expected a checkpoint directory that holds {path.name}."
        ) from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CheckpointError(f"{path} cannot be read: {reason}.") from error
    except (ValueError, RecursionError) as error:  # no UTF-8 and no JSON are both ValueErrors
        raise CheckpointError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a JSON {type(content).__name__}; expected an object with named values."
        )
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object as transformers does: two spaces, sorted keys, a newline at the end."""
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
    write_whole(path, text + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all: a failed write leaves an older file alone."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def check_directory(directory: str | Path) -> Path:
    """Return the checkpoint directory as a path.

    Raises
    ------
    CheckpointError
        There is no such directory.
    """
    path = Path(directory)
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing"
        raise CheckpointError(f"{path} should be a checkpoint directory; found {found} there.")
    return path
