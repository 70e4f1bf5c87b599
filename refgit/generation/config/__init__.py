"""How texts are written, as data: GenerationConfig, and generation_config.json beside a checkpoint.

Names, defaults and meanings are those of transformers 4.56's class of the same name. What a call
to `generate` may change, and what contradicts what, is in `refgit.generation.resolve`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol, Self

from refgit.errors import CheckpointError
from refgit.files import json_text, read_json, write_whole
from refgit.generation.config.checks import RULES
from refgit.generation.config.constraints import Constraint
from refgit.validation import make_plain, require, require_mapping, require_rules

DEFAULT_LENGTH = 20
FILE = "generation_config.json"
OUTPUT_FLAGS = ("output_attentions", "output_hidden_states", "output_scores", "output_logits")


class ModelIds(Protocol):
    """What a GenerationConfig takes of a model's config where the checkpoint has no file for it."""

    @property
    def use_cache(self) -> bool:
        """Taken over as it is."""

    @property
    def pad_token_id(self) -> int | None:
        """The token that fills rows that ended."""

    @property
    def bos_token_id(self) -> int | None:
        """The token that opens a text."""

    @property
    def eos_token_id(self) -> int | list[int] | None:
        """The tokens that end a text."""

    @property
    def extra(self) -> Mapping[str, Any]:
        """Keys of the file that the model has no field for: old files say there how to generate."""


