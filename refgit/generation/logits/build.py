"""Which logits processors a call needs, and in which order: that of transformers 4.56.2.

The processors themselves stand by concept in `length_processors`, `repetition_processors`,
`token_processors`, `distribution_processors` and `warpers`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from refgit.generation.config import GenerationConfig
from refgit.generation.logits.distribution import (
    ClassifierFreeGuidance,
    InfNanRemove,
    LogitNormalization,
)
from refgit.generation.logits.length import (
    ExponentialDecayLengthPenalty,
    ForcedBos,
    ForcedEos,
    MinLength,
    MinNewTokens,
)
from refgit.generation.logits.repetition import (
    HammingDiversity,
    NoImmediateRepeat,
    NoRepeatNGram,
    PromptNoRepeatNGram,
    PromptRepetitionPenalty,
    RepetitionPenalty,
)
from refgit.generation.logits.sampling import (
    EpsilonCutoff,
    EtaCutoff,
    MinP,
    Temperature,
    TopK,
    TopP,
    Typical,
)
from refgit.generation.logits.scores import Ids, Scores
from refgit.generation.logits.token import (
    AllowedTokens,
    NoBadWords,
    PrefixConstrained,
    SequenceBias,
    SuppressTokens,
    SuppressTokensAtBegin,
    as_biases,
    check_words,
)
from refgit.generation.stopping import with_users_own

Processor = Callable[..., Any]


def build_processors(
    config: GenerationConfig,
    *,
    prompt_length: int,
    prompt_ids: Ids,
    vocab_size: int,
    prefix_allowed_tokens_fn: AllowedTokens | None = None,
    unconditional: Callable[[Ids], Scores] | None = None,
    user: Iterable[Processor] = (),
) -> list[Processor]:
    """Make the processors that a config asks for, and add the caller's.

    Parameters
    ----------
    config : GenerationConfig
        Of this call, `max_length` and `min_length` as they hold for this prompt.
    prompt_length : int
        Tokens of the prompt, T0.
    prompt_ids : array (B, T0), int64
        The prompts, once for each image.
    vocab_size : int
        V.
    prefix_allowed_tokens_fn : callable, optional
        ``(image, ids so far (T,)) -> token ids`` that may follow; images are those of `prompt_ids`.
    unconditional : callable, optional
        ``(ids) -> scores (B, V)`` without the image; needed where `config.guidance_scale` is not
        1. The ids are those so far, from the last one of the prompt on.
    user : iterable of callables
        ``processor(input_ids, scores) -> scores`` of the caller; they stand behind the config's
        and before the warpers. One of a type that the config asks for too takes its place.

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
    made = [
        *_guidance(config, unconditional, prompt_length),
        *_biases(config),
        *_repetitions(config, prompt_ids),
        *_lengths(config, prompt_length),
        *_prescriptions(config, prefix_allowed_tokens_fn),
        *_repairs(config, prompt_length),
        *_suppressions(config, prompt_length),
    ]
    processors = with_users_own(made, user)
    processors += _warpers(config) if config.do_sample else []
    return [*processors, LogitNormalization()] if config.renormalize_logits else processors


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
                f"the logits processor {_name(processor)} returned shape {found.shape}; expected "
                f"scores of shape {scores.shape}."
            )
        scores = found
    return scores


def _options_of(processor: Processor, options: dict[str, Any]) -> dict[str, Any]:
    """Pick what a processor takes beside ids and scores."""
    try:
        taken = list(inspect.signature(processor).parameters.values())[2:]
    except ValueError:  # a function of C does not say
        return {}
    taken = [x for x in taken if x.kind in (x.POSITIONAL_OR_KEYWORD, x.KEYWORD_ONLY)]
    missing = [x.name for x in taken if x.name not in options and x.default is x.empty]
    if missing:
        raise ValueError(
            f"the logits processor {_name(processor)} takes {', '.join(missing)}, which this "
            "search does not have; expected one that takes (input_ids, scores)."
        )
    return {x.name: options[x.name] for x in taken if x.name in options}


def _guidance(
    config: GenerationConfig, unconditional: Callable[[Ids], Scores] | None, prompt_length: int
) -> Iterator[Processor]:
    if config.guidance_scale not in (None, 1):
        if unconditional is None:
            raise ValueError(
                f"guidance_scale is {config.guidance_scale}, and there are no scores without the "
                "image; expected the argument unconditional."
            )
        yield ClassifierFreeGuidance(config.guidance_scale, unconditional, prompt_length)
    if config.no_immediate_repeat:
        yield NoImmediateRepeat(prompt_length)


def _biases(config: GenerationConfig) -> Iterator[Processor]:
    if config.sequence_bias is not None:
        yield SequenceBias(config.sequence_bias)
    if config.diversity_penalty:
        yield HammingDiversity(config.diversity_penalty, config.num_beams, config.num_beam_groups)


def _repetitions(config: GenerationConfig, prompt_ids: Ids) -> Iterator[Processor]:
    if config.encoder_repetition_penalty not in (None, 1):
        yield PromptRepetitionPenalty(config.encoder_repetition_penalty, prompt_ids)
    if config.repetition_penalty not in (None, 1):
        yield RepetitionPenalty(config.repetition_penalty)
    if config.no_repeat_ngram_size:
        yield NoRepeatNGram(config.no_repeat_ngram_size)
    if config.encoder_no_repeat_ngram_size:
        yield PromptNoRepeatNGram(config.encoder_no_repeat_ngram_size, prompt_ids)


