"""The command line: captions on stdout, one line on stderr for whatever is wrong."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from helpers.command_line import (  # noqa: F401  # fixtures
    KINDS,
    ROOT,
    broken_files,
    captions,
    encoded,
    environment,
    model,
    picture,
    process,
)
from refgit.cli import main as cli
from refgit.pipeline import Captioner

Run = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def run(model: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process: exit code, lines of stdout, lines of stderr."""

    def run_it(*arguments: object, directory: object = model) -> tuple[int, list[str], list[str]]:
        chosen = [] if directory is None else ["--model", str(directory)]
        try:
            code = cli.main(["caption", *map(str, arguments), *chosen])
        except SystemExit as end:  # of argparse
            code = int(str(end.code))
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert out == "" or out.endswith("\n")
        return code, out.split("\n")[:-1], err.split("\n")[:-1]

    return run_it


# ---- what works


def test_captions_differ_so_that_the_tests_below_can_tell_them_apart(captions: list[str]) -> None:
    assert len(set(captions)) == len(captions)
    assert all(captions)


def test_one_image_prints_its_caption_and_nothing_else(
    run: Run, captions: list[str], tmp_path: Path
) -> None:
    assert run(picture(tmp_path / "a.png")) == (0, [captions[0]], [])


def test_several_images_print_a_line_each_with_the_file(
    run: Run, captions: list[str], tmp_path: Path
) -> None:
    files = [picture(tmp_path / f"{name}.png", i) for i, name in enumerate("cab")]
    lines = [f"{file}\t{caption}" for file, caption in zip(files, captions, strict=False)]
    assert run(*files) == (0, lines, [])


def test_a_directory_stands_for_its_image_files_in_order(
    run: Run, captions: list[str], tmp_path: Path
) -> None:
    files = [picture(tmp_path / name, i) for i, name in enumerate(("a.png", "b.BMP", "c.png"))]
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "paper.pdf").write_text("Pillow writes these, but does not read them")
    (tmp_path / "folder.png").mkdir()
    lines = [f"{file}\t{caption}" for file, caption in zip(files, captions, strict=False)]
    left_out = ["refgit: left out: 1 .pdf, 1 .txt."]
    assert run(tmp_path) == (0, lines, left_out)
    assert run(tmp_path, files[0]) == (0, [*lines, lines[0]], left_out)


def test_a_directory_of_one_image_still_prints_the_file(
    run: Run, captions: list[str], tmp_path: Path
) -> None:
    file = picture(tmp_path / "only.png")
    assert run(tmp_path) == (0, [f"{file}\t{captions[0]}"], [])


def test_directories_are_searched_deeply_and_by_patterns(
    run: Run, captions: list[str], tmp_path: Path
) -> None:
    names = ("a.png", "in/a.png", "in/deep/b.BMP", "thumbs/a.png", "in/a_mask.png")
    files = [picture(tmp_path / name, i % len(captions)) for i, name in enumerate(names)]
    lines = [f"{file}\t{captions[i % len(captions)]}" for i, file in enumerate(files)]
    chosen = (tmp_path, "--recursive", "--exclude", "thumbs", "--exclude", "*_mask.*")
    assert run(*chosen) == (0, lines[:3], [])
    assert run(*chosen, "--glob", "*.bmp") == (0, lines[2:3], [])
    assert run(*chosen, "--glob", "b*", "--glob", "in/a*") == (0, lines[1:3], [])
    code, out, (error,) = run(tmp_path / "in", files[0], "--glob", "x*")
    assert (code, out) == (1, lines[:1])
    assert "in holds no image files that --glob and --exclude choose" in error


def test_a_list_stands_for_its_images_and_captions_beside_images_are_left_out(
    run: Run, captions: list[str], tmp_path: Path
) -> None:
    files = [picture(tmp_path / f"{name}.png", i) for i, name in enumerate("ab")]
    lines = [f"{file}\t{caption}" for file, caption in zip(files, captions, strict=False)]
    names = tmp_path / "list.txt"
    names.write_text("\r\n".join(map(str, files)), encoding="utf-16")
    beside = tmp_path / "a.txt"
    beside.write_text("an earlier caption")
    assert run(names) == (0, lines, [])
    assert run(files[0], beside, files[1]) == (0, lines, ["refgit: left out: 1 .txt."])
    assert run(tmp_path) == (0, lines, ["refgit: left out: 2 .txt."])
    code, out, (error,) = run(beside)
    assert (code, out) == (2, [])
    assert error.endswith(
        "a.txt lies beside an image of its name, so it is taken for the caption of that, not for a "
        "list. Name images or directories; give a list another name."
    )


