"""What a forward pass, one call of a model, returns. Letters of shapes: see refgit.layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from refgit.layers._array_api import Array
from refgit.model.cache import KeyValueCache
from refgit.outputs import ModelOutput


@dataclass
class BaseModelOutput(ModelOutput):
    """Of GitVisionModel, and of each of the two towers.

    Attributes
    ----------
    last_hidden_state : array (B, N, D)
        After the last layer; of the image encoder, after the layer norm behind it.
    hidden_states : tuple of arrays (B, N, D), or None
        Before each layer and after the last, one more than there are layers; without that norm.
    attentions : tuple of arrays (B, H, N, N), or None
        Each layer's probabilities.
    """

    last_hidden_state: Array
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None


def run_layers(
    x: Array,
    layers: Iterable[Callable[[Array], tuple[Array, Array | None]]],
    *,
    keep_hidden_states: bool = False,
    keep_attentions: bool = False,
) -> BaseModelOutput:
    """Run a stack of layers, each of which returns hidden states and probabilities."""
    states, attentions = [x], []
    for layer in layers:
        x, probabilities = layer(x)
        if keep_hidden_states:
            states.append(x)
        if keep_attentions:
            attentions.append(probabilities)
    return BaseModelOutput(
        x,
        tuple(states) if keep_hidden_states else None,
        tuple(attentions) if keep_attentions else None,
    )


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
    """Of GitForCausalLM; the fields after `logits` are as in BaseModelOutputWithPast.

    Attributes
    ----------
    loss : array (), or None
        Mean cross-entropy of the next token where `labels` were given.
    logits : array (B, Q, V)
        Score of each token of the vocabulary as the next one, at every token, image tokens
        included; their softmax is the probabilities.
    past_key_values, hidden_states, attentions
        See `BaseModelOutputWithPast`.
    """

    loss: Array | None = None
    logits: Array = None
    past_key_values: KeyValueCache | None = None
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None
