"""Several images without --out: captioned in batches, printed in their order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.command_line import captions, model, picture
from refgit.cli import main as cli
from refgit.pipeline import Captioner

__all__ = ["captions", "model"]  # fixtures


@pytest.mark.parametrize("size", ["auto", "1", "3", "16"])
@pytest.mark.parametrize("workers", ["1", "4"])
def test_captions_are_printed_in_order_whatever_the_batches(
    size: str, workers: str, model: Path, captions: list[str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    seeds = [i * 3 % 4 for i in range(11)]
    files = [picture(tmp_path / "in" / f"{i:02}.png", seed) for i, seed in enumerate(seeds)]
    (tmp_path / "in" / "05a.png").write_text("none")
    options = ["--batch-size", size, "--workers", workers, "--model", str(model)]
    assert cli.main(["caption", str(tmp_path), "--recursive", *options]) == 1
    printed, said = capsys.readouterr()
    wanted = [f"{file}\t{captions[seed]}" for file, seed in zip(files, seeds, strict=True)]
    assert printed.splitlines() == wanted
    assert len(said.splitlines()) == 1
    assert "05a.png is not an image" in said
    assert cli.main(["caption", str(tmp_path), "--recursive", "--json", *options]) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["index"] for row in rows] == list(range(12))
    assert [row["caption"] for row in rows if row["error"] is None] == [captions[i] for i in seeds]
    assert list(rows[6]) == ["index", "image", "caption", "error"]
    out = tmp_path / "rows.jsonl"
    assert cli.main(["caption", str(tmp_path / "in"), "--out", str(out), *options]) == 1
    assert [json.loads(line) for line in out.read_text().splitlines()] == rows


def test_batches_are_kept_full_and_a_single_image_streams(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(picture(tmp_path / f"{i}.png", i)) for i in range(8)]
    write, stream, sizes, streamed = Captioner.write_texts, Captioner.stream, [], []

    def writing(self: Captioner, images: list[object], **options: object) -> object:
        sizes.append(len(images))
        return write(self, images, **options)  # type: ignore[arg-type]

    def streaming(self: Captioner, source: object) -> object:
        streamed.append(source)
        return stream(self, source)

    monkeypatch.setattr(Captioner, "write_texts", writing)
    monkeypatch.setattr(Captioner, "stream", streaming)
    options = ["--model", str(model), "--batch-size", "1"]
    assert cli.main(["caption", *files, *options]) == 0
    assert (sizes, streamed) == ([1] * 8, [])
    assert cli.main(["caption", files[0], *options]) == 0
    assert (len(sizes), streamed) == (8, [files[0]])
    assert len(capsys.readouterr().out.splitlines()) == 9
