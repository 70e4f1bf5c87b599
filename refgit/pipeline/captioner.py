"""`Captioner`: a model with its processor, from an image or video to text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refgit.captions import Treatment
from refgit.demo import find_model
from refgit.generation.classification.labels import LabelSet, prepare_labels
from refgit.model.cache import KeyValueCache
from refgit.model.causal_lm import GitForCausalLM
from refgit.parts import find_parts
from refgit.pipeline.attempts import Attempts, second_attempt
from refgit.pipeline.batches import Batches
from refgit.pipeline.decoding import ANSWER, CAPTION, derived_seed
from refgit.pipeline.labels import RankedLabel, ranked_labels
from refgit.pipeline.sources import Pixels, Source, read_source
from refgit.pipeline.texts import WrittenText
from refgit.pipeline.writer import Writer
from refgit.processing import GitProcessor
from refgit.processing.reading import Reading
from refgit.validation import expect, refuse_keywords
from refgit_backends import Backend

_LOADING = (
    "name", "max_length", "backend", "dtype", "reading", "decoding", "prompt", "scores",
    "treatment", "base", "processor",
)  # fmt: skip
_READING = Reading()
_DECODING: Mapping[str, Any] = {}
_TREATMENT = Treatment()


class Captioner:
    """Write texts for images and videos.

    Parameters
    ----------
    model : GitForCausalLM
    processor : GitProcessor
    max_length : int, optional
        Longest text in tokens, the opening one and those of the prompt included; less where the
        model has fewer positions. By default what `decoding` says, or else the checkpoint's
        generation_config.json; where neither does, 50 for captions, and for answers 20 more than
        the question has.
    reading : Reading
        How files are read.
    decoding : mapping of str to object
        Options of every caption and answer, as `generate` takes them, such as ``num_beams=3``.
        With ``num_return_sequences=3`` an image has three texts: of a beam search, which then has
        three beams unless it is told otherwise, the best; or as many as are drawn. A `seed` here
        makes what is drawn depend only on it and on the image.
    prompt : str, optional
        What every caption begins with; it is a part of the caption.
    scores : bool
        Find how likely the texts of `write_texts` and `answers` are.
    treatment : Treatment
        What becomes of each caption. By default its punctuation is closed up, as that of answers
        is; ``Treatment(raw=True)`` leaves the tokenizer's text.

    Attributes
    ----------
    max_length : int
        Longest caption in tokens, as the above comes to.

    Examples
    --------
    >>> from refgit.pipeline import Captioner
    >>> captioner = Captioner.from_pretrained()
    >>> captioner.caption("docs/images/star.png")
    'star'

    Notes
    -----
    A *source* is a path, an encoded image or video as bytes or as a binary stream, a PIL image, an
    array (H, W, 3), or the frames of a video. For a model that takes videos an animation, such as a
    GIF, is one; a `VideoPart` is a part of one, and `FrameFiles` are pictures that are its frames
    (both of `refgit.processing.video.parts`). An error in the place of a source is raised when it
    is read. Texts are written as the checkpoint's generation_config.json says and `decoding`
    changes, one per image unless `decoding` asks for more.
    """

    def __init__(
        self,
        model: GitForCausalLM,
        processor: GitProcessor,
        max_length: int | None = None,
        *,
        reading: Reading = _READING,
        decoding: Mapping[str, Any] = _DECODING,
        prompt: str | None = None,
        scores: bool = False,
        treatment: Treatment = _TREATMENT,
    ) -> None:
        self.treatment = treatment
        self.model, self.processor, self.scores = model, processor, scores
        self.reading, self.decoding = reading, dict(decoding)
        if max_length is not None:
            self.decoding["max_length"] = max_length
        self._begins_with = prompt
        self._prompt = None if prompt is None else self.prompt(prompt)
        self._writer = self._writer_of(self.decoding)
        self._room = model.config.text_room(model.config.num_image_tokens())
        begins = len(self._prompt or [0])
        self.max_length = self._writer.longest(begins, self._room, CAPTION)
        self._refuse_long(begins)
        self._writer.check(begins, self._room, CAPTION)
        self._again = self._writer_of(second_attempt(self.decoding, treatment))
        self._again.check(begins, self._room, CAPTION)
        self._batches = Batches()

    def _refuse_long(self, prompt: int) -> None:
        if 1 < prompt >= self.max_length:
            raise ValueError(
                f"the prompt is {prompt} tokens, the opening one included, and a caption may have "
                f"{self.max_length}; expected a shorter prompt or a larger max_length (the model "
                f"has positions for {self._room})."
            )

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path | None = None,
        *,
        max_length: int | None = None,
        backend: str | Backend | None = None,
        dtype: str = "float32",
        reading: Reading = _READING,
        decoding: Mapping[str, Any] = _DECODING,
        prompt: str | None = None,
        scores: bool = False,
        treatment: Treatment = _TREATMENT,
        base: str | Path | None = None,
        processor: str | Path | None = None,
        **others: Any,
    ) -> Captioner:
        """Load a model and its processor.

        Parameters
        ----------
        name : str or Path, optional
            Checkpoint directory or name on the model hub; the bundled model by default.
        max_length : int, optional
            See `Captioner`.
        backend : str or Backend, optional
        dtype : str
            As for `GitForCausalLM.from_pretrained`.
        reading, decoding, prompt, scores, treatment
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
        ValueError
            The options contradict one another; the message names them.
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
        return cls(
            model, own, max_length, reading=reading, decoding=decoding, prompt=prompt,
            scores=scores, treatment=treatment,
        )  # fmt: skip

    def _writer_of(self, options: Mapping[str, Any]) -> Writer:
        return Writer(self.model, self.processor, options, self.treatment)

    @property
    def frames(self) -> int | None:
        """How many frames of a video the model reads; None where it reads images."""
        return self.model.config.num_image_with_embedding

    @property
    def settings(self) -> dict[str, Any]:
        """What the texts depend on besides the model, the image and `max_length`."""
        lengths = ("max_length", "max_new_tokens")
        found = {k: v for k, v in self.decoding.items() if k not in lengths}
        more = {"prompt": self._begins_with, "scores": self.scores}
        return found | {k: v for k, v in more.items() if v not in (None, False)}

    @property
    def samples(self) -> bool:
        """Whether tokens are drawn at random."""
        return self._writer.samples

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
            Of the random numbers, where tokens are drawn.

        Raises
        ------
        ValueError, TypeError, ImportError
            As `read`; or the model cannot take the image.
        """
        return _text_or_raise(*self.write([self.read(source)], None if seed is None else [seed]))

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
            One per image; they matter where tokens are drawn. By default they follow from the
            captioner's and the image; without one they differ from call to call.

        Returns
        -------
        list of str or Exception
            A caption for each image, or the error: the one given, or the model's.

        Raises
        ------
        MemoryError
            There is not enough for a single image.
        """
        found = self.write_texts(images, seeds)
        return [x if isinstance(x, Exception) else x[0].text for x in found]

    def write_texts(
        self,
        images: Sequence[Pixels | Exception],
        seeds: Sequence[int] | None = None,
        **changes: Any,
    ) -> list[list[WrittenText] | Exception]:
        """Do as `write`, and return all texts of an image, and how likely they are.

        Parameters
        ----------
        images, seeds
            See `write`.
        **changes
            Options in the place of the captioner's, such as ``do_sample=True``.

        Returns
        -------
        list of (list of WrittenText) or Exception
            For each image its texts, the best first or as they were drawn; or the error. Texts that
            hold one of the treatment's `fail_phrases` are left out; an image without another has a
            second attempt, drawn at random, or else a `refgit.errors.PhraseError`.

        Raises
        ------
        MemoryError
            There is not enough for a single image.
        """
        writer = self._writer if not changes else self._writer_of({**self.decoding, **changes})

        def write(several: Sequence[Pixels], i: int) -> list[list[WrittenText]]:
            pixels = np.concatenate(several)
            seed = None if seeds is None or not writer.samples else seeds[i]
            return self._texts(writer, pixels, seed)

        # Sampling several batch rows from one generator would tie each to its neighbours.
        found = self._batches.map(images, write, apart=writer.samples)
        if self.treatment.fail_phrases:
            attempts = Attempts(self.treatment, lambda i: self._second(images[i], seeds, i))
            found = attempts.without_failures(found)
        return found

    def _second(
        self, pixels: Any, seeds: Sequence[int] | None, i: int
    ) -> list[WrittenText] | Exception:
        """Caption an image once more, by sampling; the same image is always given the same text."""
        seed = (self._writer.seed or 0) if seeds is None else seeds[i]
        seed = derived_seed(seed, pixels.tobytes(), b"second attempt")
        (found,) = self._batches.map(
            [pixels], lambda several, _: self._texts(self._again, several[0], seed)
        )
        return found

    def _texts(self, writer: Writer, pixels: Pixels, seed: int | None) -> list[list[WrittenText]]:
        """Caption images of one size."""
        seed = self.seed_of(pixels) if seed is None else seed
        # A batch whose scores are kept is divided further, by its pixels.
        image = self._image(pixels) if self.scores else self._batch(pixels)
        return writer.write(image, self._prompt, self._room, CAPTION, seed=seed, scores=self.scores)

    def seed_of(self, pixels: Pixels, question: str = "") -> int | None:
        """Return the seed of the texts below an image, where tokens are drawn.

        It follows from the captioner's seed and what the texts are about, so they depend neither on
        the order of the images, nor on which share a batch, nor on an interruption.

        Parameters
        ----------
        pixels : float32 array (1, ...)
        question : str

        Returns
        -------
        int or None
            None where the captioner has no seed.
        """
        if self._writer.seed is None:
            return None
        return derived_seed(self._writer.seed, pixels.tobytes(), question.encode(errors="replace"))

    def make_reproducible(self) -> None:
        """Take 0 for the seed where tokens are drawn and no seed was given."""
        if self.samples and self._writer.seed is None:
            self._writer.seed = 0

    def token_ids(self, pixels: Pixels, seed: int | None = None) -> list[list[int]]:
        """Caption images of one size, in token ids.

        Parameters
        ----------
        pixels : float32 array (B, 3, H, W) or (B, F, 3, H, W)
        seed : int, optional
            Of the random numbers, where tokens are drawn.

        Returns
        -------
        list of B lists of int
            The opening token, the caption, and its end token unless `max_length` cut it off.
        """
        before = self.prompt(None) if self._prompt is None else self._prompt
        found = self._texts(self._writer, pixels, seed)
        return [[*before, *texts[0].token_ids] for texts in found]

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
            can revise tokens that were already emitted, and with `fail_phrases`. The treatment may
            take back what was there, such as the space before a hyphen.

        Raises
        ------
        ValueError, TypeError, ImportError
            As `caption`.
        """
        pixels = self.read(source)
        if self.treatment.fail_phrases:  # of which only the whole caption is free
            return iter([_text_or_raise(*self.write([pixels]))])
        return self._writer.stream(
            self._image(pixels), self._prompt, self._room, CAPTION, seed=self.seed_of(pixels)
        )

    def _batch(self, pixels: Pixels) -> dict[str, Any]:
        """The arguments of the model that a batch is, encoded in groups where that is better."""
        most = self.model.backend.images_at_once
        if most is None or len(pixels) <= most:
            return self._image(pixels)
        groups = (pixels[start : start + most] for start in range(0, len(pixels), most))
        caches = [self.model.encode_image(**self._image(group)) for group in groups]
        return {"past_key_values": KeyValueCache.joined(caches)}

    def _image(self, pixels: Pixels) -> dict[str, Any]:
        """The arguments of the model that an image is."""
        return {
            "pixel_values": pixels,
            "interpolate_pos_encoding": self.processor.keeps_aspect_ratio,
        }

    # ---- questions

    def encode(self, source: Source) -> KeyValueCache:
        """Read an image or video once, to `ask` several questions about it.

        Raises
        ------
        ValueError, TypeError, ImportError
            As `read`; or the model cannot take the image.
        """
        return self.encode_pixels(self.read(source))

    def encode_pixels(self, pixels: Pixels) -> KeyValueCache:
        """Do as `encode`, with what `read` has returned."""
        return self.model.encode_image(**self._image(pixels))

    def ask(
        self, image: Source | KeyValueCache, question: str, max_new_tokens: int | None = None
    ) -> str:
        """Answer a question about an image or video; see `stream_answer`."""
        *_, text = "", *self.stream_answer(image, question, max_new_tokens)
        return text

    def stream_answer(
        self,
        image: Source | KeyValueCache,
        question: str,
        max_new_tokens: int | None = None,
        *,
        seed: int | None = None,
    ) -> Iterator[str]:
        """Answer a question about an image or video, token by token.

        Parameters
        ----------
        image
            What `encode` returned, which is left as it was, or a source; see `Captioner`.
        question : str
        max_new_tokens : int, optional
            Longest answer; less where the model has fewer positions. By default as `Captioner`
            says.
        seed : int, optional
            Of the random numbers, where tokens are drawn, such as `seed_of` returns. By default it
            follows from the captioner's and the question.

        Returns
        -------
        iterator of str
            The answer so far; see `stream`.

        Raises
        ------
        ValueError
            The question is empty, or leaves no positions for an answer.
        """
        writer, call = self._question(image, question, max_new_tokens, seed)
        return writer.stream(**call)

    def answers(
        self,
        image: Source | KeyValueCache,
        question: str,
        max_new_tokens: int | None = None,
        *,
        seed: int | None = None,
    ) -> list[WrittenText]:
        """Answer a question, and return all answers asked for, and how likely they are.

        Parameters
        ----------
        image, question, max_new_tokens, seed
            See `stream_answer`.

        Returns
        -------
        list of WrittenText
            The best first, or as they were drawn.
        """
        writer, call = self._question(image, question, max_new_tokens, seed)
        (found,) = writer.write(**call, scores=self.scores)
        return found

    def _question(
        self,
        image: Source | KeyValueCache,
        question: str,
        max_new_tokens: int | None,
        seed: int | None,
    ) -> tuple[Writer, dict[str, Any]]:
        """What is to write the answer, and its arguments."""
        prompt = self.prompt(question, "the question")
        cache = image if isinstance(image, KeyValueCache) else self.encode(image)
        room = self.model.config.text_room(cache.image_length)
        if room <= len(prompt):
            raise ValueError(
                f"the question is {len(prompt)} tokens, its opening one included; this model has "
                f"positions for {room}, the answer included. Ask a shorter one."
            )
        writer = self._writer
        if max_new_tokens is not None:
            options = {k: v for k, v in self.decoding.items() if k != "max_length"}
            writer = self._writer_of({**options, "max_new_tokens": max_new_tokens})
        most = writer.longest(len(prompt), room, ANSWER)
        if most <= len(prompt):
            raise ValueError(
                f"the question is {len(prompt)} tokens, its opening one included, and max_length "
                f"is {most}, the answer included; expected more, or max_new_tokens in its place."
            )
        if seed is None and writer.seed is not None:
            seed = derived_seed(writer.seed, question.encode(errors="replace"))
        call = {"image": {"past_key_values": cache}, "prompt": prompt, "room": room}
        return writer, {**call, "default": ANSWER, "seed": seed, "shown": False}

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


def _text_or_raise(text: str | Exception) -> str:
    if isinstance(text, Exception):
        raise text
    return text


def _refuse_single(name: str, values: Any, expected: str) -> None:
    """Refuse a string, whose letters would be taken one by one, and what is not iterable."""
    single = isinstance(values, str | bytes) or not isinstance(values, Iterable)
    expect(name, values, not single, expected, error=TypeError)