def _lengths(config: GenerationConfig, prompt_length: int) -> Iterator[Processor]:
    ends = config.eos_token_id
    if config.bad_words_ids is not None:
        yield NoBadWords(config.bad_words_ids, ends)
    if ends is not None and config.min_length > 0:
        yield MinLength(config.min_length, ends)
    if ends is not None and config.min_new_tokens:
        yield MinNewTokens(prompt_length, config.min_new_tokens, ends)


def _prescriptions(config: GenerationConfig, allowed: AllowedTokens | None) -> Iterator[Processor]:
    if allowed is not None:
        yield PrefixConstrained(allowed, config.num_beams // config.num_beam_groups)
    if config.forced_bos_token_id is not None:
        yield ForcedBos(config.forced_bos_token_id)
    if config.forced_eos_token_id is not None:
        yield ForcedEos(config.max_length, config.forced_eos_token_id)


def _repairs(config: GenerationConfig, prompt_length: int) -> Iterator[Processor]:
    if config.remove_invalid_values:
        yield InfNanRemove()
    decay = config.exponential_decay_length_penalty
    if decay is not None:
        if config.eos_token_id is None:
            raise ValueError(
                f"exponential_decay_length_penalty is {decay} and eos_token_id None; expected a "
                "token that ends a text."
            )
        yield ExponentialDecayLengthPenalty(decay, config.eos_token_id, prompt_length)


def _suppressions(config: GenerationConfig, prompt_length: int) -> Iterator[Processor]:
    if config.suppress_tokens is not None:
        yield SuppressTokens(config.suppress_tokens)
    if config.begin_suppress_tokens is not None:
        forced = prompt_length <= 1 and config.forced_bos_token_id is not None
        yield SuppressTokensAtBegin(config.begin_suppress_tokens, prompt_length + forced)


def _warpers(config: GenerationConfig) -> list[Processor]:
    """Make what sampling needs, in order: temperature first, the cutoffs last."""
    # several beams need a word besides the end tokens, with which to go on
    kept = (len(config.eos_ids) or 1) + 1 if config.num_beams > 1 else 1
    made: list[Processor] = []
    if config.temperature not in (None, 1):
        made.append(Temperature(config.temperature))
    if config.top_k:
        made.append(TopK(config.top_k, kept))
    if config.top_p is not None and config.top_p < 1:
        made.append(TopP(config.top_p, kept))
    if config.min_p is not None:
        made.append(MinP(config.min_p, kept))
    if config.typical_p is not None and config.typical_p < 1:
        made.append(Typical(config.typical_p, kept))
    if config.epsilon_cutoff:
        made.append(EpsilonCutoff(config.epsilon_cutoff, kept))
    if config.eta_cutoff:
        made.append(EtaCutoff(config.eta_cutoff, kept))
    return made


def _check_tokens(config: GenerationConfig, vocab_size: int) -> None:
    """Refuse to prescribe or to weigh words that are none."""
    forced = config.forced_eos_token_id
    several = forced if isinstance(forced, list | tuple) else [forced]
    for name, sequences in (
        ("bad_words_ids", config.bad_words_ids or []),
        ("sequence_bias", [] if config.sequence_bias is None else as_biases(config.sequence_bias)),
        ("forced_bos_token_id", [[config.forced_bos_token_id or 0]]),
        ("forced_eos_token_id", [[token or 0 for token in several]]),
        ("force_words_ids", _phrases(config.force_words_ids or [])),
        ("constraints", [c.token_ids for c in config.constraints or [] if hasattr(c, "token_ids")]),
        ("pad_token_id", [[config.pad_token_id or 0]]),
    ):
        check_words(name, sequences, vocab_size)


def _phrases(force_words_ids: Iterable[Any]) -> list[list[int]]:
    """Lay alternatives beside the phrases."""
    phrases: list[list[int]] = []
    for entry in force_words_ids:
        several = isinstance(entry[0], list | tuple)
        phrases += entry if several else [entry]
    return phrases


def _name(processor: Any) -> str:
    return str(getattr(processor, "__name__", type(processor).__name__))


__all__ = [
    "ClassifierFreeGuidance",
    "EpsilonCutoff",
    "EtaCutoff",
    "ExponentialDecayLengthPenalty",
    "ForcedBos",
    "ForcedEos",
    "HammingDiversity",
    "InfNanRemove",
    "LogitNormalization",
    "MinLength",
    "MinNewTokens",
    "MinP",
    "NoBadWords",
    "NoImmediateRepeat",
    "NoRepeatNGram",
    "PrefixConstrained",
    "Processor",
    "PromptNoRepeatNGram",
    "PromptRepetitionPenalty",
    "RepetitionPenalty",
    "SequenceBias",
    "SuppressTokens",
    "SuppressTokensAtBegin",
    "Temperature",
    "TopK",
    "TopP",
    "Typical",
    "build_processors",
    "process",
]
