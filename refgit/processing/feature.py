"""The named arrays a processor returns and a model takes: `model(**processor(images=...))`.

Also the check of `return_tensors` that every part of this package shares.
"""

from __future__ import annotations

from typing import Any

from refgit_backends import available, get_backend


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
    """Accept None, "np" and the backends of refgit; refuse other frameworks by name.

    Raises
    ------
    ValueError
        If `return_tensors` is anything else, or the backend's library or device is missing.
    """
    if return_tensors in (None, "np"):
        return
    if return_tensors not in available():
        raise ValueError(
            f'return_tensors is {return_tensors!r}; refgit accepts "np" (NumPy arrays), None '
            f"(lists) or the name of a backend ({', '.join(available())}), whose arrays it gives "
            "then. The model takes NumPy arrays on every backend."
        )
    get_backend(return_tensors)  # may say that there is no GPU, before any work is done


def on_device(feature: BatchFeature, return_tensors: str | None) -> BatchFeature:
    """Move NumPy arrays to where `return_tensors` says: "np" is the host, others a backend's."""
    if return_tensors in (None, "np"):
        return feature
    backend = get_backend(return_tensors)
    return BatchFeature({name: backend.asarray(x) for name, x in feature.items()})
