"""Traces captured from ONNX exports of transformers' GIT against refgit, run by onnxruntime.

Both exporters of torch: the older one by TorchScript and the newer one by torch.export. Values are
found by the paths that these leave in the graph, and where there are none, by shape and order.
"""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.capture_cases import (
    VIDEO,
    Arrays,
    assert_agrees,
    error,
    first_difference,
    image_call,
    pair,
    video_call,
)
from helpers.oracle import at_work, only, tensors, torch
from refgit import GitConfig, testing
from refgit.errors import TraceError
from refgit.parity import compare
from refgit.parity.numerics.noise import NoiseFloor
from refgit.traces.capture.onnx import capture_onnx
from refgit.traces.container import Trace
from refgit.traces.recorder import record

EXTRA = "needs the extra onnx: pip install onnx onnxruntime onnxscript"
onnx = pytest.importorskip("onnx", reason=EXTRA)
pytest.importorskip("onnxruntime", reason=EXTRA)
pytest.importorskip("onnxscript", reason=EXTRA)
only("4")

pytestmark = [pytest.mark.oracle]
OLD, NEW = {"dynamo": False, "opset_version": 17}, {"dynamo": True, "opset_version": 20}
EXPORTERS = pytest.mark.parametrize("exporter", [OLD, NEW], ids=["torchscript", "torch.export"])


