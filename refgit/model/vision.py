"""The image encoder: CLIP's vision transformer, pixels in, image tokens out.

Reads top to bottom like the figure: patches, class token, positions, layer norm, a stack of
pre-norm blocks (a layer norm before attention, one before the feed-forward network), layer norm.
`visual_projection` then fits the tokens to the text decoder.
(GIT paper, section 3.1; CLIP, arXiv 2103.00020, section 2.4.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from refgit.layers._array_api import Array
from refgit.layers._operations import DEFINITIONS, Hook, Operations
from refgit.layers.attention import multi_head_attention
from refgit.layers.feed_forward import feed_forward
from refgit.layers.linear import linear
from refgit.layers.normalization import layer_norm
from refgit.layers.patch_embedding import patch_embedding, prepend_class_token
from refgit.layers.position import add_absolute_positions, interpolate_positions
from refgit.model.arguments import check_pixels, to_device
from refgit.model.base import PretrainedModel, announced
from refgit.model.config import GitVisionConfig
from refgit.model.outputs import BaseModelOutput, run_layers
from refgit.model.parameters import vision_shapes

Parameters = Mapping[str, Any]


def image_encoder(
    pixels: Array,
    p: Parameters,
    config: GitVisionConfig,
    *,
    interpolate: bool = False,
    ops: Operations = DEFINITIONS,
    keep_hidden_states: bool = False,
    keep_attentions: bool = False,
) -> BaseModelOutput:
    """Encode images: (B, C, S, S) pixels -> (B, N, D) tokens, S = config.image_size.

    `p` holds what the checkpoint has under ``git.image_encoder.vision_model``. With `interpolate`
    the pixels may have any height and width: the positions are stretched over their patches.
    """
    x = image_embedding(
        pixels, p["embeddings"], interpolate=interpolate, ops=ops.at("embeddings")
    )  # (B, N, D)
    x = ops.run(layer_norm, x, **p["pre_layrnorm"], eps=config.layer_norm_eps)
    x = ops.hook("pre_layrnorm", x)  # the checkpoint's typo
    blocks = (
        partial(
            vision_block,
            p=p["encoder"]["layers"][str(i)],
            config=config,
            keep_probabilities=keep_attentions,
            ops=ops.at(f"encoder.layers.{i}"),
        )
        for i in range(config.num_hidden_layers)
    )
    out = run_layers(
        x, blocks, keep_hidden_states=keep_hidden_states, keep_attentions=keep_attentions
    )
    x = ops.run(layer_norm, out.last_hidden_state, **p["post_layernorm"], eps=config.layer_norm_eps)
    return replace(out, last_hidden_state=ops.hook("post_layernorm", x))


def image_embedding(
    pixels: Array, p: Parameters, *, interpolate: bool = False, ops: Operations = DEFINITIONS
) -> Array:
    """Patches, class token, positions: (B, C, height, width) -> (B, N, D)."""
    patches = patch_embedding(pixels, p["patch_embedding"]["weight"], ops=ops)
    x = ops.hook("patch_embedding", patches)
    x = prepend_class_token(x, p["class_embedding"])  # (B, N - 1, D) -> (B, N, D)
    positions = p["position_embedding"]["weight"]  # (1 + side * side, D)
    rows, columns = (size // p["patch_embedding"]["weight"].shape[-1] for size in pixels.shape[2:])
    if interpolate and (rows != columns or rows * columns + 1 != positions.shape[0]):
        positions = interpolate_positions(positions, rows, columns)
    return ops.hook("", add_absolute_positions(x, positions))


def vision_block(
    x: Array,
    p: Parameters,
    config: GitVisionConfig,
    *,
    keep_probabilities: bool = True,
    ops: Operations = DEFINITIONS,
) -> tuple[Array, Array | None]:
    """One pre-norm block: (B, N, D) -> (B, N, D), and its probabilities (B, H, N, N) if wanted.

    x = x + Attention(LayerNorm(x)), then x = x + FeedForward(LayerNorm(x)).
    """
    eps = config.layer_norm_eps
    h = ops.hook("layer_norm1", ops.run(layer_norm, x, **p["layer_norm1"], eps=eps))
    context, probabilities = multi_head_attention(
        h,
        p["self_attn"],
        ("q_proj", "k_proj", "v_proj"),
        num_heads=config.num_attention_heads,
        keep_probabilities=keep_probabilities,
        ops=ops.at("self_attn"),
    )
    h = ops.run(linear, context, **p["self_attn"]["out_proj"])
    x = ops.hook("self_attn.residual", x + ops.hook("self_attn.out_proj", h))
    h = ops.hook("layer_norm2", ops.run(layer_norm, x, **p["layer_norm2"], eps=eps))
    activation = ops.activation(config.hidden_act)
    h = ops.at("mlp").run(feed_forward, h, p["mlp"]["fc1"], p["mlp"]["fc2"], activation=activation)
    return ops.hook("", x + h), probabilities


def visual_projection(
    tokens: Array, p: Parameters, *, eps: float, ops: Operations = DEFINITIONS
) -> Array:
    """Fit image tokens to the decoder's width: (B, N, D vision) -> (B, N, D text).

    A linear map and a layer norm with the image encoder's eps. `p` holds what the checkpoint has
    under ``git.visual_projection.visual_projection``.
    """
    x = ops.hook("0", ops.run(linear, tokens, **p["0"]))
    return ops.hook("1", ops.run(layer_norm, x, **p["1"], eps=eps))


class GitVisionModel(PretrainedModel[GitVisionConfig]):
    """The image encoder.

    Parameters
    ----------
    config : GitVisionConfig
    seed, backend, dtype, kernels
        See `GitModel`.
    """

    config_class = GitVisionConfig
    prefix = "git.image_encoder."
    shapes = staticmethod(vision_shapes)

    def get_input_embeddings(self) -> Array:
        """Return the patch embedding's weight, (D, C, P, P)."""
        return self.parameters["vision_model"]["embeddings"]["patch_embedding"]["weight"]

    @announced
    def __call__(
        self,
        pixel_values: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        interpolate_pos_encoding: bool = False,
        return_dict: bool | None = None,
        *,
        hook: Hook | None = None,
    ) -> BaseModelOutput | tuple[Array, ...]:
        """Encode images.

        Parameters
        ----------
        pixel_values : array (B, C, S, S), floating point
            S = config.image_size; rescaled and normalised by the processor.
        output_attentions, output_hidden_states, interpolate_pos_encoding, return_dict, hook
            See `GitModel`.

        Returns
        -------
        BaseModelOutput
            ``last_hidden_state`` (B, N, D) in the model's dtype, and the rest where asked for.

        Raises
        ------
        ValueError, TypeError
            `pixel_values` has the wrong rank, channels, size or dtype.
        """
        if pixel_values is None:
            side, channels = self.config.image_size, self.config.num_channels
            raise ValueError(
                "pixel_values was not given; expected images, an array of shape "
                f"(batch, {channels}, {side}, {side})."
            )
        host = self.numbers("pixel_values", pixel_values)
        check_pixels(host, self.config, any_size=interpolate_pos_encoding)
        output = image_encoder(
            to_device(self.backend, self.dtype, pixel_values, host),
            self.parameters["vision_model"],
            self.config,
            interpolate=interpolate_pos_encoding,
            ops=self._operations(hook).at("vision_model"),
            keep_hidden_states=self._option("output_hidden_states", output_hidden_states),
            keep_attentions=self._option("output_attentions", output_attentions),
        )
        return output if self._option("return_dict", return_dict) else output.to_tuple()
