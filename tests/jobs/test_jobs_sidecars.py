"""Texts beside images: where they lie, and what becomes of those that are there already."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from helpers.command_line import captions, model, picture
from helpers.jobs import Run, job, refused, rows_of
from refgit.jobs.formats.sidecar import SidecarFormat

__all__ = ["captions", "job", "model"]  # fixtures
FILES = ("a.png", "in/b.jpg", "in/deep/c.d.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, name in enumerate(FILES):
        picture(tmp_path / "pictures" / name, i)
    return tmp_path / "pictures"


def texts(folder: Path, suffix: str = ".txt") -> dict[str, str]:
    found = sorted(folder.rglob(f"*{suffix}"))
    return {file.relative_to(folder).as_posix(): file.read_text() for file in found}


@pytest.fixture
def expected(captions: list[str], folder: Path, model: Path) -> dict[str, str]:
    """The captions by the names of the texts; the JPEG's is its own."""
    from refgit.pipeline import Captioner

    captioner = Captioner.from_pretrained(model)
    found = {name: captioner.caption(folder / name) for name in FILES}
    assert found["a.png"] == captions[0]
    return {re.sub(r"\.\w+$", ".txt", name): f"{text}\n" for name, text in found.items()}


@pytest.mark.parametrize("option", [["--sidecar", ".txt"], ["--format", "sidecar"]])
def test_a_text_is_written_beside_each_image(
    option: list[str], job: Run, folder: Path, expected: dict[str, str]
) -> None:
    code, (line,) = job(folder, "--recursive", *option)
    assert code == 0
    assert line.startswith("refgit: wrote ")
    assert texts(folder) == expected
    rows = rows_of(folder / "refgit.txt.jsonl")
    assert [row["caption"] + "\n" for row in rows] == list(expected.values())
    assert "is complete: 3 rows." in job(folder, "--recursive", *option)[1][-1]


@pytest.mark.parametrize("out", ["texts", "texts/", "there", "new/deep"])
def test_a_directory_gets_the_folders_of_the_images(
    out: str, job: Run, folder: Path, tmp_path: Path, expected: dict[str, str]
) -> None:
    (tmp_path / "there").mkdir()
    suffix = [] if out in ("texts/", "there") else ["--sidecar", ".caption"]
    target = f"{tmp_path}/{out}"
    assert job(folder, "--recursive", "--out", target, *suffix)[0] == 0
    wanted = expected if not suffix else {
        name.replace(".txt", ".caption"): text for name, text in expected.items()
    }  # fmt: skip
    assert texts(Path(target), ".caption" if suffix else ".txt") == wanted
    assert not texts(folder, suffix[-1] if suffix else ".txt")


def test_several_folders_and_files_are_mirrored_below_what_they_share(
    job: Run, folder: Path, tmp_path: Path, expected: dict[str, str]
) -> None:
    names = [folder / "in", folder / "a.png"]
    assert job(*names, "--recursive", "--out", f"{tmp_path}/texts/")[0] == 0
    assert texts(tmp_path / "texts") == expected


JOINED = {
    "overwrite": "{caption}\n",
    "append": "mine, two, {caption}\n",
    "prepend": "{caption}, mine, two\n",
    "skip": "mine, two,\n\n",
}


@pytest.mark.parametrize("existing", [None, "error"])
def test_texts_that_are_there_stop_a_job_before_it_begins(
    existing: str | None, job: Run, folder: Path
) -> None:
    (folder / "a.txt").write_text("mine")
    (folder / "in" / "b.txt").write_text("mine")
    option = [] if existing is None else ["--existing", existing]
    line = refused(job(folder, "--recursive", "--sidecar", ".txt", *option))
    assert f"texts exist already: {folder / 'a.txt'} and 1 more; expected none. Add" in line
    assert texts(folder) == {"a.txt": "mine", "in/b.txt": "mine"}


@pytest.mark.parametrize("existing", JOINED)
def test_a_text_that_is_there_is_treated_as_asked_and_once(
    existing: str, job: Run, folder: Path, expected: dict[str, str]
) -> None:
    (folder / "a.txt").write_text("mine, two,\n\n")
    command = [folder, "--recursive", "--sidecar", ".txt", "--existing", existing]
    code, lines = job(*command)
    assert code == 0
    assert ("1 image has a text already and is left alone" in lines[-1]) == (existing == "skip")
    caption = expected["a.txt"].rstrip()
    wanted = {**expected, "a.txt": JOINED[existing].format(caption=caption)}
    assert texts(folder) == wanted
    assert "is complete" in job(*command)[1][-1]
    assert texts(folder) == wanted


def test_a_text_that_was_changed_by_hand_stays_and_one_that_is_gone_comes_back(
    job: Run, folder: Path, expected: dict[str, str]
) -> None:
    command = [folder, "--recursive", "--sidecar", ".txt"]
    assert job(*command)[0] == 0
    (folder / "a.txt").write_text("my words")
    (folder / "in" / "b.txt").unlink()
    picture(folder / "new.png", 3)
    assert job(*command)[0] == 0
    found = texts(folder)
    assert found.pop("new.txt")
    assert found == {**expected, "a.txt": "my words"}


