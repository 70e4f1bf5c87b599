"""Images of equal size in one batch; one that does not fit into memory is tried in halves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from refgit.pipeline.sources import Pixels

T = TypeVar("T")


class Batches:
    """Hand images to a model in batches.

    Attributes
    ----------
    largest : int or None
        The largest batch that there is memory for, once a larger one has failed.
    """

    def __init__(self) -> None:
        self.largest: int | None = None

    def map(
        self,
        images: Sequence[Pixels | Exception],
        write: Callable[[Sequence[Pixels], int], Sequence[T]],
        *,
        apart: bool = False,
    ) -> list[T | Exception]:
        """Write something for each image, those of equal size in one batch.

        Parameters
        ----------
        images : sequence of arrays (1, ...)
            An error in the place of one is returned in its place.
        write : callable
            Takes images of one size, and where the first of them is in `images`.
        apart : bool
            Keep each image in a batch of its own.

        Raises
        ------
        MemoryError
            There is not enough for a single image.
        """
        results: list[T | Exception | None] = [x if isinstance(x, Exception) else None
                                               for x in images]  # fmt: skip
        batches: dict[Any, list[int]] = {}
        for i, pixels in enumerate(images):
            if not isinstance(pixels, Exception):
                batches.setdefault((pixels.shape, i if apart else None), []).append(i)
        for batch in batches.values():
            for i, found in zip(batch, self._equal(images, batch, write), strict=True):
                results[i] = found
        return results  # type: ignore[return-value]  # every place is filled

    def _equal(
        self, images: Sequence[Any], batch: list[int], write: Callable[..., Sequence[T]]
    ) -> list[T | Exception]:
        """Take images of one size; a batch that fails is tried in halves, down to one image."""
        size = len(batch)
        if self.largest is None or size <= self.largest:
            try:
                return [*write([images[i] for i in batch], batch[0])]
            except MemoryError:
                if size == 1:
                    raise
                self.largest = min(self.largest or size, size - size // 2)
            except Exception as error:
                if size == 1:
                    return [error]
        half = size - size // 2
        return self._equal(images, batch[:half], write) + self._equal(images, batch[half:], write)
