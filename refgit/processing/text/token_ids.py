"""Token ids as callers hold them: numbers, lists, arrays on any device."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refgit_backends import to_numpy


def as_ids(token_ids: Any) -> list[int]:
    """Turn one id, a sequence of ids or an integer array (T,) into a list of ints.

    Raises
    ------
    TypeError
        If something is not a whole number.
    ValueError
        If an id is negative or the array has more than one dimension.
    """
    if not isinstance(token_ids, (int, list, tuple)):
        array = id_array(token_ids)
        if array.ndim > 1:
            raise ValueError(
                f"The token ids have shape {array.shape}; expected one sequence (T,). "
                "Use batch_decode for several."
            )
        token_ids = array.tolist() if array.size else []
    items = token_ids if isinstance(token_ids, (list, tuple)) else [token_ids]
    ids = []
    for item in items:
        try:
            # An array of one number is an id too; anything else that is not a whole number is not.
            index = operator.index(item)
        except TypeError:
            raise TypeError(
                f"A token id is {item!r} of type {type(item).__name__}; expected a whole number."
            ) from None
        if not 0 <= index < 2**32:
            raise ValueError(
                f"A token id is {index}; expected 0 or more. Labels of -100 mark positions without "
                "a token: replace them before decoding."
            )
        ids.append(index)
    return ids


def id_array(token_ids: Any) -> NDArray[np.generic]:
    """Bring an array of ids home from any library and device.

    Raises
    ------
    TypeError
        If it is not an array.
    """
    try:
        return to_numpy(token_ids)
    except ValueError as error:  # among them every BackendError
        raise TypeError(
            f"Token ids are a whole number, a list or an array of them; found "
            f"{type(token_ids).__name__}: {error}"
        ) from error
