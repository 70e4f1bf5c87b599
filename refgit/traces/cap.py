"""Fitting a trace into a number of bytes."""

from __future__ import annotations

from collections.abc import Iterable

from refgit.errors import TraceError
from refgit.traces.container import Trace
from refgit.traces.names import TensorName

# What goes last: the output of every layer, and what the next part of the model reads.
_ESSENTIAL = ("layers.*", "output.LayerNorm", "post_layernorm", "visual_projection.1")


def kinds(names: Iterable[str]) -> list[str]:
    """Names without their calls and with ``*`` for the numbers of layers, each once."""
    return list(dict.fromkeys(TensorName.parse(name).kind for name in names))


def capped(found: Trace, max_bytes: int) -> Trace:
    """Leave out whole kinds of tensors, the largest first, until the rest fits.

    Inputs stay; what every layer puts out and the logits go last.

    Parameters
    ----------
    found : Trace
    max_bytes : int

    Returns
    -------
    Trace
        With at most `max_bytes` bytes of tensors.

    Raises
    ------
    TraceError
        The inputs alone take more.
    """
    kind_of = {name: TensorName.parse(name).kind for name in found}
    sizes: dict[str, int] = {}
    for name, kind in kind_of.items():
        sizes[kind] = sizes.get(kind, 0) + found[name].nbytes
    total, gone = sum(sizes.values()), set()
    for kind in sorted(sizes, key=lambda kind: (_is_essential(kind), -sizes[kind])):
        if total > max_bytes and not kind.startswith("input."):
            total -= sizes[kind]
            gone.add(kind)
    if total > max_bytes:
        raise TraceError(
            f"the inputs alone take {total} bytes, and the trace may take {max_bytes}; allow more."
        )
    return found.restricted(name for name, kind in kind_of.items() if kind not in gone)


def _is_essential(kind: str) -> bool:
    return kind.endswith(_ESSENTIAL) or kind == "output"
