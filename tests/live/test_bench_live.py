"""`refgit bench` beside its peers in the oracle's environment, on a tiny model.

    OMP_NUM_THREADS=1 python -m pytest tests/live/test_bench_live.py

That a peer is timed at all says that its results are refgit's: the workers of transformers and of
ONNX Runtime are held against refgit in every case.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from helpers.oracle import only, torch, transformers
from refgit import GitConfig, testing
from refgit.bench import rounds
from refgit.bench.checkpoint import write_model
from refgit.cli import main as cli

only("4")

pytestmark = [pytest.mark.oracle]

assert torch
assert transformers

CONFIG = testing.CONFIG


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(rounds, "LEAST", 0.0)
    monkeypatch.setattr(rounds, "PAUSE", 0.0)
    return write_model(testing.tiny_model(config=CONFIG), tmp_path / "tiny")


def bench(capsys: pytest.CaptureFixture[str], model: Path, peer: str, *more: str) -> dict:
    arguments = ["--model", str(model), "--threads", "1", "--repeats", "1", "--json"]
    arguments += ["--peers", peer, "--peer-python", f"{peer}={sys.executable}"]
    code = cli.main(["bench", *arguments, *more])
    out, err = capsys.readouterr()
    data: dict = json.loads(out)
    assert (code, data["notes"]) == (0, []), err
    return data


@pytest.mark.slow
def test_transformers_is_timed_in_every_case(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bench(capsys, model, "transformers4")
    assert all(set(row["peers"]) == {"transformers4"} for row in data["cases"])
    assert data["programs"]["transformers4"]["transformers"] == transformers.__version__


def test_onnxruntime_is_timed_in_every_case(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime", reason="pip install onnx onnxruntime")
    data = bench(capsys, model, "onnxruntime")
    assert all(set(row["peers"]) == {"onnxruntime"} for row in data["cases"])


@pytest.mark.parametrize("act", ["gelu", "quick_gelu"])
def test_onnxruntime_searches_alike_whatever_the_activation_and_tied_or_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    pytest.importorskip("onnxruntime", reason="pip install onnx onnxruntime")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(rounds, "LEAST", 0.0)
    config: GitConfig = CONFIG.replace(
        hidden_act=act,
        tie_word_embeddings=act == "gelu",
        vision_config=CONFIG.vision_config.replace(hidden_act=act),
    )
    for seed in range(3):
        folder = write_model(testing.tiny_model(seed, config), tmp_path / f"{seed}")
        bench(capsys, folder, "onnxruntime", "--only", "vision-8,greedy-8,beam-4")
