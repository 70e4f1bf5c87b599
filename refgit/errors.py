"""The errors refgit raises beyond Python's own ValueError and TypeError."""

from __future__ import annotations

from collections.abc import Sequence


class CheckpointError(ValueError):
    """A checkpoint cannot be used: the message names the file, the tensor, found and expected."""


class CheckpointWarning(UserWarning):
    """A checkpoint is used, in a way or with a loss that the message names."""


class TraceError(ValueError):
    """A trace cannot be read or made: the message names the file, found and expected."""


class JobError(ValueError):
    """A job cannot start, go on or end; the message says why, and what becomes of its rows."""


class SeveralImagesError(ValueError):
    """What was passed as one image or video is several."""


class PhraseError(ValueError):
    """A caption holds a phrase that it may not, and so did a second attempt."""


class MediaFileError(ValueError):
    """An image or video file cannot be used: the message names the file."""


def package_missing(what: str, package: str, install: str = "") -> str:
    """Say that an optional package is missing, and how to install it.

    Parameters
    ----------
    what : str
        What needs it.
    package : str
        Its name.
    install : str
        What pip is given, where that is more than the name.
    """
    return (
        f"{what} needs the package {package}, which is not installed here: run "
        f"pip install {install or package}."
    )


def first_of(names: Sequence[str], most: int = 3) -> str:
    """List the first few of many names."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def reason(error: Exception, unforeseen: str = "") -> str:
    """Say in a sentence what went wrong.

    Parameters
    ----------
    error : Exception
    unforeseen : str
        What to add to the sentence about an error that refgit does not raise itself.
    """
    if isinstance(error, OSError) and error.strerror:  # Python's own text begins with [Errno 2]
        return f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}."
    if isinstance(error, ValueError | OSError | NotImplementedError | ImportError) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}{unforeseen}"
