"""What one call of `generate` comes to: the checkpoint's settings, and the caller's on top.

Whatever the caller gives has an effect or is refused. What generation_config.json gives may have
none: it serves calls of several kinds.

A preset is a way of decoding by name. "paper" decodes as Microsoft's implementation,
microsoft/GenerativeImage2Text, with which the paper's checkpoints came. That has two searches: one
by beams, which its `get_git_model` chooses, and one that takes the likeliest token and repeats none
twice in a row. The preset gives this rule to both; with ``no_immediate_repeat=False`` it is the
first exactly, with ``num_beams=1`` the second.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from refgit.generation.config import (
    DEFAULT_LENGTH,
    DEFAULTS,
    NAMES,
    NULLABLE,
    OUTPUT_FLAGS,
    GenerationConfig,
)
from refgit.generation.config.checks import CHANGES_THE_TEXT, NOT_HERE
from refgit.generation.request import OBJECTS, RIVALS, Request
from refgit.generation.search import choose
from refgit.generation.search.base import BEAMS, HEEDED, Search
from refgit.validation import plain

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper": {
        "num_beams": 4,
        "length_penalty": 0.6,
        "beam_scoring": "microsoft",
        "early_stopping": False,
        "do_sample": False,
        "max_length": 1024,
        "no_immediate_repeat": True,
        "renormalize_logits": True,  # the rule comes before the softmax there
    }
}


class Resolved(NamedTuple):
    """What a call asks for, checked.

    Attributes
    ----------
    config : GenerationConfig
        All settings, the preset's among them; `below` settles the lengths.
    search : Search
    room : int
        Text tokens that the model has positions for, less what the search itself needs.
    asked : mapping
        What the caller and the preset gave.
    """

    config: GenerationConfig
    search: Search
    room: int
    asked: Mapping[str, Any]

    def below(self, prompt: int) -> GenerationConfig:
        """Settle how long and how short a text becomes below a prompt of so many tokens.

        Where no length was given, 20 tokens are written after the prompt, positions permitting.

        Returns
        -------
        GenerationConfig
            `max_length` and `min_length` count the prompt and hold.

        Raises
        ------
        ValueError
            The prompt leaves no room for a token, the model has not so many positions, or the
            caller's lower length is above the upper one.
        """
        config, room = self.config, self.room
        longest = config.max_length
        if config.max_new_tokens is not None:
            longest = prompt + config.max_new_tokens
        elif self.asked.get("max_length") is None and longest == DEFAULT_LENGTH:
            # transformers takes the default for the number of new tokens
            longest = max(prompt + 1, min(prompt + DEFAULT_LENGTH, room))
        if prompt >= longest:
            raise ValueError(
                f"input_ids has {prompt} tokens and max_length is {longest}; expected a larger "
                "max_length, or max_new_tokens in its place."
            )
        if longest > room + 1:  # the last token written is never read
            raise ValueError(
                f"texts of {longest} tokens were asked for; this model has learned positions for "
                f"{max(room, 0)} (config.max_position_embeddings, less the image's tokens with "
                "relative positions). Lower max_length or max_new_tokens."
            )
        shortest = config.min_length
        if config.min_new_tokens is not None:
            shortest = prompt + config.min_new_tokens
        for name in ("min_length", "min_new_tokens"):
            if self.asked.get(name) is not None and shortest > longest:
                raise ValueError(
                    f"{name} is {self.asked[name]}, which asks for texts of at least {shortest} "
                    f"tokens, prompt included; they may have {longest}. Lower {name}, or "
                    "raise max_length or max_new_tokens."
                )
        return config.replace(max_length=longest, min_length=shortest)


def resolve(defaults: GenerationConfig, request: Request, room: int) -> Resolved:
    """Put what the caller gives on top of what the model's checkpoint says.

    Parameters
    ----------
    defaults : GenerationConfig
        The model's.
    request : Request
        Its `arguments` may hold arrays and numbers of NumPy; None means "not given", except where
        a field can be None.
    room : int
        Text tokens that the model has positions for.

    Raises
    ------
    TypeError
        There is no such argument.
    ValueError
        A value is impossible, has no effect, or contradicts another; the message names them.
    """
    given = request.arguments
    asked = with_preset(request.preset, given)
    _check_names(asked)
    base = defaults
    if request.generation_config is not None:
        base = fill(request.generation_config, defaults, request.use_model_defaults)
    _check_file(base, asked)
    changes = {name: plain(value) for name, value in asked.items() if name in NAMES}
    changes = {k: v for k, v in changes.items() if v is not None or k in NULLABLE}
    # A length that the caller gives counts, though the checkpoint set its rival.
    rivals = {rival: None for name, rival in RIVALS if changes.get(name) is not None}
    config = base.replace(**(rivals | changes))
    search = check_combination(config, changes, request.search)
    if request.seed is not None and not search.draws:
        raise ValueError(
            f"seed is {request.seed!r}, which has no effect without do_sample=True; pass that or "
            "leave it out."
        )
    room -= search.reads_last_token
    chosen = any(given.get(name) is not None for name in RIVALS[0])
    if request.preset is not None and not chosen:  # its length ends where the positions do
        config = config.replace(max_length=max(1, min(config.max_length, room)))
    return Resolved(config, search, room, asked)


def with_preset(preset: str | None, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Put a call's arguments on top of what a preset sets.

    Parameters
    ----------
    preset : {"paper"} or None
        See above; None sets nothing.
    arguments : mapping
        Those that the caller gave; None in one that the preset sets means "not given".

    Returns
    -------
    dict
        With one beam it holds no settings of beams but the caller's, and with the caller's
        `max_new_tokens` no `max_length`.

    Raises
    ------
    ValueError
        There is no such preset.
    """
    if preset is None:
        return dict(arguments)
    if not isinstance(preset, str) or preset not in PRESETS:
        known = " or ".join(f'"{name}"' for name in PRESETS)
        raise ValueError(f"preset is {preset!r}; expected {known}, or None for no preset.")
    settings = dict(PRESETS[preset])
    given = {k: v for k, v in arguments.items() if v is not None or k not in settings}
    beams = plain(given.get("num_beams"))
    if isinstance(beams, int) and beams == 1:
        settings = {k: v for k, v in settings.items() if k not in BEAMS}
    if given.get("max_new_tokens") is not None:
        del settings["max_length"]
    return {**settings, **given}


