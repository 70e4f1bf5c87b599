"""The list of GIT's tensors: what each is made from, in the order of execution.

It reads like the figure: image encoder, projection, text embedding, joint sequence, decoder,
head. The names are the hooks', which are the checkpoint's module paths. Nothing is computed
here; `recipes.py` says how.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from refgit.model.config import GitConfig
from refgit.traces.names import TensorName

VISION = "git.image_encoder.vision_model"
PROJECTION = "git.visual_projection.visual_projection"
FRAMES = "git.image_encoder.frames"  # no hook
JOINT = "git.encoder.joint"  # no hook


@dataclass(frozen=True)
class Node:
    """One tensor of the forward pass.

    Attributes
    ----------
    name : str
        As in a trace, "step.N." in front for the steps of decoding.
    kind : str
        Which recipe makes it: a key of `recipes.RECIPES`.
    inputs : tuple of str
        Names of the tensors it is made from.
    parameters : str
        The branch of the checkpoint that belongs to it, "" for none.
    options : mapping
        Numbers the recipe needs: eps, activation, width of a head, lengths.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    parameters: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def where(self) -> TensorName:
        """The name taken apart: call, step, layer."""
        return TensorName.parse(self.name)

    @cached_property
    def block(self) -> str:
        """The layer it belongs to, as a prefix of names; "" outside the layers."""
        return self.where.block


