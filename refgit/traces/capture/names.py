"""What a tensor of another implementation is called here: module paths to refgit's names.

Both ways to capture know where in a tree of modules a tensor arises; torch by its hooks, ONNX by
the scopes that an exporter leaves. Where the tree is that of transformers' GIT (or of a copy that
somebody changed), most outputs have refgit's name already. The rest is found at a module's input:
the sum before a layer norm, the context before an output projection.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from refgit.traces.container import Trace
from refgit.traces.names import INPUTS, TensorName

Tensor = np.ndarray[Any, Any]

_ATTENTION = r"encoder\.(?:layers\.\d+\.self_attn|layer\.\d+\.attention\.self)"
_VISION_BLOCK = r"layer_norm[12]|self_attn\.(?:q|k|v|out)_proj|mlp\.(?:fc1|activation_fn|fc2)"
_VISION = (
    r"vision_model\.(?:embeddings|embeddings\.patch_embedding|pre_layrnorm|post_layernorm"
    rf"|encoder\.layers\.\d+(?:\.(?:{_VISION_BLOCK}))?)"
)
_TEXT_BLOCK = (
    r"attention\.self\.(?:query|key|value)|attention\.output\.(?:dense|LayerNorm)"
    r"|intermediate\.(?:dense|intermediate_act_fn)|output\.(?:dense|LayerNorm)"
)
_TEXT = (
    r"embeddings\.(?:word_embeddings|position_embeddings|LayerNorm)"
    rf"|encoder\.layer\.\d+\.(?:{_TEXT_BLOCK})"
)
_NAMED = re.compile(
    rf"(?:^|\.)(?:{_VISION}|{_TEXT}|visual_projection\.visual_projection\.[01])$|^output$"
)
# Their outputs are those of a module inside, or of no interest: weights, dropout.
_CONTAINER = re.compile(
    r"(?:^|\.)(?:|git|image_encoder|vision_model|encoder|layers?(?:\.\d+)?|attention|self|self_attn"
    r"|mlp|intermediate|output|embeddings|visual_projection|dropout|position_embedding"
    r"|distance_embedding)$"
)
_IS_ATTENTION = re.compile(rf"(?:^|\.){_ATTENTION}$")
_AT_INPUT = [
    (re.compile(r"(.*embeddings)\.LayerNorm"), r"\1.sum"),
    (re.compile(r"(.*encoder\.layers\.\d+\.self_attn)\.out_proj"), r"\1.context"),
    (re.compile(r"(.*encoder\.layers\.\d+)\.layer_norm2"), r"\1.self_attn.residual"),
    (re.compile(r"(.*encoder\.layer\.\d+\.attention)\.output\.dense"), r"\1.self.context"),
    (re.compile(r"(.*encoder\.layer\.\d+(?:\.attention)?\.output)\.LayerNorm"), r"\1.residual"),
    # modules of their own, unless the activation is a plain function
    (re.compile(r"(.*encoder\.layers\.\d+\.mlp)\.fc2"), r"\1.activation_fn"),
    (
        re.compile(r"(.*encoder\.layer\.\d+)\.output\.dense"),
        r"\1.intermediate.intermediate_act_fn",
    ),
]
_IMAGE = ("image_encoder.", "vision_model.", "visual_projection.")
_NOTHING = np.zeros(0)


class Names:
    """refgit's names for the modules of a tree.

    Parameters
    ----------
    paths : iterable of str
        The paths of all modules, such as ``git.encoder.layer.0.attention.self.query``.
    whole : bool
        Whether a tree without ``git`` at its top is to be named as a part of the whole model:
        ``encoder.layer.0 ...`` becomes ``git.encoder.layer.0 ...``.

    Attributes
    ----------
    is_git : bool
        Whether the tree is that of transformers' GIT, or of its image encoder or decoder.
    """

    def __init__(self, paths: Iterable[str], *, whole: bool = False) -> None:
        self._paths = set(paths)
        self.is_git = any(_IS_ATTENTION.search(path) for path in self._paths)
        tops = [p for p in sorted(self._paths, key=len) if re.search(r"(?:^|\.)git$", p)]
        self._root = tops[0].removesuffix("git") if tops else ""
        self._whole = whole and not tops

    def at_output(self, path: str) -> str | None:
        """Return the name of what a module returns; None for what has a name elsewhere."""
        if not self.is_git:
            return f"{path}.output" if path else "output"
        path = path.removeprefix(self._root)
        if _NAMED.search(path):
            return self._completed(path)
        return None if _CONTAINER.search(path) else f"{path}.output"

    def at_input(self, path: str) -> str | None:
        """Return the name of what a module is given, if it has one."""
        path = path.removeprefix(self._root)
        for pattern, name in _AT_INPUT if self.is_git else ():
            found = pattern.fullmatch(path)
            if found and self._root + found.expand(name) not in self._paths:
                return self._completed(found.expand(name))
        return None

    def attention(self, path: str) -> str | None:
        """Return refgit's path of a module that is an attention, else None."""
        path = path.removeprefix(self._root)
        return self._completed(path) if self.is_git and _IS_ATTENTION.search(path) else None

    def _completed(self, name: str) -> str:
        if self._whole and name.startswith("vision_model."):
            return f"git.image_encoder.{name}"
        return f"git.{name}" if self._whole and name != "output" else name


