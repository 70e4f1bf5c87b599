"""GitModel: image encoder and text decoder.

It holds configuration, parameters and backend; the mathematics is in vision.py, decoder.py and
layers/. Arguments and returns are as in transformers 4.56's class of the same name, with arrays in
the place of tensors. For the letters of shapes see refgit.layers; B texts, B' images.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from refgit.layers._array_api import Array
from refgit.layers._operations import Hook, Operations
from refgit.layers.embedding import embed, text_embedding
from refgit.layers.sequence import add_temporal_embedding, join_image_and_text
from refgit.model.arguments import Arguments, check_batches
from refgit.model.base import PretrainedModel, State, announced
from refgit.model.cache import KeyValueCache
from refgit.model.config import GitConfig
from refgit.model.decoder import Options, continue_text, decode, read_image
from refgit.model.outputs import BaseModelOutputWithPast
from refgit.model.parameters import flatten, model_shapes, nest
from refgit.model.surgery import checked_heads, with_vocabulary, without_heads
from refgit.model.vision import GitVisionModel, image_encoder, visual_projection
from refgit.validation import expect, is_integer


class GitModel(PretrainedModel[GitConfig]):
    """Image encoder and text decoder, without the language-modelling head.

    Parameters
    ----------
    config : GitConfig
    seed : int
        Of the random weights; `from_pretrained` reads trained ones.
    backend, dtype, kernels
        See `from_pretrained`.

    Attributes
    ----------
    image_encoder : GitVisionModel
        The image encoder of this model, with its parameters and hooks.
    """

    config_class = GitConfig
    prefix = "git."
    shapes = staticmethod(model_shapes)
    image_encoder: GitVisionModel

    def _attach(self, state: State, root: str = "") -> None:
        super()._attach(state, root)
        self.image_encoder = GitVisionModel._part(self, "image_encoder")

    @property
    def _arguments(self) -> Arguments:
        return Arguments(self.config, self._state.backend, self._state.dtype)

    @announced
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
            Positions of the text tokens; by default they count on from the text in the cache.
            Models with relative positions do not use them.
        pixel_values : array (B', C, S, S) or (B', frames, C, S, S), floating point, optional
            The images or videos; B is a multiple of B', and text b belongs to image b modulo B'.
        head_mask : array (H,) or (layers, H), optional
            1 for heads of the text decoder that count, 0 for heads to silence.
        inputs_embeds : array (B, T, D), floating point, optional
            Embeddings in the place of `input_ids`.
        past_key_values : KeyValueCache, optional
            What has been read before, the image included; the new tokens are added to it.
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
        read = self._arguments
        cache = read.cache(past_key_values, use_cache, pixel_values)
        pixels = None
        if pixel_values is not None:
            pixels = read.pixel_values(pixel_values, any_size=interpolate_pos_encoding)
        text = read.text(input_ids, inputs_embeds)  # (B, T) or (B, T, D)
        batch, length = text.shape[:2]
        past_text = 0 if cache is None else cache.text_length
        positions = read.position_ids(position_ids, batch, length, past_text)
        mask = read.attention_mask(attention_mask, batch, length, past_text)
        heads = read.head_mask(head_mask)
        n_image = 0 if pixels is None else self.count_image_tokens(pixels)
        n_images = 0 if pixels is None else pixels.shape[0]
        past = read.num_past(batch, n_images, cache)
        read.joint_length(past + n_image + length)

        ops = self._operations(hook)
        image = None if pixels is None else self._image_tokens(pixels, ops)  # (B', N, D)
        x = self._embedded(text, positions, ops, is_ids=input_ids is not None)  # (B, T, D)
        if image is not None:
            x = join_image_and_text(image, x)  # (B, N + T, D)
        padding = None if mask is None else self.backend.asarray(mask != 0, "int64")
        weights = self.parameters["encoder"]
        options: Options = {
            "head_mask": heads,
            "ops": ops.at("encoder"),
            "keep_hidden_states": self._option("output_hidden_states", output_hidden_states),
            "keep_attentions": self._option("output_attentions", output_attentions),
        }
        with all_or_nothing(cache):
            if cache is not None:
                padding = cache.text_mask(padding, batch, length)
            if cache is not None and past > 0:
                out = continue_text(x, weights, self.config, cache, text_mask=padding, **options)
            else:
                sizes = {"n_image": n_image, "n_images": n_images}
                out = decode(
                    x, weights, self.config, **sizes, text_mask=padding, cache=cache, **options
                )
        output = BaseModelOutputWithPast(
            out.last_hidden_state, cache, out.hidden_states, out.attentions
        )
        return output if self._option("return_dict", return_dict) else output.to_tuple()

    def get_input_embeddings(self) -> Array:
        """Return the word embedding's weight, (V, D)."""
        return self.parameters["embeddings"]["word_embeddings"]["weight"]

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None
    ) -> Array:
        """Change the size of the vocabulary; new tokens start as the mean of the old ones.

        Parameters
        ----------
        new_num_tokens : int, optional
            Tokens from now on; the present number by default.
        pad_to_multiple_of : int, optional
            Round the number up to a multiple of this.

        Returns
        -------
        array (V', D)
            The word embedding's weight. The config's vocab_size is changed, and the head of the
            GitForCausalLM that this model is a part of.

        Raises
        ------
        ValueError
            The number is not positive, or a special token's id lies beyond it.
        """
        size = self.config.vocab_size if new_num_tokens is None else new_num_tokens
        if pad_to_multiple_of is not None:
            positive = is_integer(pad_to_multiple_of, 1)
            expect("pad_to_multiple_of", pad_to_multiple_of, positive, "a positive integer")
            size = -(-size // pad_to_multiple_of) * pad_to_multiple_of
        config, state = self.config.replace(vocab_size=size), dict(flatten(self._state.parameters))
        words = f"{self._root}embeddings.word_embeddings.weight"
        names = [name for name in (words, "output.weight", "output.bias") if name in state]
        self.config, self._state.parameters = config, nest(with_vocabulary(state, names, size))
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
            whole = dict(flatten(self._state.parameters))
            state = without_heads(whole, self._root, self.config, layer, heads)
            gone = self.config.pruned_heads
            gone[layer] = gone.get(layer, set()) | heads
            stored = {str(k): sorted(v) for k, v in gone.items()}
            extra = {**self.config.extra, "pruned_heads": stored}
            self.config, self._state.parameters = self.config.replace(extra=extra), nest(state)

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
        interpolate_pos_encoding, hook
            See `GitModel`.

        Returns
        -------
        KeyValueCache
            Holds the images; pass it as `past_key_values`.
        """
        pixels = self.checked_pixels(pixel_values, any_size=interpolate_pos_encoding)
        return self.encode_checked(pixels, head_mask=head_mask, hook=hook)

    @announced
    def encode_checked(
        self, pixel_values: Array, *, head_mask: Any = None, hook: Hook | None = None
    ) -> KeyValueCache:
        """Do what `encode_image` does, with what `checked_pixels` returned."""
        read, ops, cache = self._arguments, self._operations(hook), self.empty_cache()
        heads = read.head_mask(head_mask)
        read.joint_length(self.count_image_tokens(pixel_values))
        read_image(
            self._image_tokens(pixel_values, ops),
            self.parameters["encoder"],
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
        return self._arguments.past_key_values(past_key_values)

    def checked_text(
        self, input_ids: Any, attention_mask: Any = None, *, num_images: int = 1
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
        """Return prompts (B, T) and their mask on the host, once they are found to fit.

        B is a multiple of `num_images`; errors are as for a call.
        """
        ids = self._arguments.input_ids(input_ids)
        check_batches(len(ids), num_images)
        return ids, self._arguments.attention_mask(attention_mask, *ids.shape)

    def checked_pixels(self, pixel_values: Any, *, any_size: bool) -> Array:
        """Return the pixels on the device, in the model's dtype, once they are found to fit.

        `any_size` allows any height and width; errors are as for a call.
        """
        return self._arguments.pixel_values(pixel_values, any_size=any_size)

    def count_image_tokens(self, pixels: Array) -> int:
        """Return N: the patches and the class token, of each frame."""
        frames = pixels.shape[1] if pixels.ndim == 5 else 1
        return self.config.num_image_tokens(*pixels.shape[-2:], frames=frames)

    def _image_tokens(self, pixels: Array, ops: Operations) -> Array:
        """Images or videos to tokens of the decoder's width: (B', N, D)."""
        vision, xp = self.config.vision_config, self.backend.xp
        videos = pixels.shape[:2] if pixels.ndim == 5 else None
        if videos is not None:  # (B', frames, C, S, S) -> (B' frames, C, S, S)
            pixels = xp.reshape(pixels, (videos[0] * videos[1], *pixels.shape[2:]))
        tokens = image_encoder(
            pixels,
            self.parameters["image_encoder"]["vision_model"],
            vision,
            interpolate=True,  # changes nothing at the learned size
            ops=ops.at("image_encoder.vision_model"),
        ).last_hidden_state
        if videos is not None:
            tokens = xp.reshape(tokens, (*videos, *tokens.shape[1:]))  # (B', frames, N, D)
            times = self.parameters["img_temperal_embedding"]  # the checkpoint's spelling
            tokens = add_temporal_embedding(tokens, [times[str(i)] for i in range(len(times))])
        return visual_projection(
            tokens,
            self.parameters["visual_projection"]["visual_projection"],
            eps=vision.layer_norm_eps,
            ops=ops.at("visual_projection.visual_projection"),
        )

    def _embedded(
        self, text: Array, positions: Array | None, ops: Operations, *, is_ids: bool
    ) -> Array:
        """Ids (B, T) or embeddings (B, T, D) with positions, normalised: (B, T, D)."""
        p = self.parameters["embeddings"]
        if is_ids:
            text = embed(text, p["word_embeddings"]["weight"])
            text = ops.hook("embeddings.word_embeddings", text)
        eps = self.config.embedding_layer_norm_eps
        return text_embedding(text, positions, p, eps=eps, ops=ops.at("embeddings"))


def all_or_nothing(cache: KeyValueCache | None) -> AbstractContextManager[None]:
    """A call that fails leaves the caller's cache as it was."""
    return cache.all_or_nothing() if isinstance(cache, KeyValueCache) else nullcontext()