def feed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_a_dash_reads_standard_input(
    run: Run, captions: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(monkeypatch, encoded(1))
    assert run("-") == (0, [captions[1]], [])
    feed(monkeypatch, encoded(1))
    file = picture(tmp_path / "a.png")
    assert run(file, "-") == (0, [f"{file}\t{captions[0]}", f"-\t{captions[1]}"], [])


def test_json_prints_an_object_a_line(run: Run, captions: list[str], tmp_path: Path) -> None:
    files = [picture(tmp_path / f"{name}.png", i) for i, name in enumerate("ab")]
    code, out, err = run(*files, "--json")
    assert (code, err) == (0, [])
    assert [json.loads(line) for line in out] == [
        {"index": i, "image": str(file), "caption": caption, "error": None}
        for i, (file, caption) in enumerate(zip(files, captions, strict=False))
    ]


def test_json_of_one_image_names_it_too(run: Run, captions: list[str], tmp_path: Path) -> None:
    file = picture(tmp_path / "a.png")
    code, (line,), err = run(file, "--json")
    assert (code, err) == (0, [])
    row = {"index": 0, "image": str(file), "caption": captions[0], "error": None}
    assert list(json.loads(line).items()) == list(row.items())  # as a job's row, in its order


@pytest.mark.parametrize("length", [2, 3, 7])
def test_max_length_counts_the_opening_token(run: Run, length: int, tmp_path: Path) -> None:
    code, (line,), err = run(picture(tmp_path / "a.png"), "--max-length", length)
    assert (code, err) == (0, [])
    assert len(line.split()) <= length - 1
    whole = run(picture(tmp_path / "a.png"))[1][0]
    assert whole.split()[: length - 1] == line.split()
    assert len(whole.split()) > 6


def test_the_types_and_backends_give_the_same_caption(
    run: Run, captions: list[str], tmp_path: Path
) -> None:
    file = picture(tmp_path / "a.png")
    for options in (["--dtype", "float64"], ["--backend", "numpy"], ["--backend", "strict"]):
        assert run(file, *options) == (0, [captions[0]], [])


def test_the_backend_is_taken_from_the_environment(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = picture(tmp_path / "a.png")
    monkeypatch.setenv("REFGIT_BACKEND", "abacus")
    code, out, (line,) = run(file)
    assert (code, out) == (2, [])
    assert "abacus" in line
    assert run(file, "--backend", "numpy")[0] == 0


# ---- names


@pytest.mark.parametrize(
    "name",
    [
        "two words.png",
        " two  spaces .png",
        "näme 画像 😀.png",
        "-dash.png",
        "new\nline.png",
        "tab\tcarriage\rreturn.png",
        "line\u2028separator\x85.png",
        "bell\x07escape\x1b[31m.png",
        "not utf-8 \udcff.png",
    ],
)
def test_every_file_name_stays_on_one_line(
    name: str, run: Run, captions: list[str], tmp_path: Path
) -> None:
    good, bad = picture(tmp_path / name), tmp_path / f"missing {name}"
    plain = name.isprintable()
    code, out, err = run(good, bad)
    assert code == 1
    assert len(out) == len(err) == 1
    assert len(out[0].splitlines()) == len(err[0].splitlines()) == 1
    shown, caption = out[0].split("\t")
    assert caption == captions[0]
    assert shown.startswith(str(tmp_path))
    assert "missing" in err[0]
    if plain:
        assert shown == str(good)
        assert str(bad) in err[0]
    assert (shown + err[0]).isprintable()
    code, out, _ = run(good, bad, "--json")
    assert [json.loads(line)["image"] for line in out] == [str(good), str(bad)]
    assert "error" in json.loads(out[1])
    assert all(len(line.splitlines()) == 1 for line in out)


def test_different_names_are_shown_differently(run: Run, tmp_path: Path) -> None:
    files = [picture(tmp_path / name) for name in ("a b.png", "a  b.png", "a\nb.png", "a\tb.png")]
    _, out, _ = run(*files)
    assert len({line.split("\t")[0] for line in out}) == 4


# ---- images that Pillow warns of


def test_many_pixels_are_no_matter_for_stderr(
    run: Run, captions: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = picture(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # it has 40 x 32; at twice, Pillow raises
    with pytest.warns(Image.DecompressionBombWarning), Image.open(file):
        pass
    assert run(file) == (0, [captions[0]], [])


@pytest.mark.parametrize("entries", [b"\xff\xff", b"\x01\0\x1a\x01\x05\0\x01\0\0\0\xff\xff\xff\0"])
def test_broken_metadata_are_no_matter_for_stderr(
    entries: bytes, run: Run, model: Path, tmp_path: Path
) -> None:
    plain, file = tmp_path / "plain.jpg", tmp_path / "broken.jpg"
    exif = b"Exif\0\0II*\0\x08\0\0\0" + entries  # says there are more than follow
    with Image.open(io.BytesIO(encoded())) as image:
        image.save(plain)
        image.save(file, exif=exif)
    with pytest.warns(UserWarning), Image.open(file) as image:  # noqa: PT030  # any text
        image.load()
    assert run(file) == (0, run(plain)[1], [])
    done = process(["caption", file, "--model", model])
    assert (done.returncode, done.stderr) == (0, b"")


# ---- images that fail


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_image_is_named_and_the_others_are_captioned(
    kind: str, run: Run, captions: list[str], tmp_path: Path
) -> None:
    bad = broken_files(tmp_path / "bad")[kind]
    first, last = picture(tmp_path / "a.png"), picture(tmp_path / "b.png", 1)
    code, out, err = run(first, bad, last)
    assert code == 1
    assert out == [f"{first}\t{captions[0]}", f"{last}\t{captions[1]}"]
    (line,) = err
    assert line.startswith("refgit: ")
    assert str(bad) in line


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_image_alone_prints_nothing_on_stdout(kind: str, run: Run, tmp_path: Path) -> None:
    bad = broken_files(tmp_path / "bad")[kind]
    code, out, err = run(bad)
    assert (code, out, len(err)) == (1, [], 1)


@pytest.mark.parametrize("kind", KINDS)
def test_json_carries_the_error_in_its_place(
    kind: str, run: Run, captions: list[str], tmp_path: Path
) -> None:
    bad, good = broken_files(tmp_path / "bad")[kind], picture(tmp_path / "a.png")
    code, out, err = run(bad, good, "--json")
    assert (code, len(err)) == (1, 1)
    first, second = map(json.loads, out)
    assert first["image"] == str(bad)
    assert str(bad) in first["error"]
    assert first["caption"] is None
    assert second == {"index": 1, "image": str(good), "caption": captions[0], "error": None}


def test_a_broken_image_in_a_directory_does_not_stop_the_others(
    run: Run, captions: list[str], tmp_path: Path
) -> None:
    first, last = picture(tmp_path / "a.png"), picture(tmp_path / "z.png", 1)
    (tmp_path / "m.png").write_bytes(encoded()[:60])
    code, out, (line,) = run(tmp_path)
    assert code == 1
    assert out == [f"{first}\t{captions[0]}", f"{last}\t{captions[1]}"]
    assert str(tmp_path / "m.png") in line


@pytest.mark.parametrize("data", [b"", b"no image", encoded()[:100]])
def test_broken_standard_input_is_named(
    data: bytes, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(monkeypatch, data)
    code, out, (line,) = run("-")
    assert (code, out) == (1, [])
    assert "standard input" in line


def test_what_was_not_foreseen_stays_one_line_and_one_image(
    run: Run, captions: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last = picture(tmp_path / "a.png"), picture(tmp_path / "b.png", 1)
    real = Captioner.read

    def fail(self: Captioner, source: Any) -> Any:
        if source == str(first):
            raise KeyError("some\nthing")
        return real(self, source)

    monkeypatch.setattr(Captioner, "read", fail)
    code, out, (line,) = run(first, last)
    assert (code, out) == (1, [f"{last}\t{captions[1]}"])
    assert str(first) in line
    assert "KeyError" in line
    assert "--debug" in line


def test_debug_shows_the_traceback(run: Run, model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        run(tmp_path / "missing.png", "--debug")
    with pytest.raises(ValueError, match="nowhere"):
        run(picture(tmp_path / "a.png"), "--debug", directory="nowhere")
    done = process(["caption", tmp_path / "missing.png", "--model", model, "--debug"])
    assert done.returncode == 1
    assert b"Traceback" in done.stderr
    assert b"ImageFileError" in done.stderr


# ---- nothing can be started


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--backend", "abacus"], ["abacus", "numpy"]),
        (["--dtype", "int8"], ["--dtype", "int8", "float32"]),
        (["--max-length", "1"], ["--max-length", "1"]),
        (["--max-length", "-5"], ["--max-length", "-5"]),
        (["--max-length", "many"], ["--max-length", "many"]),
        (["--max-length", "7.5"], ["--max-length", "7.5"]),
        (["--colour"], ["--colour"]),
        (["--backend"], ["--backend"]),
    ],
)
def test_a_wrong_option_is_one_line_and_exit_code_2(
    options: list[str], words: list[str], run: Run, tmp_path: Path
) -> None:
    code, out, err = run(picture(tmp_path / "a.png"), *options)
    assert (code, out) == (2, [])
    (line,) = err
    for word in words:
        assert word in line


@pytest.mark.parametrize("arguments", [["classify"], ["frobnicate"], ["caption", "--model"]])
def test_a_wrong_command_is_one_line_and_exit_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "--help" in err


def spoiled(model: Path, folder: Path, name: str, content: bytes | None) -> Path:
    """A copy of the model with one file changed or missing."""
    folder.mkdir()
    for file in model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    return folder


WRONG_FILES = [
    (name, content)
    for name in ("config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json")
    for content in (None, b"", b"{}", b"\xff\xff\n\n")
    # without tokenizer.json there is vocab.txt, and {} means an image processor of defaults
    if (name, content) not in [("tokenizer.json", None), ("preprocessor_config.json", b"{}")]
]


@pytest.mark.parametrize(("name", "content"), WRONG_FILES)
def test_a_wrong_file_of_the_model_is_one_line_and_exit_code_2(
    name: str, content: bytes | None, run: Run, model: Path, tmp_path: Path
) -> None:
    folder = spoiled(model, tmp_path / "spoiled", name, content)
    code, out, err = run(picture(tmp_path / "a.png"), directory=folder)
    assert (code, out) == (2, [])
    (line,) = err
    assert str(folder) in line


def test_a_processor_that_does_not_fit_the_model_is_one_line_for_each_image(
    run: Run, model: Path, tmp_path: Path
) -> None:
    folder = spoiled(model, tmp_path / "spoiled", "preprocessor_config.json", b"{}")
    files = [picture(tmp_path / name) for name in ("a.png", "b.png")]
    code, out, err = run(*files, directory=folder)
    assert (code, out) == (1, [])
    for file, line in zip(files, err, strict=True):
        assert str(file) in line
        assert "224 x 224" in line
        assert "8 x 8" in line


def test_a_missing_model_is_one_line_and_exit_code_2(run: Run, tmp_path: Path) -> None:
    for directory in (tmp_path / "no\nwhere", picture(tmp_path / "a.png"), tmp_path):
        code, out, (line,) = run(tmp_path / "a.png", directory=directory)
        assert (code, out) == (2, [])
        assert str(tmp_path) in line


def test_help_and_version_go_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, word in ((["--help"], "caption"), (["caption", "--help"], "exit codes")):
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert caught.value.code == 0
        out, err = capsys.readouterr()
        assert word in out
        assert err == ""
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out.startswith("refgit ")


# ---- as a process


def test_the_module_runs_as_a_command(model: Path, captions: list[str], tmp_path: Path) -> None:
    done = process(["caption", picture(tmp_path / "a.png"), "--model", model])
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == captions[0] + "\n"


def test_a_pipe_serves_as_standard_input(model: Path, captions: list[str]) -> None:
    done = process(["caption", "-", "--model", model], encoded(2))
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == captions[2] + "\n"


def test_failures_show_in_the_exit_code(model: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing.png"
    done = process(["caption", missing, "--model", model])
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.count(b"\n") == 1
    assert str(missing) in done.stderr.decode()
    done = process(["caption", missing, "--model", tmp_path])
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_names_that_the_terminal_cannot_show_are_escaped(
    encoding: str, model: Path, captions: list[str], tmp_path: Path
) -> None:
    files = [picture(tmp_path / name) for name in ("画像.png", "not utf-8 \udcff.png")]
    done = process(["caption", *files, "--model", model], PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode(encoding).split("\n")[:-1]
    assert [line.split("\t")[1] for line in lines] == [captions[0]] * 2
    assert ("画像.png" if encoding == "utf-8" else r"\u753b\u50cf.png") in lines[0]


def test_a_closed_pipe_is_no_error(model: Path, tmp_path: Path) -> None:
    """As in `refgit caption pictures/ | head -1`."""
    for i in range(6):
        picture(tmp_path / f"{i}.png", i)
    command = [sys.executable, "-m", "refgit", "caption", str(tmp_path), "--model", str(model)]
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=environment()
    )
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()  # before a line is written
    complaint = child.stderr.read()
    child.stderr.close()
    assert (child.wait(timeout=120), complaint) == (0, b"")
