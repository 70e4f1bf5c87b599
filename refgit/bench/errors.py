"""What goes wrong in a benchmark."""

from __future__ import annotations


class BenchError(ValueError):
    """A peer cannot be started, is gone, or does not compute what refgit computes."""
