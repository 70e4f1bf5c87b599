"""What the caller of `generate` gave, sorted and checked for its kind."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np

from refgit.generation.config import GenerationConfig
from refgit.generation.logits.build import Processor
from refgit.generation.logits.scores import Ids
from refgit.generation.stopping import Criterion
from refgit.validation import is_integer

# With and without the prompt.
RIVALS = (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens"))


@dataclass(eq=False, repr=False)
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
