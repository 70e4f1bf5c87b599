"""`{{ command all }}`: the command line's reference, made from the parser itself."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator


class NoSuchCommandError(LookupError):
    """A command that refgit does not have."""


def show(name: str) -> str:
    """Return the Markdown of one command, or of all, each below a heading."""
    commands = {found.prog.split()[-1]: found for found in _commands()}
    if name == "all":
        return "\n\n".join(_page(parser) for parser in commands.values())
    if name not in commands:
        raise NoSuchCommandError(f"refgit has no command {name}; it has {', '.join(commands)}")
    return _page(commands[name])


def _commands() -> Iterator[argparse.ArgumentParser]:
    from refgit.cli.main import full_parser

    os.environ["COLUMNS"] = "82"  # argparse asks it for the width of the usage
    for action in full_parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            seen = {id(parser): parser for parser in action.choices.values()}
            yield from seen.values()


def _page(parser: argparse.ArgumentParser) -> str:
    usage = "\n".join(line[len("usage: ") :] for line in parser.format_usage().splitlines())
    parts = [f"## {parser.prog}", parser.description or "", f"```text\n{usage}\n```"]
    hidden = (argparse.SUPPRESS, "show this help message and exit")
    shown = [action for action in parser._actions if action.help not in hidden]
    rows = "\n".join(_row(parser, action) for action in shown)
    parts.append(f"| argument | meaning |\n|---|---|\n{rows}")
    if parser.epilog:
        parts.append(f"```text\n{parser.epilog.strip()}\n```")
    return "\n\n".join(part for part in parts if part)


def _row(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    formatter = parser._get_formatter()
    value = "" if action.nargs == 0 else formatter._format_args(action, _metavar(action))
    names = action.option_strings or [""]
    called = ", ".join(f"`{f'{name} {value}'.strip()}`" for name in names)
    help_text = formatter._expand_help(action) if action.help else ""
    notes = []
    if action.required and action.option_strings:
        notes.append("required")
    if action.choices and not all(str(choice) in help_text for choice in action.choices):
        notes.append(f"one of {', '.join(f'`{choice}`' for choice in action.choices)}")
    if action.default not in (None, False, argparse.SUPPRESS) and "default" not in help_text:
        notes.append(f"default: `{action.default}`")
    text = help_text + (f" ({'; '.join(notes)})" if notes else "")
    return f"| {called} | {text.replace('|', chr(92) + '|')} |".replace("\n", " ")


def _metavar(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    return action.dest.upper() if action.option_strings else action.dest
