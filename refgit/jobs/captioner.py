"""What captions the images of a job: a model and its processor, for images and for batches.

Its results do not depend on which images share a batch: a row of a batch is computed as it is
alone, up to the rounding of the last bits. Jobs on one machine and on many use the same class.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from refgit.jobs.pixels import frames_of, prepared
from refgit.jobs.sources import is_video

if TYPE_CHECKING:
    from refgit.model.causal_lm import GitForCausalLM
    from refgit.processing import GitProcessor

Pixels: TypeAlias = NDArray[np.float32]


class Captioner:
    """Read images and write captions.

    Parameters
    ----------
    model : GitForCausalLM
    processor : GitProcessor
    max_length : int
        Longest caption in tokens, the opening one included; less where the model has positions
        for fewer.

    Attributes
    ----------
    largest : int or None
        The largest batch that there is memory for, once a larger one has failed.
    """

    def __init__(self, model: GitForCausalLM, processor: GitProcessor, max_length: int) -> None:
        self.model, self.processor = model, processor
        self.frames = model.config.num_image_with_embedding
        tokens = model.config.vision_config.num_positions * (self.frames or 1)
        self.max_length = min(max_length, model.config.text_room(tokens))
        self.largest: int | None = None

    def read(self, content: str | bytes | Exception) -> Pixels:
        """Decode and prepare one image or video; several threads may do so at once.

        Parameters
        ----------
        content : str, bytes or Exception
            A path, an encoded image, or why there is neither.

        Returns
        -------
        float32 array (1, 3, H, W), or (1, F, 3, H, W) where the model takes videos

        Raises
        ------
        refgit.processing.ImageFileError, refgit.processing.VideoFileError
            It is missing, truncated or no image or video, or the model takes no videos.
        ImportError
            It is a video and PyAV is not installed.
        """
        from refgit.processing import load_image

        if isinstance(content, Exception):
            raise content
        if isinstance(content, bytes) or not is_video(content):
            images = load_image(content)
        else:
            images = frames_of(content, self.frames)
        return prepared(images, self.processor, self.frames)

    def write(self, images: Sequence[Pixels], seeds: Sequence[int]) -> list[str | Exception]:
        """Caption images, those of equal size in one batch.

        Parameters
        ----------
        images : sequence of arrays
            As `read` returns them.
        seeds : sequence of int
            A number for each image; it matters where the checkpoint asks for words to be drawn.

        Returns
        -------
        list of str or Exception
            A caption for each image, or what the model has against it.

        Raises
        ------
        MemoryError
            There is not enough for a single image.
        """
        results: list[str | Exception] = [""] * len(images)
        by_shape: dict[Any, list[int]] = {}
        for i, pixels in enumerate(images):
            # Drawing from one generator for several rows would tie each to its neighbours.
            alone = seeds[i] if self.model.generation_config.do_sample else None
            by_shape.setdefault((pixels.shape, alone), []).append(i)
        for rows in by_shape.values():
            found = self._write_equal([images[i] for i in rows], [seeds[i] for i in rows])
            for i, text in zip(rows, found, strict=True):
                results[i] = text
        return results

    def _write_equal(self, images: list[Pixels], seeds: list[int]) -> list[str | Exception]:
        """Caption images of one size; a batch that fails is tried in halves, down to one image."""
        size = len(images)
        if self.largest is not None and size > self.largest:
            return self._in_halves(images, seeds)
        try:
            return [*self._generate(np.concatenate(images), seeds[0])]
        except MemoryError:
            if size == 1:
                raise
            self.largest = min(self.largest or size, size - size // 2)
        except Exception as error:
            if size == 1:
                return [error]
        return self._in_halves(images, seeds)

    def _in_halves(self, images: list[Pixels], seeds: list[int]) -> list[str | Exception]:
        half = len(images) - len(images) // 2
        first = self._write_equal(images[:half], seeds[:half])
        return first + self._write_equal(images[half:], seeds[half:])

    def _generate(self, pixels: Pixels, seed: int) -> list[str]:
        """Write as the checkpoint's generation_config.json says; pixels (B, 3, H, W)."""
        model, config = self.model, self.model.generation_config
        ids = model.generate(
            pixel_values=pixels,
            max_length=self.max_length,
            interpolate_pos_encoding=self._any_size(),
            num_return_sequences=1,
            return_dict_in_generate=False,
            tokenizer=self.processor.tokenizer,
            seed=seed if config.do_sample else None,
        )
        rows = [_until_end(row, config.eos_ids) for row in model.backend.to_numpy(ids)[:, 1:]]
        texts = self.processor.batch_decode(rows, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def _any_size(self) -> bool:
        """Whether the processor keeps the aspect ratio, so that images come in all sizes."""
        return getattr(self.processor.image_processor, "respect_ratio_max", None) is not None


def _until_end(ids: NDArray[np.int64], ends: Sequence[int]) -> list[int]:
    """Leave out the padding that a row has because its neighbours are longer."""
    found = np.flatnonzero(np.isin(ids, list(ends)))
    return [int(i) for i in (ids[: found[0] + 1] if len(found) else ids)]


def fingerprint(checkpoint: str | Path) -> str:
    """SHA-256 of what a checkpoint directory holds for the model and its processor.

    Parameters
    ----------
    checkpoint : str or Path
        A directory. Its weights are read once; what the files are called matters, where they lie
        does not.
    """
    folder = Path(checkpoint)
    weights = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    digest = hashlib.sha256()
    for file in sorted([*folder.glob("*.json"), *folder.glob("vocab.txt"), *weights]):
        with open(file, "rb") as stream:
            inner = hashlib.file_digest(stream, "sha256").digest()
        digest.update(os.fsencode(file.name) + b"\0" + inner)
    return digest.hexdigest()
