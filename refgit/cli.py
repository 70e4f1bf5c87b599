"""The command line: ``refgit caption IMAGE ...``.

Results go to stdout, everything else to stderr. Exit codes: 0 all went well, 1 some images could
not be captioned, 2 nothing could be started (wrong arguments, no such model or backend).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refgit.model import GitForCausalLM
    from refgit.processing import GitProcessor

STDIN = "-"

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
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has gone: no fault of ours
        sys.stdout = None  # type: ignore[assignment]  # or closing it would complain again
        return 0
    except (ValueError, TypeError, OSError, NotImplementedError) as error:
        if arguments.debug:
            raise
        _say(str(error))
        return 2


def _parser() -> argparse.ArgumentParser:
    from refgit import __version__

    parser = argparse.ArgumentParser(
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
        "--model", metavar="DIR", help="checkpoint directory; the bundled emoji model by default"
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
    value = int(text)
    if value < 2:
        raise argparse.ArgumentTypeError(f"{value} leaves no room for a word; expected 2 or more")
    return value


def _say(message: str) -> None:
    """Put one line on stderr, whatever the message holds."""
    print("refgit: " + " ".join(message.split()), file=sys.stderr)


def _caption(arguments: argparse.Namespace) -> int:
    from refgit.demo import FOR_PHOTOGRAPHS, NAME, demo_path
    from refgit.model import GitForCausalLM
    from refgit.processing import GitProcessor, ImageFileError

    if arguments.model is None:
        _say(
            f"using the bundled model {NAME}, which knows emoji only; for photographs pass "
            f"--model with a copy of {FOR_PHOTOGRAPHS}."
        )
    path = Path(arguments.model) if arguments.model is not None else demo_path()
    processor = GitProcessor.from_pretrained(path)
    model = GitForCausalLM.from_pretrained(path, backend=arguments.backend, dtype=arguments.dtype)
    # the prompt's one token and positions set the limit
    longest = min(arguments.max_length, model.config.max_position_embeddings)
    alone = len(arguments.images) == 1 and not Path(arguments.images[0]).is_dir()
    failures = 0
    for name in arguments.images:
        for image in _image_files(name):
            try:
                text = caption_one(image, model, processor, longest)
            except ImageFileError as error:
                if arguments.debug:
                    raise
                failures += 1
                _say(str(error))
                if arguments.json:
                    _print_json(image=image, error=str(error))
                continue
            if arguments.json:
                _print_json(image=image, caption=text)
            else:
                print(text if alone else f"{image}\t{text}", flush=True)
    return 1 if failures else 0


def _print_json(**entries: str) -> None:
    print(json.dumps(entries, ensure_ascii=False), flush=True)


def _image_files(name: str) -> Iterator[str]:
    """The image files that an argument stands for: itself, or those in the directory."""
    if name == STDIN or not Path(name).is_dir():
        yield name
        return
    from PIL import Image

    known = Image.registered_extensions()  # {".png": "PNG", ...}
    files = sorted(f for f in Path(name).iterdir() if f.suffix.lower() in known and f.is_file())
    if not files:
        raise ValueError(f"{name} holds no image files; expected some, such as .png or .jpg.")
    yield from map(str, files)


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
    from refgit.processing import load_image

    picture = load_image(sys.stdin.buffer.read() if image == STDIN else image)
    pixels = processor(images=picture, return_tensors="np")["pixel_values"]
    ids = model.generate(pixel_values=pixels, max_length=max_length)
    return processor.batch_decode(model.backend.to_numpy(ids), skip_special_tokens=True)[0].strip()
