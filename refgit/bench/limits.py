"""What the machine allows: the least time a case can take, measured beside it.

Two things bound a transformer from below. Reading an image is arithmetic: its matrix products,
run bare, take a certain time, and everything else comes on top. Writing a word is reading: every
weight of the decoder passes through the processor once, whatever is computed with it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from refgit.model.config import GitConfig

POOL = 1 << 20  # random numbers that the operands are filled with, again and again


@dataclass(frozen=True)
class Product:
    """`stack` products of (rows, inner) and (inner, columns), the right one a weight or not."""

    rows: int
    inner: int
    columns: int
    stack: int = 1


def vision_products(config: GitConfig, batch: int) -> Iterator[Product]:
    """The matrix products of the image encoder."""
    v = config.vision_config
    n, d, f = v.num_positions, v.hidden_size, v.intermediate_size
    yield Product(batch * (n - 1), v.num_channels * v.patch_size**2, d)
    for _ in range(v.num_hidden_layers):
        yield from _block(batch, n, d, f, v.num_attention_heads)


def prefill_products(config: GitConfig, batch: int) -> Iterator[Product]:
    """Those of reading images and one token below each."""
    n = config.vision_config.num_positions
    yield from vision_products(config, batch)
    yield from reading_products(config, batch, n)
    yield from step_products(config, batch, n + 1)


def reading_products(config: GitConfig, batch: int, n: int) -> Iterator[Product]:
    """Those of the decoder on the image tokens, n a row."""
    d = config.hidden_size
    yield Product(batch * n, config.vision_config.hidden_size, d)
    for _ in range(config.num_hidden_layers - 1):
        yield from _block(batch, n, d, config.intermediate_size, config.num_attention_heads)
    yield Product(batch * n, d, 2 * d)  # of the last layer, keys and values alone


def step_products(config: GitConfig, rows: int, keys: int) -> Iterator[Product]:
    """Those of one token a row, which looks at so many keys."""
    d, f, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
    for _ in range(config.num_hidden_layers):
        yield Product(rows, d, 3 * d)
        yield Product(1, d // heads, keys, rows * heads)
        yield Product(1, keys, d // heads, rows * heads)
        yield from (Product(rows, d, d), Product(rows, d, f), Product(rows, f, d))
    yield Product(rows, d, config.vocab_size)


def _block(batch: int, n: int, d: int, f: int, heads: int) -> Iterator[Product]:
    yield Product(batch * n, d, 3 * d)
    yield Product(n, d // heads, n, batch * heads)
    yield Product(n, n, d // heads, batch * heads)
    yield from (Product(batch * n, d, d), Product(batch * n, d, f), Product(batch * n, f, d))


def flops(products: Iterator[Product]) -> int:
    """Additions and multiplications of the products."""
    return sum(2 * p.stack * p.rows * p.inner * p.columns for p in products)


def step_bytes(config: GitConfig, itemsize: int) -> int:
    """Bytes of the weights that one word passes by: the decoder's layers and the head."""
    weights = sum(p.inner * p.columns for p in step_products(config, 1, 1) if p.stack == 1)
    return weights * itemsize


class Limits:
    """Bare operations of a model's shapes, on its backend.

    Operands are made on first use. Two products of one list never share a weight, which would then
    come from the processor's cache; lists share theirs.
    """

    def __init__(self, model: Any, threads: int) -> None:
        self.config, self.backend, self.threads = model.config, model.backend, threads
        self.itemsize = {"float64": 8, "float32": 4}.get(model.dtype, 2)
        # NumPy's products of float16 are not what a CPU can do; float32 is.
        self.dtype = model.dtype
        if self.backend.name != "cupy" and model.dtype in ("float16", "bfloat16"):
            self.dtype = "float32"
        self.pool = np.random.default_rng(0).standard_normal(POOL).astype(np.float32)
        self.weights: dict[Any, Any] = {}
        self.executor: ThreadPoolExecutor | None = None

    def run_of(self, case: dict[str, Any]) -> Callable[[], Any]:
        """A function that does what the limit is measured by."""
        if case["of"] == "read":
            return self.reading()
        made = {
            "vision": lambda: vision_products(self.config, case["batch"]),
            "prefill": lambda: prefill_products(self.config, case["batch"]),
            "step": lambda: step_products(self.config, case["batch"], case["keys"]),
        }[case["of"]]()
        return self.multiplying(list(made))

    def multiplying(self, products: list[Product]) -> Callable[[], None]:
        """All products in their order, by whichever operand first is faster on this machine."""
        runs = [self.arranged(products, turned=turned) for turned in (False, True)]
        return min(runs, key=self.shortest)

    def shortest(self, run: Callable[[], None]) -> float:
        """Seconds of the shortest of a few runs."""
        seconds = []
        for _ in range(4):  # the first warms up
            start = time.perf_counter()
            run()
            if hasattr(self.backend, "synchronize"):
                self.backend.synchronize()
            seconds.append(time.perf_counter() - start)
        return min(seconds[1:])

    def arranged(self, products: list[Product], *, turned: bool) -> Callable[[], None]:
        """All products in their order, results written where they were before.

        Turned, the weight comes first, as the checkpoint has it, and tokens stand side by side:
        (columns, inner) and (inner, rows). What the numbers are makes no difference.
        """
        xp = self.backend.xp
        with_out = xp is np or self.backend.name == "cupy"
        lefts: dict[Any, Any] = {}
        outs: dict[Any, Any] = {}
        operands = []
        seen: Counter[Any] = Counter()
        for p in products:
            stack = () if p.stack == 1 else (p.stack,)
            left_key, out_key = (*stack, p.rows, p.inner), (*stack, p.rows, p.columns)
            if left_key not in lefts:
                lefts[left_key] = self.random(left_key)
            if with_out and out_key not in outs:
                outs[out_key] = self.random(out_key)
            # A single row is a matrix-vector product, fastest by the checkpoint's (columns, inner).
            flip = p.rows == 1
            shape = (*stack, p.columns, p.inner) if flip else (*stack, p.inner, p.columns)
            right_key = (shape, seen[p])  # its own, within this list
            seen[p] += 1
            if right_key not in self.weights:
                self.weights[right_key] = self.random(shape)
            right = self.weights[right_key]
            left, out = lefts[left_key], outs.get(out_key)
            if turned:
                first = xp.reshape(right, (*stack, p.columns, p.inner))
                left, right = first, xp.reshape(left, (*stack, p.inner, p.rows))
                out = None if out is None else xp.reshape(out, (*stack, p.columns, p.rows))
            elif flip:
                right = xp.matrix_transpose(right)
            operands.append((left, right, out))

        def run() -> None:
            for left, right, out in operands:
                if out is None:
                    xp.matmul(left, right)
                else:
                    xp.matmul(left, right, out=out)

        return run

    def reading(self) -> Callable[[], None]:
        """Read as many bytes as one word's weights have, as fast as it goes."""
        words = step_bytes(self.config, self.itemsize) // 4
        if self.backend.name == "cupy":
            buffer = self.backend.asarray(np.resize(self.pool, words), "float32")
            return lambda: self.backend.xp.max(buffer)
        parts = np.array_split(np.resize(self.pool, words), self.threads)
        if self.executor is None:
            self.executor = ThreadPoolExecutor(self.threads)
        workers = self.executor
        return lambda: list(workers.map(np.max, parts))  # type: ignore[return-value]

    def random(self, shape: tuple[int, ...]) -> Any:
        """An array of random numbers on the device."""
        return self.backend.asarray(np.resize(self.pool, shape), self.dtype)
