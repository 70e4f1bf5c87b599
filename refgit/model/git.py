"""The models with a text decoder: GitModel and GitForCausalLM.

They tie configuration, parameters and a backend together and check what they are given; the
mathematics is in vision.py, decoder.py and layers/. Arguments and returns are those of
transformers 4.56's classes of the same names, with arrays in the place of tensors. The letters of
shapes are those of refgit.layers; B texts, B' images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from refgit.generation.api import generate
from refgit.generation.classification.ranking import Classification, classify
from refgit.generation.config import GenerationConfig
from refgit.generation.streaming import Word, stream
from refgit.generation.transition_scores import transition_scores
from refgit.layers._array_api import Array
from refgit.layers._operations import Hook, Operations
from refgit.layers.embedding import embed, text_embedding
from refgit.layers.lm_head import language_model_loss, lm_head
from refgit.layers.sequence import join_image_and_text, string_frames
from refgit.model import checks
from refgit.model.base import PretrainedModel
from refgit.model.cache import KeyValueCache
from refgit.model.config import GitConfig
from refgit.model.decoder import continue_text, decode, read_image
from refgit.model.outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from refgit.model.parameters import Shapes, causal_lm_shapes, model_shapes, nest
from refgit.model.surgery import checked_heads, with_vocabulary, without_heads
from refgit.model.vision import image_encoder, visual_projection
from refgit.validation import is_integer


class GitModel(PretrainedModel):
    """Image encoder and text decoder, without the language-modelling head.

    Parameters
    ----------
    config : GitConfig
    seed : int
        Of the random weights; `from_pretrained` reads trained ones.
    backend, dtype, kernels
        See `from_pretrained`.
    """

    config_class = GitConfig
    prefix = "git."
    # What the names of the hooks begin with.
    path: ClassVar[str] = ""
    config: GitConfig

    @classmethod
    def shapes(cls, config: GitConfig) -> Shapes:
        """Name and shape of every parameter of a model with this config."""
        return model_shapes(config)

    @property
    def _trunk(self) -> Mapping[str, Any]:
        """The branch of the parameters that is the GitModel."""
        return self.parameters

    @property
    def _root(self) -> str:
        """What the names of the trunk's parameters begin with."""
        return f"{self.path}." if self.path else ""

    def _trunk_operations(self, hook: Hook | None) -> Operations:
        ops = self.hooked(hook)
        return ops.at(self.path) if self.path else ops

    def __call__(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        position_ids: Any = None,
        pixel_values: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        past_key_values: KeyValueCache | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        interpolate_pos_encoding: bool = False,
        return_dict: bool | None = None,
        *,
        hook: Hook | None = None,
    ) -> BaseModelOutputWithPast | tuple[Any, ...]:
        """Read an image and a text.

        Parameters
        ----------
        input_ids : array (B, T), integer, optional
            The text. Either this or `inputs_embeds`.
        attention_mask : array (B, T) or (B, past + T), optional
            1 for text, 0 for padding. Image tokens are never masked.
        position_ids : array (B or 1, T), integer, optional
            Where the text tokens stand; by default they count on from the text in the cache.
            Models with relative positions make no use of them.
        pixel_values : array (B', C, S, S) or (B', frames, C, S, S), floating point, optional
            The images or videos; B is a multiple of B', and text b belongs to image b modulo B'.
        head_mask : array (H,) or (layers, H), optional
            1 for heads of the text decoder that count, 0 for heads to silence.
        inputs_embeds : array (B, T, D), floating point, optional
            Word vectors in the place of `input_ids`.
        past_key_values : KeyValueCache, optional
            What has been read before, the image included; it takes up the new tokens.
        use_cache : bool, optional
            Whether to return the cache; config.use_cache by default.
        output_attentions, output_hidden_states : bool, optional
            Whether to return what lies between.
        interpolate_pos_encoding : bool
            Take images of any height and width, and stretch the positions over their patches.
        return_dict : bool, optional
            False returns a plain tuple.
        hook : callable, optional
            Called with the name and the value of every intermediate.

        Returns
        -------
        BaseModelOutputWithPast
            ``last_hidden_state`` (B, N + T, D), or (B, T, D) on top of a cache.

        Raises
        ------
        ValueError, TypeError
            An argument does not fit; the message names it, what was found and what was expected.
        """
        ops = self._trunk_operations(hook)
        cache = self._cache_for(past_key_values, use_cache, pixel_values)
        pixels = None
        if pixel_values is not None:
            pixels = self.checked_pixels(pixel_values, any_size=interpolate_pos_encoding)
        words = self._words(input_ids, inputs_embeds, ops)
        batch, length, _ = words.shape
        past_length = 0 if cache is None else cache.text_length
        text = self._positioned(words, position_ids, past_length, ops)
        mask = self._mask(attention_mask, batch, length, past_length)
        options: dict[str, Any] = {
            "head_mask": self._head_mask(head_mask),
            "ops": ops.at("encoder"),
            "keep_hidden_states": self.wanted("output_hidden_states", output_hidden_states),
            "keep_attentions": self.wanted("output_attentions", output_attentions),
        }
        n_image = 0 if pixels is None else self.count_image_tokens(pixels)
        n_images = 0 if pixels is None else pixels.shape[0]
        past = self._past_rows(batch, n_images, cache)
        checks.joint_length(past + n_image + length, self.config)
        x = text
        if pixels is not None:  # (B', N, D), (B, T, D) -> (B, N + T, D)
            x = join_image_and_text(self._image_tokens(pixels, ops), text)
        weights = self._trunk["encoder"]
        with _all_or_nothing(cache):
            if cache is not None:
                mask = cache.text_mask(mask, batch, length)
            if cache is not None and past > 0:
                out = continue_text(x, weights, self.config, cache, text_mask=mask, **options)
            else:
                options |= {"n_image": n_image, "n_images": n_images, "cache": cache}
                out = decode(x, weights, self.config, text_mask=mask, **options)
        output = BaseModelOutputWithPast(out.hidden, cache, out.hidden_states, out.attentions)
        return output if self.wanted("return_dict", return_dict) else output.to_tuple()

    def get_input_embeddings(self) -> Array:
        """Return the word embedding's weight, (V, D)."""
        return self._trunk["embeddings"]["word_embeddings"]["weight"]

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None
    ) -> Array:
        """Change the number of words; new ones start as the mean of the old ones.

        Parameters
        ----------
        new_num_tokens : int, optional
            Words from now on; the present number by default.
        pad_to_multiple_of : int, optional
            Round the number up to a multiple of this.

        Returns
        -------
        array (V', D)
            The word embedding's weight. The config's vocab_size is changed, and the head of a
            GitForCausalLM with it.

        Raises
        ------
        ValueError
            The number is not positive, or a special token's id lies beyond it.
        """
        size = self.config.vocab_size if new_num_tokens is None else new_num_tokens
        if pad_to_multiple_of is not None:
            if not is_integer(pad_to_multiple_of, 1):
                raise ValueError(
                    f"pad_to_multiple_of is {pad_to_multiple_of!r}; expected a positive integer."
                )
            size = -(-size // pad_to_multiple_of) * pad_to_multiple_of
        config = self.config.replace(vocab_size=size)
        by_word = (f"{self._root}embeddings.word_embeddings.weight", "output.weight", "output.bias")
        names = tuple(name for name in by_word if name in self.shapes(self.config))
        self._replace(config, with_vocabulary(self.state_dict(), names, size))
        return self.get_input_embeddings()

    def prune_heads(self, heads_to_prune: Mapping[int, Any]) -> None:
        """Take heads out of the text decoder for good; they cost nothing afterwards.

        Parameters
        ----------
        heads_to_prune : mapping of int to iterable of int
            Layer to heads, counted as in the unpruned model.

        Raises
        ------
        ValueError
            A layer or head does not exist, or a layer would be left without heads.
        """
        for layer, heads in checked_heads(self.config, heads_to_prune).items():
            state = without_heads(self.state_dict(), self._root, self.config, layer, heads)
            gone = {k: sorted(v) for k, v in self.config.pruned_heads.items()}
            gone[layer] = sorted(heads | self.config.pruned_heads.get(layer, set()))
            stored = {str(k): v for k, v in gone.items()}
            extra = {**self.config.extra, "pruned_heads": stored}
            self._replace(self.config.replace(extra=extra), state)

    def _replace(self, config: GitConfig, state: Mapping[str, Array]) -> None:
        """Put another config and other parameters in place; tied ones stay one array."""
        shared = {**state, **{name: state[other] for name, other in self.tied(config).items()}}
        self.config, self.parameters = config, nest(shared)

    def encode_image(
        self,
        pixel_values: Any,
        *,
        head_mask: Any = None,
        interpolate_pos_encoding: bool = False,
        hook: Hook | None = None,
    ) -> KeyValueCache:
        """Read images once, to write any number of texts below them.

        Parameters
        ----------
        pixel_values : array (B', C, S, S) or (B', frames, C, S, S), floating point
        head_mask : array (H,) or (layers, H), optional
            1 for heads of the text decoder that count, 0 for heads to silence; the same for the
            texts below.
        interpolate_pos_encoding : bool
            Take images of any height and width.
        hook : callable, optional
            Called with the name and the value of every intermediate.

        Returns
        -------
        KeyValueCache
            Holds the images; pass it as `past_key_values`.
        """
        pixels = self.checked_pixels(pixel_values, any_size=interpolate_pos_encoding)
        return self.encode_checked(pixels, head_mask=head_mask, hook=hook)

    def encode_checked(
        self, pixels: Array, *, head_mask: Any = None, hook: Hook | None = None
    ) -> KeyValueCache:
        """Do what `encode_image` does, with what `checked_pixels` returned."""
        ops = self._trunk_operations(hook)
        heads = self._head_mask(head_mask)
        cache = self.empty_cache()
        checks.joint_length(self.count_image_tokens(pixels), self.config)
        read_image(
            self._image_tokens(pixels, ops),
            self._trunk["encoder"],
            self.config,
            cache,
            head_mask=heads,
            ops=ops.at("encoder"),
        )
        return cache

    def empty_cache(self) -> KeyValueCache:
        """Return a cache that holds nothing, for a text without an image."""
        return KeyValueCache(self.config.num_hidden_layers)

    def checked_cache(self, past_key_values: Any) -> KeyValueCache:
        """Return the caller's cache, once it is found to fit the model."""
        past = past_key_values
        if not isinstance(past, KeyValueCache):
            raise TypeError(
                f"past_key_values is a {type(past).__name__}; expected the KeyValueCache that an "
                "earlier call, such as model.encode_image, returned."
            )
        if past.num_layers != self.config.num_hidden_layers:
            raise ValueError(
                f"past_key_values has {past.num_layers} layers; this model has "
                f"{self.config.num_hidden_layers}. It belongs to another model."
            )
        width = self.config.hidden_size // self.config.num_attention_heads
        wanted_heads = (self.config.heads_of(0), width)
        if past.head_shape not in (None, wanted_heads):
            raise ValueError(
                f"past_key_values has (heads, width of each) {past.head_shape}; this model has "
                f"{wanted_heads}. It belongs to another model."
            )
        return past

    def checked_text(
        self, input_ids: Any, attention_mask: Any = None, *, num_images: int = 1
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
        """Return prompts (B, T) and their mask on the host, once they are found to fit.

        B is a multiple of `num_images`; errors are those of a call.
        """
        ids = self.numbers("input_ids", input_ids)
        checks.input_ids(ids, self.config)
        checks.batches(len(ids), num_images)
        if attention_mask is None:
            return ids, None
        mask = self.numbers("attention_mask", attention_mask)
        checks.attention_mask(mask, len(ids), ids.shape[1], past=0)
        return ids, mask

    def _cache_for(
        self, past: KeyValueCache | None, use_cache: bool | None, pixel_values: Any
    ) -> KeyValueCache | None:
        """The cache of this call: the caller's, a new one, or none."""
        if past is None:
            wanted = self.config.use_cache if use_cache is None else use_cache
            return self.empty_cache() if wanted else None
        self.checked_cache(past)
        if pixel_values is not None and past.image_length + past.text_length > 0:
            raise ValueError(
                "pixel_values was given together with past_key_values that has been filled; the "
                "cache already holds what comes before the new text, so leave pixel_values out."
            )
        return past

    def checked_pixels(self, pixel_values: Any, *, any_size: bool) -> Array:
        """Return the pixels on the device, in the model's dtype, once they are found to fit.

        `any_size` allows any height and width; errors are those of a call.
        """
        pixels, host = self.floats("pixel_values", pixel_values)
        frames = self.config.num_image_with_embedding
        checks.pixel_values(host, self.config.vision_config, any_size=any_size, frames=frames)
        return self.backend.asarray(pixels, self.dtype)

    def count_image_tokens(self, pixels: Array) -> int:
        """Return N: the patches and the class token, of each frame."""
        patch = self.config.vision_config.patch_size
        height, width = pixels.shape[-2:]
        frames = pixels.shape[1] if pixels.ndim == 5 else 1
        return int(frames * ((height // patch) * (width // patch) + 1))

    def _image_tokens(self, pixels: Array, ops: Operations) -> Array:
        """Images or videos to tokens of the decoder's width: (B', N, D)."""
        vision, xp = self.config.vision_config, self.backend.xp
        videos = pixels.shape[:2] if pixels.ndim == 5 else None
        if videos is not None:  # (B', frames, C, S, S) -> (B' frames, C, S, S)
            pixels = xp.reshape(pixels, (videos[0] * videos[1], *pixels.shape[2:]))
        tokens = image_encoder(
            pixels,
            self._trunk["image_encoder"]["vision_model"],
            vision,
            interpolate=True,  # changes nothing at the learned size
            ops=ops.at("image_encoder.vision_model"),
        ).tokens
        if videos is not None:
            tokens = xp.reshape(tokens, (*videos, *tokens.shape[1:]))  # (B', frames, N, D)
            times = self._trunk["img_temperal_embedding"]  # the checkpoint's spelling
            tokens = string_frames(tokens, [times[str(i)] for i in range(len(times))])
        return visual_projection(
            tokens,
            self._trunk["visual_projection"]["visual_projection"],
            eps=vision.layer_norm_eps,
            ops=ops.at("visual_projection.visual_projection"),
        )

    def _head_mask(self, head_mask: Any) -> Array | None:
        """The head mask as (layers, H) on the device, or None where all heads count."""
        if head_mask is None:
            return None
        mask = self.numbers("head_mask", head_mask)
        if self.config.pruned_heads:
            raise ValueError(
                f"head_mask was given to a model whose heads {self.config.pruned_heads} are "
                "pruned; prune the others too, or mask the heads of the unpruned model."
            )
        checks.head_mask(mask, self.config)
        shape = (self.config.num_hidden_layers, self.config.num_attention_heads)
        return self.backend.asarray(np.broadcast_to(mask, shape).copy(), self.dtype)

    def _words(self, input_ids: Any, inputs_embeds: Any, ops: Operations) -> Array:
        """The text as word vectors (B, T, D)."""
        if (input_ids is None) == (inputs_embeds is None):
            found = "neither" if input_ids is None else "both"
            raise ValueError(
                f"{found} of input_ids and inputs_embeds given; expected exactly one of them."
            )
        if inputs_embeds is not None:
            words, host = self.floats("inputs_embeds", inputs_embeds)
            checks.inputs_embeds(host, self.config)
            return self.backend.asarray(words, self.dtype)
        ids = self.numbers("input_ids", input_ids)
        checks.input_ids(ids, self.config)
        table = self._trunk["embeddings"]["word_embeddings"]["weight"]
        words = embed(self.backend.asarray(ids, "int64"), table)
        return ops.hook("embeddings.word_embeddings", words)

    def _positioned(
        self, words: Array, position_ids: Any, past_length: int, ops: Operations
    ) -> Array:
        """Word vectors with positions, normalised; text counts from 0, the image takes none."""
        batch, length, _ = words.shape
        if position_ids is None:
            ids = np.arange(past_length, past_length + length)[None]
        else:
            ids = self.numbers("position_ids", position_ids)
        absolute = self.config.position_embedding_type == "absolute"
        if absolute:
            checks.positions(ids, (batch, length), self.config)
        return text_embedding(
            words,
            self.backend.asarray(ids, "int64") if absolute else None,
            self._trunk["embeddings"],
            eps=self.config.embedding_layer_norm_eps,
            ops=ops.at("embeddings"),
        )

    def _mask(self, attention_mask: Any, batch: int, length: int, past: int) -> Array | None:
        """The padding mask on the device, or None where nothing is padding."""
        if attention_mask is None:
            return None
        mask = self.numbers("attention_mask", attention_mask)
        checks.attention_mask(mask, batch, length, past)
        return self.backend.asarray(mask != 0, "int64")

    def _past_rows(self, batch: int, n_images: int, cache: KeyValueCache | None) -> int:
        """Tokens in the cache; its rows and the images must fit the text's."""
        if n_images:
            checks.batches(batch, n_images)
        if cache is None:
            return 0
        rows, images = cache.batch_size, cache.num_images
        if rows is not None and rows != batch:
            raise ValueError(
                f"the text has {batch} rows, past_key_values {rows}; expected equally many."
            )
        if images is not None:
            checks.batches(batch, images)
        return cache.image_length + cache.text_length


class GitForCausalLM(GitModel):
    """The whole model: image encoder, text decoder and the head that names the next word.

    Parameters
    ----------
    config : GitConfig
    seed : int
        Of the random weights; `from_pretrained` reads trained ones.
    backend, dtype, kernels
        See `from_pretrained`.
    """

    prefix = ""
    path = "git"

    @cached_property
    def generation_config(self) -> GenerationConfig:
        """What `generate` does unless told otherwise: generation_config.json's, or the config's."""
        return GenerationConfig.of(self.config)

    @classmethod
    def shapes(cls, config: GitConfig) -> Shapes:
        """Name and shape of every parameter of a model with this config."""
        return causal_lm_shapes(config)

    @classmethod
    def tied(cls, config: GitConfig) -> dict[str, str]:
        """With config.tie_word_embeddings the head's matrix is the word embedding's."""
        words = "git.embeddings.word_embeddings.weight"
        return {"output.weight": words} if config.tie_word_embeddings else {}

    @property
    def _trunk(self) -> Mapping[str, Any]:
        trunk: Mapping[str, Any] = self.parameters["git"]
        return trunk

    def _read_further(self, directory: Path) -> None:
        self.generation_config = GenerationConfig.from_pretrained(directory, self.config)

    def get_output_embeddings(self) -> Array:
        """Return the head's weight, (V, D)."""
        return self.parameters["output"]["weight"]

    def tie_weights(self) -> None:
        """Make the head's weight and the word embedding's one array, if the config says so."""
        self._replace(self.config, self.state_dict())

    def save_pretrained(self, directory: str | Path) -> None:
        """Write config.json, generation_config.json and model.safetensors."""
        super().save_pretrained(directory)
        self.generation_config.save_pretrained(directory)

    def __call__(  # type: ignore[override]  # `labels` stands where transformers has it
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        position_ids: Any = None,
        pixel_values: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        labels: Any = None,
        past_key_values: KeyValueCache | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        interpolate_pos_encoding: bool = False,
        return_dict: bool | None = None,
        *,
        hook: Hook | None = None,
    ) -> CausalLMOutputWithPast | tuple[Any, ...]:
        """Read an image and a text, and score every word as the next one.

        Parameters
        ----------
        labels : array (B, T), integer, optional
            Words to predict, -100 for those that do not count; usually a copy of `input_ids`.
            With labels no cache is returned.
        input_ids, attention_mask, position_ids, pixel_values, head_mask, inputs_embeds, \
        past_key_values, use_cache, output_attentions, output_hidden_states, \
        interpolate_pos_encoding, return_dict, hook
            See `GitModel`.

        Returns
        -------
        CausalLMOutputWithPast
            ``logits`` (B, N + T, V), or (B, T, V) on top of a cache; ``loss`` () with labels.

        Raises
        ------
        ValueError, TypeError
            An argument does not fit; the message names it, what was found and what was expected.
        """
        if labels is not None and past_key_values is not None:
            raise ValueError(
                "labels and past_key_values were given together; the loss needs the whole text "
                "in one call, so leave past_key_values out."
            )
        targets = None if labels is None else self._labels(labels, input_ids, inputs_embeds)
        with _all_or_nothing(past_key_values):
            out = super().__call__(
                input_ids,
                attention_mask,
                position_ids,
                pixel_values,
                head_mask,
                inputs_embeds,
                past_key_values,
                False if labels is not None else use_cache,
                output_attentions,
                output_hidden_states,
                interpolate_pos_encoding,
                return_dict=True,
                hook=hook,
            )
            assert isinstance(out, BaseModelOutputWithPast)
            ops = self.hooked(hook)
            logits = ops.hook(
                "output", lm_head(out.last_hidden_state, self.parameters["output"], ops=ops)
            )
        loss = None
        if targets is not None:
            n_image = logits.shape[1] - targets.shape[1]
            loss = language_model_loss(logits, targets, n_image=n_image)
        output = CausalLMOutputWithPast(
            loss, logits, out.past_key_values, out.hidden_states, out.attentions
        )
        return output if self.wanted("return_dict", return_dict) else output.to_tuple()

    def _labels(self, labels: Any, input_ids: Any, inputs_embeds: Any) -> Array:
        """The labels on the device, once they are found to fit the text."""
        name = "input_ids" if input_ids is not None else "inputs_embeds"
        text = input_ids if input_ids is not None else inputs_embeds
        ids = self.numbers("labels", labels)
        shape: tuple[int, ...] = () if text is None else self.numbers(name, text).shape
        checks.labels(ids, (shape[0], shape[1]) if len(shape) > 1 else ids.shape, self.config)
        return self.backend.asarray(ids, "int64")

    def next_token_logits(
        self,
        input_ids: Array,
        cache: KeyValueCache,
        *,
        attention_mask: Any = None,
        position_ids: Any = None,
        head_mask: Any = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        hook: Hook | None = None,
    ) -> CausalLMOutputWithPast:
        """Score the word after each text: the step of generation.

        Parameters
        ----------
        input_ids : array (B, T), integer
            Tokens the cache has not seen.
        cache : KeyValueCache
            From `encode_image` or empty; it takes up the new tokens.
        attention_mask : array (B, T) or (B, past + T), optional
            1 for text, 0 for padding.
        position_ids, head_mask, output_attentions, output_hidden_states, hook
            See `GitModel`.

        Returns
        -------
        CausalLMOutputWithPast
            ``logits`` (B, V): the head runs on the last position alone.
        """
        out = super().__call__(
            input_ids,
            attention_mask,
            position_ids,
            head_mask=head_mask,
            past_key_values=cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
            hook=hook,
        )
        assert isinstance(out, BaseModelOutputWithPast)
        ops = self.hooked(hook)
        last = out.last_hidden_state[:, -1, :]  # (B, T, D) -> (B, D)
        logits = ops.hook("output", lm_head(last, self.parameters["output"], ops=ops))
        return CausalLMOutputWithPast(
            None, logits, out.past_key_values, out.hidden_states, out.attentions
        )

    def generate(
        self,
        pixel_values: Any = None,
        input_ids: Any = None,
        **options: Any,
    ) -> Any:
        """Write texts below images; see `refgit.generation.api` for the options."""
        return generate(self, pixel_values, input_ids, **options)

    def stream(
        self, pixel_values: Any = None, input_ids: Any = None, **options: Any
    ) -> Iterator[Word]:
        """Write texts below images and show each word as it comes; see `generation.stream`."""
        return stream(self, pixel_values, input_ids, **options)

    def classify(
        self, pixel_values: Any = None, labels: Any = (), prompt: Any = None, **options: Any
    ) -> Classification:
        """Rank labels by their probability as the text below images; see `generation.classify`."""
        return classify(self, pixel_values, labels, prompt, **options)

    def compute_transition_scores(
        self,
        sequences: Any,
        scores: Sequence[Any],
        beam_indices: Any = None,
        normalize_logits: bool = False,
    ) -> Array:
        """Pick each generated word's score; see `generation.transition_scores`."""
        found = transition_scores(
            sequences, scores, beam_indices, normalize_logits=normalize_logits
        )
        return self.backend.asarray(found)


def _all_or_nothing(cache: KeyValueCache | None) -> AbstractContextManager[None]:
    """A call that fails leaves the caller's cache as it was."""
    return cache.all_or_nothing() if isinstance(cache, KeyValueCache) else nullcontext()
