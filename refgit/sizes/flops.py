r"""Floating-point operations of one caption, as formulas of the config.

Counted are the products of matrices, which are nearly all there is; one multiply-add is two
operations. Not counted are additions by themselves, layer norms, softmax and activations, which
take less than one in a hundred at the size of GIT-base. The letters are those of `refgit.layers`:
N image tokens of all frames, D width, F feed-forward width, C channels, P patch size, V
vocabulary; n is N of one frame, A the width of all heads left in a layer (D unless heads are
pruned).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from refgit.model.config import GitConfig, GitVisionConfig

PER_MULTIPLY_ADD = 2


@dataclass(frozen=True)
class Flops:
    """Operations of one caption, part by part.

    Attributes
    ----------
    vision_encoder : int
        Pixels to image tokens, of all frames.
    visual_projection : int
        Image tokens to the decoder's width.
    decoder_image : int
        The decoder over the image tokens: once an image, however many texts follow.
    text_steps : tuple of int
        Step t reads text token t on top of a cache, from its embedding to the words' scores.
    """

    vision_encoder: int
    visual_projection: int
    decoder_image: int
    text_steps: tuple[int, ...]

    @property
    def image(self) -> int:
        """Operations of reading the image, before any text."""
        return self.vision_encoder + self.visual_projection + self.decoder_image

    @property
    def text(self) -> int:
        """Operations of all text steps together."""
        return sum(self.text_steps)

    @property
    def total(self) -> int:
        """Operations of the whole caption."""
        return self.image + self.text


def caption_flops(config: GitConfig, tokens: int) -> Flops:
    r"""Count the operations of writing a caption with greedy search and a cache.

    .. math:: \text{total} = \text{encoder} + \text{projection} + \text{image part}
              + \sum_{t=1}^{\text{tokens}} \text{step}_t

    Parameters
    ----------
    config : GitConfig
    tokens : int
        Tokens that are written, each by one step; the one that ends the text is one of them.
        The first step reads the opening token. With beams, the text steps cost as many times as
        there are beams.

    Returns
    -------
    Flops

    Raises
    ------
    ValueError
        `tokens` is negative.
    """
    if tokens < 0:
        raise ValueError(f"tokens is {tokens}; expected 0 or more.")
    frames = config.num_image_with_embedding or 1
    n_image = config.num_image_tokens()
    return Flops(
        vision_encoder=frames * vision_flops(config.vision_config),
        visual_projection=linear_flops(
            n_image, config.vision_config.hidden_size, config.hidden_size
        ),
        decoder_image=image_part_flops(config, n_image),
        text_steps=tuple(step_flops(config, n_image, t) for t in range(1, tokens + 1)),
    )


def linear_flops(rows: int, inputs: int, outputs: int) -> int:
    r"""Count a product (rows, inputs) x (inputs, outputs).

    .. math:: 2 \cdot \text{rows} \cdot \text{inputs} \cdot \text{outputs}
    """
    return PER_MULTIPLY_ADD * rows * inputs * outputs


def vision_flops(config: GitVisionConfig) -> int:
    r"""Count the image encoder for one image or frame.

    .. math:: 2 (n-1) C P^2 D + \text{layers} \cdot
              (\underbrace{8 n D^2}_{Q, K, V, \text{output}} +
              \underbrace{4 n^2 D}_{\text{scores, averages}} +
              \underbrace{4 n D F}_{\text{feed-forward}})
    """
    n, d = config.num_positions, config.hidden_size
    patches = linear_flops(n - 1, config.num_channels * config.patch_size**2, d)
    layer = block_flops(n, (n,), d, d, config.intermediate_size)
    return patches + config.num_hidden_layers * layer


def image_part_flops(config: GitConfig, n_image: int) -> int:
    r"""Count the decoder over the image tokens, once an image.

    .. math:: \sum_{\text{layers but the last}} (8 N D A + 4 N^2 A + 4 N D F) + 4 N D A

    Of the last layer only keys and values are needed: nobody looks at what image tokens put out.
    """
    last = config.num_hidden_layers - 1
    whole = sum(decoder_block_flops(config, i, n_image, (n_image,)) for i in range(last))
    return whole + 2 * linear_flops(n_image, config.hidden_size, inner_width(config, last))


def step_flops(config: GitConfig, n_image: int, step: int) -> int:
    r"""Count the reading of text token number `step`, from 1, on top of the cache.

    .. math:: \sum_{\text{layers}} (8 D A + 4 (N + t) A + 4 D F) + 2 D V

    One query looks at N image tokens and at t of the text, itself included; then every word of
    the vocabulary is scored.
    """
    layers = sum(
        decoder_block_flops(config, i, 1, (n_image, step)) for i in range(config.num_hidden_layers)
    )
    return layers + linear_flops(1, config.hidden_size, config.vocab_size)


def inner_width(config: GitConfig, layer: int) -> int:
    """Return A, the width of all heads that are left in a decoder layer."""
    return config.hidden_size // config.num_attention_heads * config.heads_of(layer)


def decoder_block_flops(config: GitConfig, layer: int, queries: int, keys: Sequence[int]) -> int:
    r"""Count one decoder layer: `block_flops` and what relative positions add.

    .. math:: \sum_i 2 Q (Q + K_i - 1) A \;[\, + 2 K_i (Q + K_i - 1) A \,]

    Each query is multiplied with every distance to a segment of K_i keys; the second term, of the
    keys, belongs to relative_key_query. (See `layers.position.relative_scores`.)
    """
    inner = inner_width(config, layer)
    count = block_flops(queries, keys, config.hidden_size, inner, config.intermediate_size)
    if config.position_embedding_type == "absolute":
        return count
    both = config.position_embedding_type == "relative_key_query"
    for k in keys:
        distances = queries + k - 1
        count += linear_flops(queries, inner, distances)
        count += linear_flops(k, inner, distances) if both else 0
    return count


def block_flops(queries: int, keys: Sequence[int], width: int, inner: int, wide: int) -> int:
    r"""Count one transformer block for Q new tokens that look at K tokens in segments.

    .. math:: \underbrace{6 Q D A}_{Q, K, V} + \underbrace{4 Q K A}_{\text{scores, averages}} +
              \underbrace{2 Q A D}_{\text{output}} + \underbrace{4 Q D F}_{\text{feed-forward}}
    """
    projections = 3 * linear_flops(queries, width, inner) + linear_flops(queries, inner, width)
    attention = 2 * linear_flops(queries, inner, sum(keys))
    feed_forward = linear_flops(queries, width, wide) + linear_flops(queries, wide, width)
    return projections + attention + feed_forward
