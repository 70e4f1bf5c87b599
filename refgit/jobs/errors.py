"""What is wrong with a job as a whole; what is wrong with one image is in its row."""

from __future__ import annotations


class JobError(ValueError):
    """A job cannot start, go on or end; the message says why, and what becomes of its rows."""
