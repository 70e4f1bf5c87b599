"""GIT as three ONNX graphs, built from a checkpoint's weights.

    vision   pixels -> image features
    image    image features -> keys and values of the image in each decoder layer
    step     one token of each batch row, on top of these -> scores of the next token

This is a form to deploy: the image is encoded once, all beams share its keys and values, and ONNX
Runtime's fused operators (attention, Gelu, QuickGelu) are used where there are some. The file needs
no other part of refgit, so that the benchmark's ONNX peer can import it by its path.
"""

from __future__ import annotations

import json
import math
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

Weights = dict[str, Any]
OPSET, IR_VERSION = 17, 8
VISION = "git.image_encoder.vision_model."
PROJECTION = "git.visual_projection.visual_projection."


class Graph:
    """Nodes and weights of a graph that grows; every method returns the name of its result."""

    def __init__(self, weights: Weights) -> None:
        self.onnx = import_module("onnx")
        self.source = weights
        self.nodes: list[Any] = []
        self.initializers: dict[str, Any] = {}
        self.count = 0

    def op(self, kind: str, *inputs: str, results: int = 1, **attributes: Any) -> Any:
        """Add a node; `results` above 1 returns as many names."""
        contrib = kind in ("Attention", "Gelu", "QuickGelu")
        names = [f"{kind}_{self.count}_{i}" for i in range(results)]
        self.count += 1
        domain = "com.microsoft" if contrib else ""
        self.nodes.append(
            self.onnx.helper.make_node(kind, list(inputs), names, domain=domain, **attributes)
        )
        return names[0] if results == 1 else names

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        """A weight, by its own name."""
        if name not in self.initializers:
            array = np.ascontiguousarray(np.asarray(value, dtype))
            self.initializers[name] = self.onnx.numpy_helper.from_array(array, name)
        return name

    def ints(self, *values: int) -> str:
        """A list of integers, such as a shape."""
        return self.constant("ints_" + "_".join(map(str, values)), values, np.int64)

    def linear(self, x: str, name: str) -> str:
        """X W^T + b of the checkpoint's layer."""
        weight = self.constant(f"{name}.weight^T", self.source[f"{name}.weight"].T)
        bias = self.constant(f"{name}.bias", self.source[f"{name}.bias"])
        return str(self.op("Add", self.op("MatMul", x, weight), bias))

    def layer_norm(self, x: str, name: str, eps: float) -> str:
        """Layer norm over the last axis."""
        p = [self.constant(f"{name}.{k}", self.source[f"{name}.{k}"]) for k in ("weight", "bias")]
        return str(self.op("LayerNormalization", x, *p, axis=-1, epsilon=eps))

    def activation(self, x: str, name: str) -> str:
        """The feed-forward network's activation."""
        if name == "quick_gelu":
            return str(self.op("QuickGelu", x, alpha=1.702))
        if name == "gelu":
            return str(self.op("Gelu", x))
        raise ValueError(f"hidden_act is {name!r}; this peer knows quick_gelu and gelu")

    def attention(self, x: str, names: list[str], heads: int, *, keep: bool = False) -> Any:
        """Self-attention of all over all; with `keep` also (2, B, H, N, d), keys and values."""
        weight = np.concatenate([self.source[f"{n}.weight"] for n in names]).T  # (D, 3D)
        bias = np.concatenate([self.source[f"{n}.bias"] for n in names])
        p = [self.constant(f"{names[0]}+.weight", weight), self.constant(f"{names[0]}+.bias", bias)]
        return self.op("Attention", x, *p, num_heads=heads, results=2 if keep else 1)

    def save(self, path: Path, inputs: dict[str, Any], outputs: dict[str, str]) -> None:
        """Write the graph; `inputs` gives types and shapes, `outputs` the inner names."""
        helper, kinds = self.onnx.helper, self.onnx.TensorProto
        for name, inner in outputs.items():
            self.nodes.append(helper.make_node("Identity", [inner], [name]))
        graph = helper.make_graph(
            self.nodes,
            path.stem,
            [
                helper.make_tensor_value_info(n, getattr(kinds, k), s)
                for n, (k, s) in inputs.items()
            ],
            [helper.make_tensor_value_info(n, kinds.FLOAT, None) for n in outputs],
            list(self.initializers.values()),
        )
        sets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=sets, ir_version=IR_VERSION)
        data = path.with_suffix(".data").name
        self.onnx.save(model, str(path), save_as_external_data=True, location=data)


def read_weights(folder: Path) -> Weights:
    """The checkpoint's weights in float32."""
    file = folder / "model.safetensors"
    if not file.exists():
        raise ValueError(f"{folder} holds no model.safetensors, which this peer reads")
    loaded = import_module("safetensors.numpy").load_file(str(file))
    return {name: x.astype(np.float32, copy=False) for name, x in loaded.items()}


