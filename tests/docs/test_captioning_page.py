"""docs/captioning.md: each option of its tables exists, and what it says of texts holds."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from helpers.command_line import ROOT
from refgit.captions import Treatment, close_up
from refgit.cli import main as cli

PAGE = (ROOT / "docs" / "captioning.md").read_text(encoding="utf-8")
TABLES = [
    [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in rows.splitlines()]
    for rows in re.findall(r"(?:^\|.*\n)+", PAGE, re.M)
]


def table(heading: str) -> list[list[str]]:
    (found,) = (rows for rows in TABLES if rows[0][0].startswith(heading))
    return found[2:]


def options_in(text: str) -> set[str]:
    quoted = " ".join(re.findall(r"`([^`]*)`", text))
    return set(re.findall(r"(?<![\w-])--[\w-]+", quoted))


@pytest.fixture(scope="module")
def options() -> set[str]:
    (commands,) = (
        a for a in cli.full_parser()._actions if isinstance(a, argparse._SubParsersAction)
    )
    return {x for a in commands.choices["caption"]._actions for x in a.option_strings}


def test_each_option_that_is_named_as_ours_exists(options: set[str]) -> None:
    rows = table("what for")
    assert len(rows) >= 20
    assert {len(row) for row in rows} == {6}
    ours = set().union(*(options_in(row[-1]) for row in rows))
    assert {"--sidecar", "--batch-size", "--workers", "--max-length", "--remove-words", "--model",
            "--recursive", "--debug"} <= ours <= options  # fmt: skip
    own_words = PAGE.partition("## From other captioners")[0] + PAGE.partition("## What refgit")[2]
    assert options_in(own_words) <= options | {"--out"}


def test_every_option_of_the_git_script_has_a_counterpart() -> None:
    theirs = set().union(*(options_in(row[1]) for row in table("what for")))
    assert theirs == {
        "--recursive", "--caption_extension", "--model_id", "--batch_size",
        "--max_data_loader_n_workers", "--pin_memory", "--max_length", "--remove_words", "--debug",
    }  # fmt: skip
    assert all(row[-1] for row in table("what for"))


def test_punctuation_becomes_what_the_table_says() -> None:
    for before, after in table("the tokens say"):
        texts, (closed, *_) = (
            re.findall(r"`([^`]*)`", before),
            [*re.findall(r"`([^`]*)`", after), ""],
        )
        if after.startswith("`"):
            assert close_up(texts[0]) == closed
        else:
            assert [close_up(text) for text in texts[:1]] == texts[:1]
            assert closed in ("", close_up(texts[-1]))


def test_the_line_of_the_git_script_gives_what_python_gives(tmp_path: Path) -> None:
    """The command as the page has it, with the bundled model in the place of a large one."""
    (line,) = re.findall(r"^    refgit (caption photos --sidecar .*\n.*)$", PAGE, re.M)
    folder = tmp_path / "photos"
    for name in ("star", "more/balloon"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image = ROOT / "docs" / "images" / f"{Path(name).name}.png"
        (folder / f"{name}.png").write_bytes(image.read_bytes())
        (folder / f"{name}.txt").write_text("an earlier caption")
    words = line.replace("microsoft/git-large-textcaps", "refgit-emoji").split()
    assert cli.main([str(folder) if word == "photos" else word for word in words]) == 0
    assert (folder / "star.txt").read_text().rstrip() == "star"
    assert (folder / "more" / "balloon.txt").read_text().rstrip() == "balloon"


def test_the_examples_of_patterns_do_what_the_page_says() -> None:
    assert Treatment(remove=("photos? of an?", "stock"))("a photo of a star") == "a star"
    assert Treatment(regex=True, replace=(("(st)ar", r"\1arlet"),))("star") == "starlet"
