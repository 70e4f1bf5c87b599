"""What tensors a checkpoint's files hold, without the numbers in them.

A safetensors file has a header with each tensor's name, dtype and shape; a file of torch.save has
a pickle that says the same. Only these are read, so that it takes no memory, however large the
model is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refgit.checkpoint.adapter.merging import read_adapter
from refgit.checkpoint.loading import fit_parameters, read_weights
from refgit.checkpoint.safetensors_file import ITEMSIZE, read_entries
from refgit.checkpoint.torch.file import named_tensors, read_torch
from refgit.checkpoint.torch.pickle import Storage
from refgit.errors import CheckpointError


@dataclass(frozen=True)
class TensorHeader:
    """What a file says of one tensor.

    Attributes
    ----------
    dtype : str
        As safetensors files call it, such as F32.
    shape : tuple of int
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of these."""
        return self.size * ITEMSIZE.get(self.dtype, 0)


def read_headers(directory: Path) -> tuple[dict[str, TensorHeader], list[Path]]:
    """Read what the weights of a checkpoint directory are.

    Parameters
    ----------
    directory : Path
        Holds what `load_parameters` reads: model.safetensors or pytorch_model.bin, or an index
        and the files that it lists.

    Returns
    -------
    headers : dict of str to TensorHeader
        Every tensor by its name in the file; empty where there are no weights.
    files : list of Path
        Those that hold the weights.

    Raises
    ------
    CheckpointError
        A file is broken, or one that an index lists is missing.
    """
    weights = read_weights(directory, safetensors_header, torch_header)
    return ({}, []) if weights is None else (weights.tensors, weights.files)


def stored_dtypes(
    directory: Path, shapes: Mapping[str, tuple[int, ...]], tied: Iterable[str]
) -> dict[str, str]:
    """Say which dtype each parameter has in a checkpoint's files.

    Parameters
    ----------
    directory : Path
    shapes : mapping of str to tuple
        Name and shape of every parameter, as `load_parameters` takes them.
    tied : iterable of str
        Those that files may leave out.

    Returns
    -------
    dict of str to str
        As safetensors files call it, such as F32, by the parameter's name.
    """
    headers, _ = read_headers(directory)
    fit = fit_parameters({name: x.shape for name, x in headers.items()}, shapes, tied)
    return {name: headers[file].dtype for name, file in fit.names.items()}


def read_adapter_headers(adapter: Path) -> tuple[Path, dict[str, TensorHeader]]:
    """Read what the tensors of an adapter's directory are.

    Returns
    -------
    tuple of Path and dict of str to TensorHeader
        The file, and its tensors by their names in the model that was trained.

    Raises
    ------
    CheckpointError
        There is none, or it is broken.
    """
    return read_adapter(adapter, safetensors_header, torch_header)


def safetensors_header(path: Path) -> dict[str, TensorHeader]:
    """Read the header of a .safetensors file.

    Parameters
    ----------
    path : Path

    Raises
    ------
    CheckpointError
        The file is missing or cannot be read, or what it begins with is not a header.
    """
    try:
        entries, _ = read_entries(path)
        return {name: _entry(entry) for name, entry in entries.items()}
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} ({path.stat().st_size} bytes) is not a safetensors file: {error}. Was the "
            "download or copy cut short?"
        ) from error


def _entry(entry: dict[str, Any]) -> TensorHeader:
    return TensorHeader(str(entry["dtype"]), tuple(int(n) for n in entry["shape"]))


def torch_header(path: Path) -> dict[str, TensorHeader]:
    """Read what tensors a file of torch.save holds, from its pickle only.

    Parameters
    ----------
    path : Path
        In the zip format, or in the one that torch wrote before 1.6.

    Raises
    ------
    CheckpointError
        The file is missing or broken, or holds something other than tensors by name.
    """
    content = named_tensors(read_torch(path, _untouched), path)
    return {name: TensorHeader(_dtype_of(x), x.shape) for name, x in content.items()}


def _untouched(storage: Storage) -> np.ndarray[Any, Any]:
    """Return an array in the place of a storage: of its size, but of pages that nobody touches."""
    kind = np.dtype(f"V{storage.itemsize}", metadata={"dtype": storage.dtype})
    return np.empty(storage.numel, kind)


def _dtype_of(x: np.ndarray[Any, Any]) -> str:
    return str((x.dtype.metadata or {})["dtype"])