def all_nodes(config: GitConfig, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[Node]:
    """The nodes of the first call, of the steps on top of it, and of other calls."""
    names = [TensorName.parse(name) for name in shapes]
    for call in (None, *sorted({name.call for name in names if name.call is not None})):
        steps = {name.step for name in names if name.call == call and name.step is not None}
        chain: list[str] = []
        lengths: list[int] = []
        for step in (None, *sorted(steps)):
            prefix = TensorName(call, step).prefix
            texts = (f"{prefix}input.{name}" for name in ("input_ids", "inputs_embeds"))
            length = next((shapes[name][1] for name in texts if name in shapes), None)
            if length is not None:
                chain, lengths = [*chain, prefix], [*lengths, length]
                yield from _call_nodes(config, shapes, _Call(tuple(chain), tuple(lengths)))


@dataclass(frozen=True)
class _Call:
    """Makes the nodes of one call, from paths without its prefix.

    `calls` are the prefixes of its chain so far, its own the last, with the lengths of their texts.
    """

    calls: tuple[str, ...]
    lengths: tuple[int, ...]

    @property
    def prefix(self) -> str:
        return self.calls[-1]

    def __call__(
        self, path: str, kind: str, *inputs: str, parameters: str = "", **options: Any
    ) -> Node:
        """Make a node; linear maps and layer norms have the parameters of their own path."""
        if kind in ("linear", "layer_norm"):
            parameters = path
        names = tuple(self.prefix + name for name in inputs)
        return Node(self.prefix + path, kind, names, parameters, options)


def _call_nodes(
    config: GitConfig, shapes: Mapping[str, tuple[int, ...]], node: _Call
) -> Iterator[Node]:
    pixels = shapes.get(f"{node.prefix}input.pixel_values")
    if pixels is not None:
        yield from _image_nodes(config, node, video=len(pixels) == 5)
    yield from _text_nodes(config, node, f"{node.prefix}input.input_ids" in shapes)
    x = "git.embeddings.LayerNorm"
    if pixels is not None:
        x = JOINT
        yield node(x, "join", f"{PROJECTION}.1", "git.embeddings.LayerNorm")
    for i in range(config.num_hidden_layers):
        yield from _decoder_block(config, i, x, node)
        x = f"git.encoder.layer.{i}.output.LayerNorm"
    yield node("output", "head", x, parameters="output")


def _image_nodes(config: GitConfig, node: _Call, *, video: bool) -> Iterator[Node]:
    vision, pixels = config.vision_config, "input.pixel_values"
    eps = vision.layer_norm_eps
    embedded, size = f"{VISION}.embeddings", vision.patch_size
    patches = f"{embedded}.patch_embedding"
    yield node(patches, "patch", pixels, parameters=patches)
    yield node(embedded, "class_position", patches, pixels, parameters=embedded, patch_size=size)
    x = f"{VISION}.pre_layrnorm"
    yield node(x, "layer_norm", embedded, eps=eps)
    for i in range(vision.num_hidden_layers):
        yield from _vision_block(config, i, x, node)
        x = f"{VISION}.encoder.layers.{i}"
    tokens = f"{VISION}.post_layernorm"
    yield node(tokens, "layer_norm", x, eps=eps)
    if video:
        times, table = config.num_image_with_embedding or 0, "git.img_temperal_embedding"
        yield node(FRAMES, "frames", tokens, pixels, parameters=table, times=times)
        tokens = FRAMES
    yield node(f"{PROJECTION}.0", "linear", tokens)
    yield node(f"{PROJECTION}.1", "layer_norm", f"{PROJECTION}.0", eps=eps)


def _vision_block(config: GitConfig, i: int, x: str, node: _Call) -> Iterator[Node]:
    vision, block = config.vision_config, f"{VISION}.encoder.layers.{i}"
    eps, inside, mlp = vision.layer_norm_eps, f"{block}.self_attn", f"{block}.mlp"
    attend: dict[str, Any] = {
        "head_width": vision.hidden_size // vision.num_attention_heads,
        "relative": None,
        "masked": False,
    }
    q, k, v = (f"{inside}.{name}" for name in ("q_proj", "k_proj", "v_proj"))
    scores, probabilities, context, out, residual = (
        f"{inside}.{name}"
        for name in ("scores", "probabilities", "context", "out_proj", "residual")
    )
    yield node(f"{block}.layer_norm1", "layer_norm", x, eps=eps)
    for name in (q, k, v):
        yield node(name, "linear", f"{block}.layer_norm1")
    yield node(scores, "scores", q, k, parameters=inside, **attend)
    yield node(probabilities, "probabilities", scores, **attend)
    yield node(context, "context", probabilities, v, **attend)
    yield node(out, "linear", context)
    yield node(residual, "residual", x, out)
    yield node(f"{block}.layer_norm2", "layer_norm", residual, eps=eps)
    yield node(f"{mlp}.fc1", "linear", f"{block}.layer_norm2")
    yield node(f"{mlp}.activation_fn", "activation", f"{mlp}.fc1", act=vision.hidden_act)
    yield node(f"{mlp}.fc2", "linear", f"{mlp}.activation_fn")
    yield node(block, "residual", residual, f"{mlp}.fc2")


def _text_nodes(config: GitConfig, node: _Call, has_ids: bool) -> Iterator[Node]:
    root, ids = "git.embeddings", "input.input_ids"
    x = f"{root}.word_embeddings" if has_ids else "input.inputs_embeds"
    if has_ids:
        yield node(x, "embedding", ids, parameters=x)
    if config.position_embedding_type == "absolute":
        positions, told = f"{root}.position_embeddings", "input.position_ids"
        yield node(positions, "position", told, parameters=positions, lengths=node.lengths)
        yield node(f"{root}.sum", "sum", x, positions)
        x = f"{root}.sum"
    yield node(f"{root}.LayerNorm", "layer_norm", x, eps=config.embedding_layer_norm_eps)


def _decoder_block(config: GitConfig, i: int, x: str, node: _Call) -> Iterator[Node]:
    """The nodes of a post-norm block that reads `x`; keys and values of earlier calls join in."""
    block, eps = f"git.encoder.layer.{i}", config.layer_norm_eps
    relative = config.position_embedding_type
    attend: dict[str, Any] = {
        "head_width": config.hidden_size // config.num_attention_heads,
        "relative": None if relative == "absolute" else relative,
        "masked": True, "calls": node.calls, "lengths": node.lengths,
    }  # fmt: skip
    inside, attended = f"{block}.attention.self", f"{block}.attention.output"
    mlp, last = f"{block}.intermediate", f"{block}.output"
    query, key, value, scores, probabilities, context = (
        f"{inside}.{name}"
        for name in ("query", "key", "value", "scores", "probabilities", "context")
    )
    for name in (query, key, value):
        yield node(name, "linear", x)
    here = node.prefix
    keys, values = (tuple(call + name for call in node.calls) for name in (key, value))
    yield Node(here + scores, "scores", (here + query, *keys), inside, attend)
    yield node(probabilities, "probabilities", scores, **attend)
    yield Node(here + context, "context", (here + probabilities, *values), "", attend)
    yield node(f"{attended}.dense", "linear", context)
    yield node(f"{attended}.residual", "residual", x, f"{attended}.dense")
    yield node(f"{attended}.LayerNorm", "layer_norm", f"{attended}.residual", eps=eps)
    yield node(f"{mlp}.dense", "linear", f"{attended}.LayerNorm")
    act = f"{mlp}.intermediate_act_fn"
    yield node(act, "activation", f"{mlp}.dense", act=config.hidden_act)
    yield node(f"{last}.dense", "linear", act)
    yield node(f"{last}.residual", "residual", f"{attended}.LayerNorm", f"{last}.dense")
    yield node(f"{last}.LayerNorm", "layer_norm", f"{last}.residual", eps=eps)
