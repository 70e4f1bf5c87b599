"""What the arguments name: a model with its processor, images and videos."""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TypeAlias

from refgit.cli.arguments import STDIN
from refgit.cli.decoding import decoding_of, in_options
from refgit.cli.output import detail, one_line, say
from refgit.cli.terminal import waiting
from refgit.cli.texts import treatment_of
from refgit.demo import FOR_PHOTOGRAPHS, NAME, find_model
from refgit.errors import MediaFileError
from refgit.jobs.sources import Item, Paths, items, parts_of
from refgit.jobs.videos import VideoInputs, Videos, with_videos
from refgit.pipeline import Captioner
from refgit.processing.media import describe_left_out
from refgit.processing.reading import Reading
from refgit.processing.selection import Selection

Content: TypeAlias = str | bytes | Exception
_EVERYTHING = Selection()


def load_captioner(arguments: argparse.Namespace, *, photographs: bool = True) -> Captioner:
    """Load the model that the arguments name, with its processor.

    Where they name none, a line on stderr says that it is the bundled one, and with `photographs`
    which model would do for these.

    Raises
    ------
    ValueError
        There is no such model, or options contradict one another.
    """
    decoding, treatment = decoding_of(arguments), treatment_of(arguments)
    name = NAME if arguments.model in (None, NAME) else arguments.model
    if arguments.model is None:
        hint = f"; for photographs pass --model {FOR_PHOTOGRAPHS}" if photographs else ""
        say(f"using the bundled model {NAME}, which knows emoji only{hint}.")
    path = find_model(name)  # the hub's client draws bars of its own
    started = time.perf_counter()
    with waiting(f"loading {name}"):
        try:
            captioner = Captioner.from_pretrained(
                path,
                base=arguments.base,
                processor=arguments.processor,
                backend=arguments.backend,
                dtype=arguments.dtype,
                reading=reading_of(arguments),
                decoding=decoding,
                prompt=getattr(arguments, "prompt", None),
                scores=getattr(arguments, "scores", False),
                treatment=treatment,
            )
        except ValueError as error:
            if type(error) is not ValueError:  # nothing that an option is to blame for
                raise
            raise ValueError(in_options(str(error))) from error
    if captioner.frames is None:
        _refuse_video_options(arguments)
    detail(
        f"model {path}: backend {captioner.model.backend.name}, dtype {arguments.dtype}, loaded in "
        f"{time.perf_counter() - started:.2f} s."
    )
    settings = "".join(f", {name} {value}" for name, value in captioner.settings.items())
    detail(f"captions of at most {captioner.max_length} tokens{settings}; {captioner.reading}.")
    return captioner


def _refuse_video_options(arguments: argparse.Namespace) -> None:
    """Refuse what only chooses frames of videos, for a model that takes images only."""
    usual = {"frames": "even", "start": 0, "end": None, "segments": None}
    for name, value in usual.items():
        if getattr(arguments, name, value) != value:
            raise ValueError(
                f"--{name} means nothing here: it is about videos, and this model takes images "
                "only. Leave it out, or use a video model, such as microsoft/git-base-vatex."
            )


def reading_of(arguments: argparse.Namespace) -> Reading:
    """Return what `add_reading_options` has parsed; a command without these reads by default."""
    if not hasattr(arguments, "background"):
        return Reading()
    if arguments.end is not None and arguments.end <= arguments.start:
        raise ValueError(
            f"--end is {arguments.end:g} s and --start {arguments.start:g} s; expected --end to be "
            "the later one."
        )
    return Reading(
        exif_transpose=not arguments.no_exif_transpose,
        background=arguments.background,
        max_pixels=arguments.max_pixels,
        truncated=arguments.truncated == "ok",
        frames=arguments.frames,
        start=arguments.start,
        end=arguments.end,
    )


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


class Sources:
    """Images that are named: files, those in directories, lists and tables.

    A line on stderr says what was left out.

    Parameters
    ----------
    names : sequence of str
    videos : bool
        Whether the videos in directories count.
    recursive : bool
        Whether directories within directories count.
    selection : Selection
        See `selection_of`.
    column : str
        Of tables, the one with the images.
    video_inputs : VideoInputs, optional
        How videos are divided and put together.

    Raises
    ------
    JobError
        Nothing is left.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        videos: bool,
        recursive: bool = False,
        selection: Selection = _EVERYTHING,
        column: str = "image",
        video_inputs: VideoInputs | None = None,
    ) -> None:
        left_out: Counter[str] = Counter()
        self.parts = parts_of(
            names,
            recursive=recursive,
            column=column,
            videos=videos,
            selection=selection,
            left_out=left_out,
            tolerant=True,
        )
        if left_out:
            say(f"{describe_left_out(left_out)}.")
        if video_inputs is not None:
            self.parts = with_videos(self.parts, video_inputs, opened)
        found = self.parts[0]
        alone = isinstance(found, Paths) and found.names == [*names]
        if isinstance(found, Videos):
            alone = not names
        self._alone = alone and len(self) == 1

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __iter__(self) -> Iterator[tuple[Item, str]]:
        """Give each image, with what a line about it begins with.

        That is its name and a tab, or nothing if it is the only thing that was named. A directory
        that has no images, or what else cannot be read, comes with the error as its content.
        """
        for item in items(self.parts):
            yield item, "" if self._alone else f"{one_line(item.name)}\t"


def video_inputs_of(arguments: argparse.Namespace, frames: int | None) -> VideoInputs:
    """Return what `add_video_inputs` has parsed; `frames` is how many a video model takes."""
    start, end = arguments.start, arguments.end
    return VideoInputs(frames, tuple(arguments.frames_from), arguments.segments, start, end)


def selection_of(arguments: argparse.Namespace) -> Selection:
    """Return the patterns that `add_folder_options` has parsed."""
    return Selection(glob=tuple(arguments.glob or ()), exclude=tuple(arguments.exclude or ()))


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


def opened(source: Content) -> Content | IO[bytes]:
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
