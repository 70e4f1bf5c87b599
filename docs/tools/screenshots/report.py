"""Make docs/screenshots/compare-report-light.png and -dark.png: a report as Chromium shows it.

    apt-get install chromium
    python docs/tools/screenshots/report.py

The other GIT of the example is refgit itself with the keys and values of one decoder layer swapped.
The model has the depth of git-base, narrow layers, and random weights.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from picture import HEAT_MAP, ROOT, browser, take  # first: it finds refgit

from refgit import GitConfig, GitForCausalLM, GitVisionConfig
from refgit.parity import compare
from refgit.parity.diagnosis.procedure import diagnose
from refgit.parity.numerics.noise import NoiseFloor
from refgit.parity.report.write import write_report
from refgit.traces.recorder import record

SIZE = (1280, 1880)
COLOURS = 256  # enough for text, legend and heat map


def model() -> GitForCausalLM:
    vision = GitVisionConfig(
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=12,
        num_attention_heads=4,
        image_size=112,
        patch_size=16,
        initializer_range=0.15,
    )
    config = GitConfig(
        vision_config=vision,
        vocab_size=300,
        hidden_size=64,
        num_hidden_layers=6,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=64,
        initializer_range=0.15,
        bos_token_id=1,
        eos_token_id=2,
    )
    return GitForCausalLM(config, seed=0)


def swap_keys_and_values(port: GitForCausalLM, layer: int) -> None:
    state = port.state_dict()
    for kind in ("weight", "bias"):
        key, value = (
            state[f"git.encoder.layer.{layer}.attention.self.{part}.{kind}"]
            for part in ("key", "value")
        )
        key[...], value[...] = value.copy(), key.copy()


def example(path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.standard_normal((1, 3, 112, 112)).astype(np.float32)
    ids = np.concatenate([[1], rng.integers(3, 300, 7)])[None]
    ours, port = model(), model()
    swap_keys_and_values(port, layer=3)
    reference = record(ours, pixels, ids, dtype="float64")
    other = record(port, pixels, ids)
    other.meta["producer"] = "my port 0.3"
    del other.meta["config"]
    found = compare(reference, other, noise=NoiseFloor.measure(ours, reference))
    write_report(path, found, diagnose(reference, found.canonical, ours), reference, other)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, browser() as window:
        report = Path(folder, "report.html")
        example(report)
        for scheme in ("light", "dark"):
            window.look(*SIZE, scheme)
            window.open(report)
            target = ROOT / "docs" / "screenshots" / f"compare-report-{scheme}.png"
            take(window, target, COLOURS, **HEAT_MAP)


if __name__ == "__main__":
    main()
