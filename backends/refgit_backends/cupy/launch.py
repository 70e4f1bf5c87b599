"""Kernels are started by the names of their C parameters, so that none can take another's place."""

from __future__ import annotations

from typing import Any

import numpy as np

from refgit_backends.cupy.source import PARAMETERS, THREADS, source

_LARGEST_GRID = (2**31 - 1, 65535)  # blocks along x and y that CUDA allows

# CUDA copies as many bytes as the C type has; a Python int would be handed over as eight.
_NUMBERS: dict[str, Any] = {"int": np.int32, "long long": np.int64, "double": np.float64}
_NULL = np.uint64(0)


class Launcher:
    """The compiled kernels, one module for each dtype, compiled when first asked for.

    Parameters
    ----------
    xp : module
        CuPy.
    """

    def __init__(self, xp: Any) -> None:
        self.xp = xp
        self._functions: dict[tuple[Any, str], Any] = {}  # by dtype and name

    def __call__(self, name: str, blocks: tuple[int, ...], dtype: Any, **arguments: Any) -> None:
        """Start a kernel on the current stream; it runs while Python goes on.

        Parameters
        ----------
        name : str
            A kernel of `cupy_source`.
        blocks : one or two int
            How many blocks along x and y; the kernels go round where CUDA allows fewer.
        dtype : dtype
            Of all arrays.
        arguments
            By the names of the C parameters: arrays (None for null) and numbers. The kernels take
            arrays to be contiguous, but for those whose strides `attend` is told.
        """
        function = self._functions.get((dtype, name))
        if function is None:  # CuPy compiles a source once and keeps the result on disk
            module = self.xp.RawModule(code=source(str(dtype)))
            function = self._functions[dtype, name] = module.get_function(name)
        grid = tuple(max(1, min(n, most)) for n, most in zip(blocks, _LARGEST_GRID, strict=False))
        values = tuple(
            _argument(arguments.pop(parameter), kind, dtype)
            for parameter, kind in PARAMETERS[name].items()
        )
        assert not arguments, f"{name} has no {', '.join(arguments)}"
        function(grid, (THREADS,), values)


def _argument(x: Any, kind: str, dtype: Any) -> Any:
    """One argument as the C type asks for it."""
    number = _NUMBERS.get(kind)
    if number is not None:
        return number(x)
    if x is None:
        return _NULL
    assert x.dtype == dtype, f"an array of {x.dtype} was handed to a kernel of {dtype}"
    return x
