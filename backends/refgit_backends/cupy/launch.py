"""Compile the kernels of kernels.cu and start them.

Arguments are given by the names of the C parameters, so that none can take another's place.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import numpy as np

DTYPES = ("float16", "float32", "float64")
_TEXT = files("refgit_backends.cupy").joinpath("kernels.cu").read_text("utf-8")
THREADS, MAX_KEYS = (
    int(re.findall(rf"#define {name} (\d+)", _TEXT)[0]) for name in ("THREADS", "MAX_KEYS")
)


def source(dtype: str) -> str:
    """Return the CUDA module for arrays of this dtype."""
    return f"#define DTYPE_{dtype}\n{_TEXT}"


def _parameters() -> dict[str, dict[str, str]]:
    """Find each kernel's parameters in the source: their C types by name, in order."""
    found = {}
    for name, text in re.findall(r'extern "C" __global__ void (\w+)\(([^)]*)\)', _TEXT):
        pairs = (parameter.split() for parameter in text.split(","))
        found[name] = {words[-1]: " ".join(words[:-1]) for words in pairs}
    return found


PARAMETERS = _parameters()
_LARGEST_GRID = (2**31 - 1, 65535)  # blocks along x and y that CUDA allows

# CUDA copies as many bytes as the C type has; a Python int would be passed as eight.
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
            A kernel of kernels.cu.
        blocks : one or two int
            How many blocks along x and y; the kernels loop where CUDA allows fewer.
        dtype : dtype
            Of all arrays.
        arguments
            By the names of the C parameters: arrays (None for null) and numbers. The kernels take
            arrays to be contiguous, except those whose strides `attend` is given.
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
    assert x.dtype == dtype, f"an array of {x.dtype} was passed to a kernel of {dtype}"
    return x
