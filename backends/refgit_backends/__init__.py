"""Array libraries and devices that refgit computes on.

refgit's mathematics uses only names of the Python array API standard. A *backend* says which
namespace has them, moves arrays between the host and its device, and may have a faster *kernel* for
a named operation. A third party adds one by an entry point in the group ``refgit.backends`` that
names a subclass of `Backend`.
"""

from __future__ import annotations

import os
from importlib import import_module

from refgit_backends.base import Array, Backend, BackendError, DLPackArray, Kernel, to_numpy

__all__ = [
    "Array",
    "Backend",
    "BackendError",
    "DLPackArray",
    "Kernel",
    "available",
    "backend_class",
    "get_backend",
    "to_numpy",
]

# The backends of this package, found without reading the installed packages' metadata.
_BUILT_IN = {
    "numpy": "refgit_backends.numpy.backend:NumpyBackend",
    "cupy": "refgit_backends.cupy.backend:CupyBackend",
    "strict": "refgit_backends.strict:StrictBackend",
}


def _registered() -> dict[str, str]:
    """Backends of the installed packages."""
    from importlib.metadata import entry_points  # late, since it takes long

    return {point.name: point.value for point in entry_points(group="refgit.backends")}


def available() -> list[str]:
    """Names that `get_backend` accepts, sorted; a name here may still lack its library or GPU."""
    return sorted({*_BUILT_IN, *_registered()})


def get_backend(name: str | Backend | None = None, *, kernels: str = "auto") -> Backend:
    """Make the backend called `name`.

    Parameters
    ----------
    name : str, Backend or None
        A name from `available()`. None takes the environment variable ``REFGIT_BACKEND``, or
        "numpy" where that is unset. A `Backend` is returned as it is.
    kernels : {"auto", "off"}
        "off" runs only the definitions in refgit/layers; "auto" uses the backend's kernels.

    Raises
    ------
    BackendError
        The name is unknown, or the backend's library or device is missing.
    """
    if kernels not in ("auto", "off"):
        raise BackendError(f'kernels is {kernels!r}; expected "auto" or "off".')
    if isinstance(name, Backend):
        if kernels == "off" and name.kernels:
            raise BackendError(
                f'kernels="off" was given together with {name!r}, which has been made with '
                f'kernels; make it with get_backend({name.name!r}, kernels="off").'
            )
        return name
    return backend_class(name)(kernels=kernels)


def backend_class(name: str | None = None) -> type[Backend]:
    """Find the class of a backend; its library is not imported.

    Parameters
    ----------
    name : str or None
        As for `get_backend`.

    Raises
    ------
    BackendError
        The name is unknown.
    """
    name = name or os.environ.get("REFGIT_BACKEND") or "numpy"
    target = _BUILT_IN.get(name)
    if target is None:  # reading the installed packages' metadata is slow: only when needed
        target = _registered().get(name)
    if target is None:
        raise BackendError(
            f"no backend is called {name!r}; choose one of {', '.join(available())}."
        )
    module, _, attribute = target.partition(":")
    found: type[Backend] = getattr(import_module(module), attribute)
    return found
