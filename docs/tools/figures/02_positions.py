"""Learned positions and their likeness, interpolation to another grid, relative distances.

python docs/tools/figures/02_positions.py
"""

from __future__ import annotations

import numpy as np
import style

from refgit import GitForCausalLM
from refgit.demo import demo_path
from refgit.layers.position import bicubic_weights, interpolate_positions

PATCHES = ((1, 1), (3, 3), (5, 4))  # row and column of those compared


def main() -> None:
    model = GitForCausalLM.from_pretrained(demo_path())
    table = model.state_dict()[
        "git.image_encoder.vision_model.embeddings.position_embedding.weight"
    ].astype("float64")
    likeness(table)
    interpolation(table)
    distances()


def likeness(table: np.ndarray) -> None:
    """Cosine between the position of one patch and all the others."""
    side = int(np.sqrt(len(table) - 1))
    grid = table[1:] - table[1:].mean(axis=0)
    grid /= np.linalg.norm(grid, axis=1, keepdims=True)
    figure, axes = style.figure(7.2, 2.5, columns=3)
    for a, (r, c) in zip(axes, PATCHES, strict=True):
        drawn = a.imshow((grid @ grid[r * side + c]).reshape(side, side), cmap=style.DIVERGING,
                         vmin=-1, vmax=1)  # fmt: skip
        a.plot(c, r, marker="o", color="white", markersize=5, markeredgecolor=style.INK)
        style.plain(a).set_title(f"row {r + 1}, column {c + 1}")
    figure.colorbar(drawn, ax=axes, shrink=0.8, label="cosine")
    style.save(figure, "02-positions-likeness")


def interpolation(table: np.ndarray) -> None:
    """One channel on the learned grid and on a larger one, and the kernel that leads there."""
    side, larger = int(np.sqrt(len(table) - 1)), 10
    channel = int(table[1:].var(axis=0).argmax())
    stretched = interpolate_positions(table, larger, larger)[1:, channel]
    learned = table[1:, channel]
    limit = np.abs(learned).max()
    figure, axes = style.figure(7.2, 2.6, columns=3, width_ratios=(1, 1, 1.25))
    for a, x, n in ((axes[0], learned, side), (axes[1], stretched, larger)):
        a.imshow(x.reshape(n, n), cmap=style.DIVERGING, vmin=-limit, vmax=limit)
        style.plain(a).set_title(f"{n} × {n} patches")
    d = np.linspace(-2, 2, 401)
    for sharpness, colour in ((-0.75, style.RIGHT), (-0.5, style.WRONG)):
        axes[2].plot(d, kernel(d, sharpness), color=colour, label=f"a = {sharpness}")
    axes[2].axhline(0, color=style.FAINT, linewidth=0.6)
    axes[2].set(xticks=[-2, -1, 0, 1, 2], yticks=[0, 0.5, 1], xlabel="distance, in learned patches")
    axes[2].legend(fontsize=8, loc="upper right", handlelength=1)
    axes[2].set_title("weight of a learned patch")
    style.save(figure, "02-positions-interpolated")


def kernel(d: np.ndarray, a: float) -> np.ndarray:
    """The kernel of the page; for a = -0.75 it is what refgit's matrix holds."""
    d = np.abs(d)
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    values = np.where(d <= 1, near, np.where(d < 2, a * (d**3 - 5 * d**2 + 8 * d - 4), 0.0))
    return values


def distances() -> None:
    """Which row of the table of distances a pair of query and key takes."""
    n_image, n_text, m = 4, 3, 8
    length = n_image + n_text
    q, k = np.arange(length)[:, None], np.arange(length)[None, :]
    allowed = (k < n_image) | (k <= q)
    figure, axes = style.figure(7.2, 3.2, columns=2)
    names = [f"image {i + 1}" for i in range(n_image)] + [f"text {i + 1}" for i in range(n_text)]
    for a, values, title, lowest, highest in (
        (axes[0], q - k, "distance: query − key", -length, length),
        (axes[1], m - 1 + q - k, f"row of the table (M = {m})", -1, 2 * m - 1),
    ):
        a.imshow(np.where(allowed, values, np.nan), cmap=style.DIVERGING, vmin=lowest, vmax=highest,
                 alpha=0.75)  # fmt: skip
        for i in range(length):
            for j in range(length):
                a.text(j, i, values[i, j] if allowed[i, j] else "·", ha="center", va="center",
                       fontsize=8, color=style.INK if allowed[i, j] else style.FAINT)  # fmt: skip
        style.plain(a).set_title(title)
        a.set(yticks=range(length), yticklabels=names, xticks=range(length))
        a.set_xticklabels(names, rotation=90)
        a.tick_params(labelsize=7.5, length=0)
    style.save(figure, "02-positions-distances")


def check() -> None:
    """The kernel that is drawn gives the matrix of the library."""
    n_in, n_out = 7, 10
    u = (np.arange(n_out) + 0.5) * n_in / n_out - 0.5
    drawn = np.zeros((n_out, n_in))
    for o in range(n_out):
        for k in (-1, 0, 1, 2):
            i = int(np.floor(u[o])) + k
            drawn[o, min(max(i, 0), n_in - 1)] += kernel(u[o] - i, -0.75)
    assert np.allclose(drawn, bicubic_weights(n_in, n_out, like=np.zeros(1)))


if __name__ == "__main__":
    check()
    main()