def export(model: Any, call: Arrays, path: Path, exporter: dict[str, Any], **options: Any) -> Path:
    arguments = tuple(tensors(call).values())
    with (
        at_work(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        torch.onnx.export(
            model, arguments, str(path), input_names=list(call), **exporter, **options
        )
    return path


class Whole(torch.nn.Module):  # type: ignore[misc]  # torch has no types
    """One forward pass from pixels and ids to logits; git and output have their own names."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.git, self.output = model.git, model.output
        plain = self.git.create_attention_mask

        def mask(tgt: Any, memory: Any, tgt_mask: Any, past_key_values_length: Any) -> Any:
            # the older exporter knows no torch.full of a bool
            none_padded = torch.zeros(memory.shape[:2]).bool()
            return plain(tgt, memory, tgt_mask, past_key_values_length, none_padded)

        self.git.create_attention_mask = mask

    def forward(self, pixel_values: Any, input_ids: Any) -> Any:
        options = {"use_cache": False, "return_dict": False}
        return self.output(self.git(input_ids, pixel_values=pixel_values, **options)[0])


def exported(
    path: Path, exporter: dict[str, Any], config: GitConfig = testing.CONFIG, **options: Any
) -> tuple[Any, Path]:
    """refgit's model and the file of the same model."""
    ours, theirs = pair(config)
    call = image_call() if config is not VIDEO else video_call()
    return ours, export(Whole(theirs), call, path / "model.onnx", exporter, **options)


def named(trace: Trace) -> Trace:
    """What has a name of refgit's, of all the values of a graph."""
    ours = ("input.", "git.", "output")
    return Trace({n: x for n, x in trace.items() if n.startswith(ours)}, meta=trace.meta)


def nameless(trace: Trace) -> Trace:
    """The same tensors as a graph without scopes has them: numbered."""
    return Trace(
        {n if n.startswith("input.") else f"value_{i}": trace[n] for i, n in enumerate(trace)},
        meta=trace.meta,
    )


# ---- all that refgit names is found


@EXPORTERS
@pytest.mark.parametrize("config", [testing.CONFIG, VIDEO], ids=["images", "videos"])
def test_every_tensor_of_an_export_agrees(
    exporter: dict[str, Any], config: GitConfig, tmp_path: Path
) -> None:
    ours, path = exported(tmp_path, exporter, config)
    call = video_call() if config is VIDEO else image_call()
    found = capture_onnx(path, call)
    assert_agrees(record(ours, **call), named(found))
    assert len(found) > len(named(found)) + 50  # the graph's other values, as they are called there
    assert found.meta["producer"].startswith("onnx opset")


def test_a_layer_norm_taken_apart_is_found_as_one(tmp_path: Path) -> None:
    """Before opset 17 ONNX had no layer norm; its pieces lie in one scope."""
    ours, path = exported(tmp_path, {"dynamo": False, "opset_version": 14})
    graph = onnx.load(path).graph
    assert "LayerNormalization" not in {node.op_type for node in graph.node}
    assert_agrees(record(ours, **image_call()), named(capture_onnx(path, image_call())))


@EXPORTERS
def test_any_length_of_text_goes_through_a_graph_with_free_axes(
    exporter: dict[str, Any], tmp_path: Path
) -> None:
    if exporter["dynamo"]:
        free = {"dynamic_shapes": ({}, {1: torch.export.Dim.AUTO})}
    else:
        free = {"dynamic_axes": {"input_ids": {1: "length"}}}
    ours, path = exported(tmp_path, exporter, **free)
    call = {**image_call(), "input_ids": testing.tokens(2, 7)}
    assert_agrees(record(ours, **call), named(capture_onnx(path, call)))


def test_weights_beside_the_file_are_found(tmp_path: Path) -> None:
    ours, path = exported(tmp_path, OLD)
    proto = onnx.load(path)
    onnx.save(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (tmp_path / "weights.bin").stat().st_size > 10_000
    assert_agrees(record(ours, **image_call()), named(capture_onnx(path, image_call())))


def test_only_what_is_selected_is_computed(tmp_path: Path) -> None:
    _, path = exported(tmp_path, OLD)
    found = capture_onnx(path, image_call(), ["*.probabilities", "/git/Concat_output_0"])
    kinds = {name.rpartition(".")[2] for name in found if not name.startswith("input.")}
    assert kinds == {"probabilities", "/git/Concat_output_0"}
    assert len(found) == 2 + 5 + 1


# ---- the command's comparison


@EXPORTERS
def test_the_comparison_matches_by_name_and_finds_no_difference(
    exporter: dict[str, Any], tmp_path: Path
) -> None:
    ours, path = exported(tmp_path, exporter)
    capture_onnx(path, image_call()).save(tmp_path / "theirs.safetensors")
    reference = record(ours, **image_call())
    noise = NoiseFloor.measure(ours, reference)
    comparison = compare(reference, Trace.load(tmp_path / "theirs.safetensors"), noise=noise)
    assert comparison.ok, comparison.sentence
    assert {row.name for row in comparison.rows} >= set(reference) - {"input.position_ids"}
    assert all(row.matched == row.name for row in comparison.rows)


@EXPORTERS
def test_the_comparison_matches_by_shape_and_order_where_names_are_gone(
    exporter: dict[str, Any], tmp_path: Path
) -> None:
    ours, path = exported(tmp_path, exporter)
    found = capture_onnx(path, image_call())
    reference = record(ours, **image_call())
    comparison = compare(reference, nameless(found), noise=NoiseFloor.measure(ours, reference))
    assert comparison.ok, comparison.sentence
    known = {f"value_{i}": name for i, name in enumerate(found)}
    rows = [row for row in comparison.rows if not row.name.startswith("input.")]
    # equal tensors under other names (a transposed copy before or behind) are as good, and so are
    # scores to which the mask has been added, since masked elements are left out
    for row in rows:
        same = known[row.matched] == row.name or "masked elements left out" in row.note
        assert same or error_of_copy(found, known[row.matched], row.name)
    assert len(rows) >= 0.95 * len([n for n in reference if not n.startswith("input.")])


def error_of_copy(found: Trace, one: str, other: str) -> bool:
    """Whether two tensors hold the same numbers in some order."""
    a, b = np.sort(found[one].ravel()), np.sort(found[other].ravel())
    return bool(a.shape == b.shape and error(a, b) <= 1e-6)


# ---- a mistake is found where it is


def with_tanh_gelu(model: Any, layer: int) -> None:
    model.git.encoder.layer[layer].intermediate.intermediate_act_fn = torch.nn.GELU("tanh")


def with_another_eps(model: Any, layer: int) -> None:
    model.git.encoder.layer[layer].attention.output.LayerNorm.eps = 1e-2


def without_the_scale(model: Any, layer: int) -> None:
    model.git.image_encoder.vision_model.encoder.layers[layer].self_attn.scale = 1.0


def with_swapped_keys(model: Any, layer: int) -> None:
    attention = model.git.encoder.layer[layer].attention.self
    attention.query, attention.key = attention.key, attention.query


MISTAKES = [
    (with_tanh_gelu, 1, "git.encoder.layer.1.intermediate.intermediate_act_fn"),
    (with_another_eps, 2, "git.encoder.layer.2.attention.output.LayerNorm"),
    (
        without_the_scale,
        1,
        "git.image_encoder.vision_model.encoder.layers.1.self_attn.scores",
    ),
    (with_swapped_keys, 0, "git.encoder.layer.0.attention.self.query"),
]


@EXPORTERS
@pytest.mark.parametrize(
    ("mistake", "layer", "place"), MISTAKES, ids=[case[0].__name__ for case in MISTAKES]
)
def test_a_mistake_in_the_exported_model_is_located(
    mistake: Any, layer: int, place: str, exporter: dict[str, Any], tmp_path: Path
) -> None:
    ours, theirs = pair()
    mistake(theirs, layer)
    path = export(Whole(theirs), image_call(), tmp_path / "model.onnx", exporter)
    found = capture_onnx(path, image_call())
    reference = record(ours, **image_call())
    assert first_difference(reference, found) == place
    noise = NoiseFloor.measure(ours, reference)
    for trace in (found, nameless(found)):
        comparison = compare(reference, trace, noise=noise)
        assert comparison.first is not None
        places = {place}
        if trace is not found and mistake is with_swapped_keys:
            # without names, keys that stand where queries should may pass for them
            places.add(place.replace("query", "key"))
        assert comparison.first.name in places


# ---- two graphs, as one deploys them


class Encoder(torch.nn.Module):  # type: ignore[misc]  # torch has no types
    """Pixels to image tokens of the decoder's width."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.git = torch.nn.Module()
        self.git.image_encoder = model.git.image_encoder
        self.git.visual_projection = model.git.visual_projection

    def forward(self, pixel_values: Any) -> Any:
        return self.git.visual_projection(self.git.image_encoder(pixel_values)[0])


class Decoder(torch.nn.Module):  # type: ignore[misc]  # torch has no types
    """Image tokens and ids to logits."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.git = torch.nn.Module()
        self.git.embeddings, self.git.encoder = model.git.embeddings, model.git.encoder
        self.output = model.output

    def forward(self, image_tokens: Any, input_ids: Any) -> Any:
        n, t = image_tokens.shape[1], input_ids.shape[1]
        place = torch.arange(n + t)
        unseen = (place[None, :] > place[:, None]) & (place[None, :] >= n)
        mask = unseen.to(torch.float32) * -1e9
        x = torch.cat([image_tokens, self.git.embeddings(input_ids)], 1)
        return self.output(self.git.encoder(x, mask[None, None], use_cache=False)[0])


@EXPORTERS
def test_an_encoder_and_a_decoder_join_to_the_trace_of_a_step(
    exporter: dict[str, Any], tmp_path: Path
) -> None:
    ours, theirs = pair()
    theirs.git.encoder.config.return_dict = False
    call, reference = image_call(), record(ours, **image_call(), tokens=1)
    pixels, ids = call["pixel_values"], call["input_ids"]
    first = export(Encoder(theirs), {"pixel_values": pixels}, tmp_path / "encoder.onnx", exporter)
    encoder = capture_onnx(first, {"pixel_values": pixels})
    image_tokens = encoder["git.visual_projection.visual_projection.1"]
    longer = np.concatenate([ids, reference["step.1.input.input_ids"]], 1)
    parts = []
    for text, prefix in ((ids, ""), (longer, "step.1.")):
        given = {"image_tokens": image_tokens, "input_ids": text}
        path = export(Decoder(theirs), given, tmp_path / f"decoder{prefix}onnx", exporter)
        parts.append(capture_onnx(path, given, prefix=prefix))
    found = Trace({**encoder, **parts[0], **parts[1]})
    assert first_difference(reference, found) is None
    computed = [n for n in reference if "input." not in n]
    assert [n for n in found if n in computed] == computed


# ---- what goes wrong


def test_inputs_that_the_graph_does_not_read_are_refused_by_name(tmp_path: Path) -> None:
    _, path = exported(tmp_path, OLD)
    message = r"model\.onnx reads input_ids, pixel_values; inputs has image, input_ids"
    with pytest.raises(TraceError, match=message):
        capture_onnx(path, {"image": testing.pixels(), "input_ids": testing.tokens()})
    with pytest.raises(TraceError, match=r"inputs\['pixel_values'\] is of dtype int64"):
        capture_onnx(path, {"pixel_values": testing.tokens(), "input_ids": testing.tokens()})


def test_a_picture_of_another_shape_is_refused_in_one_sentence(tmp_path: Path) -> None:
    _, path = exported(tmp_path, OLD)
    call = {**image_call(), "pixel_values": np.zeros((2, 3, 9, 8), np.float32)}
    with pytest.raises(TraceError, match=r"onnxruntime cannot run .*model\.onnx: "):
        capture_onnx(path, call)


@pytest.mark.parametrize("content", [b"", b"no protobuf at all", os.urandom(200)])
def test_a_file_that_is_no_graph_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(TraceError, match=r"model\.onnx (is not an ONNX file|holds no graph)"):
        capture_onnx(path, image_call())
