"""`refgit completion`: a script that teaches a shell to complete refgit's commands and options."""

from __future__ import annotations

import argparse
from typing import Any

from refgit.cli.arguments import add_debug
from refgit.cli.main import full_parser
from refgit.cli.output import put
from refgit.errors import package_missing

SHELLS = ("bash", "zsh", "tcsh", "fish")
DESCRIPTION = (
    "Print a script with which a shell completes refgit's commands and options "
    "when the tab key is pressed."
)
EPILOG = """\
examples:
  eval "$(refgit completion bash)"            # for this shell only
  refgit completion bash > ~/.local/share/bash-completion/completions/refgit
  refgit completion zsh > ~/.zfunc/_refgit    # with fpath+=~/.zfunc and compinit in ~/.zshrc
  refgit completion tcsh >> ~/.tcshrc
  refgit completion fish > ~/.config/fish/completions/refgit.fish

With it the tab key completes commands, options, their choices and the names of files. The script
is made by the package shtab: pip install shtab.

exit codes: 0 all well, 2 the script could not be made
"""
# Arguments that are files and directories, by their names in the help.
_FILES = ("FILE", "IMAGE", "IMAGE|QUESTION", "LABELS", "REFERENCE", "OTHER", "YAML", "TABLE")
_DIRECTORIES = ("DIR", "MODEL", "RESULTS_DIR", "TOKENIZER")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "shell", metavar="SHELL", choices=SHELLS, help=f"{', '.join(SHELLS[:-1])} or {SHELLS[-1]}"
    )
    add_debug(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the script for the shell that the arguments name."""
    try:
        import shtab
    except ImportError as error:
        raise ImportError(
            package_missing("refgit completion", "shtab", "'shtab>=1.9.3'")
        ) from error
    known = getattr(shtab, "SUPPORTED_SHELLS", ())
    if arguments.shell not in known:
        raise ValueError(
            f"shtab {shtab.__version__}, which is installed here, knows {', '.join(known)}; for "
            f"{arguments.shell} expected a later one: run pip install --upgrade 'shtab>=1.9.3'."
        )
    parser = full_parser()
    mark_files(parser, shtab.FILE, shtab.DIRECTORY)
    put(shtab.complete(parser, shell=arguments.shell).rstrip("\n"))
    return 0


def mark_files(parser: argparse.ArgumentParser, file: Any, directory: Any) -> None:
    """Mark the arguments of a parser and of its commands that are files and directories.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    file, directory
        What shtab calls the two.
    """
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                mark_files(command, file, directory)
        elif action.metavar in _FILES:
            action.complete = file  # type: ignore[attr-defined]  # how shtab is told
        elif action.metavar in _DIRECTORIES:
            action.complete = directory  # type: ignore[attr-defined]
