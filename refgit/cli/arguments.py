"""The arguments and options that several commands have."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable

STDIN = "-"  # an image on standard input
_DTYPES = ("float16", "bfloat16", "float32", "float64")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Declare which model a command runs, and where."""
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="checkpoint: a directory with config.json and weights, an adapter of peft (LoRA), the "
        "directory of a training run, or a name on the Hugging Face hub such as "
        "microsoft/git-base-coco, which is downloaded once; by default the small model that comes "
        "with refgit and knows only emoji",
    )
    add_base(parser)
    parser.add_argument(
        "--processor",
        metavar="PROCESSOR",
        help="where the processor (tokenizer and settings of images) is, if not with the model: a "
        "directory or a name on the hub; for a model that Trainer saved without one, the "
        "checkpoint that its training began with",
    )
    parser.add_argument(
        "--backend",
        metavar="NAME",
        help="what computes: numpy (CPU) or cupy (an NVIDIA GPU); by default "
        "what the environment variable REFGIT_BACKEND says, else numpy",
    )
    add_dtype(
        parser,
        "dtype to compute in (default: float32; float16 takes half the memory, "
        "float64 is for comparisons; NumPy has no bfloat16 and computes it in float32)",
    )


def add_base(parser: argparse.ArgumentParser) -> None:
    """Declare what an adapter changes."""
    parser.add_argument(
        "--base",
        metavar="BASE",
        help="the model that an adapter of peft changes: a directory or a name on the hub; by "
        "default the one that its adapter_config.json names",
    )


def add_dtype(parser: argparse.ArgumentParser, text: str) -> None:
    """Declare the type of number that a command computes in; `text` is the option's help."""
    parser.add_argument("--dtype", default="float32", choices=_DTYPES, help=text)


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Declare how image and video files are read."""
    files = parser.add_argument_group("files", "how images and videos are read")
    add_image_reading(files)
    add_video_reading(files)


def add_image_reading(group: argparse._ArgumentGroup) -> None:
    """Declare how image files are read."""
    group.add_argument(
        "--no-exif-transpose",
        action="store_true",
        help="leave photographs as the camera's sensor saw them; by default they are turned as "
        "their EXIF orientation says",
    )
    group.add_argument(
        "--background",
        type=_colour,
        default="white",
        metavar="COLOUR",
        help="colour behind transparent images: a name such as white, '#rrggbb', or oracle: the "
        "colours that are stored under the transparency, mostly black, which is what transformers "
        "shows the model (default: white)",
    )
    group.add_argument(
        "--max-pixels",
        type=count_of(1),
        metavar="N",
        help="most pixels an image may have, width times height (default: 178956970, Pillow's "
        "limit against files that unpack to more than there is memory for)",
    )
    group.add_argument(
        "--truncated",
        choices=("error", "ok"),
        default="error",
        help="a JPEG whose last bytes are missing: an error, or ok: what there is of it is taken, "
        "the rest is grey (default: error)",
    )


def add_video_reading(group: argparse._ArgumentGroup) -> None:
    """Declare which frames of a video file are read."""
    group.add_argument(
        "--frames",
        type=frames_of,
        default="even",
        metavar="WHICH",
        help="frames of a video that the model sees: even, the middle of each of as many equal "
        "parts as it takes frames; document, as in the example of transformers, spread over a "
        "short clip in it that is always the same; or their numbers from 0, such as 1,5,9 "
        "(default: even)",
    )
    group.add_argument(
        "--start",
        type=seconds_of,
        default=0,
        metavar="TIME",
        help="take frames of a video from this time on, in seconds or as HH:MM:SS (default: 0)",
    )
    group.add_argument(
        "--end",
        type=seconds_of,
        metavar="TIME",
        help="take frames of a video before this time only (default: all to its end)",
    )


def add_video_inputs(parser: argparse.ArgumentParser) -> None:
    """Declare videos that are not files, and files that are several videos."""
    group = parser.add_argument_group("videos", "for models that take videos")
    group.add_argument(
        "--segments",
        type=length_of,
        metavar="SECONDS",
        help="divide each video into parts of this length, each with a caption of its own",
    )
    group.add_argument(
        "--frames-from",
        action="append",
        default=[],
        metavar="DIR",
        help="a directory, or a list with a path on each line, of pictures that are the frames of "
        "one video, in the order of the numbers in their names; may be given several times",
    )


def frames_of(text: str) -> str | tuple[int, ...]:
    """Read which frames: the name of a rule, or numbers."""
    if text in ("even", "document"):
        return text
    pieces = text.split(",")
    if not all(piece.strip().isdecimal() for piece in pieces):
        raise argparse.ArgumentTypeError(
            f"must be even, document, or numbers of frames such as 1,5,9 (got {text!r})"
        )
    return tuple(int(piece) for piece in pieces)


def seconds_of(text: str) -> float:
    """Read a time: seconds, or hours, minutes and seconds with colons between."""
    pieces = text.split(":")
    whole = all(piece.isdecimal() and piece.isascii() for piece in pieces[:-1])
    if len(pieces) > 3 or not whole or not re.fullmatch(r"[0-9]+(\.[0-9]*)?", pieces[-1]):
        raise argparse.ArgumentTypeError(f"must be seconds, or HH:MM:SS (got {text!r})")
    seconds = 0.0
    for piece in pieces:
        seconds = 60 * seconds + float(piece)
    return seconds


def length_of(text: str) -> float:
    """Read a time that is not 0."""
    seconds = seconds_of(text)
    if seconds < 0.001:
        raise argparse.ArgumentTypeError(f"must be at least 0.001 seconds (got {text!r})")
    return seconds


def _colour(text: str) -> str:
    # With Pillow, which takes time to import: only where the option is given.
    from refgit.processing.image.background import colour_of, near_colour

    try:
        colour_of(text)
    except ValueError as error:
        near = near_colour(text)
        meant = f"; did you mean {near}?" if near else ""
        raise argparse.ArgumentTypeError(
            f"must be a colour such as white or #rrggbb, or oracle (got {text!r}{meant})"
        ) from error
    return text


def add_images(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Declare the images and videos that a command is asked about; none without `required`."""
    parser.add_argument(
        "images",
        nargs="+" if required else "*",
        metavar="IMAGE",
        help="image or video file, directory of such files, or - for one on standard input",
    )
    parser.set_defaults(rest="images")


