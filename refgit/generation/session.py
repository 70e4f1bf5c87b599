"""One call of `generate`: what the caller gave, and the same checked, with the images read.

Texts of one batch may have prompts of different lengths, and each becomes what it would become by
itself; lengths count each text's own tokens, without padding.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np

from refgit.generation.config import GenerationConfig
from refgit.generation.decoding import Decoding
from refgit.generation.logits.build import Processor, build_processors, process
from refgit.generation.logits.scores import Ids, Mask, Scores
from refgit.generation.prompt import Prompts
from refgit.generation.protocol import Cache, CaptionModel
from refgit.generation.stopping import Criterion, build_stopping, done
from refgit.validation import is_integer

# With and without the prompt.
RIVALS = (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens"))


@dataclass(frozen=True)
class Request:
    """What the caller of `generate` gave, as it came; see there for each.

    Attributes
    ----------
    arguments : mapping
        All other keyword arguments: fields of `GenerationConfig`.
    """

    pixel_values: Any = None
    input_ids: Any = None
    attention_mask: Any = None
    head_mask: Any = None
    past_key_values: Any = None
    interpolate_pos_encoding: bool = False
    generation_config: GenerationConfig | None = None
    preset: str | None = None
    search: str | None = None
    seed: int | np.random.Generator | None = None
    logits_processor: Iterable[Processor] = ()
    stopping_criteria: Iterable[Criterion] = ()
    prefix_allowed_tokens_fn: Callable[[int, Ids], Any] | None = None
    tokenizer: Any = None
    streamer: Any = None
    use_model_defaults: bool | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, pixel_values: Any, input_ids: Any, options: Mapping[str, Any]) -> Self:
        """Sort keyword arguments into the fields above and those of `GenerationConfig`."""
        objects = {name: value for name, value in options.items() if name in OBJECTS}
        rest = {name: value for name, value in options.items() if name not in OBJECTS}
        for name in _CALLABLES:
            value = objects.get(name)
            if isinstance(value, Iterable) and not isinstance(value, Sequence):
                objects[name] = tuple(value)
        return cls(pixel_values, input_ids, **objects, arguments=rest)

    def check(self) -> None:
        """Refuse objects of another kind than is asked for, and two answers to one question."""
        for name, (holds, expected) in _KINDS.items():
            value = getattr(self, name)
            if value is not None and not holds(value):
                found = reprlib.repr(value)
                if name in ("generation_config", "tokenizer", "streamer"):
                    found = f"a {type(value).__name__}"
                raise TypeError(f"{name} is {found}; expected {expected}.")
        given = self.arguments
        for name, rival in RIVALS:
            if given.get(name) is not None and given.get(rival) is not None:
                raise ValueError(
                    f"{name} is {given[name]} and {rival} {given[rival]}; expected one of the two, "
                    "since both say how long a text may or must be."
                )


OBJECTS = tuple(
    f.name for f in fields(Request) if f.name not in ("pixel_values", "input_ids", "arguments")
)


_CALLABLES = ("logits_processor", "stopping_criteria")
_SEVERAL = (
    lambda x: isinstance(x, list | tuple) and all(map(callable, x)),
    "a list of callables that take (ids, scores)",
)
# What an object must be where it is given, and how that is said.
_KINDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "generation_config": (
        lambda x: isinstance(x, GenerationConfig),
        "a GenerationConfig, such as GenerationConfig.from_dict makes of a dict",
    ),
    "tokenizer": (
        lambda x: hasattr(x, "backend"),
        "a BertTokenizer of refgit, such as processor.tokenizer",
    ),
    "streamer": (
        lambda x: all(callable(getattr(x, method, None)) for method in ("put", "end")),
        "an object with the methods put(ids) and end()",
    ),
    "seed": (
        lambda x: is_integer(x) or isinstance(x, np.random.Generator),
        "an integer of at least 0, a numpy.random.Generator, or None for another at each call",
    ),
    "logits_processor": _SEVERAL,
    "stopping_criteria": _SEVERAL,
    "prefix_allowed_tokens_fn": (callable, "a function that takes (text, ids so far)"),
}


@dataclass(frozen=True, eq=False)
class Rules:
    """What a text must keep to and where it ends: the processors and criteria of a prompt.

    Attributes
    ----------
    processors : sequence of callables
        Each takes ids (R, T) and scores (R, V) and returns scores.
    criteria : sequence of callables
        Each takes ids (R, T) and scores, and says which rows have ended, bool (R,).
    longest : int
        Tokens at which a text ends, its prompt included.
    """

    processors: Sequence[Processor]
    criteria: Sequence[Criterion]
    longest: int

    def process(self, ids: Ids, scores: Scores, **options: Any) -> Scores:
        """Scores (R, V) of the next token as the processors, one after another, leave them."""
        processed = process(self.processors, ids, scores, **options)
        return processed.astype(scores.dtype, copy=False)  # a caller's may return another

    def ended(self, ids: Ids, scores: Any = None) -> Mask:
        """Say which texts (R, T) have ended, bool (R,)."""
        return done(self.criteria, ids, scores)


def rules_of(
    model: CaptionModel,
    request: Request,
    prompts: Prompts,
    settle: Callable[[int], GenerationConfig],
) -> list[Rules]:
    """Make the rules of each prompt; prompts of one length share them where that is possible.

    Parameters
    ----------
    model : CaptionModel
    request : Request
        Has the caller's own processors and criteria.
    prompts : Prompts
    settle : callable
        ``(tokens of a prompt) -> config`` whose lengths count the prompt; see `Resolved.below`.
    """
    made: dict[Any, Rules] = {}
    rules = []
    for b, prompt in enumerate(prompts.rows):
        config = settle(len(prompt))
        apart = request.prefix_allowed_tokens_fn is not None or _looks_at_prompts(config)
        key = (len(prompt), b if apart else None)
        if key not in made:
            made[key] = _rules(model, request, config, prompt, b)
        rules.append(made[key])
    return rules


def _rules(
    model: CaptionModel, request: Request, config: GenerationConfig, prompt: Ids, b: int
) -> Rules:
    """Make the processors and criteria of prompt `b`; `config` has its lengths settled."""

    def without_image(ids: Ids) -> Scores:
        logits = model(ids, use_cache=False, return_dict=True).logits
        scores: Scores = model.backend.to_numpy(logits[:, -1, :])
        return scores

    allowed = request.prefix_allowed_tokens_fn
    processors = build_processors(
        config,
        prompt_length=len(prompt),
        prompt_ids=prompt[None],
        vocab_size=model.config.vocab_size,
        prefix_allowed_tokens_fn=None if allowed is None else lambda _, ids: allowed(b, ids),
        unconditional=without_image,
        user=request.logits_processor or (),
    )
    criteria = build_stopping(
        config,
        max_length=config.max_length,
        tokenizer=request.tokenizer,
        user=request.stopping_criteria or (),
    )
    return Rules(processors, criteria, config.max_length)


def _looks_at_prompts(config: GenerationConfig) -> bool:
    """Whether processors depend on what a prompt says, and not only on its length."""
    return bool(
        config.encoder_repetition_penalty not in (None, 1) or config.encoder_no_repeat_ngram_size
    )


@dataclass(frozen=True)
class Call:
    """One call of `generate`, with everything checked and the images read.

    Attributes
    ----------
    model : CaptionModel
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


