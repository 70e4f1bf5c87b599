"""Layer normalisation: before each sub-layer of the image encoder, after each of the decoder."""

from __future__ import annotations

from refgit.layers._array_api import Array, array_namespace, at_least_float32
from refgit.layers._operations import operation


@operation
def layer_norm(x: Array, weight: Array, bias: Array, *, eps: float) -> Array:
    r"""Normalise each token to mean 0 and variance 1, then scale and shift by channel.

    .. math:: y = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} \odot w + b, \qquad
              \mu = \frac1D \sum_i x_i, \quad \sigma^2 = \frac1D \sum_i (x_i - \mu)^2

    Parameters
    ----------
    x : array (..., D), floating point
    weight, bias : arrays (D,)
    eps : float
        Added to the variance, inside the root: `vision_config.layer_norm_eps`, 1e-5, in the image
        encoder and the visual projection; `layer_norm_eps`, 1e-12, in the decoder. Converted
        Microsoft checkpoints have 1e-8 in the text embedding (`embedding_layer_norm_eps`).

    Returns
    -------
    array (..., D), dtype of `x`
        Mean and variance are taken in at least float32; the variance is the biased one (over D).

    Notes
    -----
    Source: Ba, Kiros and Hinton, arXiv 1607.06450, equation 4.
    """
    xp = array_namespace(x)
    h = at_least_float32(x)
    h = h - xp.mean(h, axis=-1, keepdims=True)
    variance = xp.mean(h * h, axis=-1, keepdims=True)
    return xp.astype(h / xp.sqrt(variance + eps), x.dtype) * weight + bias
