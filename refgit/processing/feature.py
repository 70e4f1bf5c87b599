"""The named arrays a processor returns and a model takes: `model(**processor(images=...))`.

Also the check of `return_tensors` that every part of this package shares.
"""

from __future__ import annotations

from typing import Any


class BatchFeature(dict[str, Any]):
    """A dictionary whose entries can also be read as attributes.

    Usual keys: `pixel_values` float32 (B, 3, H, W); `input_ids`, `attention_mask` and, when asked
    for, `token_type_ids` int64 (B, T).

    Raises
    ------
    AttributeError
        If an attribute is neither a key nor a method of `dict`; the message lists the keys.
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            keys = ", ".join(self) or "none"
            raise AttributeError(
                f"BatchFeature has no entry {name!r}; its entries: {keys}"
            ) from None


def check_return_tensors(return_tensors: str | None) -> None:
    """Accept "np" and None; refuse the other frameworks of transformers by name.

    Raises
    ------
    ValueError
        If `return_tensors` is anything else.
    """
    if return_tensors not in (None, "np"):
        raise ValueError(
            f'return_tensors is {return_tensors!r}; refgit accepts "np" (NumPy arrays) or None '
            "(lists). The model takes NumPy arrays on every backend."
        )
