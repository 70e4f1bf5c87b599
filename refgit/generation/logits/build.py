"""Which logits processors a call needs, and in which order."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from refgit.generation.config import GenerationConfig
from refgit.generation.logits import distribution, length, repetition, sampling, token
from refgit.generation.logits.scores import Ids, Scores
from refgit.generation.stopping import name_of, with_users_own

Processor = Callable[..., Any]


class _Prompt(NamedTuple):
    """What processors know of the prompts beside the config; see `build_processors`."""

    ids: Ids
    allowed: token.AllowedTokens | None
    unconditional: Callable[[Ids], Scores] | None

    @property
    def length(self) -> int:
        return int(self.ids.shape[1])


def _guidance(c: GenerationConfig, prompt: _Prompt) -> Processor:
    if prompt.unconditional is None:
        raise ValueError(
            f"guidance_scale is {c.guidance_scale}, and there are no scores without the image; "
            "expected the argument unconditional."
        )
    return distribution.ClassifierFreeGuidance(
        c.guidance_scale or 0.0, prompt.unconditional, prompt.length
    )


def _decay(c: GenerationConfig, prompt: _Prompt) -> Processor:
    decay, ends = c.exponential_decay_length_penalty or (), c.eos_token_id
    if ends is None:
        raise ValueError(
            f"exponential_decay_length_penalty is {decay} and eos_token_id None; expected a token "
            "that ends a text."
        )
    return length.ExponentialDecayLengthPenalty(decay, ends, prompt.length)


def _begin(c: GenerationConfig, prompt: _Prompt) -> Processor:
    forced = prompt.length <= 1 and c.forced_bos_token_id is not None
    return token.SuppressTokensAtBegin(c.begin_suppress_tokens or (), prompt.length + forced)


# Of a config c and a prompt p: whether a processor is asked for, and how it is made. In the order
# of transformers 4.56.2.
_PROCESSORS: tuple[tuple[Any, Any], ...] = (
    (lambda c, p: c.guidance_scale not in (None, 1), _guidance),
    (lambda c, p: c.no_immediate_repeat, lambda c, p: repetition.NoImmediateRepeat(p.length)),
    (lambda c, p: c.sequence_bias is not None, lambda c, p: token.SequenceBias(c.sequence_bias)),
    (lambda c, p: c.diversity_penalty,
     lambda c, p: repetition.HammingDiversity(c.diversity_penalty, c.num_beams, c.num_beam_groups)),
    (lambda c, p: c.encoder_repetition_penalty not in (None, 1),
     lambda c, p: repetition.PromptRepetitionPenalty(c.encoder_repetition_penalty, p.ids)),
    (lambda c, p: c.repetition_penalty not in (None, 1),
     lambda c, p: repetition.RepetitionPenalty(c.repetition_penalty)),
    (lambda c, p: c.no_repeat_ngram_size,
     lambda c, p: repetition.NoRepeatNGram(c.no_repeat_ngram_size)),
    (lambda c, p: c.encoder_no_repeat_ngram_size,
     lambda c, p: repetition.PromptNoRepeatNGram(c.encoder_no_repeat_ngram_size, p.ids)),
    (lambda c, p: c.bad_words_ids is not None,
     lambda c, p: token.NoBadWords(c.bad_words_ids, c.eos_token_id)),
    (lambda c, p: c.eos_token_id is not None and c.min_length > 0,
     lambda c, p: length.MinLength(c.min_length, c.eos_token_id)),
    (lambda c, p: c.eos_token_id is not None and c.min_new_tokens,
     lambda c, p: length.MinNewTokens(p.length, c.min_new_tokens, c.eos_token_id)),
    (lambda c, p: p.allowed is not None,
     lambda c, p: token.PrefixConstrained(p.allowed, c.num_beams // c.num_beam_groups)),
    (lambda c, p: c.forced_bos_token_id is not None,
     lambda c, p: length.ForcedBos(c.forced_bos_token_id)),
    (lambda c, p: c.forced_eos_token_id is not None,
     lambda c, p: length.ForcedEos(c.max_length, c.forced_eos_token_id)),
    (lambda c, p: c.remove_invalid_values, lambda c, p: distribution.InfNanRemove()),
    (lambda c, p: c.exponential_decay_length_penalty is not None, _decay),
    (lambda c, p: c.suppress_tokens is not None,
     lambda c, p: token.SuppressTokens(c.suppress_tokens)),
    (lambda c, p: c.begin_suppress_tokens is not None, _begin),
)  # fmt: skip
# Likewise of what sampling draws from: temperature first, the cutoffs last; `kept` tokens stay.
_WARPERS: tuple[tuple[Any, Any], ...] = (
    (lambda c: c.temperature not in (None, 1), lambda c, kept: sampling.Temperature(c.temperature)),
    (lambda c: c.top_k, lambda c, kept: sampling.TopK(c.top_k, kept)),
    (lambda c: c.top_p is not None and c.top_p < 1, lambda c, kept: sampling.TopP(c.top_p, kept)),
    (lambda c: c.min_p is not None, lambda c, kept: sampling.MinP(c.min_p, kept)),
    (lambda c: c.typical_p is not None and c.typical_p < 1,
     lambda c, kept: sampling.Typical(c.typical_p, kept)),
    (lambda c: c.epsilon_cutoff, lambda c, kept: sampling.EpsilonCutoff(c.epsilon_cutoff, kept)),
    (lambda c: c.eta_cutoff, lambda c, kept: sampling.EtaCutoff(c.eta_cutoff, kept)),
)  # fmt: skip


def build_processors(
    config: GenerationConfig,
    *,
    prompt_ids: Ids,
    vocab_size: int,
    prefix_allowed_tokens_fn: token.AllowedTokens | None = None,
    unconditional: Callable[[Ids], Scores] | None = None,
    user: Iterable[Processor] = (),
) -> list[Processor]:
    """Make the processors that a config asks for, and add the caller's.

    Parameters
    ----------
    config : GenerationConfig
        Of this call, `max_length` and `min_length` as they hold for this prompt.
    prompt_ids : array (B, T0), int64
        The prompts, once for each image; T0 is their length.
    vocab_size : int
        V.
    prefix_allowed_tokens_fn : callable, optional
        ``(image, ids so far (T,)) -> token ids`` that may follow, for the images of `prompt_ids`.
    unconditional : callable, optional
        ``(ids) -> scores (B, V)`` without the image; needed where `config.guidance_scale` is not
        1. The ids are those so far, from the last one of the prompt on.
    user : iterable of callables
        ``processor(input_ids, scores) -> scores`` of the caller; they run after the config's and
        before the warpers. One of a type that the config asks for too takes its place.

    Returns
    -------
    list of callables
        To be run by `process`.

    Raises
    ------
    ValueError
        A token id is outside the vocabulary, or something is missing that an argument needs.
    """
    _check_tokens(config, vocab_size)
    prompt = _Prompt(prompt_ids, prefix_allowed_tokens_fn, unconditional)
    made = [make(config, prompt) for asked, make in _PROCESSORS if asked(config, prompt)]
    processors = with_users_own(made, user)
    if config.do_sample:
        # several beams need a token besides the end tokens, with which to go on
        kept = (len(config.eos_ids) or 1) + 1 if config.num_beams > 1 else 1
        processors += [make(config, kept) for asked, make in _WARPERS if asked(config)]
    if config.renormalize_logits:
        processors.append(distribution.LogitNormalization())
    return processors


def process(
    processors: Iterable[Processor], input_ids: Ids, scores: Scores, **options: Any
) -> Scores:
    """Run processors one after the other: scores (B, V) -> (B, V).

    `options` (`current_tokens`, `beam_group_idx` of a search by groups) go to the processors that
    take more than ids and scores.

    Raises
    ------
    ValueError
        A processor needs an option that this search does not have, or returned no (B, V).
    """
    for processor in processors:
        wanted = _options_of(processor, options)
        found = np.asarray(processor(input_ids, scores, **wanted))
        if found.shape != scores.shape or found.dtype.kind not in "fiu":
            raise ValueError(
                f"the logits processor {name_of(processor)} returned shape {found.shape}; expected "
                f"scores of shape {scores.shape}."
            )
        scores = found
    return scores


def _options_of(processor: Processor, options: dict[str, Any]) -> dict[str, Any]:
    try:
        taken = list(inspect.signature(processor).parameters.values())[2:]
    except ValueError:  # a function of C does not say
        return {}
    taken = [x for x in taken if x.kind in (x.POSITIONAL_OR_KEYWORD, x.KEYWORD_ONLY)]
    missing = [x.name for x in taken if x.name not in options and x.default is x.empty]
    if missing:
        raise ValueError(
            f"the logits processor {name_of(processor)} takes {', '.join(missing)}, which this "
            "search does not have; expected one that takes (input_ids, scores)."
        )
    return {x.name: options[x.name] for x in taken if x.name in options}


def _check_tokens(config: GenerationConfig, vocab_size: int) -> None:
    forced, biases = config.forced_eos_token_id or 0, config.sequence_bias
    for name, sequences in (
        ("bad_words_ids", config.bad_words_ids or []),
        ("sequence_bias", [] if biases is None else token.as_biases(biases)),
        ("forced_bos_token_id", [[config.forced_bos_token_id or 0]]),
        ("forced_eos_token_id", [forced if isinstance(forced, list | tuple) else [forced]]),
        ("force_words_ids", _phrases(config.force_words_ids or [])),
        ("constraints", _phrases(getattr(c, "token_ids", [0]) for c in config.constraints or [])),
        ("pad_token_id", [[config.pad_token_id or 0]]),
    ):
        token.check_in_vocabulary(name, sequences, vocab_size)


def _phrases(force_words_ids: Iterable[Any]) -> list[list[int]]:
    phrases: list[list[int]] = []
    for entry in force_words_ids:
        several = isinstance(entry[0], list | tuple)
        phrases += entry if several else [entry]
    return phrases