def stage(name: str) -> int:
    """Inputs 0, image encoder 1, text embedding 2, the rest 3: the order within a call."""
    rest = TensorName.parse(name).path.removeprefix("git.")
    if rest.startswith("input."):
        return 0
    if rest.startswith(_IMAGE):
        return 1
    return 2 if rest.startswith("embeddings.") else 3


def is_image(name: str) -> bool:
    """Whether a tensor is computed from the image alone."""
    return stage(name) == 1


def wanted(name: str, patterns: Sequence[str] | None) -> bool:
    """Whether `Trace.select` would keep a name."""
    return patterns is None or name in Trace({name: _NOTHING}).select(patterns)


def tokens_last(name: str, x: Tensor) -> Tensor:
    """Bring a convolution's patches into refgit's form: (B, D, rows, columns) -> (B, n, D)."""
    if name.endswith("embeddings.patch_embedding") and x.ndim == 4:
        return np.ascontiguousarray(x.reshape(*x.shape[:2], -1).swapaxes(1, 2))
    return x


def join_calls(name: str, values: Sequence[Tensor]) -> dict[str, Tensor]:
    """Name what a module computed when called several times in one forward pass.

    A video's frames go through the image encoder one by one: F times (B, ...) -> (B F, ...).
    Other modules get ``#2``, ``#3`` ... behind their names.
    """
    if len(values) == 1:
        return {name: values[0]}
    same = len({x.shape for x in values}) == 1 and values[0].ndim > 0
    if same and is_image(name) and "vision_model." in name:
        x = np.stack(values, axis=1)
        return {name: x.reshape(-1, *x.shape[2:])}
    return {f"{name}#{i}" if i > 1 else name: x for i, x in enumerate(values, 1)}


def text_rows(name: str, x: Tensor, count: int) -> Tensor:
    """Keep the last `count` tokens of a decoder's tensor: those that a step adds.

    Tokens are the queries of (B, H, Q, K) and the second axis of (B, Q, D).
    """
    if is_image(name) or stage(name) == 0:
        return x
    if name.endswith((".scores", ".probabilities")):
        return x[..., -count:, :]
    return x[:, -count:] if x.ndim > 1 else x


def in_order(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Sort the tensors of one call by stage, the inputs as `trace.INPUTS` has them."""

    def key(name: str) -> tuple[int, int]:
        given = TensorName.parse(name).path.removeprefix("input.")
        return stage(name), INPUTS.index(given) if given in INPUTS else len(INPUTS)

    return {name: tensors[name] for name in sorted(tensors, key=key)}
