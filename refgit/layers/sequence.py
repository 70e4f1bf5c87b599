"""From separate inputs to one sequence: frames of a video, then image and text."""

from __future__ import annotations

from collections.abc import Sequence

from refgit.layers._array_api import Array, array_namespace


def string_frames(frames: Array, times: Sequence[Array]) -> Array:
    r"""Tell the frames of a video apart and string their tokens together.

    .. math:: x_{tN + n} = z_{t,n} + \tau_t

    Parameters
    ----------
    frames : array (B, frames, N, D)
        Image tokens of each frame.
    times : sequence of arrays (1, 1, D)
        The learned vector of each frame's time; at least as many as there are frames.

    Returns
    -------
    array (B, frames * N, D), dtype of `frames`

    Notes
    -----
    Source: GIT paper, section 3, where fine-tuning on video is described: each sampled frame is
    encoded by itself and told apart by a learned vector.
    """
    xp = array_namespace(frames)
    b, t, n, d = frames.shape
    tau = xp.concat(list(times[:t]), axis=1)  # (1, t, D)
    return xp.reshape(frames + xp.expand_dims(tau, axis=2), (b, t * n, d))


def join_image_and_text(image: Array, text: Array) -> Array:
    r"""Put each text behind its image.

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
    Source: GIT paper, section 3.1: image tokens first, text behind them; the order of several
    texts is that of transformers.
    """
    xp = array_namespace(text)
    tiled = xp.concat([image] * (text.shape[0] // image.shape[0]), axis=0)  # (B, N, D)
    return xp.concat([tiled, text], axis=1)
