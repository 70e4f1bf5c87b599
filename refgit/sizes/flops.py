r"""Floating-point operations of one caption, counted from its matrix products.

These are nearly all there is; one multiply-add is two operations. Not counted are additions by
themselves, layer norms, softmax and activations, which take less than one in a hundred at the size
of GIT-base. `products.py` has each part's formula.
"""

from __future__ import annotations

from dataclasses import dataclass

from refgit.model.config import GitConfig
from refgit.sizes.products import (
    image_products,
    operations,
    projection_products,
    step_products,
    vision_products,
)


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
        Step t reads text token t on top of a cache, from its embedding to the tokens' scores.
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
    n_image = config.num_image_tokens()
    return Flops(
        vision_encoder=operations(vision_products(config, config.num_image_with_embedding or 1)),
        visual_projection=operations(projection_products(config, 1, n_image)),
        decoder_image=operations(image_products(config, 1, n_image)),
        text_steps=tuple(
            operations(step_products(config, 1, n_image, t)) for t in range(1, tokens + 1)
        ),
    )
