"""How texts are searched for: what the caller asks for, on top of what the checkpoint says."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from refgit.generation.config import DEFAULT_LENGTH, GenerationConfig
from refgit.generation.request import RIVALS
from refgit.generation.resolve import with_preset
from refgit.validation import expect, is_integer

LONGEST_CAPTION = 50  # tokens, the opening one included, where nobody says how many
LONGEST_ANSWER = 20  # tokens, without the question
_OBJECTS = ("seed", "preset")  # options of `generate` that are no fields of its config


class Default(NamedTuple):
    """How long texts may become where neither the caller nor the checkpoint says.

    Attributes
    ----------
    tokens : int
    after_prompt : bool
        Whether the tokens of the prompt do not count.
    """

    tokens: int
    after_prompt: bool = False


CAPTION, ANSWER = Default(LONGEST_CAPTION), Default(LONGEST_ANSWER, after_prompt=True)


def completed(options: Mapping[str, Any], config: GenerationConfig) -> dict[str, Any]:
    """Add what options imply: several texts that are not drawn need as many beams.

    Parameters
    ----------
    options : mapping
        As `generate` takes them.
    config : GenerationConfig
        The checkpoint's.
    """
    found = {"num_return_sequences": 1, **options}
    count = found["num_return_sequences"]
    fixed = options.get("num_beams") is not None or is_sampling(found, config)
    if not fixed and isinstance(count, int) and count > beams_of(found, config):
        found["num_beams"] = count
    return found


def beams_of(options: Mapping[str, Any], config: GenerationConfig) -> int:
    """How many texts are continued side by side for each image."""
    asked = _asked(options).get("num_beams")
    return int(config.num_beams if asked is None else asked)


def is_sampling(options: Mapping[str, Any], config: GenerationConfig) -> bool:
    """Whether tokens are drawn at random."""
    asked = _asked(options).get("do_sample")
    return bool(config.do_sample if asked is None else asked)


def longest(
    options: Mapping[str, Any], config: GenerationConfig, prompt: int, room: int, default: Default
) -> int:
    """How many tokens a text may have, its prompt included.

    Parameters
    ----------
    options : mapping
        As `generate` takes them: `max_length` or `max_new_tokens` there, or of the preset, count.
    config : GenerationConfig
        The checkpoint's, which counts next.
    prompt : int
        Tokens that the text begins with.
    room : int
        Tokens that the model has positions for.
    default : Default
        Counts last.

    Raises
    ------
    ValueError
        The options say it twice, or not with an integer.
    """
    for name in RIVALS[0]:
        value = options.get(name)
        whole = value is None or is_integer(value, 1)
        expect(name, value, whole, "an integer of at least 1")
    for name, rival in RIVALS:
        if options.get(name) is not None and options.get(rival) is not None:
            raise ValueError(
                f"{name} is {options[name]} and {rival} {options[rival]}; expected one of the two."
            )
    asked = _asked(options)
    if asked.get("max_new_tokens") is not None:
        tokens = prompt + int(asked["max_new_tokens"])
    elif asked.get("max_length") is not None:
        tokens = int(asked["max_length"])
    elif config.max_new_tokens is not None:
        tokens = prompt + config.max_new_tokens
    elif config.max_length != DEFAULT_LENGTH:  # the class's default: the file says nothing
        tokens = config.max_length
    else:
        tokens = default.tokens + (prompt if default.after_prompt else 0)
    return min(tokens, room)


def _asked(options: Mapping[str, Any]) -> dict[str, Any]:
    fields = {name: value for name, value in options.items() if name not in _OBJECTS}
    return with_preset(options.get("preset"), fields)


def derived_seed(seed: int, *parts: bytes) -> int:
    """Return the seed of one text, from the seed of all and from what the text is about.

    So the texts do not depend on the order of the images, on which share a batch, and on how often
    the work was interrupted, and no two images share their random numbers.

    Parameters
    ----------
    seed : int
    *parts : bytes
        Such as the pixel values, and the question.
    """
    digest = hashlib.blake2b(str(seed).encode(), digest_size=8)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return int.from_bytes(digest.digest(), "little")
