"""What the arguments name: a model with its processor, images and videos."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from refgit.cli.arguments import STDIN
from refgit.cli.output import one_line, say
from refgit.cli.terminal import waiting
from refgit.demo import FOR_PHOTOGRAPHS, NAME, find_model
from refgit.errors import MediaFileError
from refgit.pipeline import Captioner
from refgit.processing.media import describe_left_out, find_media
from refgit.processing.reading import Reading


def load_captioner(
    arguments: argparse.Namespace, *, max_length: int = 50, photographs: bool = True
) -> Captioner:
    """Load the model that the arguments name, with its processor.

    Where they name none, a line on stderr says that it is the bundled one, and with `photographs`
    which model would do for these.
    """
    name = NAME if arguments.model in (None, NAME) else arguments.model
    if arguments.model is None:
        hint = f"; for photographs pass --model {FOR_PHOTOGRAPHS}" if photographs else ""
        say(f"using the bundled model {NAME}, which knows emoji only{hint}.")
    path = find_model(name)  # the hub's client draws bars of its own
    with waiting(f"loading {name}"):
        return Captioner.from_pretrained(
            path,
            max_length=max_length,
            backend=arguments.backend,
            dtype=arguments.dtype,
            reading=reading_of(arguments),
            decoding=decoding_of(arguments),
        )


def reading_of(arguments: argparse.Namespace) -> Reading:
    """Return what `add_reading_options` has parsed; a command without these reads by default."""
    if not hasattr(arguments, "background"):
        return Reading()
    return Reading(
        exif_transpose=not arguments.no_exif_transpose,
        background=arguments.background,
        max_pixels=arguments.max_pixels,
        truncated=arguments.truncated == "ok",
    )


def decoding_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what `add_decoding_options` has parsed, as keyword arguments of `generate`."""
    del arguments
    return {}


def refuse_stdin_twice(names: Sequence[str]) -> None:
    """Refuse to read standard input more than once: the second time it is empty.

    Raises
    ------
    ValueError
        Two of the names are -.
    """
    count = sum(name == STDIN for name in names)
    if count > 1:
        raise ValueError(
            f"- occurs {count} times among the images; expected it once at most, since standard "
            "input can be read once. Name the other images as files."
        )


def sources_of(names: Sequence[str], *, videos: bool) -> list[tuple[str, str | Exception, str]]:
    """Return name and source of each image: of the files named, and of those in directories.

    A line on stderr says what was left out of the directories.

    Parameters
    ----------
    names : sequence of str
    videos : bool
        Whether the videos in directories count.

    Returns
    -------
    list of (str, str or Exception, str)
        The name twice, or with the error for a directory that has none or cannot be read; and
        what a line about it begins with: the name and a tab, or nothing if it is the only image.
    """
    found: list[tuple[str, str | Exception]] = []
    left_out: Counter[str] = Counter()
    for name in names:
        if name == STDIN or not os.path.isdir(name):
            found.append((name, name))
            continue
        try:
            media = find_media(name, videos=videos)
            found += [(file, file) for file in media.paths]
            left_out += media.left_out
        except MediaFileError as error:
            text = f"{error} Directories within it are not searched."
            found.append((name, MediaFileError(text)))
        except OSError as error:
            found.append((name, error))
    if left_out:
        say(f"{describe_left_out(left_out)}.")
    single = len(names) == 1 and not os.path.isdir(names[0])
    return [(file, source, "" if single else f"{one_line(file)}\t") for file, source in found]


def check_target(option: str, file: Path) -> None:
    """Find out before the work whether the file that an option names could be written.

    Raises
    ------
    ValueError
        It is a directory, or would be in one that does not exist.
    """
    if file.is_dir():
        raise ValueError(f"{option} is {file}, which is a directory; expected the name of a file.")
    if not file.parent.is_dir():
        raise ValueError(f"{option} is {file}; there is no directory {file.parent}. Make it first.")


class _StandardInput(io.BytesIO):
    name = "standard input"  # what errors call it


def opened(source: str | Exception) -> str | Exception | IO[bytes]:
    """Return a source as `Captioner.read` takes it: - is an image on standard input.

    Raises
    ------
    MediaFileError
        Standard input is closed or empty.
    """
    if source != STDIN:
        return source
    if sys.stdin is None:
        raise MediaFileError(
            "standard input: it is closed; expected an image, as in refgit caption - < photo.jpg."
        )
    data = sys.stdin.buffer.read()
    if not data:
        raise MediaFileError("standard input is empty (0 bytes); expected an encoded image.")
    return _StandardInput(data)
