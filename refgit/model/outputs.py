"""What a forward pass, one call of a model, returns. Letters of shapes: see refgit.layers.

Plain dataclasses that also index, iterate and unpack as transformers' outputs do: fields that
are None are left out of the order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from refgit.layers._array_api import Array

if TYPE_CHECKING:
    from refgit.model.cache import KeyValueCache


@dataclass
class ModelOutput:
    """Base of the outputs: index by position or by field name, iterate, unpack."""

    def to_tuple(self) -> tuple[Any, ...]:
        """Return the fields that are not None, in order."""
        return tuple(value for _, value in self.items())

    def items(self) -> Iterator[tuple[str, Any]]:
        """Yield (field name, value) of the fields that are not None, in order."""
        for f in fields(self):
            value = getattr(self, f.name)
            if value is not None:
                yield f.name, value

    def keys(self) -> list[str]:
        """Return the names of the fields that are not None, in order."""
        return [name for name, _ in self.items()]

    def __getitem__(self, key: int | slice | str) -> Any:
        if isinstance(key, str):
            return dict(self.items())[key]
        return self.to_tuple()[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.to_tuple())

    def __len__(self) -> int:
        return len(self.to_tuple())

    def __contains__(self, key: object) -> bool:
        return key in self.keys()


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
