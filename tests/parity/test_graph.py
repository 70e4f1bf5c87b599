"""The graph of the porter's tool: from only the inputs it gets every hook of the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.graphs import hooks_of, inputs_of, model_of
from refgit.parity.graph.graph import Graph, MissingTensorError, View
from refgit.testing import CONFIG, pixels, tiny_model, tokens

ACTIVATIONS = ["quick_gelu", "gelu", "gelu_new", "relu", "selu", "silu"]


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """A tiny config and the shapes and options of a call and its steps."""
    frames = draw(st.sampled_from([None, None, 1, 3]))
    patch, heads, text_heads = (draw(st.integers(a, b)) for a, b in ((2, 4), (1, 3), (1, 3)))
    config = {
        "vision_config": {
            "hidden_size": 4 * heads,
            "intermediate_size": draw(st.integers(4, 12)),
            "num_hidden_layers": draw(st.integers(1, 2)),
            "num_attention_heads": heads,
            "image_size": patch * draw(st.integers(2, 3)),
            "patch_size": patch,
            "hidden_act": draw(st.sampled_from(ACTIVATIONS)),
            "initializer_range": 0.3,
        },
        "vocab_size": 31,
        "hidden_size": 6 * text_heads,
        "num_hidden_layers": draw(st.integers(1, 3)),
        "num_attention_heads": text_heads,
        "intermediate_size": draw(st.integers(4, 12)),
        "hidden_act": draw(st.sampled_from(ACTIVATIONS)),
        "max_position_embeddings": 120,
        "initializer_range": 0.3,
        "position_embedding_type": draw(
            st.sampled_from(["absolute", "relative_key", "relative_key_query"])
        ),
        "num_image_with_embedding": frames,
        "tie_word_embeddings": draw(st.booleans()),
    }
    side = config["vision_config"]["image_size"]
    other_size = draw(st.booleans())
    return {
        "config": config,
        "size": [draw(st.integers(patch, 5 * patch)) if other_size else side for _ in range(2)],
        "frames": None if frames is None else draw(st.integers(1, frames)),
        "images": draw(st.integers(0, 2)),
        "repeat": draw(st.integers(1, 2)),
        "length": draw(st.integers(1, 4)),
        "padding": draw(st.sampled_from(["none", "left", "right"])),
        "positions": draw(st.booleans()),
        "head_mask": draw(st.booleans()),
        "embeds": draw(st.booleans()),
        "steps": draw(st.lists(st.integers(1, 2), max_size=2)),
        "prune": text_heads > 1 and draw(st.booleans()),
        "seed": draw(st.integers(0, 999)),
    }


@given(cases())
def test_from_the_inputs_alone_the_graph_gets_every_tap(case: dict[str, Any]) -> None:
    model = model_of(case)
    inputs, hooks = hooks_of(case, model, inputs_of(case, model))
    graph = Graph(model.parameters, model.config, inputs)
    view = View(graph, inputs)
    unhooked = {name for name in graph.nodes if name.endswith((".frames", ".joint"))}
    assert set(graph.nodes) - unhooked == set(hooks)
    for name, hook in hooks.items():
        found = view[name]
        assert found.shape == hook.shape, name
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, hook, rtol=1e-10, atol=1e-10, err_msg=name)


@given(cases())
def test_every_node_follows_from_the_models_own_tensors(case: dict[str, Any]) -> None:
    model = model_of(case)
    inputs, hooks = hooks_of(case, model, inputs_of(case, model))
    graph = Graph(model.parameters, model.config, inputs)
    for name, hook in hooks.items():
        found = graph.compute(name, inputs | hooks)
        np.testing.assert_allclose(found, hook, rtol=1e-10, atol=1e-10, err_msg=name)


@pytest.fixture
def small() -> tuple[Graph, dict[str, np.ndarray]]:
    model = tiny_model()
    inputs = {"input.pixel_values": pixels(), "input.input_ids": tokens()}
    return Graph(model.parameters, CONFIG, inputs), inputs


def test_nodes_stand_in_the_order_of_execution(
    small: tuple[Graph, dict[str, np.ndarray]],
) -> None:
    graph, inputs = small
    seen = set(inputs)
    for node in graph.nodes.values():
        wanted = {name for name in node.inputs if not name.endswith("position_ids")}
        assert wanted <= seen, node.name
        seen.add(node.name)
    names = list(graph.nodes)
    assert names.index("git.visual_projection.visual_projection.1") < names.index(
        "git.embeddings.word_embeddings"
    )
    assert names[-1] == "output"


def test_a_change_reaches_what_is_below_it_and_nothing_else(
    small: tuple[Graph, dict[str, np.ndarray]],
) -> None:
    graph, inputs = small
    name = "git.encoder.layer.1.attention.output.dense"
    plain = View(graph, inputs)
    before = plain["output"]
    changed = View(graph, inputs, changes={name: lambda node, view: 0 * plain[name]}, base=plain)
    assert not np.allclose(changed["output"], before)
    above = "git.encoder.layer.1.attention.self.context"
    assert changed[above] is plain[above]
    assert not changed[name].any()


def test_what_is_given_is_not_computed(small: tuple[Graph, dict[str, np.ndarray]]) -> None:
    graph, _ = small
    x = np.random.default_rng(0).standard_normal((1, 9, 16))
    view = View(graph, {"git.encoder.layer.2.output.LayerNorm": x})
    assert view.recompute("output").shape == (1, 9, 23)
    assert view.computed == set()


def test_what_cannot_be_computed_is_named(small: tuple[Graph, dict[str, np.ndarray]]) -> None:
    graph, inputs = small
    with pytest.raises(MissingTensorError, match=r"input\.pixel_values is not given"):
        graph.compute("output", {"input.input_ids": inputs["input.input_ids"]})
    with pytest.raises(MissingTensorError, match=r"git\.nothing"):
        graph.compute("git.nothing", inputs)


def test_a_tensor_knows_its_layer(small: tuple[Graph, dict[str, np.ndarray]]) -> None:
    graph, _ = small
    nodes = graph.nodes
    layer = "git.encoder.layer.1"
    assert nodes[f"{layer}.intermediate.dense"].block == layer
    vision = "git.image_encoder.vision_model.encoder.layers.0"
    assert nodes[vision].block == vision
    assert nodes["output"].block == ""
