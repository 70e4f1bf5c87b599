"""Which version of each operation runs, and the hooks that see every named intermediate.

`Operations` is passed to every layer as `ops`, so nothing is global. It holds a backend's kernels,
each under the definition that it replaces; what has no kernel runs as defined. A definition is open
to kernels by one of the two decorators below, an activation by being in `ACTIVATIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any, TypeAlias, TypeVar

from refgit.layers._array_api import Array, array_namespace
from refgit.layers.activation import ACTIVATIONS

# Called with name and value of an intermediate; may return an array to go on with in its place.
Hook: TypeAlias = Callable[[str, Array], Any]
Definition = TypeVar("Definition", bound=Callable[..., Any])

# What a backend may have a kernel for, by the name it uses: operations on arrays, and layers made
# of several operations.
OPERATIONS: dict[str, Callable[..., Any]] = dict(ACTIVATIONS)
LAYERS: dict[str, Callable[..., Any]] = {}
_TAKE_OPS: set[Callable[..., Any]] = set()  # the values of LAYERS, for `Operations.run`


def operation(definition: Definition) -> Definition:
    """Let backends have a kernel for an operation: a function of arrays and options."""
    OPERATIONS[definition.__name__] = definition
    return definition


def layer(definition: Definition) -> Definition:
    """Let backends have a kernel for a whole layer, which takes `ops` besides."""
    LAYERS[definition.__name__] = definition
    _TAKE_OPS.add(definition)
    return definition


@dataclass(frozen=True)
class Operations:
    """One version of each operation, and the hooks.

    Attributes
    ----------
    kernels : mapping of callable to callable
        Kernels by the definition they replace; see `run`.
    hooks : tuple of callable
        Called as ``hook(name, array)`` with every named intermediate, one after the other. An array
        that one returns takes the intermediate's place from there on; None changes nothing.
    path : str
        Where in the model we are; the names given to `hook` are completed with it.
    """

    kernels: Mapping[Callable[..., Any], Callable[..., Any]] = field(
        default_factory=dict, hash=False
    )
    hooks: tuple[Hook, ...] = ()
    path: str = ""

    @classmethod
    def with_kernels(cls, kernels: Mapping[str, Any]) -> Operations:
        """Replace definitions by a backend's kernels, given by the names of the operations.

        Raises
        ------
        ValueError
            A name is not that of an operation.
        """
        known = OPERATIONS | LAYERS
        unknown = sorted(set(kernels) - set(known))
        if unknown:
            raise ValueError(
                f"kernels for unknown operations: {', '.join(unknown)}; an operation is one of "
                f"{', '.join(known)}."
            )
        return cls(
            {
                known[name]: kernel if name in LAYERS else _by_dtype(kernel, known[name])
                for name, kernel in kernels.items()
            }
        )

    def run(self, definition: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Run an operation or a layer, by a kernel where there is one that takes these arguments.

        The kernel of an operation takes what the definition takes, in the dtypes that its attribute
        `dtypes` names. The kernel of a layer takes `hook` in the place of `ops`: what is called
        with the intermediates and returns what to go on with, or None where there are no hooks. Its
        attribute `serves` says of given arguments whether it takes them.
        """
        kernel: Any = self.kernels.get(definition, definition)
        if definition not in _TAKE_OPS:
            return kernel(*arguments, **options)
        if kernel is definition or not kernel.serves(*arguments, **options):
            return definition(*arguments, ops=self, **options)
        return kernel(*arguments, hook=self.hook if self.hooks else None, **options)

    def activation(self, act: str | Callable[[Array], Array]) -> Callable[[Array], Array]:
        """Return the activation function that a config names, or that it holds itself.

        Raises
        ------
        ValueError
            The name is not in `ACTIVATIONS`.
        """
        if not isinstance(act, str):
            return act
        if act not in ACTIVATIONS:
            raise ValueError(
                f"the activation is {act!r}; expected one of {', '.join(sorted(ACTIVATIONS))}, or "
                "a function of an array."
            )
        return self.kernels.get(ACTIVATIONS[act], ACTIVATIONS[act])

    def at(self, name: str) -> Operations:
        """Return these operations one step further down the path; free without hooks."""
        return replace(self, path=f"{self.path}{name}.") if self.hooks else self

    def with_hook(self, hook: Hook | None) -> Operations:
        """Return these operations with one more hook, called after those there are.

        Raises
        ------
        TypeError
            A hook is not callable.
        """
        if hook is None:
            return self
        if not callable(hook):
            raise TypeError(
                f"hook is {hook!r}; expected a function of a name and an array, or None."
            )
        return replace(self, hooks=(*self.hooks, hook))

    def hook(self, name: str, array: Array) -> Array:
        """Call the hooks with an intermediate and return what to go on with.

        Raises
        ------
        TypeError, ValueError
            A hook returned something that cannot take the place of `array`.
        """
        for hook in self.hooks:
            path = self.path + name if name else self.path[:-1]
            found = hook(path, array)
            if found is not None and found is not array:
                array = _replacement(path, found, array)
        return array


DEFINITIONS = Operations()


def _replacement(name: str, found: Any, array: Array) -> Array:
    """Return what a hook returned in the place of `array`, once it is found to fit."""
    dtype, shape = getattr(found, "dtype", None), getattr(found, "shape", None)
    if dtype is None or array_namespace(found) is not array_namespace(array):
        kind = type(array)
        raise TypeError(
            f"the hook returned a {type(found).__module__}.{type(found).__name__} for {name}; "
            f"expected None or an array of the same library, {kind.__module__}.{kind.__name__}."
        )
    if dtype != array.dtype or shape != array.shape:
        raise ValueError(
            f"the hook returned an array of shape {shape}, {dtype}, for {name}; expected shape "
            f"{array.shape}, {array.dtype}, as of the intermediate that it replaces."
        )
    return found


def _by_dtype(kernel: Callable[..., Array], definition: Callable[..., Array]) -> Any:
    """Run the definition for the dtypes that the kernel does not take."""
    dtypes = getattr(kernel, "dtypes", None)
    if dtypes is None:
        return kernel
    chosen: dict[Any, Callable[..., Array]] = {}  # by dtype, whose name takes long to make

    @wraps(kernel)  # with its attributes
    def choose(x: Array, *args: Any, **options: Any) -> Array:
        version = chosen.get(x.dtype)
        if version is None:
            version = chosen[x.dtype] = kernel if str(x.dtype) in dtypes else definition
        return version(x, *args, **options)

    return choose
