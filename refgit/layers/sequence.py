"""One sequence from separate inputs: the frames of a video, then image and text."""

from __future__ import annotations

from collections.abc import Sequence

from refgit.layers._array_api import Array, array_namespace


def add_temporal_embedding(frames: Array, times: Sequence[Array]) -> Array:
    r"""Add a learned vector to each frame's tokens and concatenate the frames.

    .. math:: x_{tN + n} = z_{t,n} + \tau_t

    Parameters
    ----------
    frames : array (B, frames, N, D)
        Image tokens of each frame.
    times : sequence of arrays (1, 1, D)
        The temporal embedding of each frame; at least as many as there are frames.

    Returns
    -------
    array (B, frames * N, D), dtype of `frames`

    Notes
    -----
    Source: GIT paper, section 3, on fine-tuning on video: each sampled frame is encoded by
    itself, and a learned temporal embedding is added.
    """
    xp = array_namespace(frames)
    b, t, n, d = frames.shape
    tau = xp.concat(list(times[:t]), axis=1)  # (1, t, D)
    return xp.reshape(frames + xp.expand_dims(tau, axis=2), (b, t * n, d))


def join_image_and_text(image: Array, text: Array) -> Array:
    r"""Concatenate each image and its text.

    .. math:: x_b = [\,\text{image}_{b \bmod B'};\; \text{text}_b\,]

    Parameters
    ----------
    image : array (B', N, D)
    text : array (B, T, D), B a multiple of B'

    Returns
    -------
    array (B, N + T, D)

    Notes
    -----
    Source: GIT paper, section 3.1: image tokens first, then the text; several texts are in
    the order of transformers.
    """
    xp = array_namespace(text)
    tiled = xp.concat([image] * (text.shape[0] // image.shape[0]), axis=0)  # (B, N, D)
    return xp.concat([tiled, text], axis=1)
