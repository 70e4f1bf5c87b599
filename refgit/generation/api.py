"""`model.generate`: from images and beginnings to whole texts, by any of the searches.

The image is read once into the cache, whatever is asked; a step then costs one token a row.
(GIT paper, section 3.1: one word after the other, each read before the next is chosen.)
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from refgit.generation.config import GenerationConfig
from refgit.generation.decoding import Decoding
from refgit.generation.logits.build import Processor, build_processors
from refgit.generation.logits.scores import Ids, Scores
from refgit.generation.presets import with_preset, within_positions
from refgit.generation.prompt import (
    Prompts,
    check_images,
    read_prompts,
    with_lengths,
)
from refgit.generation.protocol import Cache, CaptionModel
from refgit.generation.record import Record
from refgit.generation.resolve import merge, search_mode
from refgit.generation.results import GenerateBeamDecoderOnlyOutput, GenerateDecoderOnlyOutput
from refgit.generation.search.beam import Beams, BeamSearch, BeamStep, Hypothesis, search
from refgit.generation.search.legacy.constrained_beam import ConstrainedBeamSearch
from refgit.generation.search.legacy.constraints import forced_words
from refgit.generation.search.legacy.contrastive import contrastive_search
from refgit.generation.search.legacy.diverse_beam import GroupBeamSearch
from refgit.generation.search.microsoft_beam import PaperBeamSearch
from refgit.generation.search.token_by_token import Step, draw, likeliest, one_word_at_a_time
from refgit.generation.session import NOTHING_LEFT, Rules
from refgit.generation.stopping import Criterion, build_stopping
from refgit.layers._array_api import Array

# With and without the prompt.
RIVALS = (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens"))
Output = GenerateDecoderOnlyOutput | GenerateBeamDecoderOnlyOutput


@dataclass(frozen=True)
class Call:
    """One call of `generate`, with everything checked and the images read.

    Attributes
    ----------
    model : GitForCausalLM
    config : GenerationConfig
    prompts : Prompts
    rules : list of Rules
        Of each prompt.
    images : Cache
        Read, and no text below them.
    head_mask : array or None
    random : numpy.random.Generator
    """

    model: CaptionModel
    config: GenerationConfig
    prompts: Prompts
    rules: list[Rules]
    images: Cache
    head_mask: Any
    random: np.random.Generator

    def decoding(self, **options: bool) -> Decoding:
        """Start decoding below the images, which stay as they are."""
        keep = {
            f"keep_{name}": getattr(self.config, f"output_{name}")
            for name in ("attentions", "hidden_states")
            if self.config.return_dict_in_generate
        }
        images, rows = self.images.fork(), self.prompts.rows
        return Decoding(self.model, images, rows, head_mask=self.head_mask, **(keep | options))


def generate(
    model: CaptionModel,
    pixel_values: Any = None,
    input_ids: Any = None,
    *,
    attention_mask: Any = None,
    head_mask: Any = None,
    past_key_values: Cache | None = None,
    interpolate_pos_encoding: bool = False,
    generation_config: GenerationConfig | None = None,
    preset: str | None = None,
    seed: int | np.random.Generator | None = None,
    logits_processor: Iterable[Processor] = (),
    stopping_criteria: Iterable[Criterion] = (),
    prefix_allowed_tokens_fn: Callable[[int, Ids], Any] | None = None,
    tokenizer: Any = None,
    streamer: Any = None,
    use_model_defaults: bool | None = None,
    **arguments: Any,
) -> Array | Output:
    """Write texts below images.

    Parameters
    ----------
    model : GitForCausalLM
    pixel_values : array (B', C, S, S) or (B', frames, C, S, S), floating point, optional
        The images or videos; each is read once.
    input_ids : array (B, T), integer, optional
        What each text starts with; B is a multiple of B'. By default the token ``bos_token_id``,
        once for each image.
    attention_mask : array (B, T), optional
        1 for text, 0 for padding in `input_ids`, on either side. Each text becomes what it would
        become alone, without its padding. By default ``pad_token_id`` is padding wherever it
        stands in `input_ids`.
    head_mask : array (H,) or (layers, H), optional
        1 for heads of the text decoder that count, 0 for heads to silence.
    past_key_values : KeyValueCache, optional
        From `model.encode_image`, in the place of `pixel_values`; it is left as it was, for
        further texts below the same images.
    interpolate_pos_encoding : bool
        Take images of any height and width.
    generation_config : GenerationConfig, optional
        Of this call, in the place of the model's.
    preset : {"paper"}, optional
        "paper" decodes as Microsoft's implementation does, with which the paper's models came; see
        `presets`.
    seed : int or numpy.random.Generator, optional
        Of what is drawn when sampling; by default it differs from call to call.
    logits_processor, stopping_criteria : iterables of callables
        ``processor(ids, scores) -> scores`` and ``criterion(ids, scores) -> ended`` of your own,
        on NumPy arrays (rows, T) and (rows, V). Rows whose prompts differ in length come in calls
        of their own, and with beams those of each text.
    prefix_allowed_tokens_fn : callable, optional
        ``(text b, its ids so far) -> token ids`` that may follow.
    tokenizer : BertTokenizer, optional
        Reads `stop_strings`.
    streamer : optional
        Has ``put(ids)``, called with the prompts and then with the words of each step, and
        ``end()``. See `model.stream` for more.
    use_model_defaults : bool, optional
        See `call.fill`.
    **arguments
        Fields of `GenerationConfig`, each in the place of the checkpoint's: ``max_length``,
        ``max_new_tokens``, ``num_beams``, ``do_sample`` ... Lengths count each text's own tokens,
        without padding.

    Returns
    -------
    array (R, length), int64, on the model's backend
        `input_ids` and what was written, to the end token; ``pad_token_id`` after it. R is B times
        ``num_return_sequences``, those of one prompt next to one another.
    GenerateDecoderOnlyOutput, GenerateBeamDecoderOnlyOutput
        With ``return_dict_in_generate``.

    Raises
    ------
    ValueError, TypeError
        An argument is unknown, impossible, without effect, or does not fit another; the message
        names it. This is found before the image is read.

    Notes
    -----
    Source: GIT paper, section 3.1. Ids equal those of transformers 4.56's `generate`, and what is
    drawn has its distribution.
    """
    for method in ("put", "end") if streamer is not None else ():
        if not callable(getattr(streamer, method, None)):
            raise TypeError(
                f"streamer is a {type(streamer).__name__} without a method {method!r}; expected "
                "an object with put(ids) and end()."
            )
    call = prepare(
        model,
        pixel_values,
        input_ids,
        attention_mask=attention_mask,
        head_mask=head_mask,
        past_key_values=past_key_values,
        interpolate_pos_encoding=interpolate_pos_encoding,
        generation_config=generation_config,
        preset=preset,
        seed=seed,
        logits_processor=logits_processor,
        stopping_criteria=stopping_criteria,
        prefix_allowed_tokens_fn=prefix_allowed_tokens_fn,
        tokenizer=tokenizer,
        use_model_defaults=use_model_defaults,
        without_beams="streamer" if streamer is not None else None,
        **arguments,
    )
    if call.config.num_beams > 1:
        return _by_beams(call)
    return _by_words(call, streamer)


def prepare(
    model: CaptionModel,
    pixel_values: Any,
    input_ids: Any,
    *,
    attention_mask: Any = None,
    head_mask: Any = None,
    past_key_values: Cache | None = None,
    interpolate_pos_encoding: bool = False,
    generation_config: GenerationConfig | None = None,
    preset: str | None = None,
    seed: int | np.random.Generator | None = None,
    logits_processor: Iterable[Processor] = (),
    stopping_criteria: Iterable[Criterion] = (),
    prefix_allowed_tokens_fn: Callable[[int, Ids], Any] | None = None,
    tokenizer: Any = None,
    use_model_defaults: bool | None = None,
    without_beams: str | None = None,
    **arguments: Any,
) -> Call:
    """Check everything, then read the images; see `generate`.

    `without_beams` is the name of what cannot be had with beams, if any.
    """
    _check_objects(
        generation_config,
        tokenizer,
        {"logits_processor": logits_processor, "stopping_criteria": stopping_criteria},
        prefix_allowed_tokens_fn,
    )
    _check_rivals(arguments)
    asked = with_preset(preset, arguments)
    config = merge(
        model.generation_config,
        asked,
        generation_config=generation_config,
        use_model_defaults=use_model_defaults,
    )
    config = _with_lengths_of_the_call(config, asked)
    if without_beams is not None and config.num_beams > 1:
        raise ValueError(
            f"{without_beams} was asked for and num_beams is {config.num_beams}; beams change "
            "their minds, so expected num_beams=1."
        )
    random = _random(seed)
    if seed is not None and not config.do_sample:
        raise ValueError(
            f"seed is {seed!r}, which has no effect without do_sample=True; pass that or leave it "
            "out."
        )
    images = check_images(model, pixel_values, past_key_values, any_size=interpolate_pos_encoding)
    prompts = read_prompts(model, input_ids, attention_mask, config, images.count)
    room = model.config.text_room(images.length)
    room -= search_mode(config) == "contrastive"  # it reads the last word as well
    config = within_positions(config, preset, arguments, room)
    chosen = asked.get("max_length") is not None
    own = (tuple(logits_processor or ()), tuple(stopping_criteria or ()))
    made: dict[Any, Rules] = {}
    rules = []
    apart = prefix_allowed_tokens_fn is not None or _looks_at_prompts(config)
    for b, prompt in enumerate(prompts.rows):
        key = (len(prompt), b if apart else None)
        if key not in made:
            settled = with_lengths(config, len(prompt), room, chosen=chosen)
            _check_shortest(settled, asked)
            made[key] = _rules(model, settled, prompt, b, prefix_allowed_tokens_fn, tokenizer, own)
        rules.append(made[key])
    cache = images.read(head_mask)
    return Call(model, config, prompts, rules, cache, head_mask, random)


def _check_objects(
    generation_config: Any,
    tokenizer: Any,
    lists: dict[str, Any],
    prefix_allowed_tokens_fn: Any,
) -> None:
    """Refuse what is not of the kind that is asked for, before anything is done with it."""
    if generation_config is not None and not isinstance(generation_config, GenerationConfig):
        raise TypeError(
            f"generation_config is a {type(generation_config).__name__}; expected a "
            "GenerationConfig, such as GenerationConfig.from_dict makes of a dict."
        )
    if tokenizer is not None and not hasattr(tokenizer, "backend"):
        raise TypeError(
            f"tokenizer is a {type(tokenizer).__name__}; expected a BertTokenizer of refgit, such "
            "as processor.tokenizer."
        )
    for name, values in lists.items():
        several = isinstance(values, Iterable) and not isinstance(values, str | bytes)
        if values is not None and not (several and all(map(callable, values))):
            raise TypeError(
                f"{name} is {reprlib.repr(values)}; expected a list of callables "
                "that take (ids, scores)."
            )
    if prefix_allowed_tokens_fn is not None and not callable(prefix_allowed_tokens_fn):
        raise TypeError(
            f"prefix_allowed_tokens_fn is {reprlib.repr(prefix_allowed_tokens_fn)}; expected a "
            "function that takes (text, ids so far)."
        )


def _check_rivals(arguments: dict[str, Any]) -> None:
    """Refuse two answers to one question."""
    for name, rival in RIVALS:
        if arguments.get(name) is not None and arguments.get(rival) is not None:
            raise ValueError(
                f"{name} is {arguments[name]} and {rival} {arguments[rival]}; expected one of the "
                "two, since both say how long a text may or must be."
            )


def _check_shortest(config: GenerationConfig, asked: dict[str, Any]) -> None:
    """Refuse lengths that no text can have, where the caller asked for the lower one."""
    for name in ("min_length", "min_new_tokens"):
        if asked.get(name) is not None and config.min_length > config.max_length:
            raise ValueError(
                f"{name} is {asked[name]}, which asks for texts of at least {config.min_length} "
                f"tokens, prompt included; they may have {config.max_length}. Lower {name}, or "
                "raise max_length or max_new_tokens."
            )


def _random(seed: Any) -> np.random.Generator:
    whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool) and seed >= 0
    if seed is not None and not whole and not isinstance(seed, np.random.Generator):
        raise TypeError(
            f"seed is {seed!r}; expected an integer of at least 0, a numpy.random.Generator, or "
            "None for another at each call."
        )
    return np.random.default_rng(seed)


def _with_lengths_of_the_call(
    config: GenerationConfig, arguments: dict[str, Any]
) -> GenerationConfig:
    """A length that the caller gives counts, though the checkpoint set its rival."""
    for name, rival in RIVALS:
        if arguments.get(name) is not None and arguments.get(rival) is None:
            config = config.replace(**{rival: None})
    return config


def _rules(
    model: CaptionModel,
    config: GenerationConfig,
    prompt: Ids,
    b: int,
    allowed: Callable[[int, Ids], Any] | None,
    tokenizer: Any,
    own: tuple[tuple[Processor, ...], tuple[Criterion, ...]],
) -> Rules:
    """Make the processors and criteria of a prompt; `config` has its lengths settled."""

    def without_image(ids: Ids) -> Scores:
        logits = model(ids, use_cache=False, return_dict=True).logits
        scores: Scores = model.backend.to_numpy(logits[:, -1, :])
        return scores

    processors = build_processors(
        config,
        prompt_length=len(prompt),
        prompt_ids=prompt[None],
        vocab_size=model.config.vocab_size,
        prefix_allowed_tokens_fn=None if allowed is None else lambda _, ids: allowed(b, ids),
        unconditional=without_image,
        user=own[0],
    )
    longest = config.max_length
    criteria = build_stopping(config, max_length=longest, tokenizer=tokenizer, user=own[1])
    return Rules(processors, criteria, longest)


def _looks_at_prompts(config: GenerationConfig) -> bool:
    """Whether processors depend on what a prompt says, and not on its length alone."""
    return bool(
        config.encoder_repetition_penalty not in (None, 1) or config.encoder_no_repeat_ngram_size
    )


# ---- greedy search, sampling and contrastive search: every text has one row


def steps(call: Call, **keep: bool) -> Iterator[Step]:
    """Run the search of a call that has no beams, step by step; `keep` is for `Decoding`."""
    mode = search_mode(call.config)
    if mode == "contrastive":
        return contrastive_search(
            call.decoding(**(keep | {"keep_hidden_states": True})),
            call.prompts.rows,
            call.rules,
            alpha=call.config.penalty_alpha or 0.0,
            k=call.config.top_k or 1,
        )
    choose = draw(call.random) if mode == "sample" else likeliest
    copies = call.config.num_return_sequences
    return one_word_at_a_time(call.decoding(**keep), call.prompts.rows, call.rules, choose, copies)


def _by_words(call: Call, streamer: Any) -> Array | Output:
    config, copies = call.config, call.config.num_return_sequences
    prompts = np.repeat(call.prompts.ids, copies, axis=0)
    written = []
    record = Record(config, len(prompts), config.filler_id)
    if streamer is not None:
        streamer.put(prompts)
    for step in steps(call):
        words = np.full(len(prompts), config.filler_id, np.int64)
        words[step.rows] = step.words
        written.append(words)
        record.add(step.rows, step.logits, step.scores, step.attentions, step.hidden_states)
        if streamer is not None:
            streamer.put(words)
    if streamer is not None:
        streamer.end()
    backend = call.model.backend
    sequences = backend.asarray(np.concatenate([prompts, np.stack(written, axis=1)], axis=1))
    if not config.return_dict_in_generate:
        return sequences
    return GenerateDecoderOnlyOutput(sequences, **record.on(backend), past_key_values=call.images)


# ---- beam searches: every text has as many rows as beams


def _beams(call: Call, prompt: Ids, rules: Rules) -> Beams:
    """The beams of one prompt, of the kind that the call asks for."""
    config, mode = call.config, search_mode(call.config)
    common: dict[str, Any] = {
        "num_beams": config.num_beams,
        "length_penalty": config.length_penalty,
        "early_stopping": config.early_stopping,
    }
    ends = np.array(config.eos_ids, np.int64)
    if mode == "group_beam":
        return GroupBeamSearch(
            prompt,
            rules,
            num_groups=config.num_beam_groups,
            ends=ends,
            filler=config.filler_id,
            **common,
        )
    if mode == "constrained_beam":
        constraints = list(config.constraints or ())
        if config.force_words_ids is not None:
            constraints += forced_words(config.force_words_ids)
        return ConstrainedBeamSearch(
            prompt,
            rules,
            constraints=constraints,
            num_results=config.num_return_sequences,
            ends=ends,
            **common,
        )
    if config.beam_scoring == "microsoft":
        return PaperBeamSearch(
            prompt, rules, ends=ends, num_results=config.num_return_sequences, **common
        )
    random = call.random if mode == "beam_sample" else None
    return BeamSearch(prompt, rules, num_ends=len(ends), random=random, **common)


def _by_beams(call: Call) -> Array | Output:
    config, rows = call.config, call.prompts.rows
    texts = [_beams(call, prompt, rule) for prompt, rule in zip(rows, call.rules, strict=True)]
    decoding = call.decoding()
    record = Record(config, len(rows) * config.num_beams, config.filler_id)

    def watch(step: BeamStep) -> None:
        layers = (decoding.attentions, decoding.hidden_states)
        kept = (None if x is None else tuple(y[step.parents] for y in x) for x in layers)
        record.add(step.rows, step.logits, step.scores, *kept)

    search(decoding, texts, watch)
    best = [text.best(config.num_return_sequences) for text in texts]
    if any(text.score == -np.inf for found in best for text in found):
        raise ValueError(NOTHING_LEFT)
    plain = search_mode(config) in ("beam", "beam_sample")
    written = [
        _words(call, hypothesis, len(prompt), rule, whole=plain)
        for prompt, rule, found in zip(rows, call.rules, best, strict=True)
        for hypothesis in found
    ]
    length = max(len(words) for words in written)
    sequences = np.full((len(written), length), _beam_filler(config, plain), np.int64)
    for row, words in zip(sequences, written, strict=True):
        row[: len(words)] = words
    prompts = np.repeat(call.prompts.ids, config.num_return_sequences, axis=0)
    backend = call.model.backend
    ids = backend.asarray(np.concatenate([prompts, sequences], axis=1))
    if not config.return_dict_in_generate:
        return ids
    scored = config.output_scores
    totals = np.array([h.score for found in best for h in found], np.float32)
    return GenerateBeamDecoderOnlyOutput(
        ids,
        sequences_scores=backend.asarray(totals) if scored else None,
        beam_indices=backend.asarray(_origins(best, config.num_beams, length)),
        **record.on(backend),
        past_key_values=call.images,
    )


def _words(call: Call, hypothesis: Hypothesis, prompt: int, rules: Rules, *, whole: bool) -> Ids:
    """What was written of a text; where it is stored without the word that ends it, with one.

    As in transformers the first of several end tokens closes it, and one that some other criterion
    stopped as well.
    """
    words, ends = hypothesis.ids[prompt:], call.config.eos_ids
    if whole or not ends or len(hypothesis.ids) >= rules.longest:
        return words
    return np.append(words, ends[0])


def _beam_filler(config: GenerationConfig, plain: bool) -> int:
    """What follows the end of a text, as in transformers.

    Its plain beam search takes a padding token of id 0 for none and fills with the end token.
    """
    if plain and not config.pad_token_id and config.eos_ids:
        return config.eos_ids[0]
    return config.filler_id


def _origins(best: list[list[Hypothesis]], num_beams: int, length: int) -> Ids:
    """Rows of `scores` that the words were chosen in, (R, length); -1 after the end."""
    indices = np.full((sum(map(len, best)), length), -1, np.int64)
    row = 0
    for b, found in enumerate(best):
        for hypothesis in found:
            origins = hypothesis.origins
            indices[row, : len(origins)] = origins + b * num_beams
            row += 1
    return indices
