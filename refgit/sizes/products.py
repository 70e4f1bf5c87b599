r"""The matrix products of a model, one by one: what `flops.py` counts and the benchmark runs.

The letters are those of `refgit.layers`: N image tokens of all frames, D width, F feed-forward
width, C channels, P patch size, V vocabulary; n is N of one frame, A the width of all heads left in
a layer (D unless heads are pruned), B the batch. Formulas count multiplications and additions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from refgit.model.config import GitConfig


@dataclass(frozen=True)
class Product:
    """A product of matrices (rows, inner) and (inner, columns), or `stack` of them.

    Attributes
    ----------
    rows, inner, columns, stack : int
    weight : bool
        Whether the right matrix is a weight; if not, both are computed, as in attention.
    """

    rows: int
    inner: int
    columns: int
    stack: int = 1
    weight: bool = True


def operations(products: Iterable[Product]) -> int:
    """Multiplications and additions of the products."""
    return sum(2 * p.stack * p.rows * p.inner * p.columns for p in products)


def vision_products(config: GitConfig, batch: int) -> Iterator[Product]:
    r"""List the products of the image encoder, for so many images or frames.

    .. math:: 2 B (n-1) C P^2 D + B \cdot \text{layers} \cdot
              (\underbrace{8 n D^2}_{Q, K, V, \text{output}} +
              \underbrace{4 n^2 D}_{\text{scores, averages}} +
              \underbrace{4 n D F}_{\text{feed-forward}})
    """
    v = config.vision_config
    n, d = v.num_positions, v.hidden_size
    yield Product(batch * (n - 1), v.num_channels * v.patch_size**2, d)
    for _ in range(v.num_hidden_layers):
        yield from block_products(batch, n, (n,), d, d, v.intermediate_size, v.num_attention_heads)


def projection_products(config: GitConfig, batch: int, n_image: int) -> Iterator[Product]:
    """List the product that brings image tokens to the decoder's width."""
    yield Product(batch * n_image, config.vision_config.hidden_size, config.hidden_size)


def image_products(config: GitConfig, batch: int, n_image: int) -> Iterator[Product]:
    r"""List the products of the decoder over the image tokens, once an image.

    .. math:: B \sum_{\text{layers but the last}} (8 N D A + 4 N^2 A + 4 N D F) + 4 B N D A

    Of the last layer only keys and values are needed: nobody reads what image tokens put out.
    """
    last = config.num_hidden_layers - 1
    for layer in range(last):
        yield from decoder_layer_products(config, layer, batch, n_image, (n_image,))
    yield Product(batch * n_image, config.hidden_size, 2 * inner_width(config, last))


def step_products(config: GitConfig, batch: int, n_image: int, step: int) -> Iterator[Product]:
    r"""List the products of reading text token number `step`, from 1, on top of the cache.

    .. math:: B \sum_{\text{layers}} (8 D A + 4 (N + t) A + 4 D F) + 2 B D V

    One query attends to N image tokens and to t of the text, itself included; then every token of
    the vocabulary is scored.
    """
    for layer in range(config.num_hidden_layers):
        yield from decoder_layer_products(config, layer, batch, 1, (n_image, step))
    yield Product(batch, config.hidden_size, config.vocab_size)


def prefill_products(config: GitConfig, batch: int) -> Iterator[Product]:
    """List the products of encoding images and reading one token below each."""
    n = config.num_image_tokens()
    yield from vision_products(config, batch * (config.num_image_with_embedding or 1))
    yield from projection_products(config, batch, n)
    yield from image_products(config, batch, n)
    yield from step_products(config, batch, n, 1)


def step_bytes(config: GitConfig, itemsize: int) -> int:
    """Bytes of the weights that one token is multiplied with: the decoder's layers and the head."""
    products = step_products(config, 1, 0, 1)
    return itemsize * sum(p.inner * p.columns for p in products if p.weight)


def inner_width(config: GitConfig, layer: int) -> int:
    """Return A, the width of all heads that are left in a decoder layer."""
    return config.hidden_size // config.num_attention_heads * config.heads_of(layer)


def decoder_layer_products(
    config: GitConfig, layer: int, batch: int, queries: int, keys: Sequence[int]
) -> Iterator[Product]:
    r"""List the products of a decoder layer: `block_products` and those of relative positions.

    .. math:: B \sum_i 2 Q (Q + K_i - 1) A \;[\, + 2 K_i (Q + K_i - 1) A \,]

    Each query is multiplied with every distance to a segment of K_i keys; the second term, of the
    keys, belongs to relative_key_query. (See `layers.position.relative_scores`.)
    """
    heads, inner = config.heads_of(layer), inner_width(config, layer)
    width, wide = config.hidden_size, config.intermediate_size
    yield from block_products(batch, queries, keys, width, inner, wide, heads)
    if config.position_embedding_type == "absolute":
        return
    both = config.position_embedding_type == "relative_key_query"
    for k in filter(None, keys):
        for rows in (queries, k) if both else (queries,):
            yield Product(rows, inner // heads, queries + k - 1, batch * heads, weight=False)


def block_products(
    batch: int, queries: int, keys: Sequence[int], width: int, inner: int, wide: int, heads: int
) -> Iterator[Product]:
    r"""List the products of a transformer block for Q new tokens that attend to K in segments.

    .. math:: B \, (\underbrace{6 Q D A}_{Q, K, V} +
              \underbrace{4 Q K A}_{\text{scores, averages}} +
              \underbrace{2 Q A D}_{\text{output}} + \underbrace{4 Q D F}_{\text{feed-forward}})
    """
    rows, seen, of_head = batch * queries, sum(keys), inner // heads
    yield Product(rows, width, 3 * inner)
    yield Product(queries, of_head, seen, batch * heads, weight=False)
    yield Product(queries, seen, of_head, batch * heads, weight=False)
    yield Product(rows, inner, width)
    yield Product(rows, width, wide)
    yield Product(rows, wide, width)
