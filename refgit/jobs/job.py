"""What a job is: all that its rows depend on, so that it is only resumed as it was begun."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from refgit.jobs.parquet import Table
from refgit.jobs.sources import Part
from refgit.parts import Parts, find_parts
from refgit.pipeline import Captioner
from refgit.processing.reading import Reading


def describe_job(
    parts: Sequence[Part],
    captioner: Captioner,
    *,
    model: str,
    model_sha256: str,
    dtype: str,
    column: str,
    form: str = "jsonl",
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
        "text": captioner.treatment.changes(),
        "format": form,
        **more,
        "defaults": {
            "reading": asdict(Reading()),
            "decoding": {},
            "text": {},
            "format": "jsonl",
        },
    }


def fingerprint(checkpoint: str | Path | Parts) -> str:
    """SHA-256 of what a checkpoint holds for the model and its processor.

    Parameters
    ----------
    checkpoint : str, Path or Parts
        A directory, or several: a base and its adapter, or a processor apart. Their weights are
        read once; the names of the files matter, the directories' do not.
    """
    parts = checkpoint if isinstance(checkpoint, Parts) else find_parts(checkpoint)
    digest = hashlib.sha256()
    seen: set[Path] = set()
    for folder in (parts.model, parts.directory, parts.own_processor or parts.directory):
        if folder.resolve() not in seen:
            seen.add(folder.resolve())
            large = _weights(folder) if folder in (parts.model, parts.adapter) else []
            _add(digest, [*folder.glob("*.json"), *folder.glob("vocab.txt"), *large])
    return digest.hexdigest()


def _weights(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    return found or sorted(folder.glob("adapter_model.bin"))


def _add(digest: Any, files: Iterable[Path]) -> None:
    for file in sorted(files):
        with open(file, "rb") as stream:
            inner = hashlib.file_digest(stream, "sha256").digest()
        digest.update(os.fsencode(file.name) + b"\0" + inner)
