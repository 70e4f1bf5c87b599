"""The operations a backend may speed up, and the hooks through which one watches them.

`Operations` is the set of functions a forward pass runs on. By default each is its definition;
a backend's kernels replace single ones by name, and may stand in for a layer that is made of
several. It also carries the hook: a function that is shown every named intermediate. Layers
receive it as `ops`, so nothing is global.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any

from refgit.layers._array_api import Array
from refgit.layers.activation import ACTIVATIONS, gelu, quick_gelu
from refgit.layers.linear import linear
from refgit.layers.normalization import layer_norm
from refgit.layers.softmax import softmax

Hook = Callable[[str, Array], None]

# What a backend may have a kernel for: single operations, and layers made of several.
OPERATIONS = ("linear", "layer_norm", "softmax", "quick_gelu", "gelu")
LAYERS = ("project_heads", "attention", "feed_forward")


@dataclass(frozen=True)
class Operations:
    """One version of each operation, and a hook.

    Attributes
    ----------
    linear, layer_norm, softmax, quick_gelu, gelu : callable
        The definitions in refgit/layers, or a backend's kernels for them.
    layers : mapping of str to callable
        A backend's kernels for whole layers; see `run`.
    listener : callable or None
        Called as ``listener(name, array)`` with every named intermediate.
    path : str
        Where in the model we are; names given to `hook` are completed with it.
    """

    linear: Callable[..., Array] = linear
    layer_norm: Callable[..., Array] = layer_norm
    softmax: Callable[..., Array] = softmax
    quick_gelu: Callable[..., Array] = quick_gelu
    gelu: Callable[..., Array] = gelu
    layers: Mapping[str, Any] = field(default_factory=dict, hash=False)
    listener: Hook | None = None
    path: str = ""

    @classmethod
    def with_kernels(cls, kernels: Mapping[str, Any]) -> Operations:
        """Put `kernels` in the place of the definitions of the same names."""
        unknown = set(kernels) - {*OPERATIONS, *LAYERS}
        if unknown:
            raise ValueError(
                f"kernels for unknown operations: {', '.join(sorted(unknown))}; an operation is "
                f"one of {', '.join((*OPERATIONS, *LAYERS))}."
            )
        single: dict[str, Any] = {
            name: _serving(kernel, name) for name, kernel in kernels.items() if name in OPERATIONS
        }
        return cls(**single, layers={name: kernels[name] for name in LAYERS if name in kernels})

    def run(self, definition: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Run a layer that is made of several operations, by a kernel where that can be.

        A kernel has the name of the definition, its meaning, and its arguments, but for `hook` in
        the place of `ops`: what shows the intermediates, or None where nobody listens. Its
        attribute `serves` says of given arguments whether it takes them.
        """
        kernel = self.layers.get(definition.__name__)
        if kernel is None or not kernel.serves(*arguments, **options):
            return definition(*arguments, ops=self, **options)
        return kernel(*arguments, hook=None if self.listener is None else self.hook, **options)

    def at(self, name: str) -> Operations:
        """Return these operations one step further down the path; free where nobody listens."""
        if self.listener is None:
            return self
        return replace(self, path=f"{self.path}{name}.")

    def hook(self, name: str, array: Array) -> Array:
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
    chosen: dict[Any, Callable[..., Array]] = {}  # by dtype, whose name takes long to make

    @wraps(kernel)  # with its attributes
    def choose(x: Array, *args: Any, **options: Any) -> Array:
        serving = chosen.get(x.dtype)
        if serving is None:
            serving = chosen[x.dtype] = kernel if str(x.dtype) in dtypes else definition
        return serving(x, *args, **options)

    return choose
