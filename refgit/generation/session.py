"""One call of `generate`: everything checked, and the images read.

Texts of one batch may have prompts of different lengths, and each becomes what it would become by
itself; lengths count each text's own tokens, without padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from refgit.generation.config import GenerationConfig
from refgit.generation.decoding import Decoding
from refgit.generation.logits.build import Processor, build_processors, process
from refgit.generation.logits.scores import Ids, Mask, Scores
from refgit.generation.prompt import Prompts
from refgit.generation.protocol import Cache, CaptionModel
from refgit.generation.request import Request
from refgit.generation.stopping import Criterion, build_stopping, done


@dataclass(eq=False, repr=False)
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
        apart = (  # what the processors do depends on what a prompt says
            request.prefix_allowed_tokens_fn is not None
            or config.encoder_repetition_penalty not in (None, 1)
            or config.encoder_no_repeat_ngram_size
        )
        key = (len(prompt), b if apart else None)
        if key not in made:
            made[key] = _rules(model, request, config, prompt, b)
        rules.append(made[key])
    return rules


def _rules(
    model: CaptionModel, request: Request, config: GenerationConfig, prompt: Ids, b: int
) -> Rules:
    def without_image(ids: Ids) -> Scores:
        logits = model(ids, use_cache=False, return_dict=True).logits
        return model.backend.to_numpy(logits[:, -1, :])

    allowed = request.prefix_allowed_tokens_fn
    processors = build_processors(
        config,
        prompt_ids=prompt[None],
        vocab_size=model.config.vocab_size,
        prefix_allowed_tokens_fn=None if allowed is None else lambda _, ids: allowed(b, ids),
        unconditional=without_image,
        user=request.logits_processor or (),
    )
    criteria = build_stopping(config, request.tokenizer, request.stopping_criteria or ())
    return Rules(processors, criteria, config.max_length)


@dataclass(eq=False, repr=False)
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
    seed : int, numpy.random.Generator or None
    """

    model: CaptionModel
    config: GenerationConfig
    prompts: Prompts
    rules: list[Rules]
    images: Cache
    head_mask: Any
    seed: int | np.random.Generator | None

    @cached_property
    def random(self) -> np.random.Generator:
        """What samples are drawn with; most calls draw none, and numpy.random imports slowly."""
        return np.random.default_rng(self.seed)

    def decoding(self, **options: bool) -> Decoding:
        """Start decoding below the images, which stay as they are."""
        wanted: dict[str, Any] = {"head_mask": self.head_mask}
        if self.config.return_dict_in_generate:
            wanted["output_attentions"] = self.config.output_attentions
            wanted["output_hidden_states"] = self.config.output_hidden_states
        images, rows = self.images.fork(), self.prompts.rows
        return Decoding(self.model, images, rows, **(wanted | options))


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
    if len(set(rules)) == 1:
        yield rules[0], np.arange(len(texts))
        return
    for rule in dict.fromkeys(rules[text] for text in texts):
        yield rule, np.flatnonzero([rules[text] is rule for text in texts])
