"""Files read with a reason for every failure, and written whole or not at all.

All of refgit reads its JSON files and writes its files here; only the journal of a caption job has
rules of its own (refgit/jobs/journal).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from refgit.errors import CheckpointError

CONFIG_NAME = "config.json"


def json_text(content: Mapping[str, Any], *, ascii_only: bool = True) -> str:
    """Return a JSON object as transformers writes it: two spaces, sorted keys, a newline."""
    options: dict[str, Any] = {"indent": 2, "sort_keys": True, "ensure_ascii": ascii_only}
    return json.dumps(content, default=_for_json, **options) + "\n"


def _for_json(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{value!r} cannot be written to a JSON file, which holds plain values only.")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    CheckpointError
        The file is missing, unreadable, not UTF-8, not JSON, nested without end, or not an object.
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
    except (ValueError, RecursionError) as error:  # not UTF-8 and not JSON are both ValueErrors
        raise CheckpointError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a JSON {type(content).__name__}; expected an object with named values."
        )
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object, letters beyond ASCII as they are; see `json_text`."""
    write_whole(path, json_text(content, ascii_only=False))


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all: a failed write leaves an older file as it was."""
    with whole_file(path) as partial:
        if isinstance(content, str):
            partial.write_text(content, encoding="utf-8")
        else:
            partial.write_bytes(content)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path to write to, which becomes `path` in the end, or is removed if that fails."""
    partial = _beside(path)
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_directory(target: Path) -> Iterator[Path]:
    """Give a directory to write into, which becomes `target` in the end, or is removed.

    Where there is a directory already, its other files stay, and config.json, without which it is
    not a checkpoint, is replaced last.

    Raises
    ------
    CheckpointError
        The directory cannot be made.
    """
    import shutil  # here, since every start would pay 2 ms for it

    partial = _beside(target)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise CheckpointError(f"{target} cannot be made: {error.strerror or error}.") from error
    try:
        yield partial
        if target.exists():
            for file in sorted(partial.iterdir(), key=lambda file: file.name == CONFIG_NAME):
                file.replace(target / file.name)
        else:
            partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


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
