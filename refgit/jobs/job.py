"""What a job is: all that its rows depend on, so that it is only resumed as it was begun."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from refgit.jobs.parquet import Table
from refgit.jobs.sources import Part
from refgit.pipeline import Captioner
from refgit.processing.reading import Reading

_UNCHANGED: Mapping[str, Any] = {}


def describe_job(
    parts: Sequence[Part],
    captioner: Captioner,
    *,
    model: str,
    model_sha256: str,
    dtype: str,
    column: str,
    form: str = "jsonl",
    text: Mapping[str, Any] = _UNCHANGED,
    **more: Any,
) -> dict[str, Any]:
    """Say what a job is, as OUT.job stores it.

    Parameters
    ----------
    parts : sequence of Part
    captioner : Captioner
    model : str
        The name it was asked for by.
    model_sha256 : str
        From `fingerprint`.
    dtype : str
        What the model computes in.
    column : str
        Of tables, the one with the images.
    form : str
        The format of the result.
    text : mapping
        How captions are changed.
    **more
        What else the result depends on.

    Returns
    -------
    dict
        To be stored as JSON. The entry "defaults" is not: it has what an older journal, which does
        not say it, stands for.
    """
    tables = any(isinstance(part, Table) for part in parts)
    return {
        "model": model,
        "model_sha256": model_sha256,
        "backend": captioner.model.backend.name,
        "dtype": dtype,
        "column": column,
        "directory": os.getcwd() if any(part.relative for part in parts) else None,
        "inputs": [part.identity() for part in parts],
        "known_by": "position" if tables else "name",
        "rows": sum(map(len, parts)),
        "max_length": captioner.max_length,
        "reading": asdict(captioner.reading),
        "decoding": captioner.settings,
        "text": dict(text),
        "format": form,
        **more,
        "defaults": {
            "reading": asdict(Reading()),
            "decoding": {},
            "text": {},
            "format": "jsonl",
        },
    }


def fingerprint(checkpoint: str | Path) -> str:
    """SHA-256 of what a checkpoint directory holds for the model and its processor.

    Parameters
    ----------
    checkpoint : str or Path
        A directory. Its weights are read once; the names of the files matter, the directory's does
        not.
    """
    folder = Path(checkpoint)
    weights = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    digest = hashlib.sha256()
    for file in sorted([*folder.glob("*.json"), *folder.glob("vocab.txt"), *weights]):
        with open(file, "rb") as stream:
            inner = hashlib.file_digest(stream, "sha256").digest()
        digest.update(os.fsencode(file.name) + b"\0" + inner)
    return digest.hexdigest()
