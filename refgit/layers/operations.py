"""The operations a backend may speed up, and the taps through which one watches them.

`Operations` is the set of functions a forward pass runs on. By default each is its definition;
a backend's kernels replace single ones by name. It also carries the tap: a function that is
shown every named intermediate. Layers receive it as `ops`, so nothing is global.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from refgit.layers.activation import ACTIVATIONS, gelu, quick_gelu
from refgit.layers.array_api import Array
from refgit.layers.linear import linear
from refgit.layers.normalization import layer_norm
from refgit.layers.softmax import softmax

Tap = Callable[[str, Array], None]


@dataclass(frozen=True)
class Operations:
    """One version of each operation, and a tap.

    Attributes
    ----------
    linear, layer_norm, softmax, quick_gelu, gelu : callable
        The definitions in refgit/layers, or a backend's kernels for them.
    listener : callable or None
        Called as ``listener(name, array)`` with every named intermediate.
    path : str
        Where in the model we are; names given to `tap` are completed with it.
    """

    linear: Callable[..., Array] = linear
    layer_norm: Callable[..., Array] = layer_norm
    softmax: Callable[..., Array] = softmax
    quick_gelu: Callable[..., Array] = quick_gelu
    gelu: Callable[..., Array] = gelu
    listener: Tap | None = None
    path: str = ""

    @classmethod
    def with_kernels(cls, kernels: Mapping[str, Any]) -> Operations:
        """Put `kernels` in the place of the definitions of the same names."""
        unknown = set(kernels) - {field.name for field in fields(cls)} | (
            set(kernels) & {"listener", "path"}
        )
        if unknown:
            raise ValueError(
                f"kernels for unknown operations: {', '.join(sorted(unknown))}; an operation is "
                "one of linear, layer_norm, softmax, quick_gelu, gelu."
            )
        chosen: dict[str, Any] = {name: _serving(kernels[name], name) for name in kernels}
        return cls(**chosen)

    def at(self, name: str) -> Operations:
        """Return these operations one step further down the path; free where nobody listens."""
        if self.listener is None:
            return self
        return replace(self, path=f"{self.path}{name}.")

    def tap(self, name: str, array: Array) -> Array:
        """Show `array` to the listener, if there is one, and hand it back unchanged."""
        if self.listener is not None:
            self.listener(self.path + name if name else self.path[:-1], array)
        return array

    def activation(self, act: str | Callable[[Array], Array]) -> Callable[[Array], Array]:
        """Return the activation function that a config names, or that stands there itself."""
        if not isinstance(act, str):
            return act
        function: Callable[[Array], Array] = getattr(self, act, None) or ACTIVATIONS[act]
        return function


DEFINITIONS = Operations()


def _serving(kernel: Callable[..., Array], name: str) -> Callable[..., Array]:
    """Let the definition serve the dtypes that the kernel does not."""
    dtypes = getattr(kernel, "dtypes", None)
    if dtypes is None:
        return kernel
    definition: Callable[..., Array] = getattr(DEFINITIONS, name)

    def choose(x: Array, *args: Any, **options: Any) -> Array:
        return (kernel if str(x.dtype) in dtypes else definition)(x, *args, **options)

    return choose