@dataclass(frozen=True)
class GenerationConfig:
    """What `generate` does unless told otherwise.

    None in a field that is a number by default turns it off, as in transformers.

    Attributes
    ----------
    max_length : int
        Longest text in tokens, the prompt included.
    max_new_tokens : int or None
        Longest continuation in tokens; where given, it counts in the place of `max_length`.
    min_length : int
        Shortest text in tokens, the prompt included.
    min_new_tokens : int or None
        Shortest continuation in tokens; where given, it counts in the place of `min_length`.
    early_stopping : bool or "never"
        When beam search ends: at `num_beams` complete texts (True), when better ones are unlikely
        (False) or impossible ("never").
    max_time : float or None
        Seconds after which no further step is begun.
    stop_strings : str, list of str or None
        A text that contains one ends with the token that completes it.
    do_sample : bool
        Draw each token instead of taking the likeliest.
    num_beams : int
        Texts that are continued side by side for each image; 1 is no beam search.
    num_beam_groups : int
        Groups of beams that `diversity_penalty` keeps apart.
    penalty_alpha : float or None
        How much a token loses for being like an earlier one; makes the search contrastive,
        together with `top_k` above 1. See `refgit.generation.search.legacy.contrastive`.
    use_cache : bool
        Taken as in transformers; refgit computes every position once either way, and the texts
        are the same.
    temperature, top_k, top_p, min_p, typical_p, epsilon_cutoff, eta_cutoff : number or None
        What sampling draws from; see `refgit.generation.logits.sampling`.
    diversity_penalty : float or None
        Taken from the score of a token for each beam of an earlier group that chose it in this
        step.
    repetition_penalty, encoder_repetition_penalty : float or None
        Above 1 they make tokens of the text less likely, tokens of the prompt likelier; see
        `refgit.generation.logits.repetition`.
    length_penalty : float
        Beams compare the sum of log probabilities divided by length to this power.
    beam_scoring : {"transformers", "microsoft"}
        refgit's own: whose beam search to follow in how finished texts are scored and when it
        stops; see `refgit.generation.search.beam` and `refgit.generation.search.microsoft_beam`.
    no_repeat_ngram_size, encoder_no_repeat_ngram_size : int or None
        So many tokens in a row never repeat within a text; never repeat the prompt.
    bad_words_ids, force_words_ids : list of list of int or None
        What no text may contain; what each must (an entry may be a list of alternatives).
    renormalize_logits : bool
        Make the scores log probabilities again after all processors.
    constraints : list of Constraint or None
        What each text must contain; see `refgit.generation.config.constraints`.
    forced_bos_token_id, forced_eos_token_id : int, (the latter) list of int, or None
        The token after a single opening token; the last one that `max_length` leaves room for.
    remove_invalid_values : bool
        Replace infinite scores and NaN.
    exponential_decay_length_penalty : (int, float) or None
        After so many new tokens the end grows likelier, by this factor at each step.
    suppress_tokens, begin_suppress_tokens : list of int or None
        Tokens never to write; never to begin with.
    sequence_bias : mapping of tuples of int to float, list of (list of int, float), or None
        Added to the score of a token that completes the sequence; may be infinite, but not in a
        file.
    guidance_scale : float or None
        How far to move away from what would be written without the image; 1 is not at all.
    no_immediate_repeat : bool
        refgit's own: write no token twice in a row, as in Microsoft's implementation.
    num_return_sequences : int
        Texts to return for each image.
    output_attentions, output_hidden_states, output_scores, output_logits : bool or None
        What to return beside the ids, with `return_dict_in_generate`.
    return_dict_in_generate : bool
        Return an object with names instead of only the ids.
    pad_token_id, bos_token_id : int or None
        Fills the rows that ended before others; opens a text.
    eos_token_id : int, list of int or None
        Ends a text.
    extra : mapping
        Other keys of the file, written back as they were.

    Raises
    ------
    ValueError
        A field has an impossible value; the message names it.
    """

    max_length: int = DEFAULT_LENGTH
    max_new_tokens: int | None = None
    min_length: int = 0
    min_new_tokens: int | None = None
    early_stopping: bool | str = False
    max_time: float | None = None
    stop_strings: str | list[str] | None = None

    do_sample: bool = False
    num_beams: int = 1
    num_beam_groups: int = 1
    penalty_alpha: float | None = None
    use_cache: bool = True

    temperature: float | None = 1.0
    top_k: int | None = 50
    top_p: float | None = 1.0
    min_p: float | None = None
    typical_p: float | None = 1.0
    epsilon_cutoff: float | None = 0.0
    eta_cutoff: float | None = 0.0

    diversity_penalty: float | None = 0.0
    repetition_penalty: float | None = 1.0
    encoder_repetition_penalty: float | None = 1.0
    length_penalty: float = 1.0
    beam_scoring: str = "transformers"
    no_repeat_ngram_size: int | None = 0
    encoder_no_repeat_ngram_size: int | None = 0
    bad_words_ids: list[list[int]] | None = None
    force_words_ids: list[Any] | None = None
    renormalize_logits: bool = False
    constraints: list[Constraint] | None = None
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | list[int] | None = None
    remove_invalid_values: bool = False
    exponential_decay_length_penalty: Sequence[Any] | None = None
    suppress_tokens: list[int] | None = None
    begin_suppress_tokens: list[int] | None = None
    sequence_bias: Mapping[tuple[int, ...], float] | list[Any] | None = None
    guidance_scale: float | None = None
    no_immediate_repeat: bool = False

    num_return_sequences: int = 1
    output_attentions: bool = False
    output_hidden_states: bool = False
    output_scores: bool = False
    output_logits: bool | None = None
    return_dict_in_generate: bool = False

    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        make_plain(self)
        require_rules(self, RULES)

    # ---- what the fields come to

    @property
    def eos_ids(self) -> list[int]:
        """The tokens that end a text, as a list."""
        ends = self.eos_token_id
        return [] if ends is None else list(ends) if isinstance(ends, list | tuple) else [ends]

    @property
    def filler_id(self) -> int:
        """The token that fills the rows that ended: the padding token, or else the end token."""
        return next(iter([self.pad_token_id] if self.pad_token_id is not None else self.eos_ids), 0)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed, validated anew."""
        return replace(self, **changes)

    # ---- to and from files

    @classmethod
    def of(cls, config: ModelIds) -> Self:
        """Take the special ids of a model's config, and whatever an old one says of generation."""
        values: dict[str, Any] = {k: v for k, v in config.extra.items() if k in NAMES}
        values |= {name: getattr(config, name) for name in _OF_THE_MODEL}
        if any(values.get(flag) for flag in OUTPUT_FLAGS):
            values["return_dict_in_generate"] = True
        return cls(**{k: v for k, v in values.items() if v is not None})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build a config from the entries of a generation_config.json; unknown ones go to `extra`.

        null means the default where a field cannot be None.
        """
        require_mapping(cls, values)
        known = {k: v for k, v in values.items() if k in NAMES}
        known = {k: v for k, v in known.items() if v is not None or k in NULLABLE}
        return cls(**known, extra={k: v for k, v in values.items() if k not in NAMES})

    @classmethod
    def from_pretrained(cls, directory: str | Path, config: ModelIds) -> Self:
        """Read generation_config.json; without one, take what `config` says.

        Raises
        ------
        CheckpointError
            The file is broken, or a value impossible.
        """
        path = Path(directory) / FILE
        if not path.exists():
            return cls.of(config)
        values = read_json(path)
        try:
            return cls.from_dict(values)
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, and the unknown keys of the file beside them."""
        return {**self.extra, **{name: getattr(self, name) for name in NAMES}}

    def changed(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults."""
        values = {name: getattr(self, name) for name in NAMES}
        return {name: value for name, value in values.items() if value != DEFAULTS[name]}

    def to_json_string(self) -> str:
        """Return the file's text: what differs from the defaults, and the unknown keys.

        Raises
        ------
        ValueError
            There are `constraints`, which a file cannot hold; or a number of `sequence_bias` is
            infinite, which JSON cannot say.
        """
        none = self.constraints is None
        require(self, "constraints", none, "None in a file; use force_words_ids in their place")
        values = {**self.extra, **self.changed()}
        biases = self.sequence_bias
        if biases is not None:  # JSON has no tuples for keys
            pairs = list(biases.items()) if isinstance(biases, Mapping) else biases
            finite = all(math.isfinite(bias) for _, bias in pairs)
            require(self, "sequence_bias", finite, "finite numbers in a file, such as -1e9")
            values["sequence_bias"] = [[list(ids), bias] for ids, bias in pairs]
        return json_text(values)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write generation_config.json into `directory`, which is made if need be."""
        path = Path(directory)
        path.mkdir(parents=True, exist_ok=True)
        write_whole(path / FILE, self.to_json_string())


DEFAULTS: Mapping[str, Any] = {
    f.name: f.default for f in fields(GenerationConfig) if f.name != "extra"
}
NAMES = tuple(DEFAULTS)
# Fields that None turns off; for the others None means the default.
NULLABLE = frozenset(name for name in NAMES if DEFAULTS[name] is None) | {
    "temperature", "top_k", "top_p", "typical_p", "epsilon_cutoff", "eta_cutoff",
    "diversity_penalty", "repetition_penalty", "encoder_repetition_penalty",
    "no_repeat_ngram_size", "encoder_no_repeat_ngram_size",
}  # fmt: skip
_OF_THE_MODEL = ("use_cache", "pad_token_id", "bos_token_id", "eos_token_id")
