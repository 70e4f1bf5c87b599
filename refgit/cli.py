"""The command line: ``refgit caption IMAGE ...`` and its sisters in `refgit/commands/`.

Results go to stdout, everything else to stderr. Exit codes: 0 all went well, 1 something of what
was asked for failed, 2 nothing could be started (wrong arguments, no such model or backend).
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from typing import NoReturn

from refgit.commands import ask, caption, check, classify, compare, convert, kit, trace
from refgit.commands.output import reason, say

_COMMANDS = (caption, ask, classify, trace, compare, kit, check, convert)


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
        if getattr(arguments, "debug", False):
            raise
        say(reason(error))
        return 2


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments."""

    def error(self, message: str) -> NoReturn:
        say(f"{message}; see {self.prog} --help")
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    from refgit import __version__

    parser = _Parser(
        prog="refgit", description="GIT, the Generative Image-to-text Transformer, in NumPy."
    )
    parser.add_argument("--version", action="version", version=f"refgit {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_parser(commands)
    return parser
