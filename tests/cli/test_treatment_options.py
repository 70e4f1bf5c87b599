"""The options for the text of captions, and what is said where they are wrong."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from helpers.command_line import ROOT
from refgit.captions.endings import INVENTED_ENDINGS
from refgit.captions.treatment import INVENTED, Treatment
from refgit.cli import main as cli
from refgit.cli.texts import add_treatment_options, treatment_of

STAR = ROOT / "docs/images/star.png"


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image that the bundled model calls an upside - down face."""
    file = tmp_path_factory.mktemp("face") / "face.png"
    with Image.open(ROOT / "docs/images/slightly-smiling-face.png") as image:
        image.rotate(180).save(file)
    return file


def treatment(*arguments: str) -> Treatment:
    parser = argparse.ArgumentParser()
    add_treatment_options(parser)
    return treatment_of(parser.parse_args(arguments))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {}),
        (["--raw"], {"raw": True}),
        (["--remove-words"], {"remove": INVENTED}),
        (["--remove-words", "--remove-words=x{1,2},y"], {"remove": (*INVENTED, "x{1,2}", "y")}),
        (["--remove-words", "x,y", "--remove-words", "y,z"], {"remove": ("x", "y", "z")}),
        (
            ["--find", "a", "--replace", "", "--find", "b", "--replace", "c"],
            {"replace": (("a", ""), ("b", "c"))},
        ),
        (
            ["--regex", "--find", "(a)", "--replace", r"\1"],
            {"regex": True, "replace": (("(a)", r"\1"),)},
        ),
        (
            ["--fail-phrases", "a sign, that says", "--fail-phrases", "it's,a sign"],
            {"fail_phrases": ("a sign", "that says", "it's")},
        ),
        (["--prefix", "photo of ", "--suffix=, 4k"], {"prefix": "photo of ", "suffix": ", 4k"}),
    ],
)
def test_options_become_a_treatment(arguments: list[str], expected: dict[str, Any]) -> None:
    assert treatment(*arguments) == Treatment(**expected)


def test_commands_without_these_options_close_up() -> None:
    assert treatment_of(argparse.Namespace()) == Treatment()
    assert treatment_of(argparse.Namespace(raw=True)) == Treatment(raw=True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--find", "a"], "--find is given once and --replace not at all; expected a --replace"),
        (["--regex"], "--regex says what --find is; expected --find and --replace"),
        (["--remove-words=("], r"--remove-words: '\(' is not a regular expression: missing \)"),
        (["--find", "[", "--replace", "", "--regex"], r"--find and --replace: '\[' is not a reg"),
        (
            ["--find", "", "--replace", "a"],
            r"--find and --replace: \('', 'a'\); expected a text to find",
        ),
        (["--find", "(a)", "--replace", r"\2", "--regex"], "cannot take the place of"),
        (["--remove-words", str(STAR)], "is a file or directory; put --remove-words after the im"),
    ],
)
def test_what_cannot_be_done_is_refused_by_the_options_name(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["caption", str(STAR), *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.match("refgit: .*" + words, err)
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "upside-down face"),
        (["--raw"], "upside - down face"),
        (["--find", "upside-down", "--replace", "happy"], "happy face"),
        (["--remove-words", "face"], "upside-down"),
        (["--prefix", "emoji: ", "--suffix", "!"], "emoji: upside-down face!"),
        (["--fail-phrases", "star"], "upside-down face"),
    ],
)
def test_a_caption_is_treated_as_the_options_say(
    arguments: list[str],
    expected: str,
    face: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    command = ["caption", str(face), "--model", "refgit-emoji", *arguments]
    assert cli.main(command) == 0
    assert capsys.readouterr() == (expected + "\n", "")
    assert cli.main([*command, "--json"]) == 0
    assert f'"caption": "{expected}"' in capsys.readouterr().out
    out = tmp_path / "captions.jsonl"
    assert cli.main([*command, "--out", str(out)]) == 0
    assert f'"caption": "{expected}"' in out.read_text()


def test_a_caption_that_fails_twice_is_an_error_of_its_image(
    face: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = ["caption", str(STAR), str(face), "--model", "refgit-emoji", "--prompt", "star"]
    assert cli.main([*command, "--fail-phrases", "star"]) == 1  # every caption has its prompt
    out, err = capsys.readouterr()
    assert out == ""
    assert "star.png: the caption 'star' holds the phrase 'star', and a second one, drawn at" in err
    out_file = tmp_path / "c.jsonl"
    assert cli.main([*command, "--fail-phrases", "star", "--out", str(out_file)]) == 1
    rows = [json.loads(line) for line in out_file.read_text().splitlines()]
    assert [row["caption"] for row in rows] == [None, None]
    assert all("holds the phrase 'star'" in row["error"] for row in rows)


def test_the_patterns_that_are_built_in_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["caption", "--list-remove-words"])
    out, err = capsys.readouterr()
    assert (caught.value.code, err) == (0, "")
    lines = out.splitlines()
    assert [line[4:] for line in lines[1::2]] == [pattern for pattern, _ in INVENTED_ENDINGS]
    assert [line.split("  ->  ")[0] for line in lines[::2]] == [
        text for _, text in INVENTED_ENDINGS
    ]


def test_answers_are_closed_up_or_raw(face: Path, capsys: pytest.CaptureFixture[str]) -> None:
    question = "what is this?"
    command = ["ask", str(face), question, "--model", "refgit-emoji", "--max-new-tokens", "9"]
    assert cli.main(command) == 0
    closed = capsys.readouterr().out
    assert cli.main([*command, "--raw"]) == 0
    assert "".join(capsys.readouterr().out.split()) == "".join(closed.split())


def test_an_explanation_is_closed_up(face: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", str(face), "--model", "refgit-emoji", "--text-only"]) == 0
    assert "upside-down face" in capsys.readouterr().out


def test_a_job_goes_on_only_with_the_same_treatment(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "captions.jsonl"
    command = ["caption", str(STAR), "--model", "refgit-emoji", "--out", str(out)]
    assert cli.main([*command, "--suffix", "!"]) == 0
    assert '"caption": "star!"' in out.read_text()
    capsys.readouterr()
    assert cli.main([*command, "--suffix", "!"]) == 0
    assert cli.main(command) == 2
    words = "what becomes of captions has changed: suffix was '!' and is now not given"
    assert words in capsys.readouterr().err
