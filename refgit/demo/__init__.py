"""The bundled model: a small GIT that names emoji, so that everything works without a download.

README.md beside this file is its model card.
"""

from __future__ import annotations

from pathlib import Path

from refgit.hub import find_checkpoint

NAME = "refgit-emoji"
FOR_PHOTOGRAPHS = "microsoft/git-base-coco"


def demo_path() -> Path:
    """Return the directory of the bundled checkpoint."""
    return Path(__file__).parent


def find_model(name: str | Path | None = None, *, weights: bool = True) -> Path:
    """Return the directory of a model.

    Parameters
    ----------
    name : str or Path, optional
        A checkpoint directory or the id of a repository on the model hub; the bundled model by
        default and where it is named.
    weights : bool
        False where the small files of a repository are enough.

    Raises
    ------
    CheckpointError
        There is no such directory, or the download failed.
    """
    if name in (None, NAME):
        return demo_path()
    return find_checkpoint(name, weights=weights)
