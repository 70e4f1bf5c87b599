"""The same work on many machines, as a step of a Ray Data pipeline.

Needs the package ray, the extra `ray`. Ray reads and writes the data, distributes it over the
machines and repeats the work of a lost one; here is the step between: actors that load the model
once and caption batches.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from refgit.captions import Treatment
from refgit.errors import JobError, package_missing
from refgit.jobs.parquet import content_of
from refgit.jobs.rows import row_of
from refgit.pipeline import Captioner
from refgit.processing.reading import Reading

_READING = Reading()
_DECODING: Mapping[str, Any] = {}
_TREATMENT = Treatment()
_ADDED = ("image", "caption", "error")  # columns of the result


def caption_dataset(
    dataset: Any,
    *,
    model: str | None = None,
    column: str = "image",
    batch_size: int = 8,
    concurrency: int = 1,
    max_length: int | None = None,
    workers: int = 1,
    backend: str | None = None,
    dtype: str = "float32",
    reading: Reading = _READING,
    decoding: Mapping[str, Any] = _DECODING,
    treatment: Treatment = _TREATMENT,
    **options: Any,
) -> Any:
    """Caption the images of a Ray dataset.

    Parameters
    ----------
    dataset : ray.data.Dataset
        Such as ``ray.data.read_parquet(...)``, or ``ray.data.from_items([{"image": path}, ...])``.
    model : str, optional
        Checkpoint directory, which every machine must be able to read, or name on the model hub;
        the bundled model by default.
    column : str
        Which holds the images: encoded, as paths that every machine can read, or as {bytes, path}.
    batch_size : int
        Images that are captioned at once; captions do not depend on it.
    concurrency : int
        Actors, each of which holds the model.
    max_length : int, optional
        See `refgit.pipeline.Captioner`.
    workers : int
        Threads of an actor that decode images.
    backend, dtype : optional
        As for `GitForCausalLM.from_pretrained`.
    reading, decoding : optional
        How files are read and captions are searched for; as for `Captioner`.
    treatment : Treatment
        What becomes of the captions' text.
    **options
        Of `Dataset.map_batches`, such as ``num_cpus=4`` or ``num_gpus=1`` for each actor.

    Returns
    -------
    ray.data.Dataset
        The columns of `dataset` but for the images, and `image` (the path; null where there is
        none), `caption` and `error` (why the caption is null), as in the rows of a job. Nothing is
        computed before it is written, as in ``.write_parquet(folder)``.

    Raises
    ------
    ImportError
        Ray is not installed.
    JobError
        When it runs: there is no such column, or one of the result's names is taken.
    """
    try:
        import ray.data
    except ImportError as error:
        raise ImportError(
            package_missing("caption_dataset", "ray", "'ray[data]' pyarrow")
        ) from error
    return dataset.map_batches(
        CaptionActor,
        fn_constructor_kwargs={
            "model": model,
            "column": column,
            "workers": workers,
            "max_length": max_length,
            "backend": backend,
            "dtype": dtype,
            "reading": reading,
            "decoding": dict(decoding),
            "treatment": treatment,
        },
        batch_size=batch_size,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=concurrency),
        **options,
    )


class CaptionActor:
    """An actor: a model that captions tables of images; see `caption_dataset`."""

    def __init__(self, *, model: str | None, column: str, workers: int, **options: Any) -> None:
        self.captioner = Captioner.from_pretrained(model, **options)
        self.captioner.make_reproducible()  # whatever order Ray takes
        self.column = column
        self._pool = ThreadPoolExecutor(workers, "refgit-decode")

    def __call__(self, batch: Any) -> Any:
        """Caption the rows of a pyarrow table."""
        import pyarrow as pa

        self._check_columns(batch.column_names)
        named = [content_of(value) for value in batch.column(self.column).to_pylist()]
        found = self._captions([content for _, content in named])
        rows = [*map(row_of, range(len(named)), (name for name, _ in named), found)]
        table = batch.drop_columns([self.column])
        for name in _ADDED:
            table = table.append_column(name, pa.array([row[name] for row in rows], pa.string()))
        return table

    def _check_columns(self, names: Sequence[str]) -> None:
        if self.column not in names:
            raise JobError(
                f"the dataset has no column {self.column!r}; it has {', '.join(names)}. Name the "
                "one with the images, as in column='picture'."
            )
        taken = {name for name in names if name in _ADDED and name != self.column}
        if taken:
            raise JobError(
                f"the dataset has a column {min(taken)!r} already, which the result needs; rename "
                "it first with dataset.rename_columns."
            )

    def _captions(self, contents: Sequence[str | bytes | None]) -> list[str | Exception]:
        sources = [ValueError("there is no image.") if x is None else x for x in contents]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # here, once: filters belong to all threads
            images = list(self._pool.map(self.captioner.read_or_error, sources))
        return self.captioner.write(images)
