"""refgit's names for the modules of another implementation.

Both ways to capture know where in a tree of modules a tensor arises; torch by its hooks, ONNX by
the scopes that an exporter leaves. Where the tree is that of transformers' GIT (or of a copy that
somebody changed), most outputs have refgit's name already. The rest is found at a module's input:
the sum before a layer norm, the context before an output projection.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

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
