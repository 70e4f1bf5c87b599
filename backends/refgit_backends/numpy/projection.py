"""NumPy kernel for `project_heads`: queries, keys and values at once, by channels per thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from refgit_backends.common import Floats, Hook, kernel
from refgit_backends.numpy.linear import FEW_ROWS, MANY_ROWS, linear, multiply_few
from refgit_backends.numpy.threads import divide


def _serves(
    x: Floats, p: Mapping[str, Mapping[str, Floats]], names: Sequence[str], **_: Any
) -> bool:
    """Whether the kernel can: maps with a bias, all of one dtype, and something to map."""
    maps = [p[name] for name in names]
    return x.size > 0 and all(
        m.get("bias") is not None and m["weight"].dtype == x.dtype for m in maps
    )


@kernel(serves=_serves)
def project_heads(
    x: Floats,
    p: Mapping[str, Mapping[str, Floats]],
    names: Sequence[str],
    *,
    num_heads: int,
    hook: Hook | None = None,
) -> tuple[Floats, ...]:
    """Map tokens and split them into heads: (B, L, D) -> (B, H, L, D/H) for each name."""
    rows = x.reshape(-1, x.shape[-1])
    few, many = 1 < len(rows) <= FEW_ROWS, len(rows) >= MANY_ROWS
    if x.dtype == np.float16 or not (few or many):
        maps = [linear(x, p[name]["weight"], p[name]["bias"]) for name in names]
    else:
        order: Literal["F", "C"] = "F" if many else "C"  # many are stored channel by channel
        y = [np.empty((len(rows), len(p[name]["weight"])), x.dtype, order) for name in names]

        def part(channels: slice) -> None:
            for name, out in zip(names, y, strict=True):
                weight, bias = p[name]["weight"][channels], p[name]["bias"][channels]
                if many:
                    np.matmul(weight, rows.T, out=out.T[channels])
                else:
                    multiply_few(rows, weight, out[:, channels])
                out[:, channels] += bias

        divide(part, y[0].shape[1], 16)
        maps = [out.reshape(*x.shape[:-1], -1) for out in y]  # views
    if hook is not None:
        maps = [hook(name, out) for name, out in zip(names, maps, strict=True)]
    b, length = x.shape[:2]
    return tuple(
        out.reshape(b, length, num_heads, -1).transpose(0, 2, 1, 3)  # (B, H, L, D/H), a view
        for out in maps
    )
