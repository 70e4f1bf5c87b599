"""What may be wrong with patches, class token and positions, and the times of frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from refgit.layers._array_api import Array
from refgit.layers.patch_embedding import patchify, prepend_class_token
from refgit.parity.diagnosis.hypotheses.base import Family, Hypothesis, Make, mistakes
from refgit.parity.graph import recipes
from refgit.parity.graph.graph import Graph, View
from refgit.parity.graph.nodes import Node

# ---- patches


def of_patches(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """Other pixels, another weight, or patches in another order."""
    side = graph.config.vision_config.patch_size

    def made(
        n: Node,
        v: View,
        pixels: Callable[[Array], Array] = lambda x: x,
        weight: Callable[[Array], Array] = lambda w: w,
        patches: Callable[[Array, Array], Array] = lambda x, pixels: x,
    ) -> Array:
        x = pixels(recipes.frames_apart(v[n.inputs[0]]))
        w = weight(v.weight(f"{n.parameters}.weight"))
        return recipes.linear_map(
            patches(patchify(x, side), x), np.ascontiguousarray(w).reshape(len(w), -1)
        )

    yield from mistakes(
        node,
        ("channels reversed", "your image has its colours as BGR; they should be RGB",
         lambda n, v: made(n, v, lambda x: x[:, ::-1])),
        ("patch channels last", "your patches are flattened with the channels last; the weight "
         "has them first", lambda n, v: made(n, v, patches=lambda x, _: _channels_last(x, side))),
        ("patch transposed", "rows and columns inside each patch are swapped",
         lambda n, v: made(n, v, weight=lambda w: np.swapaxes(w, 2, 3))),
        ("kernel flipped", "the patch weight is flipped (a convolution where a correlation is "
         "meant)", lambda n, v: made(n, v, weight=lambda w: w[:, :, ::-1, ::-1]), 2),
        ("patches by column", "your patches are listed column by column; it should be row by row",
         lambda n, v: made(n, v, patches=lambda x, pixels: _by_column(x, pixels, side))),
    )  # fmt: skip
    yield from mistakes(
        node,
        ("image transposed", "rows and columns of your image are swapped",
         lambda x: np.swapaxes(x, 2, 3), 2),
        ("image mirrored", "your image is mirrored", lambda x: x[..., ::-1], 2),
        ("image upside down", "your image is upside down", lambda x: x[..., ::-1, :], 2),
        ("rescaled again", "your pixels are multiplied by 1/255 again", lambda x: x / 255, 2),
        ("rescale missing", "your pixels are 255 times what they should be", lambda x: x * 255, 2),
        ("pixels wide", "the pixels' memory is read with the channels last", _read_wide, 2),
        call=lambda make, n, v: made(n, v, pixels=make),
    )  # fmt: skip


def _read_wide(pixels: Array) -> Array:
    """The memory of (B, C, H, W) read as (B, H, W, C)."""
    b, c, height, width = pixels.shape
    return np.ascontiguousarray(pixels).reshape(b, height, width, c).transpose(0, 3, 1, 2)


def _channels_last(patches: Array, side: int) -> Array:
    """(B, n, C P P) with the channels moved behind."""
    b, n, d = patches.shape
    apart = patches.reshape(b, n, -1, side * side)
    return np.swapaxes(apart, 2, 3).reshape(b, n, d)


def _by_column(patches: Array, pixels: Array, side: int) -> Array:
    b, _, d = patches.shape
    rows, columns = pixels.shape[2] // side, pixels.shape[3] // side
    return np.swapaxes(patches.reshape(b, rows, columns, d), 1, 2).reshape(b, -1, d)


# ---- class token and positions of the image


def _on_class_token(make: Make, node: Node, view: View) -> Array:
    """Call `make` with patches (B, n, D), class token (1, 1, D) and positions (N, D)."""
    first = view.weight(f"{node.parameters}.class_embedding")[None, None, :]
    return make(view[node.inputs[0]], first, recipes.positions_for(node, view))


def _joined(x: Array, first: Array) -> Array:
    return prepend_class_token(x, first[0, 0])


def of_class_token(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """The class token or the positions left out, doubled or in another place."""
    return mistakes(
        node,
        ("class token missing", "the class token is missing; the patches have the right "
         "positions", lambda x, c, p: x + p[1:]),
        ("class token missing, positions from its own", "the class token is missing, and the "
         "first patch has its position", lambda x, c, p: x + p[: x.shape[1]]),
        ("class token zero", "the class token is zero", lambda x, c, p: _joined(x, 0 * c) + p),
        ("class token at the end", "the class token is at the end; it belongs in front",
         lambda x, c, p: np.roll(_joined(x, c) + p, -1, axis=1)),
        ("class token at the end, positions in order", "the class token is at the end and the "
         "positions are counted from the first patch",
         lambda x, c, p: np.roll(_joined(x, c), -1, axis=1) + p),
        ("class token without position", "the class token gets no position",
         lambda x, c, p: _joined(x + p[1:], c)),
        ("image positions missing", "the image's positions are missing",
         lambda x, c, p: _joined(x, c)),
        ("image positions twice", "the image's positions are added twice",
         lambda x, c, p: _joined(x, c) + 2 * p),
        ("patch positions from the class token's", "the first patch gets the class token's "
         "position, and so on: they are off by one", lambda x, c, p: _joined(x + p[:-1], c)),
        ("class position last", "the position table is read with the class token's position at "
         "the end", lambda x, c, p: _joined(x, c) + np.roll(p, 1, axis=0), 2),
        call=_on_class_token,
    )  # fmt: skip


# ---- frames of a video


def _on_frames(make: Make, node: Node, view: View) -> Array:
    """Call `make` with tokens (B, F, N, D) and times (F', D); it returns (B, F, N, D)."""
    x, count = view[node.inputs[0]], view[node.inputs[1]].shape[1]
    times = np.concatenate([t[0] for t in recipes.times_of(node, view)])
    y = make(x.reshape(-1, count, *x.shape[1:]), times)
    return y.reshape(y.shape[0], -1, y.shape[-1])


def _timed(x: Array, times: Array) -> Array:
    return x + times[None, : x.shape[1], None, :]


def of_frames(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """Other times, or frames in another order."""
    return mistakes(
        node,
        ("times missing", "the time embeddings are missing", lambda x, t: x),
        ("times twice", "the time embeddings are added twice", lambda x, t: _timed(x, 2 * t)),
        ("one time", "every frame has the first frame's time",
         lambda x, t: _timed(x, np.repeat(t[:1], x.shape[1], axis=0))),
        ("times reversed", "the time embeddings run backwards over the frames",
         lambda x, t: _timed(x, t[: x.shape[1]][::-1])),
        ("times off by one", "the time embeddings are off by one",
         lambda x, t: _timed(x, np.roll(t, -1, axis=0))),
        ("times of class tokens", "only the class tokens get a time",
         lambda x, t: np.concatenate([_timed(x[:, :, :1], t), x[:, :, 1:]], axis=2), 2),
        ("times of patches", "the class tokens get no time",
         lambda x, t: np.concatenate([x[:, :, :1], _timed(x[:, :, 1:], t)], axis=2), 2),
        ("frames interleaved", "the frames are joined token by token; it should be "
         "frame by frame", lambda x, t: np.swapaxes(_timed(x, t), 1, 2)),
        ("frames reversed", "the frames are joined backwards",
         lambda x, t: _timed(x, t)[:, ::-1], 2),
        call=_on_frames,
    )  # fmt: skip


IMAGE: Family = {
    "patch": (of_patches,),
    "class_position": (of_class_token,),
    "frames": (of_frames,),
}
