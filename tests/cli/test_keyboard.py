"""What a person at a keyboard meets: help, --quiet, --verbose, messages, JSON on any terminal."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.command_line import ROOT, model, picture, process
from refgit.cli import main as cli
from refgit.cli.arguments import count_of, number_of
from refgit.demo import demo_path
from refgit.errors import package_missing

__all__ = ["model"]  # a fixture
STAR = str(ROOT / "docs" / "images" / "star.png")
PARSER = cli.full_parser()
(ACTION,) = (a for a in PARSER._actions if isinstance(a, argparse._SubParsersAction))

Capsys = pytest.CaptureFixture[str]


# ---- help and how much is said


def test_without_a_command_the_help_is_printed_and_all_is_well(capsys: Capsys) -> None:
    texts = []
    for arguments in ([], ["--help"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert caught.value.code == 0
        texts.append(capsys.readouterr())
    assert texts[0] == texts[1]
    assert texts[0].out.startswith("usage: refgit")
    assert texts[0].err == ""


@pytest.mark.parametrize("name", ACTION.choices)
def test_every_command_can_be_quiet_and_verbose_and_not_both(name: str, capsys: Capsys) -> None:
    options = ACTION.choices[name]._option_string_actions
    assert {"-q", "--quiet", "-v", "--verbose", "--debug"} <= set(options)
    with pytest.raises(SystemExit) as caught:
        cli.main([name, "-q", "-v"])
    assert caught.value.code == 2
    assert "not allowed with" in capsys.readouterr().err


def test_quiet_leaves_only_what_went_wrong_and_verbose_says_with_what(capsys: Capsys) -> None:
    assert cli.main(["caption", STAR, "--quiet"]) == 0
    assert capsys.readouterr() == ("star\n", "")
    assert cli.main(["caption", "missing.png", "-q"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["refgit: missing.png does not exist; expected an image file."]
    assert cli.main(["caption", STAR, "--verbose", "--num-beams", "2"]) == 0
    out, err = capsys.readouterr()
    assert out == "star\n"
    for words in (str(demo_path()), "backend numpy", "dtype float32", "num_beams 2", "50 tokens"):
        assert words in err
    assert cli.main(["caption", STAR]) == 0  # a later call in the same process is as usual
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_arguments_after_an_option_belong_to_the_list_before_it(capsys: Capsys) -> None:
    assert cli.main(["caption", STAR, "--json", STAR]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    question = "what kind of thing is this?"
    assert cli.main(["ask", STAR, "--model", str(demo_path()), question]) == 0
    assert capsys.readouterr().out == "travel and places\n"
    with pytest.raises(SystemExit):
        cli.main(["caption", STAR, "--jsno", STAR])
    assert "unknown option '--jsno'; did you mean --json?" in capsys.readouterr().err


# ---- messages


def test_messages_about_numbers_say_what_was_got(capsys: Capsys) -> None:
    cases = [
        ("--max-length", "0", "must be an integer >= 2 (got '0')"),
        ("--max-length", "many", "must be an integer >= 2 (got 'many')"),
        ("--num-beams", "²", "must be an integer >= 1 (got '²')"),
        ("--temperature", "0", "must be a number > 0 (got '0')"),
        ("--temperature", "inf", "must be a number > 0 (got 'inf')"),
        ("--top-p", "1.5", "must be a number > 0 and <= 1 (got '1.5')"),
        ("--top-p", "nan", "must be a number > 0 and <= 1 (got 'nan')"),
        ("--batch-size", "0", "must be auto or an integer >= 1 (got '0')"),
        ("--dtype", "int8", "must be one of float16, bfloat16, float32, float64 (got 'int8')"),
    ]
    for option, value, words in cases:
        with pytest.raises(SystemExit) as caught:
            cli.main(["caption", "a.png", option, value])
        assert caught.value.code == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"refgit: argument {option}: {words}")
        assert err.count("\n") == 1


def test_numbers_within_their_bounds_are_read() -> None:
    assert count_of(0)("0") == 0
    assert number_of(0, 1)("1") == 1.0
    assert number_of(0)("1e-3") == 0.001


def test_no_advice_names_a_package_that_is_not_on_the_index() -> None:
    """refgit itself cannot be installed by its name, so its extras cannot either."""
    listed = subprocess.run(
        ["git", "ls-files", "refgit", "backends", "tests", "docs", "README.md"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    for name in listed:
        if name.endswith((".py", ".md")):
            text = (ROOT / name).read_text(encoding="utf-8")
            assert not re.search(r"refgit\\?\[", text), name


def test_a_missing_package_is_named_with_what_installs_it() -> None:
    found = package_missing("This", "ray", "'ray[data]'")
    assert found == (
        "This needs the package ray, which is not installed here: run pip install 'ray[data]'."
    )
    assert package_missing("This", "av").endswith("run pip install av.")


# ---- JSON


def test_json_keeps_letters_where_the_terminal_has_them(tmp_path: Path, capsys: Capsys) -> None:
    names = ["Übung.png", "写真.png", "🦊.png", "a\u2028b\x9b.png"]
    files = [str(picture(tmp_path / name)) for name in names]
    assert cli.main(["caption", *files, "--json"]) == 0
    lines = capsys.readouterr().out.split("\n")[:-1]
    assert [json.loads(line)["image"] for line in lines] == files
    for line, name in zip(lines[:3], names[:3], strict=True):
        assert name in line
    assert r"a\u2028b\u009b.png" in lines[3]  # one line, and nothing that steers a terminal


@pytest.mark.skipif(sys.platform == "win32", reason="names there are Unicode")
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_is_valid_whatever_the_encoding_and_the_name(encoding: str, tmp_path: Path) -> None:
    names = [b"\xc3\x9c.png", "🦊.png".encode(), b"odd\xff.png"]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(Path(STAR).read_bytes())
    done = process(["caption", tmp_path, "--json"], PYTHONIOENCODING=encoding)
    assert done.returncode == 0
    found = [json.loads(line)["image"] for line in done.stdout.decode(encoding).splitlines()]
    assert sorted(map(os.path.basename, found)) == sorted(map(os.fsdecode, names))
    if encoding == "latin-1":
        assert b"\xdc.png" in done.stdout
