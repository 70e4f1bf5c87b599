"""Bring arrays home: from whatever library and device to NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from refgit_backends.base import host_array


def to_numpy(x: Any) -> np.ndarray[Any, Any]:
    """Return `x` as a NumPy array on the host.

    Parameters
    ----------
    x : array of NumPy, CuPy, array-api-strict, or anything with ``__array__`` or DLPack

    Returns
    -------
    numpy.ndarray
        The same shape and dtype; no copy where none is needed.

    Raises
    ------
    refgit_backends.BackendError
        `x` cannot be read on the host.
    """
    if hasattr(x, "__cuda_array_interface__") and hasattr(x, "get"):
        home: np.ndarray[Any, Any] = x.get()  # CuPy
        return home
    if hasattr(x, "__array_namespace__") and not isinstance(x, np.ndarray):
        xp = x.__array_namespace__()  # array-api-strict's pretend devices
        x = x.to_device(xp.__array_namespace_info__().default_device())
    return host_array(x)
