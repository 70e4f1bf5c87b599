"""What a forward pass, one call of a model, returns. Letters of shapes: see refgit.layers."""

from __future__ import annotations

from dataclasses import dataclass

from refgit.layers._array_api import Array
from refgit.model.cache import KeyValueCache
from refgit.outputs import ModelOutput


@dataclass
class BaseModelOutput(ModelOutput):
    """Of GitVisionModel.

    Attributes
    ----------
    last_hidden_state : array (B, N, D)
        After the layer norm behind the layers (`post_layernorm`).
    hidden_states : tuple of arrays (B, N, D), or None
        Before each layer and after the last, one more than there are layers; without that norm.
    attentions : tuple of arrays (B, H, N, N), or None
        Each layer's probabilities.
    """

    last_hidden_state: Array
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None


@dataclass
class BaseModelOutputWithPast(ModelOutput):
    """Of GitModel.

    Attributes
    ----------
    last_hidden_state : array (B, Q, D)
        Q is N + T, or T where a cache holds what came before.
    past_key_values : KeyValueCache or None
        Keys and values of everything up to here.
    hidden_states : tuple of arrays (B, Q, D), or None
        Before each layer and after the last.
    attentions : tuple of arrays (B, H, Q, K), or None
        Each layer's probabilities.
    """

    last_hidden_state: Array
    past_key_values: KeyValueCache | None = None
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None


@dataclass
class CausalLMOutputWithPast(ModelOutput):
    """Of GitForCausalLM; the fields after `logits` are those of BaseModelOutputWithPast.

    Attributes
    ----------
    loss : array (), or None
        Mean cross-entropy of the next word where `labels` were given.
    logits : array (B, Q, V)
        Score of each word as the next one, at every token, image tokens included; their softmax
        is the probabilities.
    past_key_values, hidden_states, attentions
        See `BaseModelOutputWithPast`.
    """

    loss: Array | None = None
    logits: Array = None
    past_key_values: KeyValueCache | None = None
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None
