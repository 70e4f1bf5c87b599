"""What the machine allows: the least time a case can take, measured beside it.

Two things bound a transformer from below. Reading an image is arithmetic: its matrix products,
run bare, take a certain time, and everything else comes on top. Writing a token is reading: every
weight of the decoder passes through the processor once, whatever is computed with it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np

from refgit.sizes.memory import ITEMSIZE
from refgit.sizes.products import (
    Product,
    prefill_products,
    step_bytes,
    step_products,
    vision_products,
)

POOL = 1 << 20  # random numbers that the operands are filled with, again and again


class Limits:
    """Bare operations of a model's shapes, on its backend.

    Operands are made on first use. Two products of one list never share a weight, which would then
    come from the processor's cache; lists share theirs.
    """

    def __init__(self, model: Any, threads: int) -> None:
        self.config, self.backend, self.threads = model.config, model.backend, threads
        self.itemsize = ITEMSIZE[model.dtype]
        # NumPy's products of float16 are not what a CPU can do; float32 is.
        self.dtype = model.dtype
        if not self.backend.on_gpu and model.dtype in ("float16", "bfloat16"):
            self.dtype = "float32"
        self.pool = np.random.default_rng(0).standard_normal(POOL).astype(np.float32)
        self.weight = cache(lambda shape, number: self.random(shape))

    def run_of(self, case: dict[str, Any]) -> Callable[[], Any]:
        """A function that does what the limit is measured by."""
        if case["of"] == "read":
            return self.reading()
        n = self.config.num_image_tokens()
        made = {
            "vision": lambda: vision_products(self.config, case["batch"]),
            "prefill": lambda: prefill_products(self.config, case["batch"]),
            "step": lambda: step_products(self.config, case["batch"], n, case["keys"] - n),
        }[case["of"]]()
        products = list(made)
        runs = [self.arranged(products, turned=turned) for turned in (False, True)]
        return min(runs, key=self.shortest)  # which operand comes first is the machine's choice

    def shortest(self, run: Callable[[], None]) -> float:
        """Seconds of the shortest of a few runs."""
        seconds = []
        for _ in range(4):  # the first warms up
            start = time.perf_counter()
            run()
            self.backend.synchronize()
            seconds.append(time.perf_counter() - start)
        return min(seconds[1:])

    def arranged(self, products: list[Product], *, turned: bool) -> Callable[[], None]:
        """All products in their order, results written where they were before.

        Turned, the weight comes first, as the checkpoint has it, and tokens are side by side:
        (columns, inner) and (inner, rows). What the numbers are makes no difference.
        """
        xp = self.backend.xp
        left_of, out_of = cache(self.random), cache(self.random)  # by shape
        operands: list[tuple[Any, Any, dict[str, Any]]] = []
        seen: Counter[Product] = Counter()
        for p in products:
            stack = () if p.stack == 1 else (p.stack,)
            left = left_of((*stack, p.rows, p.inner))
            # A single row is a matrix-vector product, fastest by the checkpoint's (columns, inner).
            flip = p.rows == 1
            shape = (*stack, p.columns, p.inner) if flip else (*stack, p.inner, p.columns)
            right = self.weight(shape, seen[p])  # its own, within this list
            seen[p] += 1
            if turned:
                first = xp.reshape(right, (*stack, p.columns, p.inner))
                left, right = first, xp.reshape(left, (*stack, p.inner, p.rows))
            elif flip:
                right = xp.matrix_transpose(right)
            out = {}
            if self.backend.matmul_takes_out:
                out["out"] = out_of((*stack, p.rows, p.columns))
                if turned:
                    out["out"] = xp.reshape(out["out"], (*stack, p.columns, p.rows))
            operands.append((left, right, out))

        def run() -> None:
            for left, right, out in operands:
                xp.matmul(left, right, **out)

        return run

    def reading(self) -> Callable[[], None]:
        """Read as many bytes as the weights that one token passes, as fast as it goes."""
        words = step_bytes(self.config, self.itemsize) // 4
        if self.backend.on_gpu:
            buffer = self.backend.asarray(np.resize(self.pool, words), "float32")
            return lambda: self.backend.xp.max(buffer)
        parts = np.array_split(np.resize(self.pool, words), self.threads)
        workers = ThreadPoolExecutor(self.threads)
        return lambda: list(workers.map(np.max, parts))  # type: ignore[return-value]

    def random(self, shape: tuple[int, ...]) -> Any:
        """An array of random numbers on the device."""
        return self.backend.asarray(np.resize(self.pool, shape), self.dtype)
