"""The CUDA kernels, compiled by gcc and run on the CPU: what a GPU would compute, for the tests."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds
from numpy.lib.stride_tricks import as_strided

COMPILER = shutil.which("g++")
HERE = Path(__file__).parent
GUARD = 256  # bytes of NaN in front of and behind each array
SETTINGS = {"reverse": False}  # the order in which the threads of a block run

C_TYPES: dict[str, Any] = {
    "int": (ctypes.c_int, np.int32),
    "long long": (ctypes.c_longlong, np.int64),
    "double": (ctypes.c_double, np.float64),
}


def signatures(code: str) -> dict[str, list[tuple[str, str]]]:
    """Each kernel's parameters as (C type, name), read from the source."""
    found = {}
    for match in re.finditer(r"__global__\s+void\s+(\w+)\s*\((.*?)\)\s*\{", code, re.S):
        parameters = [" ".join(part.split()) for part in match[2].split(",")]
        found[match[1]] = [
            (kind.strip(), name)
            for kind, name in (re.fullmatch(r"(.*?)(\w+)", p).groups() for p in parameters)  # type: ignore[union-attr]
        ]
    return found


def dtype_of(code: str) -> str:
    """What the first line of the source defines."""
    return str(re.findall(r"^#define DTYPE_(\w+)", code)[0])


@cache
def library(code: str) -> ctypes.CDLL:
    """A shared library with a function `run_NAME` for each kernel."""
    assert COMPILER is not None
    parts = ['#include "gpu_fake.h"', code]
    for name, parameters in signatures(code).items():
        declared = ", ".join(f"{kind} {p}" for kind, p in parameters)
        passed = ", ".join(p for _, p in parameters)
        parts.append(
            f'extern "C" int run_{name}(unsigned grid_x, unsigned grid_y, int threads, '
            f"int reverse, {declared}) {{ return run_grid(grid_x, grid_y, threads, reverse, "
            f"[=] {{ {name}({passed}); }}); }}"
        )
    folder = tempfile.mkdtemp()
    try:
        path, out = Path(folder, "kernels.cpp"), Path(folder, "kernels.so")
        path.write_text("\n".join(parts))
        done = subprocess.run(
            [COMPILER, "-std=c++17", "-O1", "-shared", "-fPIC", "-U_FORTIFY_SOURCE",
             "-ffp-contract=off", f"-I{HERE}", path, "-o", out],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return ctypes.CDLL(str(out))
    finally:
        shutil.rmtree(folder)


class _Guarded:
    """A copy of an array with its strides, in a room that is otherwise full of NaN."""

    def __init__(self, x: np.ndarray) -> None:
        low, high = byte_bounds(x)
        self.original = x
        self.room = np.full(high - low + 2 * GUARD + 16, 0xFF, np.uint8)
        start = GUARD + -(self.room.ctypes.data + GUARD) % 16
        begin = start + x.__array_interface__["data"][0] - low
        whole = self.room[begin:].view(np.uint8)
        self.view = as_strided(
            np.frombuffer(whole, x.dtype, whole.size // x.itemsize), x.shape, x.strides
        )
        self.view[...] = x
        self.address = self.room.ctypes.data + begin
        self.before = self.room.copy()

    def come_home(self, name: str, *, written: bool) -> None:
        """Take over what was written; nothing else may have been."""
        if written:
            result = self.view.copy()
            old = np.frombuffer(self.before, np.uint8)
            offset = self.address - self.room.ctypes.data
            as_strided(
                np.frombuffer(old[offset:], result.dtype, (old.size - offset) // result.itemsize),
                result.shape, self.view.strides, writeable=True,
            )[...] = result  # fmt: skip
            self.original[...] = result
        assert (self.room == self.before).all(), f"{name}: the kernel wrote where it must not"


def run(code: str, name: str, grid: tuple[int, ...], block: tuple[int, ...], args: Any) -> None:
    """Run a kernel as CuPy would start it: arguments must have the sizes of the C parameters."""
    function = getattr(library(code), f"run_{name}")
    parameters = signatures(code)[name]
    assert len(args) == len(parameters), f"{name} takes {len(parameters)} arguments"
    rooms: dict[Any, _Guarded] = {}
    passed: list[Any] = []
    written = set()
    for (kind, parameter), x in zip(parameters, args, strict=True):
        if not kind.endswith("*"):
            c_type, numpy_type = C_TYPES[kind]
            assert type(x) is numpy_type, f"{name}: {parameter} is a {type(x)}, not {kind}"
            passed.append(c_type(x))
        elif isinstance(x, np.generic):
            assert type(x) is np.uint64, f"{name}: {parameter} is not a pointer"
            assert x == 0, f"{name}: {parameter} is not a null pointer"
            passed.append(ctypes.c_void_p(0))
        else:
            assert x.dtype == dtype_of(code), f"{name}: {parameter} is of {x.dtype}"
            key = (x.__array_interface__["data"][0], x.shape, x.strides)
            room = rooms.setdefault(key, _Guarded(x))
            passed.append(ctypes.c_void_p(room.address))
            if not kind.startswith("const"):
                written.add(key)
    x, y = (*grid, 1)[:2]
    failed = function(x, y, block[0], int(SETTINGS["reverse"]), *passed)
    assert not failed, f"{name}: some threads wait for others that have ended"
    for key, room in rooms.items():
        room.come_home(name, written=key in written)
