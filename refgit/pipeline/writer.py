"""A model with its processor and options writes texts: the one place that calls `generate`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from refgit.captions import Treatment
from refgit.generation.request import Request
from refgit.generation.resolve import resolve
from refgit.model.causal_lm import GitForCausalLM
from refgit.pipeline.decoding import Default, beams_of, completed, is_sampling, longest
from refgit.pipeline.texts import SCORES_AT_ONCE, WrittenText, decoded, texts_of
from refgit.processing import GitProcessor


class Writer:
    """Write texts below images.

    Parameters
    ----------
    model : GitForCausalLM
    processor : GitProcessor
    options : mapping
        As `generate` takes them. A `seed` among them is kept apart.
    treatment : Treatment
        What becomes of the texts.

    Attributes
    ----------
    seed : int or None
    count : int
        Texts of an image.
    """

    def __init__(
        self,
        model: GitForCausalLM,
        processor: GitProcessor,
        options: Mapping[str, Any],
        treatment: Treatment,
    ) -> None:
        self.model, self.processor, self.treatment = model, processor, treatment
        self._options = completed(options, model.generation_config)
        self.seed = self._options.pop("seed", None)
        self.count: int = self._options["num_return_sequences"]

    @property
    def samples(self) -> bool:
        """Whether tokens are drawn at random."""
        return is_sampling(self._options, self.model.generation_config)

    def longest(self, prompt: int, room: int, default: Default) -> int:
        """How many tokens a text may have; see `refgit.pipeline.decoding.longest`."""
        return longest(self._options, self.model.generation_config, prompt, room, default)

    def check(self, prompt: int, room: int, default: Default) -> None:
        """Refuse options that contradict one another, before an image is read.

        Raises
        ------
        ValueError, TypeError
            The message names them.
        """
        options = {**self._lengths(prompt, room, default), "seed": self.seed}
        request = Request.of(None, None, options)
        request.check()
        resolve(self.model.generation_config, request, room).below(prompt)

    def _lengths(self, prompt: int, room: int, default: Default) -> dict[str, Any]:
        """The options with one length, in the place of the two there are."""
        options = {k: v for k, v in self._options.items() if k != "max_new_tokens"}
        return {**options, "max_length": self.longest(prompt, room, default)}

    def _call(
        self, image: Mapping[str, Any], prompt: Sequence[int] | None, room: int, default: Default
    ) -> dict[str, Any]:
        """The arguments of one call of `generate`."""
        call = {**image, **self._lengths(len(prompt or [0]), room, default)}
        if prompt is not None:
            pixels = image.get("pixel_values")
            number = image["past_key_values"].num_images if pixels is None else len(pixels)
            rows = [list(prompt)] * number
            call |= {"input_ids": rows, "attention_mask": np.ones_like(rows)}  # it may hold [PAD]
        return {**call, "tokenizer": self.processor.tokenizer}

    def write(
        self,
        image: Mapping[str, Any],
        prompt: Sequence[int] | None,
        room: int,
        default: Default,
        *,
        seed: int | None = None,
        scores: bool = False,
        shown: bool = True,
    ) -> list[list[WrittenText]]:
        """Write texts below one batch of images.

        Parameters
        ----------
        image : mapping
            The arguments of `generate` that say which images.
        prompt : sequence of int, optional
            Token ids that each text begins with; by default the opening one.
        room : int
            Tokens that the model has positions for.
        default : Default
        seed : int, optional
            Of the random numbers, where tokens are drawn.
        scores : bool
            Whether to find how likely the texts are.
        shown : bool
            Whether the texts are captions: the prompt is a part of them, and they are treated.

        Returns
        -------
        list of lists of WrittenText
            `count` for each image: the best first, or as they were drawn.
        """
        call = self._call(image, prompt, room, default) | {"output_scores": scores}
        call |= {"seed": seed, "return_dict_in_generate": scores}
        pixels = image.get("pixel_values")
        parts = [call]
        if scores and pixels is not None:
            size = self._images_at_once(call["max_length"])
            parts = [
                call | {name: call[name][i : i + size] for name in _BY_IMAGE if name in call}
                for i in range(0, len(pixels), size)
            ]
        ends = self.model.generation_config.eos_ids
        opening = [0] if prompt is None else prompt
        treated: dict[str, Any] = {"shown": shown, "treatment": self.treatment}
        texts = [
            text
            for part in parts
            for text in texts_of(
                self.model.generate(**part), opening, self.processor, ends, **treated
            )
        ]
        return [texts[i : i + self.count] for i in range(0, len(texts), self.count)]

    def _images_at_once(self, length: int) -> int:
        """For how many images the scores of all tokens fit into memory."""
        rows = max(self.count, beams_of(self._options, self.model.generation_config))
        return max(1, SCORES_AT_ONCE // (4 * self.model.config.vocab_size * length * rows))

    def stream(
        self,
        image: Mapping[str, Any],
        prompt: Sequence[int] | None,
        room: int,
        default: Default,
        *,
        seed: int | None = None,
        shown: bool = True,
    ) -> Iterator[str]:
        """Write one text below one image, as it grows; see `write`."""
        if beams_of(self._options, self.model.generation_config) > 1:
            ((best, *_),) = self.write(image, prompt, room, default, seed=seed, shown=shown)
            return iter([best.text])
        call = self._call(image, prompt, room, default) | {"num_return_sequences": 1, "seed": seed}
        before = list(prompt[1:]) if prompt and shown else []
        tokens = (token.ids.tolist() for token in self.model.stream(**call))
        texts = (
            decoded([*before, *ids], self.processor.tokenizer, self.treatment) for ids in tokens
        )
        return self._treated(texts) if shown else map(self.treatment.punctuated, texts)

    def _treated(self, texts: Iterator[str]) -> Iterator[str]:
        """Treat a caption as it grows; it has its suffix in the end."""
        text = ""
        for text in texts:
            yield self.treatment.so_far(text)
        if self.treatment.suffix:
            yield self.treatment(text)


_BY_IMAGE = ("pixel_values", "input_ids", "attention_mask")
