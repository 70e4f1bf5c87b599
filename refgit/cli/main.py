"""The command line: ``refgit COMMAND ...``; `COMMANDS` lists them, `commands/` has a file for each.

Results go to stdout, everything else to stderr. Exit codes: 0 all went well, 1 something of what
was asked for failed, 2 nothing could be started (wrong arguments, no such model or backend) or
the result could not be written, 130 interrupted from the keyboard.
"""

from __future__ import annotations

import argparse
import io
import platform
import sys
import time
import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NoReturn

from refgit.cli.output import OutputError, complain, detail, put, reason, say
from refgit.cli.terminal import QUIET, USUAL, VERBOSE, make_way, set_level
from refgit.errors import CheckpointWarning
from refgit.openblas import set_openblas_thread_timeout
from refgit.version import __version__

# In the order of `refgit --help`: for the deployer, the reader, the porter, the rest.
COMMANDS = {
    "caption": "say what is on an image or video",
    "ask": "answer questions about an image or video",
    "classify": "rank labels by how well they fit an image or video",
    "info": "describe a model: architecture, parameters, memory, operations of a caption",
    "layers": "list the functions that are the model's mathematics, or show one",
    "explain": "show what the model does with an image, word by word",
    "trace": "store every intermediate of a run, for other implementations to compare with",
    "compare": "find the first tensor in which another implementation differs, and why",
    "kit": "write test cases for an implementation in another language",
    "check": "grade an implementation in another language",
    "convert": "write a checkpoint anew: Microsoft's, an adapter merged, another dtype",
    "bench": "measure the speed, here and beside others",
    "completion": "print a script for completion by the tab key",
}
_EPILOG = """\
examples:
  refgit caption docs/images/star.png
  refgit caption photo.jpg --model microsoft/git-base-coco
  refgit info microsoft/git-base-coco

refgit COMMAND --help says more of each, with examples.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; sys.argv's by default.
    """
    set_openblas_thread_timeout()  # before the command's module imports NumPy
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal may lack a caption's letters
        sys.stdout.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        show_warnings()
        return _run(argv)


def _run(argv: Sequence[str] | None) -> int:
    debug = False
    try:
        # Without a command it says what there is, as most programs of this kind do.
        set_level(USUAL)
        arguments = parsed((sys.argv[1:] if argv is None else argv) or ["--help"])
        debug = getattr(arguments, "debug", False)
        if getattr(arguments, "quiet", False):
            set_level(QUIET)
        if getattr(arguments, "verbose", False):
            set_level(VERBOSE)
        if sys.stdout is None:
            raise OutputError("standard output is closed, so the result has nowhere to go.")
        started = time.perf_counter()
        code = int(arguments.run(arguments))
        put(end="")  # what was printed may have been kept back until now
        detail(
            f"refgit {__version__}, Python {platform.python_version()}: "
            f"{time.perf_counter() - started:.2f} s."
        )
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has gone: no fault of ours
        sys.stdout = None  # or closing it would complain again
        return 0
    except OutputError as error:
        sys.stdout = None
        if isinstance(error.__cause__, BrokenPipeError):
            return 0
        complain(str(error))
        return 2
    except Exception as error:
        if debug:
            raise
        complain(reason(error))
        return 2
    finally:
        make_way()  # of a bar whose work was cut short


def show_warnings() -> None:
    """Let what a checkpoint warns of be a line on stderr, once; other warnings stay as they are."""
    usual, said = warnings.showwarning, set[str]()

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if not issubclass(category, CheckpointWarning):
            usual(message, category, *place, **more)
        elif str(message) not in said:
            said.add(str(message))
            say(str(message))

    warnings.showwarning = show
    warnings.simplefilter("always", CheckpointWarning)


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments, and what may have been meant."""

    def error(self, message: str) -> NoReturn:
        complain(f"{message}; see {self.prog} --help")
        sys.exit(2)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        put(end="")  # the help text may not have been written
        super().exit(status, message)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        names = [str(choice) for choice in action.choices]
        raise argparse.ArgumentError(
            action, f"must be one of {', '.join(names)} (got {value!r}){_meant(str(value), names)}"
        )


class _Help(argparse.RawDescriptionHelpFormatter):
    """Wraps descriptions, which are a line each, and leaves the examples below as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return super()._fill_text(text, width, indent)
        return argparse.HelpFormatter._fill_text(self, text, width, indent)


class _Commands(argparse._SubParsersAction):  # type: ignore[type-arg]  # argparse has no name for it
    """The commands; the module of one is imported when that command is chosen.

    A command's module has DESCRIPTION, EPILOG, `add_arguments` and `run`.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        self.load(values[0])
        super().__call__(parser, namespace, values, option_string)

    def load(self, name: str) -> None:
        """Give the parser of a command its arguments."""
        module = import_module(f"refgit.cli.commands.{name}")
        parser = self.choices[name]
        parser.description, parser.epilog = module.DESCRIPTION, module.EPILOG
        parser.set_defaults(run=module.run, parser=parser)
        module.add_arguments(parser)


def parsed(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments; the command's own parser complains of what no parser knows.

    Where a command takes a list of arguments it may name that list (`rest`): what comes after an
    option then belongs to it too, as in ``refgit caption a.png --json b.png``.
    """
    arguments, rest = _parser()[0].parse_known_args(argv)
    last = getattr(arguments, "rest", None)
    if last is not None and not any(word.startswith("-") and word != "-" for word in rest):
        getattr(arguments, last).extend(rest)  # what came after an option
        rest = []
    if rest:
        own: _Parser = arguments.parser
        options = [name for action in own._actions for name in action.option_strings]
        kind = "option" if rest[0].startswith("-") else "argument"
        own.error(f"unknown {kind} {rest[0]!r}{_meant(rest[0].partition('=')[0], options)}")
    return arguments


def full_parser() -> argparse.ArgumentParser:
    """Return the parser with the arguments of every command, for completion and documentation."""
    parser, commands = _parser()
    for name in COMMANDS:
        commands.load(name)
    return parser


def _meant(word: str, known: Sequence[str]) -> str:
    near = get_close_matches(word, known, 1)
    return f"; did you mean {near[0]}?" if near else ""


def _parser() -> tuple[_Parser, _Commands]:
    parser = _Parser(
        prog="refgit",
        description="GIT, the Generative Image-to-text Transformer, in NumPy: it says in words "
        "what is on a picture. Where no model is named, a small one that knows emoji is used.",
        epilog=_EPILOG,
        formatter_class=_Help,
    )
    parser.add_argument("--version", action="version", version=f"refgit {__version__}")
    commands = parser.add_subparsers(
        required=True, metavar="COMMAND", title="commands", action=_Commands
    )
    assert isinstance(commands, _Commands)
    for name, summary in COMMANDS.items():
        commands.add_parser(name, help=summary, formatter_class=_Help)
    return parser, commands
