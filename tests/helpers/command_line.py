"""A tiny checkpoint, pictures, broken files, and refgit run as a process."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refgit import BertTokenizer, CLIPImageProcessor, GitProcessor, testing

ROOT = Path(__file__).parents[2]


LETTERS = [chr(ord("a") + i) for i in range(testing.CONFIG.vocab_size - 4)]


VOCABULARY = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *LETTERS]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint directory, complete and tiny; its captions are random letters."""
    folder = tmp_path_factory.mktemp("model")
    testing.tiny_model(seed=3).save_pretrained(folder)
    GitProcessor(
        CLIPImageProcessor(size=8, crop_size=8), BertTokenizer.from_vocab(VOCABULARY)
    ).save_pretrained(folder)
    return folder


def letters_model(folder: Path, frames: int | None, image_processor: object) -> Path:
    """A tiny checkpoint whose texts are random letters."""
    config = testing.CONFIG.replace(num_image_with_embedding=frames)
    testing.tiny_model(3, config).save_pretrained(folder)
    GitProcessor(image_processor, BertTokenizer.from_vocab(VOCABULARY)).save_pretrained(folder)  # type: ignore[arg-type]
    return folder


def picture(path: Path, seed: int = 0) -> Path:
    """A picture of random patches, written to `path`."""
    colours = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(colours).resize((40, 32), Image.Resampling.NEAREST).save(path)
    return path


def encoded(seed: int = 0) -> bytes:
    stream = io.BytesIO()
    colours = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    Image.fromarray(colours).resize((40, 32), Image.Resampling.NEAREST).save(stream, "PNG")
    return stream.getvalue()


def process(
    arguments: Sequence[object], data: bytes = b"", **variables: str
) -> subprocess.CompletedProcess[bytes]:
    """Run `python -m refgit` as a user would."""
    return subprocess.run(
        [sys.executable, "-m", "refgit", *map(os.fsencode, map(str, arguments))],
        input=data,
        capture_output=True,
        cwd=ROOT,
        env=environment(**variables),
        timeout=120,
        check=False,
    )


def ctrl_c_interrupts() -> None:
    """Undo what children of a shell's background jobs inherit: that they ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def environment(**variables: str) -> dict[str, str]:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "backends")])
    unset = {"REFGIT_BACKEND", "PYTHONIOENCODING", "PYTHONUTF8"}
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    return {**kept, "PYTHONPATH": paths, **variables}


@pytest.fixture
def captions(model: Path) -> list[str]:
    """What the model says of the pictures of seeds 0, 1, 2 ..., found without the command."""
    processor = GitProcessor.from_pretrained(model)
    found = []
    for seed in range(4):
        image = Image.open(io.BytesIO(encoded(seed)))
        pixels = processor(images=image, return_tensors="np")["pixel_values"]
        ids = testing.tiny_model(seed=3).generate(
            pixels, max_length=testing.CONFIG.max_position_embeddings
        )
        found.append(processor.batch_decode(ids, skip_special_tokens=True)[0])
    return found


def broken_files(folder: Path) -> dict[str, Path]:
    """One of each kind of file that is no image, by its kind."""
    folder.mkdir(exist_ok=True)
    files = {
        "missing": folder / "missing.png",
        "text": folder / "text.png",
        "empty": folder / "empty.jpg",
        "truncated PNG": folder / "cut.png",
        "truncated JPEG": folder / "cut.jpg",
        "no images": folder / "folder",
        "name too long": folder / ("x" * 300 + ".png"),
    }
    files["text"].write_text("this is no image\nand has two lines\n")
    files["empty"].write_bytes(b"")
    for kind in ("truncated PNG", "truncated JPEG"):
        whole = picture(files[kind]).read_bytes()
        files[kind].write_bytes(whole[: len(whole) * 2 // 3])
    files["no images"].mkdir()
    (files["no images"] / "notes.txt").write_text("no image")
    return files


KINDS = [
    "missing", "text", "empty", "truncated PNG", "truncated JPEG", "no images", "name too long"
]  # fmt: skip