def build(folder: Path, target: Path) -> None:
    """Write vision.onnx, image.onnx and step.onnx of a checkpoint."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config.get("num_image_with_embedding") is not None:
        raise ValueError("this peer takes models of images, not of videos")
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise ValueError("this peer takes absolute positions, not relative ones")
    weights = read_weights(folder)
    target.mkdir(parents=True, exist_ok=True)
    build_vision(weights, config, target / "vision.onnx")
    build_image(weights, config, target / "image.onnx")
    build_step(weights, config, target / "step.onnx")


def build_vision(weights: Weights, config: dict[str, Any], path: Path) -> None:
    """Pixels (B, C, S, S) -> features (B, N, D)."""
    vision, g = config["vision_config"], Graph(weights)
    d, eps, p = vision["hidden_size"], vision["layer_norm_eps"], VISION + "embeddings."
    kernel = g.constant("patches", weights[f"{p}patch_embedding.weight"])
    side = vision["patch_size"]
    x = g.op("Conv", "pixels", kernel, kernel_shape=[side, side], strides=[side, side])
    x = g.op("Transpose", g.op("Reshape", x, g.ints(0, d, -1)), perm=[0, 2, 1])  # (B, N - 1, D)
    batch = g.op("Slice", g.op("Shape", x), g.ints(0), g.ints(1))
    one = g.op("Concat", batch, g.ints(1, d), axis=0)
    first = g.constant("class", weights[f"{p}class_embedding"].reshape(1, 1, d))
    x = g.op("Concat", g.op("Expand", first, one), x, axis=1)  # (B, N, D)
    x = g.op("Add", x, g.constant("positions", weights[f"{p}position_embedding.weight"]))
    x = g.layer_norm(x, f"{VISION}pre_layrnorm", eps)
    for i in range(vision["num_hidden_layers"]):
        name = f"{VISION}encoder.layers.{i}."
        h = g.layer_norm(x, f"{name}layer_norm1", eps)
        names = [f"{name}self_attn.{k}_proj" for k in "qkv"]
        h = g.attention(h, names, vision["num_attention_heads"])
        x = g.op("Add", x, g.linear(h, f"{name}self_attn.out_proj"))
        h = g.linear(g.layer_norm(x, f"{name}layer_norm2", eps), f"{name}mlp.fc1")
        h = g.linear(g.activation(h, vision["hidden_act"]), f"{name}mlp.fc2")
        x = g.op("Add", x, h)
    x = g.layer_norm(x, f"{VISION}post_layernorm", eps)
    size = vision["image_size"]
    g.save(path, {"pixels": ("FLOAT", ["B", 3, size, size])}, {"features": x})


def build_image(weights: Weights, config: dict[str, Any], path: Path) -> None:
    """Features (B, N, D) -> of each layer, keys (B, H, d, N) and values (B, H, N, d)."""
    g, eps, heads = Graph(weights), config["layer_norm_eps"], config["num_attention_heads"]
    x = g.linear("features", f"{PROJECTION}0")
    x = g.layer_norm(x, f"{PROJECTION}1", config["vision_config"]["layer_norm_eps"])
    outputs: dict[str, str] = {}
    last = config["num_hidden_layers"] - 1
    width = config["hidden_size"] // heads
    for i in range(last + 1):
        name = f"git.encoder.layer.{i}."
        names = [f"{name}attention.self.{k}" for k in ("query", "key", "value")]
        if i == last:  # nobody looks at the image's output
            key, value = (
                g.op(
                    "Transpose",
                    g.op("Reshape", g.linear(x, n), g.ints(0, 0, heads, width)),
                    perm=perm,
                )
                for n, perm in zip(names[1:], ([0, 2, 3, 1], [0, 2, 1, 3]), strict=True)
            )
        else:
            h, both = g.attention(x, names, heads, keep=True)
            key, value = (
                g.op("Squeeze", part, g.ints(0))
                for part in g.op("Split", both, g.ints(1, 1), axis=0, results=2)
            )
            key = g.op("Transpose", key, perm=[0, 1, 3, 2])
            x = decoder_block_end(g, x, h, name, config, eps)
        outputs |= {f"key{i}": key, f"value{i}": value}
    width = config["vision_config"]["hidden_size"]
    g.save(path, {"features": ("FLOAT", ["B", "N", width])}, outputs)


def decoder_block_end(
    g: Graph, x: str, context: str, name: str, config: dict[str, Any], eps: float
) -> str:
    """What follows the attention in a post-norm block."""
    h = g.linear(context, f"{name}attention.output.dense")
    x = g.layer_norm(g.op("Add", x, h), f"{name}attention.output.LayerNorm", eps)
    h = g.activation(g.linear(x, f"{name}intermediate.dense"), config["hidden_act"])
    h = g.linear(h, f"{name}output.dense")
    return g.layer_norm(g.op("Add", x, h), f"{name}output.LayerNorm", eps)


def build_step(weights: Weights, config: dict[str, Any], path: Path) -> None:
    """One token a batch row (R,), R = B n, row b n + j is the j-th of image b -> scores (R, V)."""
    g, eps, heads = Graph(weights), config["layer_norm_eps"], config["num_attention_heads"]
    d, width = config["hidden_size"], config["hidden_size"] // heads
    p = "git.embeddings."
    words = g.constant("words", weights[f"{p}word_embeddings.weight"])
    places = g.constant("places", weights[f"{p}position_embeddings.weight"])
    x = g.op("Add", g.op("Gather", words, "ids"), g.op("Gather", places, "place"))  # (R, D)
    x = g.layer_norm(x, f"{p}LayerNorm", eps)
    inputs: dict[str, Any] = {"ids": ("INT64", ["R"]), "place": ("INT64", [1])}
    outputs: dict[str, str] = {}
    batch = g.op("Slice", g.op("Shape", "image_key0"), g.ints(0), g.ints(1))
    by_image = g.op("Concat", batch, g.ints(-1, heads, width), axis=0)  # (B, n, H, d)
    n_image = g.op("Slice", g.op("Shape", "image_key0"), g.ints(3), g.ints(4))
    rows = g.op("Concat", g.op("Shape", "ids"), g.ints(heads, 1), n_image, axis=0)  # (R, H, 1, N)
    rows_by_image = g.op("Concat", batch, g.ints(-1, heads), n_image, axis=0)  # (B, n, H, N)
    for i in range(config["num_hidden_layers"]):
        name = f"git.encoder.layer.{i}."
        inputs[f"image_key{i}"] = ("FLOAT", ["B", heads, width, "N"])
        inputs[f"image_value{i}"] = ("FLOAT", ["B", heads, "N", width])
        inputs[f"key{i}"] = inputs[f"value{i}"] = ("FLOAT", ["R", heads, "T", width])
        q, k, v = projections(g, x, f"{name}attention.self.", d, width)
        k, v = (g.op("Reshape", y, g.ints(0, heads, 1, width)) for y in (k, v))
        k, v = g.op("Concat", f"key{i}", k, axis=2), g.op("Concat", f"value{i}", v, axis=2)
        outputs |= {f"new_key{i}": k, f"new_value{i}": v}
        # All batch rows of an image attend to its keys in one product: (B, H, n, d) (B, H, d, N).
        mine = g.op("Transpose", g.op("Reshape", q, by_image), perm=[0, 2, 1, 3])
        on_image = g.op("Transpose", g.op("MatMul", mine, f"image_key{i}"), perm=[0, 2, 1, 3])
        on_image = g.op("Reshape", on_image, rows)
        mine = g.op("Reshape", q, g.ints(0, heads, 1, width))
        on_text = g.op("MatMul", mine, g.op("Transpose", k, perm=[0, 1, 3, 2]))  # (R, H, 1, T)
        seen = g.op("Softmax", g.op("Concat", on_image, on_text, axis=3), axis=3)
        on_image = g.op("Slice", seen, g.ints(0), n_image, g.ints(3))
        on_text = g.op("Slice", seen, n_image, g.ints(2**31 - 1), g.ints(3))
        on_image = g.op("Reshape", on_image, rows_by_image)
        on_image = g.op("Transpose", on_image, perm=[0, 2, 1, 3])  # (B, H, n, N)
        of_image = g.op("MatMul", on_image, f"image_value{i}")  # (B, H, n, d)
        of_image = g.op("Transpose", of_image, perm=[0, 2, 1, 3])
        of_image = g.op("Reshape", of_image, g.ints(-1, d))
        of_text = g.op("Reshape", g.op("MatMul", on_text, v), g.ints(-1, d))
        x = decoder_block_end(g, x, g.op("Add", of_image, of_text), name, config, eps)
    if "output.weight" not in weights:
        weights["output.weight"] = weights[f"{p}word_embeddings.weight"]
    outputs = {"scores": g.linear(x, "output"), **outputs}
    g.save(path, inputs, outputs)


def projections(g: Graph, x: str, name: str, d: int, width: int) -> tuple[str, str, str]:
    """Query, key and value in one product; the query comes divided by the root of d."""
    names = [name + kind for kind in ("query", "key", "value")]
    scale = np.ones((3, 1), np.float32)
    scale[0] = 1 / math.sqrt(width)
    weight = np.stack([g.source[f"{n}.weight"] for n in names]) * scale[:, :, None]  # (3, D, D)
    bias = np.stack([g.source[f"{n}.bias"] for n in names]) * scale
    product = g.op("MatMul", x, g.constant(f"{name}.weight", weight.reshape(3 * d, d).T))
    both = g.op("Add", product, g.constant(f"{name}.bias", bias.reshape(-1)))
    q, k, v = g.op("Split", both, g.ints(d, d, d), axis=1, results=3)
    return q, k, v
