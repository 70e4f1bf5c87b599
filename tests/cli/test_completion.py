"""Completion scripts: made by shtab, tried in bash."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from refgit.cli import main as cli
from refgit.cli.commands import completion

shtab = pytest.importorskip("shtab", reason="needs shtab: pip install 'shtab>=1.9.3'")
needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")

# Fill in what bash fills in before it calls the function of a command.
COMPLETE = """
source "$1"; shift
complete -p refgit > /dev/null || exit 3
COMP_WORDS=("$@"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
function=$(complete -p refgit | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
"$function" refgit "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["completion", shell]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("star.png", "labels.txt", "strange name.png"):
        (tmp_path / name).touch()
    (tmp_path / "stored").mkdir()
    return tmp_path


@needs_bash
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["refgit", "cap"], {"caption"}),
        (["refgit", "c"], {"caption", "classify", "compare", "check", "convert", "completion"}),
        (["refgit", "caption", "--mo"], {"--model"}),
        (["refgit", "caption", "--dtype", "fl"], {"float16", "float32", "float64"}),
        (["refgit", "completion", ""], {"bash", "zsh", "tcsh", "fish"}),
        (["refgit", "caption", "st"], {"star.png", "stored", "strange name.png"}),
        (["refgit", "classify", "star.png", "--labels", "l"], {"labels.txt"}),
        (["refgit", "info", "s"], {"stored"}),
        (["refgit", "caption", "star.png", "--model", "s"], {"stored"}),
        (["refgit", "convert", "star.png", "--out", "s"], {"stored"}),
    ],
)
def test_bash_completes_commands_options_choices_and_files(
    words: list[str], expected: set[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = folder / ".script"
    file.write_text(script("bash", capsys))
    done = subprocess.run(
        ["bash", "--norc", "-c", COMPLETE, "bash", file, *words],
        capture_output=True,
        text=True,
        cwd=folder,
        check=True,
    )
    found = {line for line in done.stdout.splitlines() if line}
    if expected == {"caption", "classify", "compare", "check", "convert", "completion"}:
        assert expected <= found  # and whatever is added
        assert all(word.startswith("c") for word in found)
    else:
        assert found == expected


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_each_shell_has_a_script_that_knows_every_command(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = script(shell, capsys)
    (action,) = (a for a in cli.full_parser()._actions if isinstance(a, argparse._SubParsersAction))
    for name in action.choices:
        assert name in text


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_the_other_shells_accept_their_script(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    file = tmp_path / "script"
    file.write_text(script(shell, capsys))
    subprocess.run([shell, "-n", file], check=True)


def test_every_argument_that_stands_for_a_file_is_marked() -> None:
    """An argument of a new command whose name in the help is new has to be thought of."""
    parser = cli.full_parser()
    completion.mark_files(parser, "a file", "a directory")
    (action,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    words = {
        "NAME", "N", "X", "SIZE", "TEXT", "PATTERN", "SHELL", None,
    }  # fmt: skip
    plain = {
        a.metavar
        for command in action.choices.values()
        for a in command._actions
        if not hasattr(a, "complete")
    }
    assert {"IMAGE", "DIR"} & plain == set()
    assert words <= plain


def test_without_shtab_a_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert cli.main(["completion", "bash"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "shtab" in err
    assert "pip install 'shtab>=1.9.3'" in err


def test_an_unknown_shell_names_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["completion", "ksh"])
    err = capsys.readouterr().err
    assert "bash, zsh, tcsh, fish" in err


def test_an_shtab_that_does_not_know_the_shell_is_to_be_upgraded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shtab, "SUPPORTED_SHELLS", ["bash", "zsh", "tcsh"])
    assert cli.main(["completion", "fish"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "pip install --upgrade 'shtab>=1.9.3'" in err


def test_fish_completes_commands_options_choices_and_files(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = [line for line in script("fish", capsys).splitlines() if line.startswith("complete ")]
    caption = [line for line in lines if "_using caption'" in line or "_using caption;" in line]
    assert any(re.search(r"-l dtype\b.*float16 bfloat16 float32 float64", x) for x in caption)
    assert any(re.search(r"-l num-beams\b", line) for line in caption)
    assert any(re.search(r"-s q -l quiet\b", line) for line in caption)
    for name in ("caption", "ask", "completion"):
        assert any(re.search(rf"-a {name}\b", line) for line in lines)


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_what_a_command_only_refuses_is_not_completed(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "SUPPRESS" not in script(shell, capsys)
