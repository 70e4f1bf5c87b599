"""The errors refgit raises beyond Python's own ValueError and TypeError."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A checkpoint cannot be used: the message names the file, the tensor, found and expected."""
