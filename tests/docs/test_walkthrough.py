"""docs/walkthrough.ipynb, run afresh, prints what is stored in it."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.backends import ROOT

NOTEBOOK = ROOT / "docs/walkthrough.ipynb"


def printed(cell: Any) -> str:
    return "".join(o["text"] for o in cell["outputs"] if o["output_type"] == "stream")


@pytest.mark.slow
# nbclient and its kernel open sockets and event loops that they leave to the interpreter to close
@pytest.mark.filterwarnings("default")
def test_the_walkthrough_runs_and_prints_what_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="the notebook needs the extra docs")
    nbclient = pytest.importorskip("nbclient", reason="the notebook needs the extra docs")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'backends'}")
    stored = nbformat.read(NOTEBOOK, as_version=4)
    fresh = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(fresh, timeout=120, resources={"metadata": {"path": ROOT}}).execute()
    cells = [c for c in stored.cells if c.cell_type == "code"]
    again = [c for c in fresh.cells if c.cell_type == "code"]
    assert [printed(c) for c in again] == [printed(c) for c in cells]
    assert "\nred apple\n" in "".join(printed(c) for c in again)
    pictures = [any("image/png" in o.get("data", {}) for o in c.outputs) for c in again]
    assert pictures.count(True) == 4  # the image, its patches, an attention, the mask


def test_the_walkthrough_calls_the_layers_one_by_one() -> None:
    text = NOTEBOOK.read_text()
    for layer in (
        "patchify", "patch_embedding", "prepend_class_token", "add_absolute_positions",
        "layer_norm", "split_heads", "softmax", "merge_heads", "feed_forward",
        "visual_projection", "embed", "text_embedding", "join_image_and_text",
        "attention_bias", "decoder_block", "lm_head",
    ):  # fmt: skip
        assert f"{layer}(" in text, layer
