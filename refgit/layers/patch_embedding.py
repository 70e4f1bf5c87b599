"""Patch embedding: from pixels to tokens, the first step of the image encoder.

The image is cut into squares of P x P pixels, each square is flattened and mapped linearly, and
one learned token, the class token, is prepended. (Paper, section 3.1; ViT, section 3.1.)
"""

from __future__ import annotations

from refgit.layers._array_api import Array, array_namespace
from refgit.layers._operations import DEFINITIONS, Operations
from refgit.layers.linear import linear


def patchify(pixels: Array, patch_size: int) -> Array:
    r"""Cut images into flattened patches, row by row from the top left.

    .. math:: \text{patch}_{r,s} = \text{pixels}_{:,\; rP:(r+1)P,\; sP:(s+1)P}

    Parameters
    ----------
    pixels : array (B, C, height, width)
        Pixels at the right and bottom that do not fill a patch are cropped.
    patch_size : int
        P, in pixels.

    Returns
    -------
    array (B, rows * columns, C * P * P), dtype of `pixels`
        rows = height // P, columns = width // P. The last axis runs over channel, then row, then
        column, as the weight of a convolution.

    Notes
    -----
    Source: Dosovitskiy et al., arXiv 2010.11929, section 3.1.
    """
    xp = array_namespace(pixels)
    b, c, height, width = pixels.shape
    rows, columns = height // patch_size, width // patch_size
    x = pixels[:, :, : rows * patch_size, : columns * patch_size]
    x = xp.reshape(x, (b, c, rows, patch_size, columns, patch_size))
    x = xp.permute_dims(x, (0, 2, 4, 1, 3, 5))  # -> (B, rows, columns, C, P, P)
    return xp.reshape(x, (b, rows * columns, c * patch_size * patch_size))


def patch_embedding(pixels: Array, weight: Array, *, ops: Operations = DEFINITIONS) -> Array:
    r"""Map each patch to a token: a convolution with kernel and stride P, written as a product.

    .. math:: z_n = W \, \operatorname{vec}(\text{patch}_n)

    Parameters
    ----------
    pixels : array (B, C, height, width)
    weight : array (D, C, P, P)
    ops : Operations
        Which version of each operation runs.

    Returns
    -------
    array (B, rows * columns, D), dtype of `pixels`

    Notes
    -----
    Source: Dosovitskiy et al., arXiv 2010.11929, equation 1. CLIP has no bias here.
    """
    xp = array_namespace(pixels)
    d, c, p, _ = weight.shape
    patches = patchify(pixels, p)
    return ops.run(linear, patches, xp.reshape(weight, (d, c * p * p)))  # (B, n, CPP) -> (B, n, D)


def prepend_class_token(tokens: Array, class_embedding: Array) -> Array:
    r"""Prepend the learned class token to the patch tokens.

    .. math:: x = [\,z_{\text{class}};\; z_1;\; \dots;\; z_n\,]

    Parameters
    ----------
    tokens : array (B, n, D)
    class_embedding : array (D,)

    Returns
    -------
    array (B, N, D) with N = 1 + n, dtype of `tokens`

    Notes
    -----
    Source: Dosovitskiy et al., arXiv 2010.11929, equation 1.
    """
    xp = array_namespace(tokens)
    b, _, d = tokens.shape
    first = xp.broadcast_to(class_embedding, (b, 1, d))
    return xp.concat([first, tokens], axis=1)  # (B, n, D) -> (B, 1 + n, D)
