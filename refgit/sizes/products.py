"""The matrix products of a model, one by one, with their shapes.

`flops.py` has their number of operations as formulas; the benchmark runs these to find out what the
machine allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from refgit.model.config import GitConfig


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
    """The matrix products of encoding images and reading one token below each."""
    n = config.num_image_tokens(frames=1)
    yield from vision_products(config, batch)
    yield from reading_products(config, batch, n)
    yield from step_products(config, batch, n + 1)


def reading_products(config: GitConfig, batch: int, n: int) -> Iterator[Product]:
    """The matrix products of the decoder on the image tokens, n a batch row."""
    d = config.hidden_size
    yield Product(batch * n, config.vision_config.hidden_size, d)
    for _ in range(config.num_hidden_layers - 1):
        yield from _block(batch, n, d, config.intermediate_size, config.num_attention_heads)
    yield Product(batch * n, d, 2 * d)  # of the last layer, keys and values alone


def step_products(config: GitConfig, rows: int, keys: int) -> Iterator[Product]:
    """The matrix products of one token a batch row, which attends to so many keys."""
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


def operations(products: Iterable[Product]) -> int:
    """Additions and multiplications of the products."""
    return sum(2 * p.stack * p.rows * p.inner * p.columns for p in products)


def step_bytes(config: GitConfig, itemsize: int) -> int:
    """Bytes of the weights that one token is multiplied with: the decoder's layers and the head."""
    weights = sum(p.inner * p.columns for p in step_products(config, 1, 1) if p.stack == 1)
    return weights * itemsize
