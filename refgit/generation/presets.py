"""Ways of decoding by name: what a preset sets, and what the caller's own arguments change of it.

"paper" decodes as Microsoft's implementation, microsoft/GenerativeImage2Text, with which the
paper's checkpoints came. That has two searches: one by beams, which its `get_git_model` chooses,
and one that takes the likeliest word and repeats none twice in a row. The preset gives this rule to
both; with ``no_immediate_repeat=False`` it is the first exactly, with ``num_beams=1`` the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refgit.generation.config import GenerationConfig

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper": {
        "num_beams": 4,
        "length_penalty": 0.6,
        "beam_scoring": "microsoft",  # see paper_beam.py
        "early_stopping": False,
        "do_sample": False,
        "max_length": 1024,
        "no_immediate_repeat": True,
        "renormalize_logits": True,  # the rule comes before the softmax there
    }
}
# Of a preset's settings, those that mean nothing where there are no beams.
_OF_BEAMS = ("length_penalty", "beam_scoring", "early_stopping")


def with_preset(preset: str | None, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Put a call's arguments on top of what a preset sets.

    Parameters
    ----------
    preset : {"paper"} or None
        See above; None sets nothing.
    arguments : mapping
        Those that the caller gave; None in one that the preset sets stands for "not given".

    Returns
    -------
    dict
        Arguments for `refgit.generation.resolve.merge`. With one beam they hold no settings of
        beams but the caller's, and with the caller's `max_new_tokens` no `max_length`.

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
    if _is_one(given.get("num_beams")):
        settings = {k: v for k, v in settings.items() if k not in _OF_BEAMS}
    if given.get("max_new_tokens") is not None:
        del settings["max_length"]
    return {**settings, **given}


def within_positions(
    config: GenerationConfig, preset: str | None, arguments: Mapping[str, Any], room: int
) -> GenerationConfig:
    """Let a preset's `max_length` end where the model's positions do.

    Microsoft's models have positions for as many tokens as its search may write, 1024. A length
    that the caller gave stays as it is.

    Parameters
    ----------
    config : GenerationConfig
        Of the call.
    preset : str or None
    arguments : mapping
        Those that the caller gave.
    room : int
        Text tokens that the model has positions for.
    """
    chosen = any(arguments.get(name) is not None for name in ("max_length", "max_new_tokens"))
    if preset is None or chosen:
        return config
    return config.replace(max_length=max(1, min(config.max_length, room)))


def _is_one(value: Any) -> bool:
    value = value.tolist() if hasattr(value, "tolist") else value
    return isinstance(value, int) and value == 1
