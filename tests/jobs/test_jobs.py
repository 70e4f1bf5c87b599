"""`refgit caption --out`: a row for each image, in order, and what stands in the way of a job."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers.command_line import (
    KINDS,
    ROOT,
    VOCABULARY,
    broken_files,
    captions,
    encoded,
    environment,
    model,
    picture,
)
from helpers.jobs import Run, job, refused, rows_of, wrote
from refgit import GitForCausalLM, GitProcessor, testing
from refgit.cli import main as cli
from refgit.cli.commands import caption_job
from refgit.cli.terminal import Bar
from refgit.demo import demo_path
from refgit.errors import JobError
from refgit.jobs import batching
from refgit.jobs.batching import BatchSize
from refgit.jobs.formats.lines import LinesFormat
from refgit.jobs.job import fingerprint
from refgit.jobs.journal import ledger
from refgit.jobs.journal.jobfile import JobFile
from refgit.jobs.journal.journal import Journal
from refgit.jobs.rows import row_of
from refgit.jobs.run import decode_ahead
from refgit.jobs.sources import Item, Paths
from refgit.jobs.wanted import Wanted
from refgit.pipeline import Captioner, Pixels

__all__ = ["captions", "job", "model"]  # fixtures
IMAGES = ROOT / "docs" / "images"
EMOJI = [IMAGES / f"{x}.png" for x in ("balloon", "cloud", "pencil", "red-apple", "star")]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [picture(tmp_path / "in" / f"{i}.png", i) for i in range(4)]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "captions.jsonl"


def expected_rows(files: list[Path], captions: list[str]) -> list[dict[str, Any]]:
    pairs = zip(files, captions, strict=True)
    return [row_of(i, str(file), caption) for i, (file, caption) in enumerate(pairs)]


# ---- rows


@pytest.mark.parametrize("options", [[], ["--batch-size", 1], ["--batch-size", 3, "--workers", 2]])
def test_a_job_writes_a_row_for_each_image_and_what_it_is(
    options: list[object], job: Run, files: list[Path], captions: list[str], out: Path
) -> None:
    assert wrote(job(*files, "--out", out, *options), 4) == out
    assert rows_of(out) == expected_rows(files, captions)
    assert {p.name for p in out.parent.iterdir()} == {"in", out.name, f"{out.name}.job"}
    known = json.loads(Path(f"{out}.job").read_text())
    assert (known["rows"], known["dtype"], known["backend"]) == (4, "float32", "numpy")


def test_a_job_says_what_the_command_prints(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """With the bundled model, whose captions differ in length, in one batch."""
    names = list(map(str, EMOJI))
    assert cli.main(["caption", *names]) == 0
    printed = capsys.readouterr().out.splitlines()
    out = tmp_path / "captions.jsonl"
    assert cli.main(["caption", *names, "--out", str(out), "--batch-size", "5"]) == 0
    assert [f"{row['image']}\t{row['caption']}" for row in rows_of(out)] == printed
    assert len({len(row["caption"].split()) for row in rows_of(out)}) > 1


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "no images"])
def test_a_broken_image_has_a_row_with_its_error(
    kind: str, job: Run, files: list[Path], captions: list[str], out: Path, tmp_path: Path
) -> None:
    bad = broken_files(tmp_path / "bad")[kind]
    code, (line,) = job(files[0], bad, files[1], "--out", out, "--batch-size", 3)
    assert code == 1
    assert line.startswith(f"refgit: wrote {out}: 3 rows; 1 failed, {out} says why; 2 done in ")
    first, second, third = rows_of(out)
    assert [first["caption"], third["caption"]] == captions[:2]
    assert (second["index"], second["image"], second["caption"]) == (1, str(bad), None)
    assert str(bad) in second["error"]


def test_an_image_named_twice_has_two_rows(
    job: Run, files: list[Path], captions: list[str], out: Path
) -> None:
    assert job(files[0], files[1], files[0], "--out", out)[0] == 0
    wanted = expected_rows([files[i] for i in (0, 1, 0)], [captions[i] for i in (0, 1, 0)])
    assert rows_of(out) == wanted


def test_a_name_that_is_no_text_comes_back_as_it_was(
    job: Run, captions: list[str], out: Path, tmp_path: Path
) -> None:
    file = picture(tmp_path / "not utf-8 \udcff\n.png")
    assert job(file, "--out", out)[0] == 0
    assert rows_of(out) == expected_rows([file], captions[:1])


@pytest.mark.slow
def test_a_warning_of_pillow_is_no_error_in_any_thread(
    job: Run, captions: list[str], files: list[Path], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # they have 40 x 32
    with pytest.warns(Image.DecompressionBombWarning), Image.open(files[0]):
        pass
    assert job(*files * 10, "--out", out, "--workers", 8)[0] == 0
    assert [row["caption"] for row in rows_of(out)] == captions * 10


def test_a_warning_of_a_thread_is_no_error(
    job: Run, captions: list[str], files: list[Path], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Captioner.read

    def complaining(self: Captioner, content: str | bytes | Exception) -> Pixels:
        warnings.warn("something odd", UserWarning, stacklevel=1)
        return read(self, content)

    monkeypatch.setattr(Captioner, "read", complaining)
    assert job(*files, "--out", out)[0] == 0
    assert rows_of(out) == expected_rows(files, captions)


def test_tables_in_and_out(job: Run, captions: list[str], tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    data, out = tmp_path / "data.parquet", tmp_path / "captions.parquet"
    pq.write_table(pa.table({"image": [encoded(1), None, encoded(2), b"none"]}), data)
    name = picture(tmp_path / "not utf-8 \udcff.png", 3)
    assert job(data, name, "--out", out, "--batch-size", 2)[0] == 1
    rows = pq.read_table(out).to_pylist()
    assert [row["index"] for row in rows] == list(range(5))
    assert [row["image"] for row in rows] == [
        *(f"{data}#{i}" for i in range(4)), str(name).replace("\udcff", "\\udcff")
    ]  # fmt: skip
    assert [row["caption"] for row in rows] == [captions[1], None, captions[2], None, captions[3]]
    assert rows[1]["error"] == f"{data} has no image in row 1."
    assert rows[3]["error"].startswith("The image data (4 bytes) is not an image")
    known = pq.read_schema(out).metadata[b"refgit_job"]
    assert known.decode() == Path(f"{out}.job").read_text()


def test_a_table_without_images_gives_a_table_without_rows(job: Run, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"image": pa.array([], pa.string())}), tmp_path / "data.parquet")
    for name in ("captions.parquet", "captions.jsonl"):
        out = tmp_path / name
        assert wrote(job(tmp_path / "data.parquet", "--out", out), 0) == out
    assert (tmp_path / "captions.jsonl").read_bytes() == b""


def test_directories_within_are_taken_on_request(job: Run, files: list[Path], out: Path) -> None:
    top = files[0].parent.parent
    assert "For those within it add --recursive" in job(top, "--out", out)[1][0]
    assert job(top, "--out", out, "--recursive")[0] == 0
    assert [row["image"] for row in rows_of(out)] == list(map(str, files))


# ---- a batch is what its rows are alone


@pytest.fixture(scope="module")
def captioner(model: Path) -> Captioner:
    loaded = GitForCausalLM.from_pretrained(model)
    return Captioner(loaded, GitProcessor.from_pretrained(model), 50)


@pytest.fixture(scope="module")
def alone(captioner: Captioner) -> list[str | Exception]:
    return [captioner.write([captioner.read(encoded(seed))], [0])[0] for seed in range(12)]


@pytest.mark.slow
@given(seeds=st.lists(st.integers(0, 11), max_size=12))
@settings(max_examples=25)
def test_each_row_of_a_batch_is_what_it_is_alone(
    seeds: list[int], captioner: Captioner, alone: list[str | Exception]
) -> None:
    images = [captioner.read(encoded(seed)) for seed in seeds]
    assert captioner.write(images, seeds) == [alone[seed] for seed in seeds]


def test_images_of_several_sizes_come_back_in_their_order(
    captioner: Captioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GitProcessor, "keeps_aspect_ratio", True)
    rng = np.random.default_rng(0)
    images = [rng.standard_normal((1, 3, *size), np.float32) for size in [(8, 8), (8, 12)] * 3]
    found = captioner.write(images, range(6))
    assert found == [captioner.write([image], [0])[0] for image in images]
    assert len(set(found)) == 6


def test_a_batch_for_which_memory_is_short_is_done_in_halves(
    captioner: Captioner, alone: list[str | Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, sizes = captioner._texts, []

    def short(writer: Any, pixels: Pixels, seed: int, **options: Any) -> Any:
        sizes.append(len(pixels))
        if len(pixels) > 3:
            raise MemoryError
        return texts(writer, pixels, seed, **options)

    monkeypatch.setattr(captioner, "_texts", short)
    monkeypatch.setattr(captioner._batches, "largest", None)
    images = [captioner.read(encoded(seed)) for seed in range(12)]
    assert captioner.write(images, range(12)) == alone
    assert sizes == [12, 6, 3, 3, 3, 3]  # what has failed once is not tried again
    assert captioner.largest == 3


def test_an_image_that_the_model_refuses_does_not_take_its_batch_with_it(
    captioner: Captioner, alone: list[str | Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = captioner._texts

    def strict(writer: Any, pixels: Pixels, seed: int, **options: Any) -> Any:
        if np.isnan(pixels).any():
            raise ValueError("these are no numbers")
        return texts(writer, pixels, seed, **options)

    monkeypatch.setattr(captioner, "_texts", strict)
    images = [captioner.read(encoded(seed)) for seed in range(5)]
    images[1] = images[1] * np.float32(np.nan)
    images[3] = images[3][..., :4]
    found = captioner.write(images, range(5))
    assert [found[i] for i in (0, 2, 4)] == [alone[i] for i in (0, 2, 4)]
    assert str(found[1]) == "these are no numbers"
    assert "pixel_values" in str(found[3])
    assert isinstance(found[3], ValueError)


def test_padding_is_no_part_of_a_caption_even_where_it_is_a_word(
    model: Path, captions: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rare = {word for caption in captions for word in caption.split()} - {captions[0][0]}
    ends = [2, *(VOCABULARY.index(word) for word in sorted(rare))]
    folder = with_settings(model, tmp_path, eos_token_id=ends, pad_token_id=5)
    files = [str(picture(tmp_path / f"{i}.png", i)) for i in range(8)]
    assert cli.main(["caption", *files, "--model", str(folder)]) == 0
    printed = capsys.readouterr().out.splitlines()
    out = tmp_path / "captions.jsonl"
    arguments = ["--model", str(folder), "--out", str(out), "--batch-size", "8"]
    assert cli.main(["caption", *files, *arguments]) == 0
    assert [f"{row['image']}\t{row['caption']}" for row in rows_of(out)] == printed
    assert len({len(line.split()) for line in printed}) > 1


def test_beams_of_a_batch_are_what_they_are_alone(model: Path, tmp_path: Path) -> None:
    folder = with_settings(model, tmp_path, num_beams=3)
    captioner = Captioner(
        GitForCausalLM.from_pretrained(folder), GitProcessor.from_pretrained(folder), 12
    )
    images = [captioner.read(encoded(seed)) for seed in range(5)]
    together = captioner.write(images, range(5))
    assert together == [captioner.write([image], [0])[0] for image in images]
    assert len(set(together)) == 5


def with_settings(model: Path, folder: Path, **settings: object) -> Path:
    """A copy of the model whose generation_config.json has other settings."""
    shutil.copytree(model, folder / "model")
    file = folder / "model" / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    return folder / "model"


def test_captions_that_are_drawn_depend_on_the_row_alone(model: Path, tmp_path: Path) -> None:
    folder = with_settings(model, tmp_path, do_sample=True, temperature=3.0)
    captioner = Captioner(
        GitForCausalLM.from_pretrained(folder), GitProcessor.from_pretrained(folder), 50
    )
    image = captioner.read(encoded())
    together = captioner.write([image] * 4, range(4))
    assert together == [captioner.write([image], [seed])[0] for seed in range(4)]
    assert len(set(together)) > 1


# ---- going on


def begun(out: Path, job: Run, files: list[Path], rows: int) -> bytes:
    """A job of which so many rows are there, as a kill would have left it; returns all rows."""
    assert job(*files, "--out", out)[0] == 0
    whole = out.read_bytes()
    lines = whole.splitlines(keepends=True)
    Path(f"{out}.partial").write_bytes(b"".join(lines[:rows]))
    out.unlink()
    return whole


@pytest.mark.parametrize("torn", [b"", b"{", b'{"index": 2, "image": "a', b"\0\0\0"])
def test_a_job_goes_on_and_cuts_off_a_row_that_was_torn(
    torn: bytes, job: Run, files: list[Path], out: Path
) -> None:
    whole = begun(out, job, files, 2)
    with open(f"{out}.partial", "ab") as stream:
        stream.write(torn)
    code, lines = job(*files, "--out", out, "--batch-size", 2, "--workers", 1)
    assert (code, lines[0]) == (0, "refgit: going on after 2 of 4 rows.")
    assert lines[1].startswith(f"refgit: wrote {out}: 4 rows; 2 done in ")
    assert out.read_bytes() == whole


def test_rows_that_are_there_are_not_computed_again(
    job: Run, files: list[Path], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(out, job, files, 3)
    read, seen = Captioner.read, []
    monkeypatch.setattr(Captioner, "read", lambda self, x: (seen.append(x), read(self, x))[1])
    assert job(*files, "--out", out)[0] == 0
    assert seen == [str(files[3])]


def test_a_job_that_is_complete_is_left_as_it_is(job: Run, files: list[Path], out: Path) -> None:
    bad = files[0].with_name("missing.png")
    for arguments, code in (((*files, bad), 1), (tuple(files), 0)):
        assert job(*arguments, "--out", out, "--restart")[0] == code
        before = out.stat()
        found, (line,) = job(*arguments, "--out", out)
        assert found == code
        assert line.startswith(f"refgit: {out} is complete: {len(arguments)} rows")
        assert (out.stat().st_ino, out.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("name", ["captions.jsonl", "captions.parquet"])
def test_what_a_kill_left_beside_a_complete_job_is_cleared_away(
    name: str, job: Run, files: list[Path], tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow: pip install pyarrow")
    out = tmp_path / name
    assert job(*files, "--out", out)[0] == 0
    whole = out.read_bytes()
    Path(f"{out}.partial").write_bytes(b"whatever")
    assert job(*files, "--out", out) == (0, [f"refgit: {out} is complete: 4 rows."])
    assert not Path(f"{out}.partial").exists()
    assert out.read_bytes() == whole


@pytest.mark.parametrize("text", [b"", b'{"refgit', b'{"refgit_job": 1, "version": "0'])
def test_a_job_that_was_killed_before_its_first_row_begins_anew(
    text: bytes, job: Run, files: list[Path], out: Path
) -> None:
    Path(f"{out}.job").write_bytes(text)
    assert job(*files, "--out", out)[0] == 0
    assert len(rows_of(out)) == 4


def other_model(folder: Path, model: Path) -> Path:
    shutil.copytree(model, folder)
    testing.tiny_model(seed=4).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("length", r"--max-length was 24 and is now 5"),
        ("dtype", r"--dtype was float32 and is now float64"),
        ("backend", r"--backend was numpy and is now strict"),
        ("column", r"--column was image and is now picture"),
        ("model", r"its model was .* and is now .*other"),
        ("weights", r"the files of the model have changed"),
    ],
)
def test_another_job_is_not_mixed_in(
    change: str, words: str, job: Run, model: Path, files: list[Path], out: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(model, tmp_path / "copy")
    first = lambda *more, **options: job(*more, "--out", out, directory=folder, **options)  # noqa: E731
    assert first(*files)[0] == 0
    partial = Path(f"{out}.partial")
    out.replace(partial)
    before = partial.read_bytes()
    options: dict[str, list[object]] = {
        "length": ["--max-length", 5],
        "dtype": ["--dtype", "float64"],
        "backend": ["--backend", "strict"],
        "column": ["--column", "picture"],
    }
    if change == "weights":
        testing.tiny_model(seed=4).save_pretrained(folder)
    if change == "model":
        folder = other_model(tmp_path / "other", model)
    arguments = [*files, *options.get(change, []), "--out", out]
    code, (line,) = job(*arguments, directory=folder)
    assert code == 2
    assert line.startswith(f"refgit: {out} was begun by another job: ")
    assert re.search(words, line)
    assert partial.read_bytes() == before
    assert job(*arguments, "--restart", directory=folder)[0] == 0
    assert len(rows_of(out)) == len(files)


def test_relative_names_belong_to_a_directory(
    job: Run, files: list[Path], out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files[0].parent)
    assert job("0.png", "--out", out)[0] == 0
    monkeypatch.chdir(tmp_path)
    assert "the working directory was " in job("0.png", "--out", out)[1][0]
    words = f"none of its inputs are relative to the working directory now, {files[0].parent}"
    assert words in job(files[0], "--out", out)[1][0]


def test_a_fingerprint_tells_checkpoints_apart_wherever_they_lie(
    model: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(model, tmp_path / "copy")
    assert fingerprint(copy) == fingerprint(model)
    found = {fingerprint(copy)}
    for name in ("model.safetensors", "config.json", "preprocessor_config.json", "tokenizer.json"):
        data = (copy / name).read_bytes()
        (copy / name).write_bytes(data[:-1] + b" ")
        found.add(fingerprint(copy))
        (copy / name).write_bytes(data)
    assert len(found) == 5


ROWS = [row_of(i, "é" * i, "a" if i % 2 else ValueError("no")) for i in range(5)]
TEXT = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def new_journal(out: str) -> Journal:
    return Journal(LinesFormat(out), {"rows": 5}, Wanted([Paths(["é" * i for i in range(5)])]))


@given(cut=st.integers(0, len(TEXT)))
@settings(max_examples=60)
def test_wherever_the_rows_are_cut_off_the_rest_makes_them_whole(cut: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/rows.jsonl"
        new_journal(out).close()
        Path(f"{out}.partial").write_bytes(TEXT[:cut])
        found = new_journal(out)
        assert found.rows == TEXT[:cut].count(b"\n")
        assert found.failures == (found.rows + 1) // 2
        assert [item.index for item in found.todo()] == list(range(found.rows, 5))
        found.append(ROWS[found.rows :])
        found.finish()
        found.close()
        assert Path(out).read_bytes() == TEXT
        assert found.failures == 3


# ---- what stands in the way


def test_a_file_that_no_job_made_is_left_alone(job: Run, files: list[Path], out: Path) -> None:
    out.write_text("mine")
    for more in ([], ["--restart"]):
        assert "exists and no job of refgit made it" in refused(job(*files, "--out", out, *more))
        assert out.read_text() == "mine"


@pytest.mark.parametrize(
    ("suffix", "words"),
    [(".job", "exists and no job of refgit made it; move it"), (".partial", "does not say which")],
)
def test_files_beside_it_that_no_job_made_are_left_alone(
    suffix: str, words: str, job: Run, files: list[Path], out: Path
) -> None:
    other = Path(out.parent, out.name + suffix)
    other.write_text("mine\n")
    for more in ([], ["--restart"]):
        assert words in refused(job(*files, "--out", out, *more))
        assert other.read_text() == "mine\n"


def test_a_result_that_somebody_changed_is_not_taken_for_complete(
    job: Run, files: list[Path], out: Path
) -> None:
    assert job(*files, "--out", out)[0] == 0
    out.write_bytes(out.read_bytes() + b"mine\n")
    assert "is not the result of this job" in refused(job(*files, "--out", out))


def test_rows_that_somebody_changed_are_not_gone_on_with(
    job: Run, files: list[Path], out: Path
) -> None:
    whole = begun(out, job, files, 0).splitlines(keepends=True)
    partial = Path(f"{out}.partial")
    for lines in ([b"[]\n"], [b"\n"], [whole[0], b"x\n", whole[2]], [b'{"index": 0}\n']):
        partial.write_bytes(b"".join(lines))
        assert "something else has written to it" in refused(job(*files, "--out", out))
        assert partial.read_bytes() == b"".join(lines)


def test_a_file_that_came_in_the_way_meanwhile_is_left_alone(
    job: Run, files: list[Path], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Captioner.write_texts

    def meanwhile(self: Captioner, *arguments: Any) -> Any:
        out.write_text("mine")
        return write(self, *arguments)

    monkeypatch.setattr(Captioner, "write_texts", meanwhile)
    found, *_ = reversed(job(*files, "--out", out)[1])
    assert "has been made or changed by somebody else in the meantime; all rows are in" in found
    assert out.read_text() == "mine"
    out.unlink()
    monkeypatch.undo()
    assert job(*files, "--out", out)[0] == 0
    assert len(rows_of(out)) == 4


def test_two_processes_do_not_work_on_one_job(job: Run, files: list[Path], out: Path) -> None:
    begun(out, job, files, 1)
    other = JobFile(str(out), {}, by_position=False)
    other.lock()
    try:
        line = refused(job(*files, "--out", out))
        assert "is being written by another process of refgit" in line
    finally:
        other.close()
    assert job(*files, "--out", out)[0] == 0


@pytest.mark.parametrize("name", ["captions.jsonl", "captions.parquet"])
@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_full_disk_loses_no_row(
    name: str,
    call: str,
    job: Run,
    files: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow: pip install pyarrow")
    monkeypatch.setattr(ledger, "SYNC", 0.0)
    whole, out = tmp_path / f"whole-{name}", tmp_path / name
    assert job(*files, "--out", whole)[0] == 0
    real, calls = getattr(os, call), 0

    def full(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls < (1 if call == "replace" else 4):
            return real(*arguments)
        if call == "write":
            real(arguments[0], bytes(arguments[1])[:7])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        code, lines = job(*files, "--out", out, "--batch-size", 1)
    assert code == 2
    assert "cannot be written: No space left on device." in lines[-1]
    assert "rows are kept; when that is mended, the same command goes on" in lines[-1]
    assert not out.exists()
    assert job(*files, "--out", out)[0] == 0
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.slow
def test_a_limit_on_the_size_of_files_loses_no_row(
    job: Run, model: Path, files: list[Path], out: Path
) -> None:
    resource = pytest.importorskip("resource", reason="this system has no such limits")
    names = list(map(str, files)) * 10
    arguments = ["caption", *names, "--model", str(model), "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "refgit", *arguments, "--batch-size", "1"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(PYTHONDONTWRITEBYTECODE="1"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)),
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot be written: File too large." in done.stderr
    kept = Path(f"{out}.partial").read_bytes().count(b"\n")
    assert f"{kept} of 40 rows are kept" in done.stderr
    assert kept > 0
    assert cli.main(arguments) == 0
    assert len(rows_of(out)) == 40


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("captions.txt", "expected a name that ends in .jsonl"),
        ("nowhere/captions.jsonl", "nowhere; expected one that exists"),
        ("folder.jsonl", "is a directory"),
    ],
)
def test_a_name_that_cannot_be_written_is_refused(
    name: str, words: str, job: Run, files: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    assert words in refused(job(*files, "--out", tmp_path / name))
    assert not list(tmp_path.glob("*.job"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-", "--out", "c.jsonl"], "standard input does not allow"),
        (["a.png", "--json", "--out", "c.jsonl"], "expected one of the two"),
        (["a.png", "--drop-missing"], "--drop-missing belongs to a job"),
        (["a.png", "--retry-failed"], "--retry-failed belongs to a job"),
        (["a.png", "--format", "csv"], "--format belongs to a job"),
        (["a.png", "--restart"], "--restart belongs to a job"),
        (["a.png", "--out", ""], "--out is empty"),
        (["a.png", "--out", "c.jsonl", "--batch-size", "0"], "must be auto or an integer >= 1"),
        (["a.png", "--out", "c.jsonl", "--workers", "0"], "must be an integer >= 1 (got '0')"),
    ],
)
def test_what_does_not_go_together_is_refused(
    arguments: list[str], words: str, job: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text("a.png")
    assert words in refused(job(*arguments))
    assert [p.name for p in tmp_path.iterdir()] == ["list.txt"]


@pytest.mark.parametrize("name", ["captions.parquet", "captions.jsonl"])
def test_without_pyarrow_tables_are_refused_and_the_rest_works(
    name: str, job: Run, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    out = tmp_path / name
    if name.endswith(".parquet"):
        assert "pip install pyarrow" in refused(job(*files, "--out", out))
    else:
        assert job(*files, "--out", out)[0] == 0
        (tmp_path / "data.parquet").write_bytes(b"")
        line = refused(job(tmp_path / "data.parquet", "--out", tmp_path / "2.jsonl"))
        assert "pip install pyarrow" in line


def test_memory_that_is_short_for_a_single_image_ends_the_job_and_loses_nothing(
    job: Run, files: list[Path], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*_: object, **__: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Captioner, "_texts", short)
        assert "not enough memory to caption a single image" in refused(job(*files, "--out", out))
    assert job(*files, "--out", out)[0] == 0


# ---- decoding ahead


def numbers(count: int) -> list[Item]:
    return [Item(i, str(i), str(i)) for i in range(count)]


def test_images_are_decoded_before_they_are_asked_for_but_not_too_many() -> None:
    begun, ready = [], threading.Event()

    def read(content: str | bytes | Exception) -> Pixels:
        begun.append(content)
        if len(begun) == 6:
            ready.set()
        return np.zeros((1, 3, 1, 1), np.float32)

    stream = decode_ahead(numbers(50), read, 3, lambda: 5)
    item, _ = next(stream)
    assert item.index == 0
    assert ready.wait(30)  # the one we have and five more, while we do something else
    for item, _ in stream:
        assert len(begun) <= item.index + 6
    assert item.index == 49
    assert len(begun) == 50


def test_a_slow_image_keeps_its_place() -> None:
    def read(content: str | bytes | Exception) -> Pixels | Exception:
        if content == "0":
            threading.Event().wait(0.1)
        if content == "2":
            return ValueError("no image")
        return np.full((1, 3, 1, 1), float(str(content)), np.float32)

    found = list(decode_ahead(numbers(6), read, 4, lambda: 6))
    assert [item.index for item, _ in found] == list(range(6))
    errors = [item.index for item, pixels in found if isinstance(pixels, Exception)]
    assert errors == [2]


def test_threads_end_with_the_stream() -> None:
    def read(content: str | bytes | Exception) -> Pixels:
        return np.zeros((1, 3, 1, 1), np.float32)

    stream = decode_ahead(numbers(50), read, 3, lambda: 5)
    next(stream)
    stream.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("refgit-decode")]


@pytest.mark.parametrize("error", [ImportError("no av"), MemoryError()])
def test_what_is_no_fault_of_the_image_ends_the_job(error: Exception) -> None:
    def read(content: str | bytes | Exception) -> Pixels:
        raise error

    with pytest.raises((ImportError, JobError)):
        list(decode_ahead(numbers(3), read, 1, lambda: 2))


# ---- the size of batches


@pytest.fixture
def plenty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "free_memory", lambda: None)


def sizes(size: BatchSize, seconds: Callable[[int], float], steps: int = 200) -> Iterator[int]:
    """The sizes that come one after another where a batch takes so long."""
    for _ in range(steps):
        yield size.now
        size.record(size.now, seconds(size.now))


@pytest.mark.usefixtures("plenty")
@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        (lambda n: 0.3 * n, 1),  # each image takes what it takes
        (lambda n: 0.3 + 0.01 * n, 64),  # the weights take the time: as many as may be
        (lambda n: 0.1 + 0.1 * n, 16),  # from 16 to 32 images a second grow by 3 % alone
        (lambda n: 0.2 + 0.1 * n if n < 4 else 0.6 * n, 2),
    ],
)
def test_a_batch_doubles_as_long_as_that_pays(seconds: Callable[[int], float], best: int) -> None:
    *found, last = sizes(BatchSize(), seconds)
    assert found[0] == 1
    assert all(b in (a, 2 * a, a // 2) for a, b in pairwise(found))
    assert max(found) <= 64
    assert last == best


@pytest.mark.usefixtures("plenty")
def test_the_first_batch_and_a_short_one_are_not_counted() -> None:
    size = BatchSize()
    size.record(1, 100.0)  # it loads what all others need
    *_, last = sizes(size, lambda n: 0.3 + 0.01 * n)
    assert last == 64
    size = BatchSize()
    for _ in range(9):
        size.record(3, 100.0)
    assert size.now == 1


def test_a_batch_does_not_double_where_memory_would_be_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peak = 1_000_000
    size = BatchSize()
    monkeypatch.setattr(batching, "peak_memory", lambda: peak + 1000 * size.now)
    monkeypatch.setattr(batching, "free_memory", lambda: 20_000)
    *_, last = sizes(size, lambda n: 0.3 + 0.01 * n)
    assert last == 16  # it took 8 kB more than a batch of 8; 32 would take 16 kB, over the half


@pytest.mark.usefixtures("plenty")
def test_a_batch_is_no_larger_than_memory_allowed() -> None:
    for size in (BatchSize(), BatchSize(16)):
        size.now = 16
        size.record(16, 1.0, 4)
        assert size.now == 4
        assert list(sizes(size, lambda n: 0.01))[-1] == 4


def test_a_size_that_was_given_stays() -> None:
    assert set(sizes(BatchSize(7), lambda n: 1.0)) == {7}


def test_the_memory_of_this_process_and_machine_are_known() -> None:
    if not Path("/proc/meminfo").exists():
        pytest.skip("this system has no /proc/meminfo")
    free = batching.free_memory()
    assert free is not None
    assert free > 1 << 20
    assert batching.peak_memory() > 1 << 20


# ---- the bar


def test_a_bar_tells_the_rate_without_what_was_there_before_and_the_time_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    bar = Bar("captioning", visible=False, unit="images")
    bar.advance(1000, 2000)
    assert bar.pace() == ""
    now += 10.0
    bar.advance(1200, 2000)
    assert bar.pace() == " 20 images/s, 0:00:40 left"
    assert Bar("loading").pace() == ""


def test_without_a_terminal_a_line_now_and_then_says_how_far_a_job_is(
    job: Run, files: list[Path], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caption_job, "PROGRESS", 0.0)
    _, lines = job(*files, "--out", out, "--batch-size", 1, "--workers", 1)
    shown = [re.match(r"refgit: captioning: (\d) of 4 rows,", line) for line in lines[:-1]]
    assert [int(match[1]) for match in shown if match] == [0, 1, 2, 3]
    assert re.search(r"[\d.]+ images/s, \d+:\d\d:\d\d left\.$", lines[2])
    monkeypatch.setattr(caption_job, "PROGRESS", 30.0)
    assert len(job(*files, "--out", out, "--restart")[1]) == 2


def test_a_job_shows_its_rate_on_a_terminal(model: Path, files: list[Path], out: Path) -> None:
    pytest.importorskip("pty", reason="this system has no pseudo-terminals")
    from helpers.terminals import on_terminal

    arguments = ["caption", *files, "--model", model, "--out", out, "--batch-size", 1]
    code, printed, sent = on_terminal(*arguments, delay=0.0)
    assert (code, printed) == (0, "")
    assert "images/s" in sent
    assert " left" in sent


def test_the_bundled_model_is_the_one_without_a_name(
    files: list[Path], out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["caption", str(EMOJI[4]), "--out", str(out)]) == 0
    assert "using the bundled model" in capsys.readouterr().err
    known = json.loads(Path(f"{out}.job").read_text())
    assert known["model_sha256"] == fingerprint(demo_path())
    assert cli.main(["caption", str(EMOJI[4]), "--out", str(out), "--model", "refgit-emoji"]) == 0
    assert "is complete" in capsys.readouterr().err
