"""The non-linearities inside the feed-forward networks.

The image encoder (CLIP's ViT) uses quick_gelu, the text decoder (BERT's block) the exact gelu.
A port that swaps them still writes fluent captions, only other ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from refgit.layers.array_api import Array, array_namespace
from refgit.layers.erf import erf


def sigmoid(x: Array) -> Array:
    r"""Return the logistic function of every element.

    .. math:: \sigma(x) = \frac{1}{1 + e^{-x}}

    Parameters
    ----------
    x : array, any shape, floating point

    Returns
    -------
    array, same shape and dtype
        Written with exp(-|x|), which cannot overflow.

    Notes
    -----
    Source: the definition.
    """
    xp = array_namespace(x)
    small = xp.exp(-xp.abs(x))  # in (0, 1]
    return xp.where(x >= 0, 1.0 / (1.0 + small), small / (1.0 + small))


def quick_gelu(x: Array) -> Array:
    r"""Return the sigmoid approximation of GELU.

    .. math:: \operatorname{quick\_gelu}(x) = x \, \sigma(1.702 \, x)

    Parameters
    ----------
    x : array, any shape, floating point

    Returns
    -------
    array, same shape and dtype

    Notes
    -----
    Source: Hendrycks and Gimpel, arXiv 1606.08415, section 2; used by CLIP's image encoder, which
    GIT takes over (paper, section 3.1).
    """
    return x * sigmoid(1.702 * x)


def gelu(x: Array) -> Array:
    r"""Return the exact Gaussian error linear unit.

    .. math:: \operatorname{gelu}(x) = x \, \Phi(x)
              = \frac{x}{2} \left(1 + \operatorname{erf}\frac{x}{\sqrt{2}}\right)

    Parameters
    ----------
    x : array, any shape, floating point

    Returns
    -------
    array, same shape and dtype

    Notes
    -----
    Source: Hendrycks and Gimpel, arXiv 1606.08415, section 2; used by the text decoder's BERT
    blocks (GIT paper, section 3.1).
    """
    return 0.5 * x * (1.0 + erf(x * math.sqrt(0.5)))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"quick_gelu": quick_gelu, "gelu": gelu}
