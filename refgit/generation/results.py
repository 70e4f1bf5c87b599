"""What `generate` returns where more than the ids is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from refgit.generation.protocol import Cache
from refgit.layers._array_api import Array
from refgit.outputs import ModelOutput

# For each step a value for each layer.
PerStep = tuple[tuple[Array, ...], ...]


@dataclass
class GenerateDecoderOnlyOutput(ModelOutput):
    """Of greedy search, sampling and contrastive search. All arrays lie on the model's backend.

    Attributes
    ----------
    sequences : array (R, length), int64
        R texts: prompt, words, and ``pad_token_id`` after the end.
    scores : tuple of arrays (R, V), or None
        For each step the scores of the next word after the logits processors. A text that has
        ended goes on with the padding token for certain: 0 there and minus infinity elsewhere.
    logits : tuple of arrays (R, V), or None
        As the model gave them; likewise.
    attentions : tuple of tuples of arrays (R, H, Q, K), or None
        For each step and layer the probabilities with which the text tokens read in it look at
        the image and at the text so far; Q is 1 after the prompt. Zero where a text has ended.
    hidden_states : tuple of tuples of arrays (R, Q, D), or None
        For each step what the text tokens read in it become, before each layer and after the last.
    past_key_values : KeyValueCache
        The images, for further texts below them.
    """

    sequences: Array
    scores: tuple[Array, ...] | None = None
    logits: tuple[Array, ...] | None = None
    attentions: PerStep | None = None
    hidden_states: PerStep | None = None
    past_key_values: Cache | None = None


@dataclass
class GenerateBeamDecoderOnlyOutput(ModelOutput):
    """Of the beam searches; R is the number of texts returned, B k that of beams.

    Attributes
    ----------
    sequences : array (R, length), int64
    sequences_scores : array (R,), or None
        Log-probability of each text over its length to the power of `length_penalty`.
    scores : tuple of arrays (B k, V), or None
        For each step and beam the log-probabilities of the next word after the logits processors.
    logits : tuple of arrays (B k, V), or None
        As the model gave them.
    beam_indices : array (R, words), int64, or None
        Which beam, a row of `scores`, each word was chosen in; -1 after the end.
    attentions, hidden_states
        See `GenerateDecoderOnlyOutput`, a row a beam.
    past_key_values : KeyValueCache
        The images, for further texts below them.
    """

    sequences: Array
    sequences_scores: Array | None = None
    scores: tuple[Array, ...] | None = None
    logits: tuple[Array, ...] | None = None
    beam_indices: Array | None = None
    attentions: PerStep | None = None
    hidden_states: PerStep | None = None
    past_key_values: Cache | None = None
