"""The text decoder: a stack of BERT blocks over image and text tokens together.

One sequence holds the N image tokens and then the T text tokens; `layers/mask.py` says which token
attends to which. There are three ways through the stack, and all run the same `decoder_block`:

    decode         the joint sequence at once                    (training, scoring)
    read_image     the image tokens only, into a cache           (once per image)
    continue_text  new text tokens, on top of a cache            (each step of generation)

(GIT paper, section 3.1; BERT, arXiv 1810.04805, section 3.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, TypedDict, Unpack

from refgit.layers._array_api import Array, array_namespace
from refgit.layers._operations import DEFINITIONS, Operations
from refgit.layers.attention import PastKeysValues, multi_head_attention, project_heads
from refgit.layers.feed_forward import feed_forward
from refgit.layers.linear import linear
from refgit.layers.mask import attention_bias, image_text_mask
from refgit.layers.normalization import layer_norm
from refgit.layers.position import RelativePositions
from refgit.model.cache import KeyValueCache
from refgit.model.config import GitConfig
from refgit.model.outputs import BaseModelOutput, run_layers

Parameters = Mapping[str, Any]


class Options(TypedDict, total=False):
    """What every way through the stack may be told.

    Attributes
    ----------
    head_mask : array (layers, H), or None
        0 at heads to silence.
    ops : Operations
        Which version of each operation runs; the definitions by default.
    keep_hidden_states, keep_attentions : bool
        Whether to return what lies between; False by default.
    """

    head_mask: Array | None
    ops: Operations
    keep_hidden_states: bool
    keep_attentions: bool


def decode(
    x: Array,
    p: Parameters,
    config: GitConfig,
    *,
    n_image: int,
    n_images: int = 1,
    text_mask: Array | None = None,
    cache: KeyValueCache | None = None,
    **options: Unpack[Options],
) -> BaseModelOutput:
    """Read image and text tokens at once: (B, N + T, D) -> (B, N + T, D).

    `p` holds what the checkpoint has under ``git.encoder``; `text_mask` (B, T) is 0 at padding. An
    empty `cache` is filled on the way, with the image tokens of the first `n_images` batch rows:
    the other rows repeat them in order.
    """
    allowed = image_text_mask(n_image, x.shape[1], like=x)  # (L, L)
    bias = attention_bias(allowed, text_mask, like=x)  # (1 or B, 1, L, L)

    def past(layer: int, key: Array, value: Array) -> tuple[list[Array], list[Array]]:
        if cache is not None:  # copies: a view would keep the whole of `key` alive
            xp = array_namespace(key)
            if n_image:
                image = (xp.asarray(y[:n_images, :, :n_image, :], copy=True) for y in (key, value))
                cache.set_image(layer, *image)
            text = (xp.asarray(y[:, :, n_image:, :], copy=True) for y in (key, value))
            cache.append_text(layer, *text)
        return [key], [value]

    return _through_layers(x, p, config, bias, past, **options)


def read_image(
    x: Array,
    p: Parameters,
    config: GitConfig,
    cache: KeyValueCache,
    *,
    head_mask: Array | None = None,
    ops: Operations = DEFINITIONS,
) -> None:
    """Store the keys and values of image tokens (B', N, D) in the cache.

    Image tokens attend to one another and nothing else, so no mask is needed. Nothing reads their
    output, so of the last layer only the keys and values are computed.
    """
    last = config.num_hidden_layers - 1

    def past(layer: int, key: Array, value: Array) -> tuple[list[Array], list[Array]]:
        cache.set_image(layer, key, value)
        return [key], [value]

    before = range(last)
    x = _through_layers(
        x, p, config, None, past, layers=before, head_mask=head_mask, ops=ops
    ).last_hidden_state
    weights = p["layer"][str(last)]
    key, value = ops.at(f"layer.{last}.attention.self").run(
        project_heads,
        x,
        weights["attention"]["self"],
        ("key", "value"),
        num_heads=heads_in(weights, config),
    )
    cache.set_image(last, key, value)


def continue_text(
    x: Array,
    p: Parameters,
    config: GitConfig,
    cache: KeyValueCache,
    *,
    text_mask: Array | None = None,
    **options: Unpack[Options],
) -> BaseModelOutput:
    """Read new text tokens on top of a cache, which takes them up: (B, Q, D) -> (B, Q, D).

    `text_mask` (B, T) covers all text so far, the new tokens included; 0 is padding.
    """
    bias = None
    past_length = cache.image_length + cache.text_length
    if x.shape[1] > 1 or text_mask is not None:  # a single token attends to all that is there
        n_keys = past_length + x.shape[1]
        allowed = image_text_mask(cache.image_length, n_keys, first_query=past_length, like=x)
        bias = attention_bias(allowed, text_mask, like=x)  # (1 or B, 1, Q, K)
    past = cache.append_text
    return _through_layers(x, p, config, bias, past, first_query=past_length, **options)


def _through_layers(
    x: Array,
    p: Parameters,
    config: GitConfig,
    bias: Array | None,
    past: Any,
    *,
    first_query: int = 0,
    layers: Iterable[int] | None = None,
    head_mask: Array | None = None,
    ops: Operations = DEFINITIONS,
    keep_hidden_states: bool = False,
    keep_attentions: bool = False,
) -> BaseModelOutput:
    """Run the stack, or some layers of it; `past(layer, key, value)` says what each attends to.

    `first_query` is the index of the first of the tokens `x` in the joint sequence.
    """
    blocks = (
        partial(
            decoder_block,
            p=p["layer"][str(i)],
            config=config,
            bias=bias,
            past=partial(past, i),
            first_query=first_query,
            head_mask=None if head_mask is None else head_mask[i, :],
            keep_probabilities=keep_attentions,
            ops=ops.at(f"layer.{i}"),
        )
        for i in (range(config.num_hidden_layers) if layers is None else layers)
    )
    return run_layers(
        x, blocks, keep_hidden_states=keep_hidden_states, keep_attentions=keep_attentions
    )


def decoder_block(
    x: Array,
    p: Parameters,
    config: GitConfig,
    bias: Array | None = None,
    *,
    past: PastKeysValues | None = None,
    first_query: int = 0,
    head_mask: Array | None = None,
    keep_probabilities: bool = True,
    ops: Operations = DEFINITIONS,
) -> tuple[Array, Array | None]:
    """One post-norm block: (B, Q, D) -> (B, Q, D), and its probabilities (B, H, Q, K) if wanted.

    x = LayerNorm(x + Attention(x)), then x = LayerNorm(x + FeedForward(x)).
    """
    relative = None
    if config.position_embedding_type != "absolute":
        relative = RelativePositions(
            p["attention"]["self"]["distance_embedding"]["weight"],
            with_keys=config.position_embedding_type == "relative_key_query",
            first_query=first_query,
        )
    eps = config.layer_norm_eps
    context, probabilities = multi_head_attention(
        x,
        p["attention"]["self"],
        ("query", "key", "value"),
        bias,
        num_heads=heads_in(p, config),
        past=past,
        relative=relative,
        head_mask=head_mask,
        keep_probabilities=keep_probabilities,
        ops=ops.at("attention.self"),
    )
    output = p["attention"]["output"]
    h = ops.hook("attention.output.dense", ops.run(linear, context, **output["dense"]))
    x = ops.hook("attention.output.residual", x + h)
    x = ops.run(layer_norm, x, **output["LayerNorm"], eps=eps)
    x = ops.hook("attention.output.LayerNorm", x)
    h = ops.run(
        feed_forward,
        x,
        p["intermediate"]["dense"],
        p["output"]["dense"],
        activation=ops.activation(config.hidden_act),
        names=("intermediate.dense", "intermediate.intermediate_act_fn", "output.dense"),
    )
    x = ops.hook("output.residual", x + h)
    x = ops.run(layer_norm, x, **p["output"]["LayerNorm"], eps=eps)
    return ops.hook("output.LayerNorm", x), probabilities


def heads_in(p: Parameters, config: GitConfig) -> int:
    """Heads of a block: as many as the config says, less those that are pruned."""
    width = config.hidden_size // config.num_attention_heads
    return int(p["attention"]["self"]["query"]["weight"].shape[0] // width)
