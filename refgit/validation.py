"""Checks of what a caller passes: predicates, and one sentence for a value that fails one.

    expect("top_k", top_k, is_integer(top_k, 1), "an integer of at least 1")

raises ``ValueError: top_k is 0; expected an integer of at least 1.`` NumPy's numbers are as good
as Python's; True and False are not numbers. All rooms of refgit check their arguments with this.
"""

from __future__ import annotations

import math
import numbers
import reprlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, TypeAlias

# Names of fields, separated by spaces; what is expected of a value; whether it is that.
Rule: TypeAlias = tuple[str, str, Callable[[Any], bool]]

_DEVICE = 'where it computes is backend="numpy" (the processor) or backend="cupy" (the GPU)'
_QUANTISED = 'weights are floating-point numbers; dtype="float16" takes half the memory of float32'

_repr = reprlib.Repr()  # shortens long values, but keeps what fits a line
_repr.maxstring = _repr.maxother = _repr.maxlong = 200


def expect(
    name: str,
    value: object,
    holds: bool,
    expected: str,
    remedy: str = "",
    error: type[Exception] = ValueError,
) -> None:
    """Raise "NAME is VALUE; expected EXPECTED. REMEDY" unless the check holds.

    Parameters
    ----------
    name : str
        What the caller calls the value.
    value : object
        What was passed; a long one is shortened in the message.
    holds : bool
        Whether it is allowed.
    expected : str
        What is allowed, without the full stop.
    remedy : str
        What to do, as a sentence.
    error : type of Exception
        What is raised, made of the message.
    """
    if not holds:
        raise error(f"{name} is {_repr.repr(value)}; expected {expected}. {remedy}".rstrip())


def integer(name: str, value: Any, least: int = 0) -> int:
    """Return a value as an int, once it is found to be an integer of at least `least`."""
    expect(name, value, is_integer(value, least), f"an integer of at least {least}")
    return int(value)


def require(owner: object, name: str, holds: bool, expected: str) -> None:
    """Raise a ValueError unless the check of a field holds; the message names class and field."""
    expect(f"{type(owner).__name__}.{name}", getattr(owner, name), holds, expected)


def require_rules(owner: object, rules: Iterable[Rule]) -> None:
    """Raise a ValueError for the first field that breaks its rule."""
    for names, expected, holds in rules:
        for name in names.split():
            require(owner, name, holds(getattr(owner, name)), expected)


def require_mapping(kind: type, values: object) -> None:
    """Raise a TypeError unless `kind.from_dict` was given the entries of a file."""
    if not isinstance(values, Mapping):
        raise TypeError(
            f"{kind.__name__}.from_dict got a {type(values).__name__}; expected a mapping, the "
            "entries of the JSON file."
        )


def plain(value: Any) -> Any:
    """Return a value with Python's numbers and lists in the place of NumPy's, inside as well."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, list):
        return [plain(x) for x in value]
    if isinstance(value, tuple):
        return tuple(plain(x) for x in value)
    if isinstance(value, Mapping):
        return {plain(k): plain(x) for k, x in value.items()}
    return value


def make_plain(config: Any) -> None:
    """Put Python's numbers and lists in the place of NumPy's in a frozen config's fields."""
    require(config, "extra", isinstance(config.extra, Mapping), "a mapping of names to values")
    for f in fields(config):
        if f.name != "extra":
            object.__setattr__(config, f.name, plain(getattr(config, f.name)))


def or_none(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Make a predicate that allows None, too."""
    return lambda value: value is None or holds(value)


def is_flag(value: Any) -> bool:
    """Whether `value` is True or False."""
    return isinstance(value, bool)


def is_integer(value: Any, least: int = 0) -> bool:
    """Whether `value` is an integer of at least `least`."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return whole and int(value) >= least


def is_size(value: Any) -> bool:
    """Whether `value` is an integer of at least 1."""
    return is_integer(value, 1)


def is_number(value: Any, least: float = -math.inf, most: float = math.inf) -> bool:
    """Whether `value` is a finite number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    return math.isfinite(value) and least <= float(value) <= most


def is_positive(value: Any) -> bool:
    """Whether `value` is a finite number above 0."""
    return is_number(value, 0) and value > 0


def is_share(value: Any) -> bool:
    """Whether `value` is a number between 0 and 1, neither included."""
    return is_positive(value) and value < 1


def are_ids(value: Any, least: int = 0) -> bool:
    """Whether `value` is a list or tuple of at least `least` token ids."""
    return isinstance(value, list | tuple) and len(value) >= least and all(map(is_integer, value))


def is_id_or_ids(value: Any) -> bool:
    """Whether `value` is a token id, or a list of at least one."""
    return is_integer(value) or are_ids(value, 1)


def are_id_lists(value: Any) -> bool:
    """Whether `value` is a list of lists of token ids, none of them empty."""
    several = isinstance(value, list | tuple) and len(value) > 0
    return several and all(are_ids(ids, 1) for ids in value)


def are_strings(value: Any) -> bool:
    """Whether `value` is a string or a list of strings, none of them empty."""
    several = value if isinstance(value, list | tuple) else [value]
    return len(several) > 0 and all(isinstance(s, str) and s for s in several)


def is_decay(pair: Any) -> bool:
    """Whether `pair` is the (start, factor) of an exponential decay."""
    two = isinstance(pair, list | tuple) and len(pair) == 2
    return two and is_integer(pair[0]) and is_positive(pair[1])


def is_biases(value: Any) -> bool:
    """Whether `value` maps tuples of token ids to numbers, or is a list of such pairs.

    An infinite number forbids a sequence, or prescribes it.
    """
    pairs = list(value.items()) if isinstance(value, Mapping) else value
    if not isinstance(pairs, list | tuple) or not pairs:
        return False
    if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        return False
    infinite = (math.inf, -math.inf)
    return all(are_ids(ids, 1) and (is_number(x) or x in infinite) for ids, x in pairs)


# What other libraries call what is called otherwise here, or what they need and this one does not.
_ELSEWHERE = {
    "torch_dtype": 'the numbers it computes in are dtype="float16" (or bfloat16, float32, float64)',
    "device": _DEVICE,
    "device_map": _DEVICE,
    "max_memory": _DEVICE,
    "framework": _DEVICE,
    "load_in_8bit": _QUANTISED,
    "load_in_4bit": _QUANTISED,
    "quantization_config": _QUANTISED,
}


def refuse_keywords(function: str, given: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse keyword arguments that a function does not have, saying what takes their place.

    Parameters
    ----------
    function : str
        Its name.
    given : mapping
        What was passed beyond its arguments.
    known : iterable of str
        Its arguments.

    Raises
    ------
    TypeError
        Any is given.
    """
    for name in given:
        near = get_close_matches(name, known := list(known), 1)
        meant = f"did you mean {near[0]}?" if near else f"it takes {', '.join(known)}."
        instead = _ELSEWHERE.get(name)
        if instead is not None:
            meant = f"here {instead}."
        raise TypeError(f"{function} has no argument {name!r}; {meant}")
