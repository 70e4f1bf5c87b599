"""A folder with files of every kind: each has the caption or message that docs/files.md says."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import EpsImagePlugin

from helpers import all_kinds
from helpers.all_kinds import BALLOON, HEART, KINDS, Fails, LeftOut, Outcome
from helpers.backends import ROOT
from refgit.cli import main as cli

PAGE = ROOT / "docs" / "files.md"
OUTCOMES: dict[str, Outcome] = {
    name: outcome for kind in KINDS for name, (_, outcome) in kind.files.items()
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("folder")
    all_kinds.write(made)
    return made


@pytest.fixture(autouse=True)
def no_ghostscript(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EpsImagePlugin, "has_ghostscript", lambda: False)


def rows(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, Any]]:
    """The JSON rows of `refgit caption`."""
    capsys.readouterr()
    cli.main(["caption", *map(str, arguments), "--json"])
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def assert_right(found: Sequence[dict[str, Any]], folder: Path, key: str = "image") -> None:
    """Every file that is looked at has its row, in the order of the names, and no other has."""
    wanted = [name for name in sorted(OUTCOMES) if not isinstance(OUTCOMES[name], LeftOut)]
    assert [row[key] for row in found] == [str(folder / name) for name in wanted]
    for name, row in zip(wanted, found, strict=True):
        outcome = OUTCOMES[name]
        if isinstance(outcome, Fails):
            assert outcome.words in row["error"], name
            assert str(folder / name) in row["error"]
            assert row.get("caption") is None
        else:
            assert row["caption"] == outcome, name
            assert row.get("error") is None


def counted() -> str:
    """The line about the files that are left out."""
    counts = Counter(x.counted for x in OUTCOMES.values() if isinstance(x, LeftOut))
    remedies = {suffix: f" ({remedy})" for suffix, remedy in all_kinds.REMEDIES.items()}
    by_number = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    said = ", ".join(f"{n} {kind}{remedies.get(kind, '')}" for kind, n in by_number)
    return f"refgit: left out: {said}.\n"


# ---- the folder


def test_every_file_has_its_caption_or_its_message(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["caption", str(folder), "--json"]) == 1
    said = capsys.readouterr()
    assert_right([json.loads(line) for line in said.out.splitlines()], folder)
    assert counted() in said.err
    failed = sum(isinstance(outcome, Fails) for outcome in OUTCOMES.values())
    assert len(re.findall(rf"^refgit: {re.escape(str(folder))}/", said.err, re.M)) == failed


def test_a_job_writes_the_same_rows_and_has_nothing_left_to_do(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rows.jsonl"
    arguments = ["caption", str(folder), "--out", str(out)]
    assert cli.main(arguments) == 1
    assert counted() in capsys.readouterr().err
    written = out.read_bytes()
    assert_right([json.loads(line) for line in written.decode().splitlines()], folder)
    assert cli.main(arguments) == 1
    assert out.read_bytes() == written


def test_imagefolder_keeps_failed_files_apart(folder: Path, tmp_path: Path) -> None:
    inside = tmp_path / "data"
    shutil.copytree(folder, inside)
    assert cli.main(["caption", str(inside), "--out", str(inside / "metadata.jsonl")]) == 1
    lines = (inside / "metadata.jsonl").read_text().splitlines()
    found = {row["file_name"]: row["text"] for row in map(json.loads, lines)}
    assert found == {name: x for name, x in OUTCOMES.items() if isinstance(x, str)}
    failed = (inside / "failed.jsonl").read_text().splitlines()
    assert len(failed) == sum(isinstance(x, Fails) for x in OUTCOMES.values())


# ---- that the folder would show what is wrong


def test_the_pictures_are_others_where_files_are_read_as_they_are_stored(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turned = [folder / name for name in OUTCOMES if name.startswith("turned-") and ".jpg" in name]
    seen = {row["caption"] for row in rows(capsys, *turned, "--no-exif-transpose")}
    assert len(seen - {BALLOON}) >= 2
    on_black = rows(capsys, folder / "clear-heart.png", "--background", "black")
    assert on_black[0]["caption"] != HEART


def test_a_jpeg_without_its_end_is_taken_on_request(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (row,) = rows(capsys, folder / "cut.jpg", "--truncated", "ok")
    assert row["caption"] == BALLOON


# ---- lists: two rows of the page


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_list_is_read_in_its_encoding(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], encoding: str, end: str
) -> None:
    names = ["turned-6.jpg", "ÜBER ☃.PNG", "grey-16.png"]
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    content = mark + "".join(f"{folder / name}{end}" for name in names)
    (tmp_path / "list.txt").write_bytes(content.encode(encoding))
    found = rows(capsys, tmp_path / "list.txt")
    assert [(row["image"], row["caption"]) for row in found] == [
        (str(folder / name), OUTCOMES[name]) for name in names
    ]


# ---- the page


def test_each_kind_is_a_row_of_the_page_and_each_row_about_folders_a_kind() -> None:
    page = PAGE.read_text(encoding="utf-8")
    cells = re.findall(r"^\| ([^|]+) \| ([^|]+) \|[^|]*\|$", page, re.M)
    rows = dict(cells)
    assert len(rows) >= len(KINDS)
    for kind in KINDS:
        for name, (_, outcome) in kind.files.items():
            said = rows[kind.have]
            if isinstance(outcome, Fails):
                assert said == f"`{outcome.words}`", name
            else:
                assert said.startswith("left out") == isinstance(outcome, LeftOut), name
    part = page.split("\n## Folders, names and lists\n")[1].split("\n## ")[0]
    about = {name for name, _ in re.findall(r"^\| ([^|]+) \| ([^|]+) \|", part, re.M)}
    lists = {name for name in about if "list" in name}
    assert len(lists) == 2  # tried above
    assert about - lists - {"what you have", "---"} <= {kind.have for kind in KINDS}
