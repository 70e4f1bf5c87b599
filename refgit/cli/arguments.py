"""What the commands read: a model with its processor, and the files they are asked about."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refgit.cli.output import say
from refgit.cli.terminal import waiting
from refgit.jobs.pixels import frames_of, prepared
from refgit.jobs.sources import is_video, suffixes

if TYPE_CHECKING:
    import numpy as np

    from refgit.model.causal_lm import GitForCausalLM
    from refgit.processing import GitProcessor

STDIN = "-"


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Declare which model a command runs, and where."""
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="checkpoint: a directory with config.json and weights, or a name on the Hugging Face "
        "hub such as microsoft/git-base-coco, which is downloaded once; by default the small "
        "model that comes with refgit and knows emoji alone",
    )
    parser.add_argument(
        "--backend",
        metavar="NAME",
        help="what computes: numpy (the processor) or cupy (an NVIDIA graphics card); by default "
        "what the environment variable REFGIT_BACKEND says, else numpy",
    )
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=("float16", "bfloat16", "float32", "float64"),
        help="the type of number to compute in (default: float32; float16 takes half the memory, "
        "float64 is for comparisons; NumPy has no bfloat16 and computes it in float32)",
    )


def add_images(parser: argparse.ArgumentParser) -> None:
    """Declare the images and videos that a command is asked about."""
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="image or video file, directory of such files, or - for an image on standard input",
    )


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Declare how a command prints."""
    parser.add_argument("--json", action="store_true", help="print a JSON object a line")
    add_debug(parser)


def add_debug(parser: argparse.ArgumentParser) -> None:
    """Declare that an error may be shown as Python shows it."""
    parser.add_argument(
        "--debug",
        action="store_true",
        help="show where in the program an error arose (Python's traceback), for bug reports",
    )


def count_of(least: int) -> Any:
    """A type of argparse: integers of at least `least`."""

    def count(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no integer of {least} or more")
        return int(text)

    return count


def load_model(
    arguments: argparse.Namespace, *, photographs: bool = True
) -> tuple[GitForCausalLM, GitProcessor]:
    """Load the model that the arguments name, and its processor.

    Where they name none, the bundled one is said to be taken, and with `photographs` which would
    do for these.
    """
    from refgit.demo import FOR_PHOTOGRAPHS, NAME, demo_path
    from refgit.hub import find_checkpoint
    from refgit.model.causal_lm import GitForCausalLM
    from refgit.processing import GitProcessor

    bundled = arguments.model in (None, NAME)
    if arguments.model is None:
        hint = f"; for photographs pass --model {FOR_PHOTOGRAPHS}" if photographs else ""
        say(f"using the bundled model {NAME}, which knows emoji only{hint}.")
    # The hub's client draws bars of its own.
    path = demo_path() if bundled else find_checkpoint(arguments.model)
    with waiting(f"loading {NAME if bundled else arguments.model}"):
        processor = GitProcessor.from_pretrained(path)
        model = GitForCausalLM.from_pretrained(
            path, backend=arguments.backend, dtype=arguments.dtype
        )
    return model, processor


def any_size(processor: GitProcessor) -> bool:
    """Whether the processor keeps the aspect ratio, so that images come in all sizes."""
    return getattr(processor.image_processor, "respect_ratio_max", None) is not None


def refuse_stdin_twice(names: Sequence[str]) -> None:
    """Refuse to read standard input more than once: the second time there is nothing in it.

    Raises
    ------
    ValueError
        Two of the names are -.
    """
    count = sum(name == STDIN for name in names)
    if count > 1:
        raise ValueError(
            f"- stands {count} times among the images; expected it once at most, since standard "
            "input can be read once. Name the other images as files."
        )


def files_of(names: Sequence[str], *, videos: bool) -> Iterator[str]:
    """The files that arguments stand for: files themselves, and the pictures in directories.

    With `videos` those in directories count too. A directory in which there is nothing stands for
    itself, and `read_pixels` says so.
    """
    for name in names:
        if name != STDIN and os.path.isdir(name):
            yield from _files_in(name, videos=videos) or [name]
        else:
            yield name


def _files_in(directory: str, *, videos: bool) -> list[str]:
    """Image files of a directory, and its videos if wanted; none where it cannot be read."""
    wanted = suffixes(videos=videos)
    try:
        files = sorted(Path(directory).iterdir())
    except OSError:
        return []
    return [str(f) for f in files if f.suffix.lower() in wanted and f.is_file()]


def read_pixels(
    file: str, processor: GitProcessor, frames: int | None
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Read an image or a video as the model takes it.

    Parameters
    ----------
    file : str
        File name, or - for an image on standard input.
    processor : GitProcessor
    frames : int or None
        Frames that the model looks at, config.num_image_with_embedding.

    Returns
    -------
    float32 array (1, 3, H, W), or (1, F, 3, H, W) where the model takes videos

    Raises
    ------
    refgit.processing.ImageFileError, refgit.processing.VideoFileError
        The file is missing, truncated or no image or video, or the model takes no videos.
    ImportError
        The file is a video and PyAV is not installed.
    """
    if file == STDIN or not is_video(file) or os.path.isdir(file):
        images = _read_image(file)
    else:
        images = frames_of(
            file, frames, " Pass a video model, such as --model microsoft/git-base-vatex."
        )
    return prepared(images, processor, frames)


def _read_image(file: str) -> Any:
    """Read an image from a file or from standard input."""
    from refgit.processing import ImageFileError, load_image

    if file == STDIN:
        if sys.stdin is None:
            raise ImageFileError(
                "standard input: it is closed; expected an image, as in "
                "refgit caption - < photo.jpg."
            )
        try:
            return load_image(sys.stdin.buffer.read())
        except ImageFileError as error:
            raise ImageFileError(f"standard input: {error}") from error
    if os.path.isdir(file):
        os.listdir(file)  # raises where it must not be read
        raise ImageFileError(
            f"{file} holds no image files; expected some whose names end in .png, .jpg or another "
            "such suffix. Directories within it are not searched."
        )
    return load_image(file)
