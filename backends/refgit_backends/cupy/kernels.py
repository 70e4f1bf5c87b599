"""The CuPy kernels by name: faster versions of operations, each with its definition's meaning.

What takes time on a GPU, besides the products, is reading and writing memory and starting kernels.
So a row is normalised by one kernel, a bias is added where the activation reads the product
anyway, and attention of few queries is one kernel in the place of a dozen. Sums are taken in
float32 of float16 and float32, in float64 of float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from refgit_backends.base import Array, Kernel
from refgit_backends.cupy.attention import Hook, attention_kernel
from refgit_backends.cupy.launch import DTYPES, THREADS, Launcher


def make_kernels(xp: Any) -> dict[str, Kernel]:
    """Make the kernels of CuPy, `xp`; nothing is compiled before it is used."""
    launch = Launcher(xp)

    def layer_norm(x: Array, weight: Array, bias: Array, *, eps: float) -> Array:
        """Normalise the last axis to mean 0 and variance 1: (..., D), (D,), (D,) -> (..., D)."""
        x = xp.ascontiguousarray(x)
        y = xp.empty(x.shape, x.dtype)
        width = x.shape[-1]
        rows = x.size // width
        launch(
            "layer_norm", (rows,), x.dtype,
            y=y, x=x, weight=weight, bias=bias, rows=rows, width=width, eps=eps,
        )  # fmt: skip
        return y

    def softmax(x: Array) -> Array:
        """Turn the last axis into probabilities: (..., K) -> (..., K)."""
        x = xp.ascontiguousarray(x)
        y = xp.empty(x.shape, x.dtype)
        width = x.shape[-1]
        rows = x.size // width
        launch(
            "softmax", (rows,), x.dtype,
            y=y, x=x, bias=None, rows=rows, width=width, heads=1, queries=1, bias_rows=1,
        )  # fmt: skip
        return y

    quick_gelu, gelu = _activation("quick_gelu", launch), _activation("gelu", launch)
    kernels: dict[str, Kernel] = {
        "linear": _linear(xp),
        "layer_norm": layer_norm,
        "softmax": softmax,
        "quick_gelu": quick_gelu,
        "gelu": gelu,
        "attention": attention_kernel(launch),
        "feed_forward": _feed_forward(xp),
    }
    for name in ("layer_norm", "softmax", "quick_gelu", "gelu"):
        kernels[name].dtypes = DTYPES  # type: ignore[attr-defined]  # read by Operations
    return kernels


def _linear(xp: Any) -> Kernel:
    def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
        """Map the last axis: (..., I), (O, I), (O,) -> (..., O).

        As a product of two matrices, which cuBLAS takes in either order; of arrays with more
        axes CuPy would copy the whole weight into the other order first, in every call.
        """
        y = xp.matmul(x.reshape(-1, x.shape[-1]), weight.T)
        if bias is not None:
            y += bias
        return y.reshape(*x.shape[:-1], weight.shape[0])

    return linear


def _activation(name: str, launch: Launcher) -> Kernel:
    xp = launch.xp

    def bend(y: Array, x: Array, bias: Array | None, rows: int, width: int) -> None:
        columns = -(-width // THREADS)
        launch(name, (rows, columns), x.dtype, y=y, x=x, bias=bias, rows=rows, width=width)

    def activation(x: Array) -> Array:
        """Bend each number: any shape."""
        x = xp.ascontiguousarray(x)
        y = xp.empty(x.shape, x.dtype)
        bend(y, x, None, 1, x.size)
        return y

    def after_bias(x: Array, bias: Array) -> None:
        """Add a bias (F,) to contiguous rows (..., F) and bend them, in place."""
        bend(x, x, bias, x.size // x.shape[-1], x.shape[-1])

    activation.__name__ = name
    activation.after_bias = after_bias  # type: ignore[attr-defined]  # read by feed_forward
    return activation


def _feed_forward(xp: Any) -> Kernel:
    linear = _linear(xp)

    def feed_forward(
        x: Array,
        widen: Mapping[str, Array],
        narrow: Mapping[str, Array],
        *,
        activation: Callable[[Array], Array],
        names: tuple[str, str, str] = ("fc1", "activation_fn", "fc2"),
        hook: Hook | None = None,
    ) -> Array:
        """Widen, bend and narrow: (..., D), weights (F, D) and (D, F) -> (..., D)."""
        if hook is None:
            h = linear(x, widen["weight"])  # (..., F)
            activation.after_bias(h, widen["bias"])  # type: ignore[attr-defined]
            return linear(h, **narrow)
        h = hook(names[0], linear(x, **widen))
        h = hook(names[1], activation(h))
        return hook(names[2], linear(h, **narrow))

    def serves(
        x: Array,
        widen: Mapping[str, Array],
        narrow: Mapping[str, Array],
        *,
        activation: Callable[[Array], Array],
        names: tuple[str, str, str] = ("fc1", "activation_fn", "fc2"),
    ) -> bool:
        """Whether the activation is one that adds the bias as well."""
        return hasattr(activation, "after_bias") and str(x.dtype) in DTYPES

    feed_forward.serves = serves  # type: ignore[attr-defined]  # read by refgit's Operations
    return feed_forward
