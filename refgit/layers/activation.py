"""The non-linearities inside the feed-forward networks.

The image encoder (CLIP's ViT) uses quick_gelu, the text decoder (BERT's block) the exact gelu.
A port that swaps them still writes fluent captions, but different ones. A config may name any
function of `ACTIVATIONS`: one more is a function and an entry there.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from refgit.layers._array_api import Array, array_namespace, at_least_float32
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
    xp = array_namespace(x)
    gate = sigmoid(1.702 * at_least_float32(x))  # in float16 the product may overflow
    return x * xp.astype(gate, x.dtype)


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


def gelu_new(x: Array) -> Array:
    r"""Return the tanh approximation of GELU.

    .. math:: \operatorname{gelu\_new}(x) = \frac{x}{2} \left(1 + \tanh\left[\sqrt{2 / \pi}
              \, (x + 0.044715 \, x^3)\right]\right)

    Parameters
    ----------
    x : array, any shape, floating point

    Returns
    -------
    array, same shape and dtype

    Notes
    -----
    Source: Hendrycks and Gimpel, arXiv 1606.08415, section 2.
    """
    xp = array_namespace(x)
    # beyond 10 the tanh is -1 or 1 whatever the cube, which could overflow
    z = xp.minimum(xp.maximum(x, xp.ones_like(x) * -10.0), xp.ones_like(x) * 10.0)
    return 0.5 * x * (1.0 + xp.tanh(math.sqrt(2.0 / math.pi) * (z + 0.044715 * z * z * z)))


def relu(x: Array) -> Array:
    r"""Return the positive part of every element.

    .. math:: \operatorname{relu}(x) = \max(x, 0)

    Parameters
    ----------
    x : array, any shape, floating point

    Returns
    -------
    array, same shape and dtype

    Notes
    -----
    Source: the definition.
    """
    xp = array_namespace(x)
    return xp.maximum(x, xp.zeros_like(x))


def selu(x: Array) -> Array:
    r"""Return the scaled exponential linear unit.

    .. math:: \operatorname{selu}(x) = \lambda \begin{cases} x & x > 0 \\
              \alpha (e^x - 1) & x \le 0 \end{cases}

    Parameters
    ----------
    x : array, any shape, floating point

    Returns
    -------
    array, same shape and dtype

    Notes
    -----
    Source: Klambauer et al., arXiv 1706.02515, equation 2.
    """
    xp = array_namespace(x)
    alpha, scale = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
    below = alpha * xp.expm1(xp.minimum(x, xp.zeros_like(x)))
    return scale * xp.where(x > 0, x, below)


def silu(x: Array) -> Array:
    r"""Return the sigmoid-weighted linear unit, also called swish.

    .. math:: \operatorname{silu}(x) = x \, \sigma(x)

    Parameters
    ----------
    x : array, any shape, floating point

    Returns
    -------
    array, same shape and dtype

    Notes
    -----
    Source: Hendrycks and Gimpel, arXiv 1606.08415, section 4; Elfwing et al., arXiv 1702.03118.
    """
    return x * sigmoid(x)


# Under the names that configs use.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "quick_gelu": quick_gelu,
    "gelu": gelu,
    "gelu_new": gelu_new,
    "relu": relu,
    "selu": selu,
    "silu": silu,
}
