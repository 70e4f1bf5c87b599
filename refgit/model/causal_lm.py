"""GitForCausalLM: the whole model, which writes texts below images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from refgit.generation import streaming
from refgit.generation.api import generate
from refgit.generation.classification import ranking
from refgit.generation.config import GenerationConfig
from refgit.generation.results import transition_scores
from refgit.layers._array_api import Array
from refgit.layers._operations import Hook
from refgit.layers.lm_head import lm_head
from refgit.layers.loss import language_model_loss
from refgit.model.arguments import Arguments
from refgit.model.base import PretrainedModel, State, announced
from refgit.model.cache import KeyValueCache
from refgit.model.config import GitConfig
from refgit.model.git import GitModel, all_or_nothing
from refgit.model.outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from refgit.model.parameters import causal_lm_shapes, nest

P = ParamSpec("P")
R = TypeVar("R")


def _of_git(
    method: Callable[Concatenate[GitModel, P], R],
) -> Callable[Concatenate[GitForCausalLM, P], R]:
    """Make a method that asks the model's GitModel."""

    @wraps(method)
    def call(self: GitForCausalLM, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return method(self.git, *args, **kwargs)

    return call


class GitForCausalLM(PretrainedModel[GitConfig]):
    """The whole model: a GitModel and the head that scores every token as the next one.

    Parameters
    ----------
    config : GitConfig
    seed, backend, dtype, kernels
        See `GitModel`.

    Attributes
    ----------
    git : GitModel
        Image encoder and text decoder of this model, with its parameters and hooks.
    """

    config_class = GitConfig
    prefix = ""
    shapes = staticmethod(causal_lm_shapes)
    git: GitModel

    def _attach(self, state: State, root: str = "") -> None:
        super()._attach(state, root)
        self.git = GitModel._part(self, "git")

    @cached_property
    def generation_config(self) -> GenerationConfig:
        """What `generate` does unless told otherwise: generation_config.json's, or the config's."""
        return GenerationConfig.of(self.config)

    @classmethod
    def tied(cls, config: GitConfig) -> dict[str, str]:
        """With config.tie_word_embeddings the head's matrix is the word embedding's."""
        words = "git.embeddings.word_embeddings.weight"
        return {"output.weight": words} if config.tie_word_embeddings else {}

    def _read_further(self, directory: Path) -> None:
        self.generation_config = GenerationConfig.from_pretrained(directory, self.config)

    def get_output_embeddings(self) -> Array:
        """Return the head's weight, (V, D)."""
        return self.parameters["output"]["weight"]

    def tie_weights(self) -> None:
        """Make the head's weight and the word embedding's one array, if the config says so."""
        if self.config.tie_word_embeddings:
            tied = {"output.weight": self.get_input_embeddings()}
            self.parameters = nest({**self.state_dict(), **tied})

    get_input_embeddings = _of_git(GitModel.get_input_embeddings)
    resize_token_embeddings = _of_git(GitModel.resize_token_embeddings)
    prune_heads = _of_git(GitModel.prune_heads)
    encode_image = _of_git(GitModel.encode_image)
    encode_checked = _of_git(GitModel.encode_checked)
    empty_cache = _of_git(GitModel.empty_cache)
    checked_cache = _of_git(GitModel.checked_cache)
    checked_text = _of_git(GitModel.checked_text)
    checked_pixels = _of_git(GitModel.checked_pixels)
    count_image_tokens = _of_git(GitModel.count_image_tokens)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write config.json, generation_config.json and model.safetensors."""
        super().save_pretrained(directory)
        self.generation_config.save_pretrained(directory)

    @announced
    def __call__(
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
        """Read an image and a text, and score every token as the next one.

        Parameters
        ----------
        labels : array (B, T), integer, optional
            Tokens to predict, -100 for those that do not count; usually a copy of `input_ids`.
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
        targets = None
        if labels is not None:
            read = Arguments(self.config, self.backend, self.dtype)
            targets = read.labels(labels, input_ids, inputs_embeds)
        with all_or_nothing(past_key_values):
            out = self.git(
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
            logits = self._scores(out.last_hidden_state, hook)
        loss = None
        if targets is not None:
            n_image = logits.shape[1] - targets.shape[1]
            loss = language_model_loss(logits, targets, n_image=n_image)
        output = CausalLMOutputWithPast(
            loss, logits, out.past_key_values, out.hidden_states, out.attentions
        )
        return output if self._option("return_dict", return_dict) else output.to_tuple()

    @announced
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
        """Score the token after each text: the step of generation.

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
            ``logits`` (B, V): the head runs on the last position only.
        """
        out = self.git(
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
        logits = self._scores(out.last_hidden_state[:, -1, :], hook)  # (B, T, D) -> (B, V)
        return CausalLMOutputWithPast(
            None, logits, out.past_key_values, out.hidden_states, out.attentions
        )

    def _scores(self, x: Array, hook: Hook | None) -> Array:
        """The head: hidden states (..., D) -> logits (..., V)."""
        ops = self._operations(hook)
        return ops.hook("output", lm_head(x, self.parameters["output"], ops=ops))

    def generate(self, pixel_values: Any = None, input_ids: Any = None, **options: Any) -> Any:
        """Write texts below images; see `refgit.generation.api` for the options."""
        return generate(self, pixel_values, input_ids, **options)

    stream = streaming.stream
    classify = ranking.classify

    def compute_transition_scores(
        self,
        sequences: Any,
        scores: Sequence[Any],
        beam_indices: Any = None,
        normalize_logits: bool = False,
    ) -> Array:
        """Pick each generated token's score; see `generation.results.transition_scores`."""
        found = transition_scores(
            sequences, scores, beam_indices, normalize_logits=normalize_logits
        )
        return self.backend.asarray(found)
