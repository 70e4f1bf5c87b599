"""Every command explains itself: what it does, its arguments, examples that parse, exit codes."""

from __future__ import annotations

import argparse
import re
import shlex

import pytest

from refgit.cli import main as cli

PARSER = cli.full_parser()
(ACTION,) = (a for a in PARSER._actions if isinstance(a, argparse._SubParsersAction))
COMMANDS: dict[str, argparse.ArgumentParser] = dict(ACTION.choices)


def examples(parser: argparse.ArgumentParser) -> list[str]:
    """The lines below "examples:", up to the first that is empty."""
    _, found, rest = (parser.epilog or "").partition("examples:\n")
    assert found, f"{parser.prog} --help has no examples"
    return [line.strip() for line in rest.partition("\n\n")[0].splitlines()]


def arguments_in(line: str) -> list[str] | None:
    """The arguments that an example hands to refgit; None where it calls something else."""
    inside = re.search(r"\$\((.*)\)", line)  # eval "$(refgit completion bash)"
    words = shlex.split(inside[1] if inside else line, comments=True)
    if "refgit" not in words:
        return None
    words = words[words.index("refgit") + 1 :]
    ends = [i for i, word in enumerate(words) if word in ("|", ">", ">>", "<", "&&")]
    return words[: ends[0]] if ends else words


def test_there_are_commands_to_look_at() -> None:
    assert {"caption", "info", "layers", "completion"} <= set(COMMANDS)
    assert len(COMMANDS) >= 11


@pytest.mark.parametrize("name", COMMANDS)
def test_each_example_of_a_command_parses_as_that_command(name: str) -> None:
    lines = [arguments_in(line) for line in examples(COMMANDS[name])]
    own = [words for words in lines if words is not None]
    for words in own:
        assert cli.parsed(words).run is not None
    assert name in {words[0] for words in own}


def test_the_examples_of_the_program_parse() -> None:
    found = [arguments_in(line) for line in examples(PARSER)]
    assert len(found) >= 2
    for words in found:
        assert words is not None
        assert words[0] in COMMANDS
        assert cli.parsed(words).run is not None


def test_an_example_that_is_wrong_is_found() -> None:
    for words in (["classify"], ["caption", "a.png", "--colour"], ["kit", "--jsno"]):
        with pytest.raises(SystemExit):
            cli.parsed(words)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_is_complete(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as caught:
        cli.main([name, "--help"])
    text, errors = capsys.readouterr()
    assert (caught.value.code, errors) == (0, "")
    parser = COMMANDS[name]
    assert parser.description
    assert parser.description[-1] == "."
    assert "examples:" in text
    assert re.search(r"^exit codes: 0 .+, 2 ", text, re.MULTILINE)
    commands = {f"  {line}" for line in examples(parser)}  # one that wraps cannot be copied
    assert max(len(line) for line in text.splitlines() if line not in commands) <= 100
    for action in parser._actions:
        assert action.help


@pytest.mark.parametrize("name", COMMANDS)
def test_a_default_that_is_said_is_the_default(name: str) -> None:
    for action in COMMANDS[name]._actions:
        said = re.search(r"\(default: ([\w.-]+)", action.help or "")
        if said and action.default is not None:
            number = isinstance(action.default, float)
            assert said[1] in (str(action.default), f"{action.default:g}" if number else "")


def test_the_list_of_commands_says_what_each_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    text = capsys.readouterr().out
    for name in COMMANDS:
        assert re.search(rf"^    {name}\s+\S", text, re.MULTILINE)