def test_restart_deletes_the_texts_that_are_the_jobs_own(job: Run, folder: Path) -> None:
    command = [folder, "--recursive", "--sidecar", ".txt"]
    assert job(*command)[0] == 0
    rows, before = (folder / "refgit.txt.jsonl").read_bytes(), texts(folder)
    (folder / "a.txt").write_text("my words")
    assert "texts exist already" in refused(job(*command, "--restart"))
    assert texts(folder) == {**before, "a.txt": "my words"}
    assert (folder / "refgit.txt.jsonl").read_bytes() == rows
    code, lines = job(*command, "--restart", "--existing", "skip")
    assert (code, "threw away 3 rows" in lines[0]) == (0, True)
    assert "; 1 image has a text already and is left alone; 2 done in " in lines[-1]
    assert texts(folder) == {**before, "a.txt": "my words"}


@pytest.mark.parametrize("how", ["append", "prepend"])
def test_restart_adds_no_caption_a_second_time(how: str, job: Run, folder: Path) -> None:
    (folder / "a.txt").write_text("my words")
    command = [folder, "--recursive", "--sidecar", ".txt", "--existing", how]
    assert job(*command)[0] == 0
    before = texts(folder)
    assert "would be there twice" in refused(job(*command, "--restart"))
    assert texts(folder) == before


@pytest.mark.parametrize("how", ["overwrite", "append"])
def test_a_directory_of_a_texts_name_is_an_error_of_its_image(
    how: str, job: Run, folder: Path
) -> None:
    (folder / "a.txt").mkdir()
    code, _ = job(folder, "--recursive", "--sidecar", ".txt", "--existing", how)
    assert code == 1
    found = {Path(row["image"]).name: row for row in rows_of(folder / "refgit.txt.jsonl")}
    assert "a.txt is a directory" in found["a.png"]["error"]
    assert sum(row["error"] is None for row in found.values()) == len(found) - 1 > 0


def test_two_images_of_one_name_do_not_share_a_text(job: Run, folder: Path) -> None:
    picture(folder / "a.jpg", 3)
    code, (line,) = job(folder, "--sidecar", ".txt")
    assert code == 1
    assert f"1 failed, {folder}/refgit.txt.jsonl says why" in line
    first, second = rows_of(folder / "refgit.txt.jsonl")
    assert texts(folder) == {"a.txt": first["caption"] + "\n"}
    assert f"a.txt is the text of {folder / 'a.jpg'}" in second["error"]


def test_the_jobs_own_files_are_not_told_as_left_out(job: Run, folder: Path) -> None:
    (folder / "notes.md").write_text("")
    command = [folder, "--recursive", "--sidecar", ".txt"]
    for _ in range(2):
        first, last = job(*command)[1]
        assert first == "refgit: left out: 1 .md."
        assert "; left out: 1 .md" in last


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--sidecar", "txt"], "'txt' is not a suffix of texts"),
        (["--sidecar", ".png"], "'.png' is not a suffix of texts"),
        (["--sidecar", ".txt", "--format", "csv"], "expected one of the two"),
        (["--out", "a.csv", "--existing", "skip"], "--existing is about the texts of --sidecar"),
        (["--sidecar", ".txt", "--out", "in/b.jpg"], "which is a file; expected a directory"),
        (["--format", "csv"], "--format belongs to a job, which writes a file; expected --out"),
        (["--existing", "skip"], "expected --out or --sidecar as well, such as --sidecar .txt."),
    ],
)
def test_what_does_not_go_with_texts_is_refused(
    options: list[str], words: str, job: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert words in refused(job("a.png", *options))


@pytest.mark.parametrize("form", ["sidecar", "imagefolder"])
def test_formats_of_files_refuse_tables(form: str, job: Run, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"image": ["a.png"]}), tmp_path / "t.parquet")
    out = tmp_path / ("texts" if form == "sidecar" else "metadata.jsonl")
    line = refused(job(tmp_path / "t.parquet", "--out", out, "--format", form))
    assert f"is a table, and {form} has to do with image files" in line


def test_a_text_made_by_somebody_meanwhile_is_left_alone(folder: Path) -> None:
    form = SidecarFormat(str(folder / "rows"), ".txt", "error")
    row = {"index": 0, "image": str(folder / "a.png"), "caption": "words", "error": None}
    (folder / "a.txt").write_text("mine")
    found, private = form.prepare(row)
    assert found["caption"] is None
    assert "has been made by somebody else in the meantime" in found["error"]
    assert private == {}


def test_an_empty_text_is_written_as_if_there_were_none(folder: Path) -> None:
    """A power failure may leave one, of a file that was renamed before its content was stored."""
    form = SidecarFormat(str(folder / "rows"), ".txt", "error")
    (folder / "a.txt").write_text("")
    form.settle({"index": 0, "image": str(folder / "a.png"), "caption": "words", "error": None})
    assert (folder / "a.txt").read_text() == "words\n"


def test_each_part_of_a_video_has_a_text_of_its_own() -> None:
    form = SidecarFormat("rows", ".txt", "error")
    names = ["in/clip.mp4#0-12.5", "in/clip.mp4#12.5-20", "in/clip.mp4", "in/a.b#c.png"]
    assert [form.beside(name) for name in names] == [
        "in/clip#0-12.5.txt", "in/clip#12.5-20.txt", "in/clip.txt", "in/a.b#c.txt"
    ]  # fmt: skip