# ---- rules applied to texts of several prompts


def refuse_if_lost(before: Scores, after: Scores, *, all_rows: bool = False) -> None:
    """Raise where the processors have left no token to go on with.

    Parameters
    ----------
    before, after : arrays (R, V)
        Scores before and after them.
    all_rows : bool
        Only where that is so of all rows: of beams some may come to a dead end.

    Raises
    ------
    ValueError
        No token is left; the message says what may be the cause.
    """
    lost = np.isfinite(before).any(axis=-1) & ~np.isfinite(after).any(axis=-1)
    if lost.all() if all_rows else lost.any():
        raise ValueError(NOTHING_LEFT)


NOTHING_LEFT = (
    "the logits processors leave no token with a finite score to go on with; loosen what is "
    "forbidden or prescribed (bad_words_ids, suppress_tokens, min_length, force_words_ids, "
    "prefix_allowed_tokens_fn ...), or pass remove_invalid_values=True."
)


def processed(rules: Sequence[Rules], owners: Ids, texts: Sequence[Ids], logits: Scores) -> Scores:
    """Scores (R, V) of the next tokens of texts, each under the rules of its owner.

    Raises
    ------
    ValueError
        A text is left no token.
    """
    scores = np.empty_like(logits)
    for rule, chosen in _by_rules(rules, owners):
        scores[chosen] = rule.process(np.stack([texts[i] for i in chosen]), logits[chosen])
    refuse_if_lost(logits, scores)
    return scores


def ended(rules: Sequence[Rules], owners: Ids, texts: Sequence[Ids], scores: Scores) -> Mask:
    """Say which of these texts have ended, bool (R,)."""
    found = np.zeros(len(owners), bool)
    for rule, chosen in _by_rules(rules, owners):
        found[chosen] = rule.ended(np.stack([texts[i] for i in chosen]), scores[chosen])
    return found


def _by_rules(rules: Sequence[Rules], texts: Ids) -> Iterator[tuple[Rules, Ids]]:
    """Sort rows by the rules of their texts: yields rules, and which rows are under them."""
    if all(rule is rules[0] for rule in rules):
        yield rules[0], np.arange(len(texts))
        return
    for rule in dict.fromkeys(rules[text] for text in texts):
        yield rule, np.flatnonzero([rules[text] is rule for text in texts])
