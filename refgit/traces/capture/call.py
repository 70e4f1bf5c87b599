"""The tensors of one call of another implementation, in the form and the order of refgit's.

What hooks or graph nodes showed by name, in the order of execution, becomes a part of a trace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from refgit.traces.container import Tensor
from refgit.traces.names import INPUTS, TensorName

# Inputs with one entry for each text token.
_TOKENS = ("input_ids", "inputs_embeds", "position_ids")


def assembled(
    found: Mapping[str, Sequence[Tensor]], *, is_git: bool, new_tokens: int | None = None
) -> dict[str, Tensor]:
    """Return the tensors of a call by name.

    Parameters
    ----------
    found : mapping of str to sequence of array
        By the name without the call; several where a module was called several times.
    is_git : bool
        Whether the names are refgit's, and the order is to be.
    new_tokens : int, optional
        Of a step, how many tokens it adds: these are kept, and nothing of the image.
    """
    joined: dict[str, Tensor] = {}
    for name, values in found.items():
        joined |= join_calls(name, values)
    if is_git:
        joined = in_order(joined)
    if new_tokens is None:
        return joined
    names = [name for name in joined if not TensorName.parse(name).is_image]
    return {name: text_rows(name, joined[name], new_tokens) for name in names}


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
    if same and TensorName.parse(name).is_image and "vision_model." in name:
        x = np.stack(values, axis=1)
        return {name: x.reshape(-1, *x.shape[2:])}
    return {f"{name}#{i}" if i > 1 else name: x for i, x in enumerate(values, 1)}


def text_rows(name: str, x: Tensor, count: int) -> Tensor:
    """Keep the last `count` tokens of the decoder's tensors and inputs: those that a step adds.

    Tokens are the queries of (B, H, Q, K) and the second axis of (B, Q, D).
    """
    parsed = TensorName.parse(name)
    if parsed.is_image or (parsed.is_input and parsed.leaf not in _TOKENS):
        return x
    if name.endswith((".scores", ".probabilities")):
        return x[..., -count:, :]
    return x[:, -count:] if x.ndim > 1 else x


def in_order(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Sort the tensors of one call: inputs, image, text embedding, decoder.

    transformers embeds the text before the image; the inputs come as `trace` has them.
    """

    def key(text: str) -> tuple[int, int]:
        name = TensorName.parse(text)
        if name.is_input:
            return 0, INPUTS.index(name.leaf) if name.leaf in INPUTS else len(INPUTS)
        if name.is_image:
            return 1, 0
        return (2 if name.bare.startswith("embeddings.") else 3), 0

    return {name: tensors[name] for name in sorted(tensors, key=key)}
