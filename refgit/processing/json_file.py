"""Reading and writing the JSON files of a checkpoint directory.

Every failure becomes a `CheckpointError` that names the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refgit.errors import CheckpointError


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    CheckpointError
        If the file is missing, unreadable, not UTF-8, not JSON, or not an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CheckpointError(f"{path} cannot be read: {reason}.") from error
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are both ValueErrors
        raise CheckpointError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a JSON {type(content).__name__}; expected an object with named values."
        )
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object the way transformers does: two spaces, sorted keys, final newline."""
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def check_directory(directory: str | Path) -> Path:
    """Return the checkpoint directory as a path.

    Raises
    ------
    CheckpointError
        If there is no such directory.
    """
    path = Path(directory)
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing"
        raise CheckpointError(f"{path} should be a checkpoint directory; found {found} there.")
    return path
