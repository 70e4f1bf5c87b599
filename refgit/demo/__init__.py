"""The bundled model: a small GIT that names emoji, so that everything works without a download.

README.md beside this file is its model card.
"""

from __future__ import annotations

from pathlib import Path

NAME = "refgit-emoji"
FOR_PHOTOGRAPHS = "microsoft/git-base-coco"


def demo_path() -> Path:
    """Return the directory of the bundled checkpoint."""
    return Path(__file__).parent
