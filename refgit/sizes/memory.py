r"""Bytes that one caption needs: the weights, the cache, and activations."""

from __future__ import annotations

from dataclasses import dataclass

from refgit.model.config import GitConfig
from refgit.sizes.parts import parameters_by_part
from refgit.sizes.products import inner_width

# Bytes of a number. NumPy has no bfloat16: there it is computed in float32, and takes 4.
ITEMSIZE = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class CaptionMemory:
    """Bytes of one caption, in one dtype.

    Attributes
    ----------
    weights : int
        All parameters, tied ones once.
    cache_image : int
        Keys and values of the image tokens in all decoder layers; once an image.
    cache_text_token : int
        The same of one text token. Buffers are doubled when they are full, so that up to twice as
        much may be held.
    activations : int
        An estimate of what the largest block holds at once; see `activation_numbers`.
    """

    weights: int
    cache_image: int
    cache_text_token: int
    activations: int

    def total(self, tokens: int) -> int:
        """Bytes with so many text tokens in the cache, its spare room left out."""
        return self.weights + self.cache_image + tokens * self.cache_text_token + self.activations


def caption_memory(config: GitConfig, dtype: str = "float32") -> CaptionMemory:
    r"""Count the bytes of one caption of one image or video.

    .. math:: \text{cache, image} = 2 N b \sum_{\text{layers}} A, \qquad
              \text{cache, text token} = 2 b \sum_{\text{layers}} A

    with b bytes a number and A the width of all heads left in a layer.

    Parameters
    ----------
    config : GitConfig
    dtype : {"float32", "float64", "float16", "bfloat16"}
        What is computed in.

    Returns
    -------
    CaptionMemory

    Raises
    ------
    ValueError
        The dtype is another.
    """
    if dtype not in ITEMSIZE:
        raise ValueError(f"dtype is {dtype!r}; expected one of {', '.join(ITEMSIZE)}.")
    size = ITEMSIZE[dtype]
    n_image = config.num_image_tokens()
    token = 2 * size * sum(inner_width(config, i) for i in range(config.num_hidden_layers))
    return CaptionMemory(
        weights=size * sum(part.parameters for part in parameters_by_part(config)),
        cache_image=n_image * token,
        cache_text_token=token,
        activations=size * activation_numbers(config, n_image),
    )


def activation_numbers(config: GitConfig, n_image: int) -> int:
    r"""Estimate how many numbers are held at once while the image is read, weights apart.

    .. math:: \max_{\text{encoder, decoder}} \; 6 N D + 3 \max(H N^2, N F)

    Six arrays of tokens (the block's input, its norm, queries, keys, values, the context), and
    either the attention scores or the feed-forward network's inside in three versions: before,
    during and after the softmax or the activation. In the encoder N^2 is of each frame by itself.
    Texts need less: their tokens come one by one.

    It is of the right order, not exact: kernels that work piece by piece hold less (NumPy's, at
    GIT-base: two thirds of it), and the definitions by themselves up to five times as much, for
    the many terms of the exact GELU.
    """
    n_frame = config.vision_config.num_positions
    return max(
        6 * n_image * half.hidden_size
        + 3 * n_image * max(half.num_attention_heads * n, half.intermediate_size)
        for half, n in ((config.vision_config, n_frame), (config, n_image))
    )
