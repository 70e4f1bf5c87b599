"""What a checkpoint's files hold, and whether it is what config.json says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from refgit.checkpoint.headers import TensorHeader, read_headers
from refgit.checkpoint.loading import fit_parameters
from refgit.model.config import GitConfig
from refgit.model.parameters import causal_lm_shapes, model_shapes
from refgit.sizes.parts import TIED


@dataclass(frozen=True)
class Stored:
    """The weights of a checkpoint, as their files' headers have them.

    Attributes
    ----------
    files : tuple of str
        Names of the files.
    file_bytes : int
        How large these are together.
    by_dtype : mapping of str to (int, int)
        Numbers and bytes by the dtype's name in safetensors files: F32 is float32, BF16 bfloat16.
    difference : str
        The first way in which they are not what config.json says; empty where they are.
    """

    files: tuple[str, ...]
    file_bytes: int
    by_dtype: Mapping[str, tuple[int, int]]
    difference: str


def read_stored(directory: Path, config: GitConfig) -> Stored | None:
    """Read the headers of a checkpoint's weights; no numbers are read.

    Parameters
    ----------
    directory : Path
    config : GitConfig
        What the directory's config.json says.

    Returns
    -------
    Stored, or None where the directory holds no weights

    Raises
    ------
    CheckpointError
        A file is broken or missing.
    """
    headers, files = read_headers(directory)
    if not files:
        return None
    by_dtype: dict[str, tuple[int, int]] = {}
    for header in headers.values():
        numbers, size = by_dtype.get(header.dtype, (0, 0))
        by_dtype[header.dtype] = numbers + header.size, size + header.nbytes
    return Stored(
        files=tuple(file.name for file in files),
        file_bytes=sum(file.stat().st_size for file in files),
        by_dtype=by_dtype,
        difference=_difference(headers, config),
    )


def _difference(headers: Mapping[str, TensorHeader], config: GitConfig) -> str:
    """The first thing in which the files and the config disagree."""
    found = {name: header.shape for name, header in headers.items()}
    expected = causal_lm_shapes(config)
    tied = [TIED] if config.tie_word_embeddings else []
    fit = fit_parameters(found, expected, tied)
    if not any(name.startswith("git.") for name in fit.names):  # a GitModel, without a head
        expected, tied = model_shapes(config), []
        fit = fit_parameters(found, expected, tied)
    for name, shape in expected.items():
        if name not in fit.names:
            if name not in tied:
                return f"the files lack {name}, of shape {shape} after config.json"
        elif found[fit.names[name]] != shape:
            there = found[fit.names[name]]
            return f"{fit.names[name]} has shape {there} in the files, {shape} after config.json"
    left = fit.left
    return f"the files hold {left[0]}, which config.json has no place for" if left else ""
