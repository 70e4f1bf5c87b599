"""`Captioner`: a model with its processor, from an image or video to text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refgit.demo import find_model
from refgit.generation.classification.labels import LabelSet, prepare_labels
from refgit.model.cache import KeyValueCache
from refgit.model.causal_lm import GitForCausalLM
from refgit.parts import find_parts
from refgit.pipeline.batches import Batches
from refgit.pipeline.labels import RankedLabel, ranked_labels
from refgit.pipeline.sources import Pixels, Source, read_source
from refgit.processing import GitProcessor
from refgit.processing.reading import Reading
from refgit.validation import expect, is_integer, refuse_keywords
from refgit_backends import Backend

_LOADING = ("name", "max_length", "backend", "dtype", "reading", "decoding", "base", "processor")
_READING = Reading()
_DECODING: Mapping[str, Any] = {}


class Captioner:
    """Write texts for images and videos.

    Parameters
    ----------
    model : GitForCausalLM
    processor : GitProcessor
    max_length : int
        Longest caption in tokens, the opening one included; less where the model has fewer
        positions.
    reading : Reading
        How files are read.
    decoding : mapping of str to object
        Options of every caption and answer, as `generate` takes them, such as ``num_beams=3``.

    Examples
    --------
    >>> from refgit.pipeline import Captioner
    >>> captioner = Captioner.from_pretrained()
    >>> captioner.caption("docs/images/star.png")
    'star'

    Notes
    -----
    A *source* is a path, an encoded image as bytes or as a binary stream, a PIL image, an array
    (H, W, 3), or the frames of a video. An error in the place of a source is raised when it is
    read. Texts are written as the checkpoint's generation_config.json says, one per image.
    """

    def __init__(
        self,
        model: GitForCausalLM,
        processor: GitProcessor,
        max_length: int = 50,
        *,
        reading: Reading = _READING,
        decoding: Mapping[str, Any] = _DECODING,
    ) -> None:
        whole = is_integer(max_length, least=1)
        expect("max_length", max_length, whole, "an integer of at least 1")
        self.model, self.processor = model, processor
        self.reading, self.decoding = reading, dict(decoding)
        config = model.config
        self.max_length = min(max_length, config.text_room(config.num_image_tokens()))
        self._batches = Batches()

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path | None = None,
        *,
        max_length: int = 50,
        backend: str | Backend | None = None,
        dtype: str = "float32",
        reading: Reading = _READING,
        decoding: Mapping[str, Any] = _DECODING,
        base: str | Path | None = None,
        processor: str | Path | None = None,
        **others: Any,
    ) -> Captioner:
        """Load a model and its processor.

        Parameters
        ----------
        name : str or Path, optional
            Checkpoint directory or name on the model hub; the bundled model by default.
        max_length : int
            See `Captioner`.
        backend : str or Backend, optional
        dtype : str
            As for `GitForCausalLM.from_pretrained`.
        reading, decoding
            See `Captioner`.
        base : str or Path, optional
            The model that an adapter changes; by default what its adapter_config.json names.
        processor : str or Path, optional
            Where the processor is, if not with the model: a directory or a name.
        **others
            Refused, with what stands in their place here.

        Raises
        ------
        CheckpointError
            There is no such checkpoint, or it is broken.
        TypeError
            An argument is one of another library's, such as torch_dtype or device.
        refgit_backends.BackendError
            The backend cannot run here.
        """
        refuse_keywords("Captioner.from_pretrained", others, _LOADING)
        parts = find_parts(find_model(name), base=base, processor=processor)
        own = GitProcessor.from_pretrained(parts.processor)
        model = GitForCausalLM.from_pretrained(
            parts.directory,
            base=None if parts.adapter is None else parts.model,
            backend=backend,
            dtype=dtype,
        )
        return cls(model, own, max_length, reading=reading, decoding=decoding)

    @property
    def frames(self) -> int | None:
        """How many frames of a video the model reads; None where it reads images."""
        return self.model.config.num_image_with_embedding

    @property
    def samples(self) -> bool:
        """Whether tokens are drawn at random."""
        return self.model.generation_config.do_sample

    @property
    def largest(self) -> int | None:
        """The largest batch that there is memory for, once a larger one has failed."""
        return self._batches.largest

    # ---- images

    def read(self, source: Source) -> Pixels:
        """Decode and prepare one image or video; several threads may do so at once.

        Parameters
        ----------
        source
            See `Captioner`.

        Returns
        -------
        float32 array (1, 3, H, W), or (1, F, 3, H, W) where the model reads videos

        Raises
        ------
        refgit.processing.ImageFileError, refgit.processing.VideoFileError
            The file is missing, truncated or not an image or a video, or the model reads no
            videos.
        ImportError
            It is a video and PyAV is not installed.
        ValueError, TypeError
            The processor cannot take it, or it is several images.
        """
        return read_source(source, self.processor, self.frames, self.reading)

    def read_or_error(self, source: Source) -> Pixels | Exception:
        """Do as `read`, but return what is wrong with the source.

        Raises
        ------
        ImportError, MemoryError
            The source is not to blame.
        """
        try:
            return self.read(source)
        except (ImportError, MemoryError):
            raise
        except Exception as error:
            return error

    # ---- captions

    def caption(self, source: Source, seed: int | None = None) -> str:
        """Caption one image or video.

        Parameters
        ----------
        source
            See `Captioner`.
        seed : int, optional
            Of the random numbers, where the checkpoint samples.

        Raises
        ------
        ValueError, TypeError, ImportError
            As `read`; or the model cannot take the image.
        """
        (text,) = self.write([self.read(source)], None if seed is None else [seed])
        if isinstance(text, Exception):
            raise text
        return text

    def captions(self, sources: Iterable[Source]) -> list[str | Exception]:
        """Caption images and videos, those of equal size in one batch.

        Parameters
        ----------
        sources : iterable
            See `Captioner`.

        Returns
        -------
        list of str or Exception
            A caption for each source, or what is wrong with it.

        Raises
        ------
        ImportError, MemoryError
            As `read_or_error`; or there is not enough memory for a single image.
        TypeError
            `sources` is a single name.
        """
        _refuse_single("sources", sources, "a list of images and videos")
        return self.write([self.read_or_error(source) for source in sources])

    def write(
        self, images: Sequence[Pixels | Exception], seeds: Sequence[int] | None = None
    ) -> list[str | Exception]:
        """Caption images that have been read, those of equal size in one batch.

        The captions do not depend on which images share a batch: a batch row is computed as in a
        batch of one, up to rounding in the last bits.

        Parameters
        ----------
        images : sequence of arrays
            As `read_or_error` returns them.
        seeds : sequence of int, optional
            One per image; they matter where the checkpoint samples.

        Returns
        -------
        list of str or Exception
            A caption for each image, or the error: the one given, or the model's.

        Raises
        ------
        MemoryError
            There is not enough for a single image.
        """

        def caption(several: Sequence[Pixels], i: int) -> list[str]:
            seed = None if seeds is None or not self.samples else seeds[i]
            return self._texts(np.concatenate(several), seed)

        return self._batches.map(images, caption, apart=self.samples)

    def _texts(self, pixels: Pixels, seed: int | None) -> list[str]:
        ids = [row[1:] for row in self.token_ids(pixels, seed)]
        texts = self.processor.batch_decode(ids, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def token_ids(self, pixels: Pixels, seed: int | None = None) -> list[list[int]]:
        """Caption images of one size, in token ids.

        Parameters
        ----------
        pixels : float32 array (B, 3, H, W) or (B, F, 3, H, W)
        seed : int, optional
            Of the random numbers, where the checkpoint samples.

        Returns
        -------
        list of B lists of int
            The opening token, the caption, and its end token unless `max_length` cut it off.
        """
        model = self.model
        found = model.generate(
            **self._image(pixels),
            max_length=self.max_length,
            num_return_sequences=1,
            return_dict_in_generate=False,
            tokenizer=self.processor.tokenizer,
            seed=seed,
            **self.decoding,
        )
        ends = model.generation_config.eos_ids
        return [_until_end(ids, ends) for ids in model.backend.to_numpy(found).tolist()]

    def stream(self, source: Source) -> Iterator[str]:
        """Caption one image or video, token by token.

        Parameters
        ----------
        source
            See `Captioner`; it is read before this returns.

        Returns
        -------
        iterator of str
            The caption so far, a token longer each time; only the whole one with beam search, which
            can revise tokens that were already emitted.

        Raises
        ------
        ValueError, TypeError, ImportError
            As `caption`.
        """
        return self._stream(**self._image(self.read(source)), max_length=self.max_length)

    def _image(self, pixels: Pixels) -> dict[str, Any]:
        """The arguments of the model that an image is."""
        return {
            "pixel_values": pixels,
            "interpolate_pos_encoding": self.processor.keeps_aspect_ratio,
        }

    def _stream(self, **options: Any) -> Iterator[str]:
        """Write one text, as it grows; the options are `generate`'s."""
        model, tokenizer = self.model, self.processor.tokenizer
        options |= {"num_return_sequences": 1, "tokenizer": tokenizer, **self.decoding}
        if model.generation_config.num_beams == 1:
            return ((token.text or "").strip() for token in model.stream(**options))
        found = model.generate(**options, return_dict_in_generate=False)
        prompt = len(options.get("input_ids", [[0]])[0])
        ids = model.backend.to_numpy(found)[:, prompt:]
        return iter([self.processor.batch_decode(ids, skip_special_tokens=True)[0].strip()])

    # ---- questions

    def encode(self, source: Source) -> KeyValueCache:
        """Read an image or video once, to `ask` several questions about it.

        Raises
        ------
        ValueError, TypeError, ImportError
            As `read`; or the model cannot take the image.
        """
        return self.model.encode_image(**self._image(self.read(source)))

    def ask(self, image: Source | KeyValueCache, question: str, max_new_tokens: int = 20) -> str:
        """Answer a question about an image or video; see `stream_answer`."""
        *_, text = "", *self.stream_answer(image, question, max_new_tokens)
        return text

    def stream_answer(
        self, image: Source | KeyValueCache, question: str, max_new_tokens: int = 20
    ) -> Iterator[str]:
        """Answer a question about an image or video, token by token.

        Parameters
        ----------
        image
            What `encode` returned, which is left as it was, or a source; see `Captioner`.
        question : str
        max_new_tokens : int
            Longest answer; less where the model has fewer positions.

        Returns
        -------
        iterator of str
            The answer so far; see `stream`.

        Raises
        ------
        ValueError
            The question is empty, or leaves no positions for an answer.
        """
        prompt = self.prompt(question, "the question")
        cache = image if isinstance(image, KeyValueCache) else self.encode(image)
        room = self.model.config.text_room(cache.image_length) - len(prompt)
        if room < 1:
            raise ValueError(
                f"the question is {len(prompt)} tokens, its opening one included; this model has "
                f"positions for {len(prompt) + room}, the answer included. Ask a shorter one."
            )
        return self._stream(
            past_key_values=cache,
            input_ids=[prompt],
            attention_mask=[[1] * len(prompt)],  # a question may contain [PAD]
            max_new_tokens=min(max_new_tokens, room),
        )

    def prompt(self, text: str | None, name: str = "the prompt") -> list[int]:
        """Return the token ids that a text is to begin with: the opening token, then `text`.

        Parameters
        ----------
        text : str or None
        name : str
            What an error calls the text.

        Raises
        ------
        ValueError
            The text has no tokens.
        """
        tokenizer = self.processor.tokenizer
        ids: list[int] = [] if text is None else tokenizer(text, add_special_tokens=False).input_ids
        if text is not None and not ids:
            raise ValueError(f"{name} has no words; expected some, in quotes.")
        return [tokenizer.cls_token_id, *ids]  # type: ignore[list-item]  # every BERT has one

    # ---- labels

    def labels(self, texts: Sequence[str], prompt: Sequence[int] | None = None) -> LabelSet:
        """Prepare labels for `classify`.

        Parameters
        ----------
        texts : sequence of str
        prompt : sequence of int, optional
            Token ids before each label, from `prompt`; by default the opening token.

        Raises
        ------
        LabelError
            A label has no tokens, or more than the model has positions for.
        ValueError
            The model has no end token.
        TypeError
            `texts` is a single text.
        """
        _refuse_single("labels", texts, "a list of texts")
        before = self.prompt(None) if prompt is None else prompt
        tokens = self.model.config.num_image_tokens()
        return prepare_labels(self.model, self.processor.tokenizer, texts, before, tokens)

    def classify(
        self,
        source: Source,
        labels: LabelSet | Sequence[str],
        *,
        top: int = 5,
        batch_size: int = 128,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[RankedLabel]:
        """Rank labels by their probability as the text below one image or video.

        Parameters
        ----------
        source
            See `Captioner`.
        labels : LabelSet or sequence of str
            As `labels` returns them, or texts.
        top : int
            How many to return.
        batch_size : int
            Prefixes of labels that the model reads at once; fewer take less memory.
        progress : callable, optional
            Called with how many prefixes have been read, of how many.

        Returns
        -------
        list of RankedLabel
            The likeliest first.

        Raises
        ------
        ValueError, TypeError, ImportError
            As `read` and `labels`.
        """
        known = labels if isinstance(labels, LabelSet) else self.labels(labels)
        found = self.model.classify(
            labels=known.trie,
            prompt=known.prompt,
            top=top,
            batch_size=batch_size,
            progress=progress,
            **self._image(self.read(source)),
        )
        return ranked_labels(found, known, self.model.backend)


def _refuse_single(name: str, values: Any, expected: str) -> None:
    """Refuse a string, whose letters would be taken one by one, and what is not iterable."""
    single = isinstance(values, str | bytes) or not isinstance(values, Iterable)
    expect(name, values, not single, expected, error=TypeError)


def _until_end(ids: list[int], ends: Sequence[int]) -> list[int]:
    """Leave out the padding that a batch row has because its neighbours are longer."""
    stop = next((i for i, token in enumerate(ids) if i and token in ends), len(ids))
    return ids[: stop + 1]
