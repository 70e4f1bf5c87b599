"""What a search needs of a model: a protocol, so that generation imports nothing of refgit.model.

`GitForCausalLM` and `KeyValueCache` of refgit.model fulfil it. The letters of shapes are those of
refgit.layers; B' counts images, R rows.
"""

from __future__ import annotations

from typing import Any, Protocol, Self

import numpy as np

from refgit.generation.config import GenerationConfig, ModelIds
from refgit.layers._array_api import Array
from refgit_backends import Backend


class DecoderConfig(ModelIds, Protocol):
    """The settings of a model that a search asks for."""

    @property
    def vocab_size(self) -> int:
        """Words of the vocabulary, V."""

    @property
    def position_embedding_type(self) -> str:
        """Where positions come from; "absolute": those of the text only."""

    def text_room(self, num_image_tokens: int) -> int:
        """Text tokens that the model has positions for, below so many image tokens."""


class Cache(Protocol):
    """Keys and values of images and of the text rows below them."""

    @property
    def image_length(self) -> int:
        """Image tokens N, 0 without an image."""

    @property
    def text_length(self) -> int:
        """Text tokens T."""

    @property
    def num_images(self) -> int | None:
        """Images B', None without an image."""

    def fork(self) -> Self:
        """Return a cache that goes on from here by itself, the images shared."""

    def select(self, rows: Array) -> None:
        """Go on with these text rows, in this order."""

    def select_images(self, images: Array) -> None:
        """Keep some of the images."""


class StepOutput(Protocol):
    """What one step of the decoder returns."""

    @property
    def logits(self) -> Array:
        """Scores of the next token, (R, V)."""

    @property
    def attentions(self) -> tuple[Array, ...] | None:
        """Each layer's probabilities (R, H, Q, K), where asked for."""

    @property
    def hidden_states(self) -> tuple[Array, ...] | None:
        """Before each layer and after the last, (R, Q, D), where asked for."""


class CaptionModel(Protocol):
    """A model that scores the next token of texts below images."""

    @property
    def config(self) -> DecoderConfig:
        """The model's settings."""

    @property
    def generation_config(self) -> GenerationConfig:
        """What `generate` does unless told otherwise."""

    @property
    def backend(self) -> Backend:
        """Where the model's arrays are."""

    def checked_pixels(self, pixel_values: Any, *, any_size: bool) -> Array:
        """Return the pixels on the backend, or refuse them."""

    def count_image_tokens(self, pixels: Array) -> int:
        """Return N, the tokens of an image or video."""

    def encode_checked(self, pixel_values: Array, *, head_mask: Any = None) -> Cache:
        """Read images: a cache that holds them and no text."""

    def empty_cache(self) -> Cache:
        """Return a cache that holds nothing."""

    def checked_cache(self, past_key_values: Any) -> Cache:
        """Return the caller's cache, or refuse one of another kind or model."""

    def checked_text(
        self, input_ids: Any, attention_mask: Any = None, *, num_images: int = 1
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
        """Return ids (B, T) and their mask (B, T) on the host, or refuse them."""

    def numbers(self, name: str, x: Any) -> np.ndarray[Any, Any]:
        """Return an argument on the host."""

    def __call__(self, input_ids: Any, *, use_cache: bool, return_dict: bool) -> Any:
        """Read texts without an image."""

    def next_token_logits(
        self,
        input_ids: Array,
        cache: Any,
        *,
        attention_mask: Any = None,
        position_ids: Any = None,
        head_mask: Any = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
    ) -> StepOutput:
        """Score the token after each row, reading only tokens that the cache has not seen."""