def fill(
    config: GenerationConfig, defaults: GenerationConfig, use_model_defaults: bool | None = None
) -> GenerationConfig:
    """Complete a call's own config from the model's, as transformers does.

    Where `config` has the default of the class, the model's value serves. With
    `use_model_defaults` False, or where the model's file is older than transformers 4.50 and it is
    None, only the special ids are completed.
    """
    if use_model_defaults is None:
        use_model_defaults = _version(defaults.extra.get("transformers_version")) >= (4, 50)
    if not use_model_defaults:
        ids = ("bos_token_id", "eos_token_id", "pad_token_id")
        missing = [name for name in ids if getattr(config, name) is None]
        return config.replace(**{name: getattr(defaults, name) for name in missing})
    unset = [k for k, v in DEFAULTS.items() if getattr(config, k) == v]
    changes = {name: getattr(defaults, name) for name in unset}
    extra = {**defaults.extra, **{k: v for k, v in config.extra.items() if v is not None}}
    filled = config.replace(**changes, extra=extra)
    return filled.replace(do_sample=False) if filled.temperature == 0 else filled


def check_combination(
    config: GenerationConfig, given: Collection[str] = (), name: str | None = None
) -> Search:
    """Refuse what contradicts itself, and what the caller gave to no effect.

    Parameters
    ----------
    config : GenerationConfig
        Of the call.
    given : collection of str
        Names of the fields that the caller set, in contrast to those of generation_config.json.
    name : str, optional
        Of the search, where the caller named it.

    Returns
    -------
    Search
        The one that `config` asks for.

    Raises
    ------
    ValueError
        The message names the arguments.
    """
    search = choose(config, name)
    search.check(config)
    if search.draws and config.temperature == 0:
        raise ValueError(
            "temperature is 0 and do_sample is True; expected a temperature above 0, or "
            "do_sample=False for the likeliest token at each step."
        )
    needs = {k: needed for k, (harmless, needed) in HEEDED.items()
             if k not in search.heeds and not _among(getattr(config, k), harmless)}  # fmt: skip
    if not config.return_dict_in_generate:
        needs |= {k: "return_dict_in_generate=True" for k in OUTPUT_FLAGS if getattr(config, k)}
    for field, needed in needs.items():
        if field in given:
            raise ValueError(
                f"{field} is {reprlib.repr(getattr(config, field))}, which has no effect without "
                f"{needed}; pass that or leave it out."
            )
    for least, most in (("min_length", "max_length"), ("min_new_tokens", "max_new_tokens")):
        if least in given and most in given and getattr(config, least) > getattr(config, most):
            raise ValueError(
                f"{least} is {getattr(config, least)} and {most} is {getattr(config, most)}; "
                f"expected {least} to be at most {most}."
            )
    return search


def _check_names(asked: Mapping[str, Any]) -> None:
    for name in asked:
        if name not in NAMES and name not in NOT_HERE:
            near = difflib.get_close_matches(name, [*NAMES, *NOT_HERE, *OBJECTS], 1)
            hint = f"; did you mean {near[0]}?" if near else "."
            raise TypeError(f"generate has no argument {name!r}{hint}")
    for name, (harmless, reason) in NOT_HERE.items():
        value = asked.get(name)
        if not _among(value, harmless):
            raise ValueError(
                f"{name} is {reprlib.repr(value)}; expected {' or '.join(map(repr, harmless))}: "
                f"{reason}. Leave the argument out."
            )


def _check_file(base: GenerationConfig, asked: Mapping[str, Any]) -> None:
    """Refuse what generation_config.json asks for, and refgit cannot do; the caller may undo it."""
    for name in CHANGES_THE_TEXT:
        value, (harmless, reason) = base.extra.get(name), NOT_HERE[name]
        if name not in asked and not _among(value, harmless):
            raise ValueError(
                f"generation_config.json asks for {name}={reprlib.repr(value)}, which refgit "
                f"cannot do: {reason}. Pass {name}={harmless[-1]} to go without."
            )


def _among(value: Any, values: tuple[Any, ...]) -> bool:
    """Whether `value` is one of a few plain values; 1.0 is 1, but neither is True."""
    simple = value is None or isinstance(value, bool | int | float | str)
    return simple and any(
        value == x and isinstance(value, bool) == isinstance(x, bool) for x in values
    )


def _version(text: Any) -> tuple[int, int]:
    """Major and minor number of a version; without one, that of the transformers followed here."""
    numbers = [int(part) for part in str(text).split(".")[:2] if part.isdigit()]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (4, 56)
