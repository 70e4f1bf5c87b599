"""What is wrong with a job as a whole; what is wrong with one image stands in its row."""

from __future__ import annotations


class JobError(ValueError):
    """A job cannot start, go on or end; the message says why, and what becomes of its rows."""


def reason(error: Exception) -> str:
    """Say in a sentence why an image has no caption, for its row."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}."
    if isinstance(error, ValueError | OSError | NotImplementedError) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}"
