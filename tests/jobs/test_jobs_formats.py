"""The files of a job: what each format holds, and that it is read back as it was written."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.command_line import captions, model, picture
from helpers.jobs import Run, job, refused
from refgit.jobs.formats import FORMATS, format_name
from refgit.jobs.rows import OWN, row_of

__all__ = ["captions", "job", "model"]  # fixtures
ROWS = [
    row_of(0, "a.png", 'a "quoted", word', score=-0.25, captions=["x", "ü, y"]),
    row_of(1, "in/ü.png", "", score=-1.0),
    row_of(2, "b.png", ValueError("two\nlines, and a comma")),
    row_of(3, "c.mp4", "a part", score=-2.5, start=0.0, end=12.5),
]


def written(form: str, rows: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    if form == "parquet":
        pytest.importorskip("pyarrow", reason="needs pyarrow: pip install pyarrow")
    name = "metadata.jsonl" if form == "imagefolder" else f"a.{form}"
    shape = FORMATS[form](str(folder / name))
    fields = list(dict.fromkeys(name for row in rows for name in row if name not in OWN))
    shape.write(shape.out, iter(rows), fields, "{}")
    return list(shape.read())


@pytest.mark.parametrize("form", FORMATS)
def test_rows_are_read_back_as_they_were_written(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [row for row in ROWS if row["caption"] is not None or form not in _APART]
    found = written(form, rows, tmp_path)
    assert [{**row, "index": 0} for row in found] == [
        {**row, "index": 0, "image": _shown(form, row["image"], tmp_path)} for row in rows
    ]


_APART = ("imagefolder", "json")


def _shown(form: str, image: str, folder: Path) -> str:
    return str(folder / image) if form == "imagefolder" else image


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@pytest.mark.parametrize("form", ["jsonl", "csv", "json"])
@given(texts=st.lists(st.tuples(TEXTS, TEXTS, st.booleans()), max_size=5, unique_by=lambda x: x[0]))
@settings(max_examples=60)
def test_any_text_is_read_back(
    form: str, texts: list[tuple[str, str, bool]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    fails = form not in _APART
    rows = [
        row_of(i, name, ValueError(text) if bad and text.strip() and fails else text)
        for i, (name, text, bad) in enumerate(texts)
    ]
    found = written(form, rows, tmp_path_factory.mktemp("rows"))
    assert [{**row, "index": i} for i, row in enumerate(found)] == rows


def test_names_say_what_a_file_is(tmp_path: Path) -> None:
    names = {
        "a.jsonl": "jsonl", "metadata.jsonl": "imagefolder", "in/metadata.jsonl": "imagefolder",
        "a.PARQUET": "parquet", "a.csv": "csv", "a.json": "json", f"{tmp_path}": "sidecar",
        "new/": "sidecar",
    }  # fmt: skip
    assert {name: format_name(name, None) for name in names} == names
    assert format_name("metadata.jsonl", "jsonl") == "jsonl"


def test_an_imagefolder_has_names_below_it_and_failures_beside_it(
    job: Run, captions: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(tmp_path / "in" / "a.png")
    picture(tmp_path / "in" / "deep" / "b.png", 1)
    (tmp_path / "in" / "bad.png").write_text("none")
    monkeypatch.chdir(tmp_path / "in" / "deep")
    code, (line,) = job("..", "--recursive", "--out", "../metadata.jsonl")
    assert code == 1
    assert "3 rows; 1 failed, ../failed.jsonl says why" in line
    rows = [json.loads(x) for x in (tmp_path / "in" / "metadata.jsonl").read_text().splitlines()]
    assert rows == [
        {"file_name": "a.png", "text": captions[0]},
        {"file_name": "deep/b.png", "text": captions[1]},
    ]
    (failed,) = [json.loads(x) for x in (tmp_path / "in" / "failed.jsonl").read_text().splitlines()]
    assert (failed["image"], failed["caption"]) == ("../bad.png", None)
    assert "is not an image" in failed["error"]
    line = refused(job(tmp_path / "in" / "a.png", "--out", "metadata.jsonl"))
    assert "does not lie below ., the directory of metadata.jsonl" in line


def test_a_csv_has_a_line_of_names_and_empty_errors(
    job: Run, captions: list[str], tmp_path: Path
) -> None:
    file = picture(tmp_path / "a, b.png")
    out = tmp_path / "a.csv"
    assert job(file, "--out", out)[0] == 0
    with open(out, newline="", encoding="utf-8") as stream:
        assert list(csv.reader(stream)) == [
            ["index", "image", "caption", "error"], ["0", str(file), captions[0], ""]
        ]  # fmt: skip


def test_a_json_file_has_each_image_once_and_failures_beside_it(
    job: Run, captions: list[str], tmp_path: Path
) -> None:
    file, out = picture(tmp_path / "a.png"), tmp_path / "a.json"
    assert job(file, tmp_path / "none.png", file, "--out", out)[0] == 1
    assert json.loads(out.read_text()) == {str(file): {"caption": captions[0]}}
    assert len((tmp_path / "a.failed.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize("name", ["a.failed.jsonl", "a.json"])
def test_a_file_of_failures_that_no_job_made_is_left_alone(
    name: str, job: Run, tmp_path: Path
) -> None:
    (tmp_path / name).write_text("mine")
    line = refused(job(picture(tmp_path / "a.png"), "--out", tmp_path / "a.json"))
    assert f"{tmp_path / name} exists and no job of refgit made it" in line


BROKEN = {
    "jsonl": ["[]\n", "{}\n", "x\n", '{"image": "a", "caption": null, "error": null}\n'],
    "csv": ["a,b\n", "index,image,caption,error\n1,2\n", "\0", 'index,image,caption,error\n"'],
    "json": ["[]", "{", '{"a": 1}', '{"a": {"tags": ""}}'],
    "imagefolder": ["[]\n", '{"file_name": "a"}\n', '{"file_name": "a", "text": 1}\n'],
    "parquet": ["PAR1", ""],
}


@pytest.mark.parametrize(("form", "text"), [(f, text) for f in BROKEN for text in BROKEN[f]])
def test_a_file_that_is_not_a_jobs_is_told_from_one_that_is(
    form: str, text: str, tmp_path: Path
) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow", reason="needs pyarrow: pip install pyarrow")
    out = tmp_path / "a"
    out.write_text(text)
    with pytest.raises(ValueError):  # noqa: PT011  # each says something of its own
        list(FORMATS[form](str(out)).read())
