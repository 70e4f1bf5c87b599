"""What may be wrong where image tokens come into being: patches, class token, frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from refgit.layers._array_api import Array
from refgit.layers.linear import linear
from refgit.layers.patch_embedding import patchify, prepend_class_token
from refgit.parity.diagnosis.hypotheses.base import Hypothesis
from refgit.parity.diagnosis.hypotheses.positions import of_interpolation
from refgit.parity.graph import recipes
from refgit.parity.graph.graph import Graph, View
from refgit.parity.graph.nodes import Node


def of_image(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """List what may be wrong at a node of these kinds; nothing for others."""
    kinds = {
        "patch": _of_patches,
        "class_position": _of_class_and_positions,
        "frames": _of_frames,
    }
    if node.kind in kinds:
        yield from kinds[node.kind](node, graph)


# ---- patches


def _of_patches(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    side = graph.config.vision_config.patch_size

    def at(
        name: str,
        text: str,
        pixels: Callable[[Array], Array] = lambda x: x,
        weight: Callable[[Array], Array] = lambda w: w,
        patches: Callable[[Array, Array], Array] = lambda x, pixels: x,
        rank: int = 1,
    ) -> Hypothesis:
        def recipe(n: Node, v: View) -> Array:
            x = pixels(recipes.frames_apart(v[n.inputs[0]]))
            w = weight(v.weight(f"{n.parameters}.weight"))
            flat = patches(patchify(x, side), x)
            return linear(flat, np.ascontiguousarray(w).reshape(w.shape[0], -1))

        return Hypothesis(name, text, node.name, recipe, rank)

    yield at("channels reversed", "your image has its colours as BGR; they should be RGB",
             lambda x: x[:, ::-1])  # fmt: skip
    yield at("patch channels last", "your patches are flattened with the channels last; the weight "
             "has them first", patches=lambda x, pixels: _channels_last(x, side))  # fmt: skip
    yield at("patch transposed", "rows and columns inside each patch are swapped",
             weight=lambda w: np.swapaxes(w, 2, 3))  # fmt: skip
    yield at("kernel flipped", "the patch weight is flipped (a convolution where a correlation is "
             "meant)", weight=lambda w: w[:, :, ::-1, ::-1], rank=2)  # fmt: skip
    yield at("patches by column", "your patches are listed column by column; it should be row by "
             "row", patches=lambda x, pixels: _by_column(x, pixels, side))  # fmt: skip
    yield at("image transposed", "rows and columns of your image are swapped",
             lambda x: np.swapaxes(x, 2, 3), rank=2)  # fmt: skip
    yield at("image mirrored", "your image is mirrored", lambda x: x[..., ::-1], rank=2)
    yield at("image upside down", "your image is upside down", lambda x: x[..., ::-1, :], rank=2)
    yield at("rescaled again", "your pixels are multiplied by 1/255 again",
             lambda x: x / 255, rank=2)  # fmt: skip
    yield at("rescale missing", "your pixels are 255 times what they should be",
             lambda x: x * 255, rank=2)  # fmt: skip
    yield at("pixels wide", "the pixels' memory is read with the channels last",
             lambda x: np.ascontiguousarray(x).reshape(
                 x.shape[0], x.shape[2], x.shape[3], x.shape[1]
             ).transpose(0, 3, 1, 2), rank=2)  # fmt: skip


def _channels_last(patches: Array, side: int) -> Array:
    """(B, n, C P P) with the channels moved behind."""
    b, n, d = patches.shape
    apart = patches.reshape(b, n, -1, side * side)
    return np.swapaxes(apart, 2, 3).reshape(b, n, d)


def _by_column(patches: Array, pixels: Array, side: int) -> Array:
    """The patches in the order of columns."""
    b, _, d = patches.shape
    rows, columns = pixels.shape[2] // side, pixels.shape[3] // side
    return np.swapaxes(patches.reshape(b, rows, columns, d), 1, 2).reshape(b, -1, d)


# ---- class token and positions of the image


def _of_class_and_positions(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    def at(
        name: str, text: str, make: Callable[[Array, Array, Array], Array], rank: int = 1
    ) -> Hypothesis:
        """`make` takes patches (B, n, D), class token (1, 1, D) and positions (N, D)."""

        def recipe(n: Node, v: View) -> Array:
            first = v.weight(f"{n.parameters}.class_embedding")[None, None, :]
            return make(v[n.inputs[0]], first, recipes.positions_for(n, v))

        return Hypothesis(name, text, node.name, recipe, rank)

    def joined(x: Array, first: Array) -> Array:
        return prepend_class_token(x, first[0, 0])

    yield at("class token missing", "the class token is missing; the patches have the right "
             "positions", lambda x, c, p: x + p[1:])  # fmt: skip
    yield at("class token missing, positions from its own", "the class token is missing, and the "
             "first patch has its position", lambda x, c, p: x + p[: x.shape[1]])  # fmt: skip
    yield at("class token zero", "the class token is zero", lambda x, c, p: joined(x, 0 * c) + p)
    yield at(
        "class token at the end",
        "the class token stands at the end; it belongs in front",
        lambda x, c, p: np.roll(joined(x, c) + p, -1, axis=1),
    )
    yield at(
        "class token at the end, positions in order",
        "the class token stands at the end and the positions are counted from the first patch",
        lambda x, c, p: np.roll(joined(x, c), -1, axis=1) + p,
    )
    yield at(
        "class token without position",
        "the class token gets no position",
        lambda x, c, p: joined(x + p[1:], c),
    )
    yield at("image positions missing", "the image's positions are missing",
             lambda x, c, p: joined(x, c))  # fmt: skip
    yield at("image positions twice", "the image's positions are added twice",
             lambda x, c, p: joined(x, c) + 2 * p)  # fmt: skip
    yield at(
        "patch positions from the class token's",
        "the first patch gets the class token's position, and so on: they are off by one",
        lambda x, c, p: joined(x + p[:-1], c),
    )
    yield at(
        "class position last",
        "the position table is read with the class token's position at the end",
        lambda x, c, p: joined(x, c) + np.roll(p, 1, axis=0),
        2,
    )
    yield from of_interpolation(node, graph)


# ---- frames of a video


def _of_frames(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    def at(
        name: str, text: str, make: Callable[[Array, Array], Array], rank: int = 1
    ) -> Hypothesis:
        """`make` takes tokens (B, F, N, D) and times (F', D), and returns (B, F, N, D)."""

        def recipe(n: Node, v: View) -> Array:
            x = v[n.inputs[0]]
            count = v[n.inputs[1]].shape[1]
            x = x.reshape(-1, count, *x.shape[1:])
            times = np.concatenate([t[0] for t in recipes.times_of(n, v)])
            y = make(x, times)
            return y.reshape(y.shape[0], -1, y.shape[-1])

        return Hypothesis(name, text, node.name, recipe, rank)

    def timed(x: Array, times: Array) -> Array:
        return x + times[None, : x.shape[1], None, :]

    yield at("times missing", "the time embeddings are missing", lambda x, t: x)
    yield at("times twice", "the time embeddings are added twice", lambda x, t: timed(x, 2 * t))
    yield at("one time", "every frame has the first frame's time",
             lambda x, t: timed(x, np.repeat(t[:1], x.shape[1], axis=0)))  # fmt: skip
    yield at("times reversed", "the time embeddings run backwards over the frames",
             lambda x, t: timed(x, t[: x.shape[1]][::-1]))  # fmt: skip
    yield at("times off by one", "the time embeddings are off by one",
             lambda x, t: timed(x, np.roll(t, -1, axis=0)))  # fmt: skip
    yield at("times of class tokens", "only the class tokens get a time",
             lambda x, t: np.concatenate([timed(x[:, :, :1], t), x[:, :, 1:]], axis=2),
             2)  # fmt: skip
    yield at("times of patches", "the class tokens get no time",
             lambda x, t: np.concatenate([x[:, :, :1], timed(x[:, :, 1:], t)], axis=2),
             2)  # fmt: skip
    yield at("frames interleaved", "the frames are strung together token by token; it should be "
             "frame by frame", lambda x, t: np.swapaxes(timed(x, t), 1, 2))  # fmt: skip
    yield at("frames reversed", "the frames are strung together backwards",
             lambda x, t: timed(x, t)[:, ::-1], 2)  # fmt: skip
