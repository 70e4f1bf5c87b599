"""The command line: ``refgit caption IMAGE ...``.

Results go to stdout, everything else to stderr. Exit codes: 0 all went well, 1 some images could
not be captioned, 2 nothing could be started (wrong arguments, no such model or backend).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from unicodedata import category

if TYPE_CHECKING:
    from PIL.Image import Image

    from refgit.model import GitForCausalLM
    from refgit.processing import GitProcessor

STDIN = "-"
# Unicode categories: control characters, halves of surrogate pairs, line and paragraph separators.
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")

_CAPTION_EPILOG = """\
examples:
  refgit caption photo.jpg --model DIR        one caption
  refgit caption a.png b.png                  a line for each: file, tab, caption
  refgit caption pictures/ --json             a JSON object for each image of a directory
  cat photo.jpg | refgit caption -            an image from standard input

exit codes: 0 all well, 1 some images failed, 2 nothing could be started
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; sys.argv's by default.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal may lack a caption's letters
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has gone: no fault of ours
        sys.stdout = None  # or closing it would complain again
        return 0
    except Exception as error:
        if arguments.debug:
            raise
        _say(_reason(error))
        return 2


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments."""

    def error(self, message: str) -> NoReturn:
        _say(f"{message}; see {self.prog} --help")
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    from refgit import __version__

    parser = _Parser(
        prog="refgit", description="GIT, the Generative Image-to-text Transformer, in NumPy."
    )
    parser.add_argument("--version", action="version", version=f"refgit {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    caption = commands.add_parser(
        "caption",
        help="say what is on an image",
        description="Say in words what is on each image.",
        epilog=_CAPTION_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    caption.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="image file, directory of image files, or - for standard input",
    )
    caption.add_argument(
        "--model",
        metavar="MODEL",
        help="checkpoint directory or name on the model hub; the bundled emoji model by default",
    )
    caption.add_argument(
        "--backend", help="numpy, cupy ...; the variable REFGIT_BACKEND, else numpy, by default"
    )
    caption.add_argument(
        "--dtype",
        default="float32",
        choices=("float16", "float32", "float64"),
        help="what to compute in (default: float32)",
    )
    caption.add_argument(
        "--max-length",
        type=_positive,
        default=50,
        metavar="N",
        help="longest caption, in tokens, the opening one included (default: 50)",
    )
    caption.add_argument("--json", action="store_true", help="print a JSON object a line")
    caption.add_argument("--debug", action="store_true", help="show the traceback of an error")
    caption.set_defaults(run=_caption)
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} is no integer of 2 or more")
    return int(text)


def _say(message: str) -> None:
    """Put one line on stderr, whatever the message holds."""
    print("refgit: " + _one_line(message), file=sys.stderr)


def _reason(error: Exception) -> str:
    """Say what went wrong; an error that refgit did not foresee comes with its type."""
    if isinstance(error, ValueError | OSError | NotImplementedError):
        return str(error)
    return f"{type(error).__name__}: {error} (--debug shows where)"


def _one_line(text: str) -> str:
    r"""Escape what would break a line or an encoding, as in "a\nb"; file names may hold it."""
    return "".join(
        c.encode("unicode_escape").decode() if category(c) in _UNPRINTABLE else c for c in text
    )


def _caption(arguments: argparse.Namespace) -> int:
    from refgit.checkpoint.hub import find_checkpoint
    from refgit.demo import FOR_PHOTOGRAPHS, NAME, demo_path
    from refgit.generation.greedy import text_room
    from refgit.model import GitForCausalLM
    from refgit.processing import GitProcessor, ImageFileError

    if arguments.model is None:
        _say(
            f"using the bundled model {NAME}, which knows emoji only; for photographs pass "
            f"--model {FOR_PHOTOGRAPHS}."
        )
    path = find_checkpoint(arguments.model) if arguments.model is not None else demo_path()
    processor = GitProcessor.from_pretrained(path)
    model = GitForCausalLM.from_pretrained(path, backend=arguments.backend, dtype=arguments.dtype)
    room = text_room(model.config, model.config.vision_config.num_positions)
    longest = min(arguments.max_length, room)
    alone = len(arguments.images) == 1 and not os.path.isdir(arguments.images[0])
    failures = 0
    for image in _image_files(arguments.images):
        try:
            text = caption_one(image, model, processor, longest)
        except Exception as error:
            if arguments.debug:
                raise
            failures += 1
            named = isinstance(error, ImageFileError)
            reason = _reason(error) if named else f"{image}: {_reason(error)}"
            _say(reason)
            if arguments.json:
                _print_json(image=image, error=reason)
            continue
        if arguments.json:
            _print_json(image=image, caption=text)
        else:
            print(text if alone else f"{_one_line(image)}\t{text}", flush=True)
    return 1 if failures else 0


def _print_json(**entries: str) -> None:
    print(json.dumps(entries), flush=True)  # ASCII, so one line on every terminal


def _image_files(names: Sequence[str]) -> Iterator[str]:
    """The images that the arguments stand for: files themselves, and those in directories.

    A directory in which there are none stands for itself, and `_picture` says so.
    """
    for name in names:
        if name != STDIN and os.path.isdir(name):
            yield from _image_files_in(name) or [name]
        else:
            yield name


def _image_files_in(directory: str) -> list[str]:
    """Image files of a directory; none where it cannot be read."""
    from PIL import Image

    formats = Image.registered_extensions()  # {".png": "PNG", ...}, those to write only as well
    known = {suffix for suffix, name in formats.items() if name in Image.OPEN}
    try:
        files = sorted(Path(directory).iterdir())
    except OSError:
        return []
    return [str(f) for f in files if f.suffix.lower() in known and f.is_file()]


def caption_one(image: str, model: GitForCausalLM, processor: GitProcessor, max_length: int) -> str:
    """Caption one image file.

    Parameters
    ----------
    image : str
        File name, or - for standard input.
    model : GitForCausalLM
    processor : GitProcessor
    max_length : int
        Longest caption in tokens.

    Raises
    ------
    refgit.processing.ImageFileError
        The file is missing, truncated or no image.
    """
    pixels = processor(images=_picture(image), return_tensors="np")["pixel_values"]
    ids = model.generate(pixel_values=pixels, max_length=max_length)
    return processor.batch_decode(model.backend.to_numpy(ids), skip_special_tokens=True)[0].strip()


def _picture(image: str) -> Image:
    """Read an image from a file or from standard input."""
    from refgit.processing import ImageFileError, load_image

    if image == STDIN:
        try:
            return load_image(sys.stdin.buffer.read())
        except ImageFileError as error:
            raise ImageFileError(f"standard input: {error}") from error
    if os.path.isdir(image):
        os.listdir(image)  # raises where it must not be read
        raise ImageFileError(f"{image} holds no image files; expected some, such as .png or .jpg.")
    return load_image(image)