def add_folder_options(parser: argparse.ArgumentParser) -> None:
    """Declare which files of directories are meant."""
    folders = parser.add_argument_group("directories", "which of their files are meant")
    folders.add_argument(
        "--recursive", action="store_true", help="take images of directories within directories too"
    )
    folders.add_argument(
        "--glob",
        action="append",
        metavar="PATTERN",
        help="take only files that fit, such as '*.jpg', or 'train/**' for the path within the "
        "directory; in quotes, so that the shell leaves it alone; may be given several times",
    )
    folders.add_argument(
        "--exclude",
        action="append",
        metavar="PATTERN",
        help="leave out files that fit, and directories, such as '*_mask.png' or thumbs; may be "
        "given several times",
    )


def add_image(parser: argparse.ArgumentParser) -> None:
    """Declare the one image or video that a command is asked about."""
    parser.add_argument("image", metavar="IMAGE", help="image or video file, or - for stdin")


def add_output_options(
    parser: argparse.ArgumentParser, json: str = "print a JSON object a line"
) -> None:
    """Declare how a command prints; `json` is the help of --json."""
    parser.add_argument("--json", action="store_true", help=json)
    add_debug(parser)


def add_debug(parser: argparse.ArgumentParser) -> None:
    """Declare how much is said on stderr, and that an error may be shown as Python shows it."""
    how_much = parser.add_mutually_exclusive_group()
    how_much.add_argument(
        "-q", "--quiet", action="store_true", help="say nothing on stderr but what went wrong"
    )
    how_much.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="say on stderr what is being done, and with what",
    )
    parser.add_argument(
        "--debug",
        action="store_true",
        help="show where in the program an error arose (Python's traceback), for bug reports",
    )


def count_of(least: int) -> Callable[[str], int]:
    """Return a type for argparse: integers of at least `least`."""

    def count(text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be an integer >= {least} (got {text!r})")
        return int(text)

    return count


def number_of(above: float, most: float = math.inf) -> Callable[[str], float]:
    """Return a type for argparse: numbers above `above`, and at most `most`."""

    def number(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not above < found <= most or math.isinf(found):
            bound = f" and <= {most:g}" if math.isfinite(most) else ""
            raise argparse.ArgumentTypeError(f"must be a number > {above:g}{bound} (got {text!r})")
        return found

    return number
