"""Scores and probabilities of a torch attention, which no module shows.

While an attention module runs, every torch function that it calls is inspected: the input of the
softmax is the scores, unless a mask was added to them before; what is multiplied with the values is
the probabilities.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

Keep = Callable[[str, Any], None]


class Attention:
    """One attention that is running: tells its scores from their sum with a mask."""

    # names of torch functions, their underscores stripped
    MASKING = ("add", "iadd", "masked_fill", "where")
    PRODUCTS = ("matmul", "bmm", "einsum")

    def __init__(self, path: str, given: list[Any]) -> None:
        self.path, self.given = path, given
        self.masked: tuple[Any, Any] | None = None  # a masked tensor, and what it was before
        self.weighing = False  # between the softmax and the product with the values

    def run(self, torch: Any, keep: Keep, function: Any, args: Any, kwargs: Any) -> Any:
        """Run a torch function and keep the scores or the probabilities if it shows them."""
        name = getattr(function, "__name__", "")
        kind = name.strip("_")
        if kind in self.MASKING:
            tensors = _operands(torch, args, kwargs)
            if name.endswith("_") and tensors:  # it may write into its operand
                tensors[0] = tensors[0].clone()
            result = function(*args, **kwargs)
            scores = self._unmasked(tensors, result, kind)
            if scores is not None:
                self.masked = (result, scores)
            return result
        if kind == "softmax":
            tensors = _operands(torch, args, kwargs)
            if tensors:
                masked, before = self.masked or (None, None)
                scores = before if masked is tensors[0] else tensors[0]
                keep(f"{self.path}.scores", scores)
                self.weighing = True
        elif kind in self.PRODUCTS and self.weighing:
            # the first operand: what dropout, a head mask or a cast made of the softmax
            keep(f"{self.path}.probabilities", _operands(torch, args, kwargs)[0])
            self.weighing = False
        return function(*args, **kwargs)

    def _unmasked(self, tensors: list[Any], result: Any, kind: str) -> Any:
        """Return the operand that is not a mask, if the other is one.

        A mask was given to the attention, or is the same for all heads.
        """
        if getattr(result, "ndim", 0) < 3:
            return None
        if kind in ("masked_fill", "where"):
            floats = [x for x in tensors if x.is_floating_point() and x.shape == result.shape]
            return floats[0] if floats else None
        if len(tensors) != 2:
            return None
        for scores, other in (tensors, tensors[::-1]):
            one_for_all = result.shape[1] > 1 and (other.ndim < result.ndim or other.shape[1] == 1)
            is_mask = one_for_all or any(other is x for x in self.given)
            if is_mask and scores.shape == result.shape:
                return scores
        return None


def function_mode(torch: Any, keep: Keep, running: list[Attention]) -> Any:
    """Return a context in which the innermost running attention inspects every torch function.

    Parameters
    ----------
    torch : module
    keep : callable
        Called with the name and the tensor of what is found.
    running : list of Attention
        Innermost last; it changes as modules are entered and left.

    Returns
    -------
    context manager
    """
    overrides: Any = importlib.import_module("torch.overrides")

    class Mode(overrides.TorchFunctionMode):  # type: ignore[misc]  # Any where there is no torch
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if not running:
                return function(*args, **(kwargs or {}))
            return running[-1].run(torch, keep, function, args, kwargs or {})

    return Mode()


def _operands(torch: Any, args: Any, kwargs: Any) -> list[Any]:
    return [x for _, x in tensors_in(torch, [args, kwargs])]


def tensors_in(torch: Any, value: Any, where: str = "") -> list[tuple[str, Any]]:
    """Return all tensors in nested tuples, lists and mappings, with the keys that lead there."""
    if isinstance(value, torch.Tensor):
        return [(where, value)]
    if isinstance(value, Mapping):
        items = [(str(key), x) for key, x in value.items()]
    elif isinstance(value, (tuple, list)):
        items = [(str(i), x) for i, x in enumerate(value)]
    else:
        return []
    return [
        pair
        for key, x in items
        if not is_cache(x)
        for pair in tensors_in(torch, x, f"{where}.{key}" if where else key)
    ]


def is_cache(value: Any) -> bool:
    """Whether a value is a cache of transformers'."""
    return hasattr(value, "get_seq_length")
