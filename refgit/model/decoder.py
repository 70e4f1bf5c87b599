"""The text decoder: a stack of BERT blocks over image and text tokens together.

One sequence holds the N image tokens and then the T text tokens; `layers/mask.py` says who sees
whom. There are three ways through the stack, and all run the same `decoder_block`:

    decode         the joint sequence at once                    (training, scoring)
    read_image     the image tokens alone, into a cache          (once per image)
    continue_text  new text tokens, on top of a cache            (each step of generation)

(GIT paper, section 3.1; BERT, arXiv 1810.04805, section 3.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

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

Parameters = Mapping[str, Any]


@dataclass
class Decoded:
    """Hidden states (B, Q, D) after the last layer, and those on the way if asked for."""

    hidden: Array
    hidden_states: tuple[Array, ...] | None
    attentions: tuple[Array, ...] | None


def decode(
    x: Array,
    p: Parameters,
    config: GitConfig,
    *,
    n_image: int,
    n_images: int = 1,
    text_mask: Array | None = None,
    head_mask: Array | None = None,
    cache: KeyValueCache | None = None,
    ops: Operations = DEFINITIONS,
    keep_hidden_states: bool = False,
    keep_attentions: bool = False,
) -> Decoded:
    """Read image and text tokens at once: (B, N + T, D) -> (B, N + T, D).

    `p` holds what the checkpoint has under ``git.encoder``; `text_mask` (B, T) is 0 at padding,
    `head_mask` (layers, H) at heads to silence. An empty `cache` is filled on the way, with the
    first `n_images` rows' image tokens: the other rows repeat them in order.
    """
    sees = image_text_mask(n_image, x.shape[1], like=x)  # (L, L)
    bias = attention_bias(sees, text_mask, like=x)  # (1 or B, 1, L, L)

    def past(layer: int, key: Array, value: Array) -> tuple[list[Array], list[Array]]:
        if cache is not None:  # copies: a view would keep the whole of `key` alive
            xp = array_namespace(key)
            if n_image:
                image = (xp.asarray(y[:n_images, :, :n_image, :], copy=True) for y in (key, value))
                cache.set_image(layer, *image)
            text = (xp.asarray(y[:, :, n_image:, :], copy=True) for y in (key, value))
            cache.append_text(layer, *text)
        return [key], [value]

    return _through_layers(
        x, p, config, bias, past, 0, head_mask, ops, keep_hidden_states, keep_attentions
    )


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

    Image tokens see one another and nothing else, so no mask is needed. Nobody looks at their
    output, so of the last layer only the keys and values are computed.
    """
    last = config.num_hidden_layers - 1
    for i in range(last + 1):
        layer, weights = ops.at(f"layer.{i}"), p["layer"][str(i)]
        if i == last:
            key, value = layer.at("attention.self").run(
                project_heads,
                x,
                weights["attention"]["self"],
                ("key", "value"),
                num_heads=heads_in(weights, config),
            )
            cache.set_image(i, key, value)
        else:

            def past(key: Array, value: Array, i: int = i) -> tuple[list[Array], list[Array]]:
                cache.set_image(i, key, value)
                return [key], [value]

            heads = None if head_mask is None else head_mask[i, :]
            x, _ = decoder_block(
                x,
                weights,
                config,
                past=past,
                head_mask=heads,
                keep_probabilities=False,
                ops=layer,
            )


def continue_text(
    x: Array,
    p: Parameters,
    config: GitConfig,
    cache: KeyValueCache,
    *,
    text_mask: Array | None = None,
    head_mask: Array | None = None,
    ops: Operations = DEFINITIONS,
    keep_hidden_states: bool = False,
    keep_attentions: bool = False,
) -> Decoded:
    """Read new text tokens on top of a cache, which takes them up: (B, Q, D) -> (B, Q, D).

    `text_mask` (B, T) covers all text so far, the new tokens included; 0 is padding.
    """
    bias = None
    past_length = cache.image_length + cache.text_length
    if x.shape[1] > 1 or text_mask is not None:  # a single token sees all that is there
        n_keys = past_length + x.shape[1]
        sees = image_text_mask(cache.image_length, n_keys, first_query=past_length, like=x)
        bias = attention_bias(sees, text_mask, like=x)  # (1 or B, 1, Q, K)
    return _through_layers(
        x,
        p,
        config,
        bias,
        cache.append_text,
        past_length,
        head_mask,
        ops,
        keep_hidden_states,
        keep_attentions,
    )


def _through_layers(
    x: Array,
    p: Parameters,
    config: GitConfig,
    bias: Array | None,
    past: Any,
    first_query: int,
    head_mask: Array | None,
    ops: Operations,
    keep_hidden_states: bool,
    keep_attentions: bool,
) -> Decoded:
    """Run the stack; `past(layer, key, value)` says what each layer attends to.

    `first_query` is the index of the first of the tokens `x` in the joint sequence.
    """
    states, attentions = [x], []
    for i in range(config.num_hidden_layers):
        layer = ops.at(f"layer.{i}")
        weights = p["layer"][str(i)]
        x, probabilities = decoder_block(
            x,
            weights,
            config,
            bias,
            past=partial(past, i),
            first_query=first_query,
            head_mask=None if head_mask is None else head_mask[i, :],
            keep_probabilities=keep_attentions,
            ops=layer,
        )
        if keep_hidden_states:
            states.append(x)
        if keep_attentions:
            attentions.append(probabilities)
    return Decoded(
        x,
        tuple(states) if keep_hidden_states else None,
        tuple(attentions) if keep_attentions else None,
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
