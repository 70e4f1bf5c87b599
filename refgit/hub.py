"""Checkpoints by name: downloads from the model hub, huggingface.co, into a cache.

The package huggingface_hub does it, and the cache is its own: ~/.cache/huggingface by default.

The client honours HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE by itself. Weights are taken
as safetensors where the repository has them, else as pytorch_model.bin.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from refgit.errors import CheckpointError, package_missing

# "microsoft/git-base-coco": an owner, a slash, a name; nothing that a relative path would have.
_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_SMALL_FILES = ["*.json", "vocab.txt"]
_SAFETENSORS = ["model.safetensors", "model-*.safetensors", "adapter_model.safetensors"]
_BIN = ["pytorch_model.bin", "pytorch_model-*.bin", "adapter_model.bin"]


def find_checkpoint(
    path: str | Path, *, weights: bool = True, revision: str | None = None, token: Any = None
) -> Path:
    """Return the directory of a checkpoint, downloaded first if `path` is not a directory.

    Parameters
    ----------
    path : str or Path
        A directory, or the id of a repository on the model hub, such as
        "microsoft/git-base-coco". A directory of that name comes first.
    weights : bool
        Whether the weights are needed, or only the small files.
    revision : str, optional
        Branch, tag or commit; the main branch by default.
    token : str or bool, optional
        As in huggingface_hub; by default what the user has logged in with.

    Returns
    -------
    Path
        The directory itself, or the downloaded snapshot in huggingface_hub's cache.

    Raises
    ------
    CheckpointError
        `path` is neither a directory nor a repository's id; huggingface_hub is not installed; or
        the download failed.
    TypeError
        `path` is neither a path nor a name.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(
            f"path is {path!r}; expected a checkpoint directory, or the id of a repository on the "
            'model hub, such as "microsoft/git-base-coco".'
        )
    if Path(path).is_dir():
        return Path(path)
    file = Path(path).exists()
    if file or not _REPOSITORY.fullmatch(str(path)):
        found = "is not a directory" if file else "does not exist"
        hint = " Pass the directory that the file is in." if file else ""
        if file and Path(path).suffix == ".pt":
            hint = f" If it is Microsoft's, refgit convert {path} --out DIR makes one of it."
        raise CheckpointError(
            f"{path} {found}; expected a checkpoint directory, or the id of a repository "
            f'on the model hub, such as "microsoft/git-base-coco".{hint}'
        )
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        what = f"{path} is not a directory, and downloading it from the model hub"
        raise CheckpointError(package_missing(what, "huggingface_hub")) from error

    def fetch(patterns: list[str]) -> Path:
        try:
            folder = snapshot_download(
                str(path), revision=revision, token=token, allow_patterns=patterns
            )
        except Exception as error:  # the client's errors come from three libraries
            raise CheckpointError(
                f"{path} is not a directory here and could not be downloaded from the model hub "
                f"({type(error).__name__}: {str(error).strip().splitlines()[0]}). Check the name, "
                "the network, and that HF_HUB_OFFLINE is not set; a repository that is not public "
                "needs a token."
            ) from error
        return Path(folder)

    if not weights:
        return fetch(_SMALL_FILES)
    folder = fetch(_SMALL_FILES + _SAFETENSORS)
    if not any(folder.glob("*.safetensors")):
        folder = fetch(_SMALL_FILES + _BIN)
    return folder
