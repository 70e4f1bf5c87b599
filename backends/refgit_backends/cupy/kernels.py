"""The CuPy kernels by name: faster versions of operations, each with its definition's meaning.

What takes time on a GPU, besides the products, is reading and writing memory and starting kernels.
So a row is normalised by one kernel, a bias is added where the activation reads the product
anyway, and attention of few queries is one kernel in the place of a dozen. Sums are taken in
float32 of float16 and float32, in float64 of float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refgit_backends.base import Array, Kernel
from refgit_backends.common import Hook, kernel
from refgit_backends.cupy.attention import attention_kernel, launch_softmax
from refgit_backends.cupy.launch import DTYPES, THREADS, Launcher


def make_kernels(xp: Any) -> dict[str, Kernel]:
    """Make the kernels of CuPy, `xp`; nothing is compiled before it is used."""
    launch = Launcher(xp)

    @kernel(dtypes=DTYPES)
    def layer_norm(x: Array, weight: Array, bias: Array, *, eps: float) -> Array:
        """Normalise the last axis to mean 0 and variance 1: (..., D), (D,), (D,) -> (..., D)."""
        x, y = _in_and_out(xp, x)
        width = x.shape[-1]
        rows = x.size // width
        launch(
            "layer_norm", (rows,), x.dtype,
            y=y, x=x, weight=weight, bias=bias, rows=rows, width=width, eps=eps,
        )  # fmt: skip
        return y

    @kernel(dtypes=DTYPES)
    def softmax(x: Array) -> Array:
        """Turn the last axis into probabilities: (..., K) -> (..., K)."""
        x, y = _in_and_out(xp, x)
        launch_softmax(launch, y, x, None)
        return y

    def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
        """Map the last axis: (..., I), (O, I), (O,) -> (..., O).

        As a product of two matrices, which cuBLAS takes in either order; of arrays with more
        axes CuPy would copy the whole weight into the other order first, in every call.
        """
        y = xp.matmul(x.reshape(-1, x.shape[-1]), weight.T)
        if bias is not None:
            y += bias
        return y.reshape(*x.shape[:-1], weight.shape[0])

    return {
        "linear": linear,
        "layer_norm": layer_norm,
        "softmax": softmax,
        "quick_gelu": _activation("quick_gelu", launch),
        "gelu": _activation("gelu", launch),
        "attention": attention_kernel(launch),
        "feed_forward": _feed_forward(linear),
    }


def _in_and_out(xp: Any, x: Array) -> tuple[Array, Array]:
    """`x` in row-major order, and an array for the result."""
    return xp.ascontiguousarray(x), xp.empty(x.shape, x.dtype)


def _activation(name: str, launch: Launcher) -> Kernel:
    def start(y: Array, x: Array, bias: Array | None, rows: int, width: int) -> None:
        columns = -(-width // THREADS)
        launch(name, (rows, columns), x.dtype, y=y, x=x, bias=bias, rows=rows, width=width)

    def after_bias(x: Array, bias: Array) -> None:
        """Add a bias (F,) to contiguous rows (..., F) and apply the activation, in place."""
        start(x, x, bias, x.size // x.shape[-1], x.shape[-1])

    @kernel(dtypes=DTYPES, after_bias=after_bias)
    def activation(x: Array) -> Array:
        """Apply the activation to each number: any shape."""
        x, y = _in_and_out(launch.xp, x)
        start(y, x, None, 1, x.size)
        return y

    return activation


def _serves(x: Array, *_: Any, activation: Any, **__: Any) -> bool:
    """Whether the activation is one that adds the bias as well."""
    return hasattr(activation, "after_bias") and str(x.dtype) in DTYPES


def _feed_forward(linear: Kernel) -> Kernel:
    @kernel(serves=_serves)
    def feed_forward(
        x: Array,
        fc1: Mapping[str, Array],
        fc2: Mapping[str, Array],
        *,
        activation: Any,
        names: tuple[str, str, str] = ("fc1", "activation_fn", "fc2"),
        hook: Hook | None = None,
    ) -> Array:
        """Apply fc1, activation, fc2: (..., D), weights (F, D) and (D, F) -> (..., D)."""
        if hook is None:
            h = linear(x, fc1["weight"])  # (..., F)
            activation.after_bias(h, fc1["bias"])
            return linear(h, **fc2)
        h = hook(names[0], linear(x, **fc1))
        h = hook(names[1], activation(h))
        return hook(names[2], linear(h, **fc2))

    return feed_forward
