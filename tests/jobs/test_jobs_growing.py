"""Jobs whose folders grow and shrink: the same command again captions what is new."""

from __future__ import annotations

import json
import shutil
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.command_line import captions, encoded, model, picture
from helpers.jobs import Run, job, refused, rows_of
from refgit.demo import demo_path
from refgit.errors import JobError
from refgit.jobs.formats import FORMATS
from refgit.jobs.job import fingerprint
from refgit.jobs.journal.jobfile import JobFile
from refgit.jobs.journal.journal import Journal
from refgit.jobs.rows import row_of
from refgit.jobs.sources import Paths
from refgit.jobs.wanted import Wanted
from refgit.pipeline import Captioner

__all__ = ["captions", "job", "model"]  # fixtures
NAMES = list(FORMATS)
SUFFIXES = {"jsonl": "a.jsonl", "parquet": "a.parquet", "csv": "a.csv", "json": "a.json",
            "imagefolder": "metadata.jsonl"}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, seed in (("b.png", 0), ("d.png", 1), ("in/c.png", 2)):
        picture(tmp_path / "pictures" / name, seed)
    return tmp_path / "pictures"


def seen_by(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the images that are read from now on."""
    read, seen = Captioner.read, list[str]()

    def reading(self: Captioner, source: str) -> object:
        seen.append(Path(source).name)
        return read(self, source)

    monkeypatch.setattr(Captioner, "read", reading)
    return seen


def without_job(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.glob("*") if p.is_file() and p.suffix != ".job"}


@pytest.mark.parametrize("form", NAMES)
def test_the_same_command_again_captions_what_is_new_and_ends_as_in_one_go(
    form: str, job: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow", reason="needs pyarrow: pip install pyarrow")
    whole, grown = tmp_path / "whole", shutil.copytree(folder, tmp_path / "grown")
    (folder / "bad.png").write_bytes(b"none")
    picture(folder / "a.png", 3)
    shutil.copytree(folder, whole)
    monkeypatch.chdir(whole)
    assert job(".", "--recursive", "--out", SUFFIXES[form])[0] == 1
    monkeypatch.chdir(grown)
    command = [".", "--recursive", "--out", SUFFIXES[form]]
    assert job(*command)[0] == 0
    for name in ("bad.png", "a.png"):
        shutil.copy(whole / name, grown)
    seen = seen_by(monkeypatch)
    code, lines = job(*command)
    assert code == 1
    assert lines[0] == "refgit: going on after 3 of 5 rows."
    assert "1 done in" in lines[-1]
    assert sorted(seen) == ["a.png", "bad.png"]
    if form != "parquet":  # whose metadata have the inputs
        assert without_job(grown) == without_job(whole)
    seen.clear()
    assert "is complete" in job(*command)[1][-1]
    assert not seen


@pytest.mark.parametrize("form", NAMES)
def test_rows_of_files_that_are_gone_are_kept_unless_they_are_to_be_dropped(
    form: str, job: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow", reason="needs pyarrow: pip install pyarrow")
    monkeypatch.chdir(folder)
    command = [".", "--recursive", "--out", SUFFIXES[form]]
    read = FORMATS[form](SUFFIXES[form]).read
    assert job(*command)[0] == 0
    before = {Path(row["image"]).name: row["caption"] for row in read()}
    (folder / "b.png").unlink()
    assert "1 of images that are gone" in job(*command)[1][-1]
    after = [(Path(row["image"]).name, row["caption"]) for row in read()]
    assert after == [(name, before[name]) for name in ("d.png", "c.png", "b.png")]
    assert "is complete: 3 rows; 1 of images that are gone" in job(*command)[1][-1]
    assert "wrote" in job(*command, "--drop-missing")[1][-1]
    assert [Path(row["image"]).name for row in read()] == ["d.png", "c.png"]
    assert "is complete: 2 rows." in job(*command, "--drop-missing")[1][-1]


@pytest.mark.parametrize("form", NAMES)
def test_failed_rows_are_tried_again_on_request_alone(
    form: str, job: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow", reason="needs pyarrow: pip install pyarrow")
    monkeypatch.chdir(folder)
    (folder / "a.png").write_bytes(b"none")
    (folder / "e.png").write_bytes(b"none")
    command = [".", "--recursive", "--out", SUFFIXES[form]]
    assert "2 failed" in job(*command)[1][-1]
    picture(folder / "a.png", 3)
    code, (line,) = job(*command)
    assert (code, "is complete: 5 rows; 2 failed" in line) == (1, True)
    seen = seen_by(monkeypatch)
    code, lines = job(*command, "--retry-failed")
    assert code == 1
    assert "1 failed" in lines[-1]
    assert sorted(seen) == ["a.png", "e.png"]
    picture(folder / "e.png", 3)
    assert job(*command, "--retry-failed")[0] == 0
    assert "is complete: 5 rows." in job(*command, "--retry-failed")[1][-1]
    if form in ("imagefolder", "json"):
        assert not list(folder.glob("*failed*"))


def test_a_second_try_is_not_made_a_third_time_when_it_was_interrupted(
    job: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.jsonl"
    for name in ("1.png", "2.png"):
        (folder / name).write_bytes(b"none")
    command = [folder, "--out", out, "--batch-size", 1]
    assert job(*command)[0] == 1
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "finish", lambda self: (_ for _ in ()).throw(JobError("stop")))
        assert job(*command, "--retry-failed") == (2, [
            "refgit: going on after 2 of 4 rows.", "refgit: stop"])  # fmt: skip
    seen = seen_by(monkeypatch)
    assert job(*command, "--retry-failed")[0] == 1
    assert not seen
    assert len(rows_of(out)) == 4


def test_restart_says_how_many_rows_it_has_thrown_away(
    job: Run, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.jsonl"
    assert job(folder, "--out", out, "--restart")[1][0].startswith("refgit: wrote")
    line = job(folder, "--out", out, "--restart")[1][0]
    assert line == f"refgit: --restart: threw away 2 rows of {out}."


def test_what_was_changed_by_hand_or_added_is_kept(
    job: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    for name, text in (("metadata.jsonl", "text"), ("a.json", "caption")):
        assert job(".", "--out", name)[0] == 0
        out = folder / name
        if name == "a.json":
            found = json.loads(out.read_text())
            found["./b.png"].update(caption="my words", tags="one, two")
            out.write_text(json.dumps(found))
        else:
            first, rest = out.read_text().split("\n", 1)
            row = {**json.loads(first), text: "my words", "tags": "one, two"}
            out.write_text(json.dumps(row) + "\n" + rest)
    picture(folder / "a.png", 3)
    for name in ("metadata.jsonl", "a.json"):
        assert job(".", "--out", name)[0] == 0
    rows = rows_of(folder / "metadata.jsonl")
    assert rows[1] == {"file_name": "b.png", "text": "my words", "tags": "one, two"}
    assert list(json.loads((folder / "a.json").read_text())) == ["./a.png", "./b.png", "./d.png"]
    assert json.loads((folder / "a.json").read_text())["./b.png"] == {
        "caption": "my words", "tags": "one, two"
    }  # fmt: skip


def test_images_of_tables_are_known_by_their_position(job: Run, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    first, second, out = tmp_path / "1.parquet", tmp_path / "2.parquet", tmp_path / "a.csv"
    pairs = [{"bytes": encoded(i), "path": "same.png"} for i in range(4)]
    pq.write_table(pa.table({"image": pairs[:2]}), first)
    pq.write_table(pa.table({"image": pairs[2:]}), second)
    assert job(first, "--out", out)[0] == 0
    assert job(first, second, "--out", out)[1][0] == "refgit: going on after 2 of 4 rows."
    whole = tmp_path / "b.csv"
    assert job(first, second, "--out", whole)[0] == 0
    assert out.read_bytes() == whole.read_bytes()
    line = refused(job(second, first, "--out", out))
    assert "its inputs were 4 images and are now 4 others; those of tables may be added" in line
    assert "was position and is now name" in refused(job(picture(tmp_path / "a.png"), "--out", out))


def known_as(form: str, names: list[str], folder: Path, **options: bool) -> Journal:
    shape = FORMATS[form](str(folder / SUFFIXES[form]))
    wanted = Wanted([Paths([str(folder / name) for name in names])], shape.named, once=shape.once)
    return Journal(shape, {}, wanted, **options)


def worked(journal: Journal, most: int) -> None:
    """Do so many images of a journal's, and end it if that was all."""
    if not journal.complete:
        todo = list(islice(journal.todo(), most))
        journal.append([row_of(i.index, i.name, _caption(i.name)) for i in todo])
        if journal.rows == journal.total:
            journal.finish()
    journal.close()


def _caption(name: str) -> str | Exception:
    return ValueError("bad") if Path(name).name in "ae" else f"caption of {Path(name).name}"


LISTS = st.lists(st.sampled_from("abcdefgh"), max_size=10)


@pytest.mark.slow
@given(
    form=st.sampled_from(["jsonl", "csv", "json", "imagefolder"]),
    rounds=st.lists(st.tuples(LISTS, st.integers(0, 10), st.booleans()), max_size=5),
    last=LISTS,
)
@settings(max_examples=150, deadline=None)
def test_whatever_is_added_interrupted_and_taken_away_the_end_is_that_of_one_go(
    form: str, rounds: list[tuple[list[str], int, bool]], last: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("grown")
    for names, most, retry in rounds:
        worked(known_as(form, names, folder, retry_failed=retry), most)
    worked(known_as(form, last, folder, drop_missing=True), 100)
    found = without_job(folder)
    worked(known_as(form, last, folder, restart=True), 100)
    assert found == without_job(folder)


# ---- journals of version 1


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job that version 1 began in another place, moved here; its five images are docs'."""
    stored = Path(__file__).parent / "version-1"
    for name in ("captions.jsonl.job", "captions.jsonl.partial"):
        shutil.copy(stored / name, tmp_path)
    file = tmp_path / "captions.jsonl.job"
    known = json.loads(file.read_text())
    known.update(directory=str(tmp_path), model_sha256=fingerprint(demo_path()))
    file.write_text(json.dumps(known) + "\n")
    shutil.copytree(Path(__file__).parents[2] / "docs" / "images", tmp_path / "images")
    names = [f"images/{name}.png" for name in ("star", "cloud", "nothing", "balloon", "pencil")]
    (tmp_path / "list.txt").write_text("\n".join(names))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "captions.jsonl"


def test_a_job_of_version_1_goes_on(job: Run, old: Path) -> None:
    command = ["list.txt", "--out", old.name]
    code, lines = job(*command, directory="refgit-emoji")
    assert code == 1
    assert lines[0] == "refgit: going on after 3 of 5 rows."
    assert [row["caption"] for row in rows_of(old)] == [
        "star", "cloud", None, "balloon", "pencil"
    ]  # fmt: skip
    first, second = Path(f"{old}.job").read_text().splitlines()
    assert (json.loads(first)["refgit_job"], json.loads(second)["refgit_job"]) == (1, 2)
    assert "is complete: 5 rows" in job(*command, directory="refgit-emoji")[1][0]


def test_a_job_of_version_1_is_refused_with_options_it_did_not_have(job: Run, old: Path) -> None:
    before = Path(f"{old}.partial").read_bytes()
    command = ["list.txt", "--out", old.name, "--no-exif-transpose"]
    line = job(*command, directory="refgit-emoji")[1][-1]
    assert "exif_transpose was True and is now False" in line
    assert Path(f"{old}.partial").read_bytes() == before


def test_a_job_of_a_later_version_says_so(tmp_path: Path) -> None:
    out = tmp_path / "a.jsonl"
    Path(f"{out}.job").write_text('{"refgit_job": 3, "version": "9.0"}\n')
    file = JobFile(str(out), {}, by_position=False)
    with pytest.raises(JobError, match=r"written by refgit 9\.0, which is newer than this one"):
        file.lock()
    file.close()
