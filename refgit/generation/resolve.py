"""What one call of `generate` asks for: the checkpoint's settings, and the caller's on top.

Whatever the caller gives has an effect or is refused. What generation_config.json gives may have
none: it serves calls of several kinds.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Collection, Mapping
from typing import Any

from refgit.generation.config import (
    DEFAULTS,
    NAMES,
    NULLABLE,
    OUTPUT_FLAGS,
    GenerationConfig,
)

# Arguments of transformers that refgit does not have: values that ask for nothing, and the reason.
_SPEED = "it changes speed alone, and refgit has nothing like it"
_DRAFTS = "refgit has no speculative decoding; the texts are the same without"
_ENCODER = "GIT has no text encoder"
NOT_HERE: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "cache_implementation": ((None, "dynamic"), _SPEED),
    "cache_config": ((None,), _SPEED),
    "return_legacy_cache": ((None, False), "refgit has one kind of cache"),
    "prefill_chunk_size": ((None,), _SPEED),
    "compile_config": ((None,), _SPEED),
    "disable_compile": ((None, False, True), _SPEED),
    "low_memory": ((None, False), _SPEED),
    "synced_gpus": ((None, False), "refgit runs on one device"),
    "assistant_model": ((None,), _DRAFTS),
    "assistant_tokenizer": ((None,), _DRAFTS),
    "assistant_early_exit": ((None,), _DRAFTS),
    "assistant_confidence_threshold": ((None, 0.4), _DRAFTS),
    "assistant_lookbehind": ((None, 10), _DRAFTS),
    "target_lookbehind": ((None, 10), _DRAFTS),
    "is_assistant": ((None, False), _DRAFTS),
    "num_assistant_tokens": ((None, 20), _DRAFTS),
    "num_assistant_tokens_schedule": ((None, "constant"), _DRAFTS),
    "prompt_lookup_num_tokens": ((None,), _DRAFTS),
    "max_matching_ngram_size": ((None,), _DRAFTS),
    "decoder_start_token_id": ((None,), f"{_ENCODER}; use bos_token_id or input_ids"),
    "decoder_input_ids": ((None,), f"{_ENCODER}; use input_ids"),
    "decoder_attention_mask": ((None,), f"{_ENCODER}; use attention_mask"),
    "encoder_outputs": ((None,), f"{_ENCODER}; use past_key_values of model.encode_image"),
    "token_healing": ((None, False), "refgit does not rewrite prompts"),
    "watermarking_config": ((None,), "refgit marks no texts"),
    "dola_layers": ((None,), "transformers 4.56 cannot do so either without code of others"),
    "custom_generate": ((None,), "refgit runs no code of others"),
    "trust_remote_code": ((None, False), "refgit runs no code of others"),
}
# Those a file may hold to no effect on the text are passed over there; these are not.
_CHANGES_THE_TEXT = ("token_healing", "watermarking_config", "dola_layers")

# What sampling alone heeds, with the values that ask for nothing.
_SAMPLING: Mapping[str, tuple[Any, ...]] = {
    "temperature": (None, 0, 1),  # 0 is the limit in which sampling takes the likeliest word
    "top_k": (None, 0, 50),
    "top_p": (None, 1),
    "min_p": (None, 0),
    "typical_p": (None, 1),
    "epsilon_cutoff": (None, 0),
    "eta_cutoff": (None, 0),
}
# What searches with beams are called in messages.
_MODES = {
    "beam_sample": "sampling",
    "group_beam": "groups of beams",
    "constrained_beam": "forced words",
}
# What beam search alone heeds.
_BEAMS: Mapping[str, tuple[Any, ...]] = {
    "early_stopping": (None, False),
    "length_penalty": (None, 1),
    "beam_scoring": (None, "transformers"),
    "num_beam_groups": (None, 1),
    "diversity_penalty": (None, 0),
}


def merge(
    defaults: GenerationConfig,
    overrides: Mapping[str, Any],
    *,
    generation_config: GenerationConfig | None = None,
    use_model_defaults: bool | None = None,
) -> GenerationConfig:
    """Put what the caller gives on top of what the model's checkpoint says.

    Parameters
    ----------
    defaults : GenerationConfig
        The model's.
    overrides : mapping
        Keyword arguments of the call, arrays and numbers of NumPy included. None stands for "not
        given", except where a field can be None.
    generation_config : GenerationConfig, optional
        The call's own, in the place of the model's; see `fill`.
    use_model_defaults : bool, optional
        See `fill`.

    Returns
    -------
    GenerationConfig
        Checked by `check_combination`.

    Raises
    ------
    TypeError
        There is no such argument.
    ValueError
        A value is impossible, has no effect, or contradicts another; the message names them.
    """
    for name in overrides:
        if name not in NAMES and name not in NOT_HERE:
            raise TypeError(_unknown(name))
    for name, (harmless, reason) in NOT_HERE.items():
        value = overrides.get(name)
        if not _among(value, harmless):
            raise ValueError(
                f"{name} is {reprlib.repr(value)}; expected {' or '.join(map(repr, harmless))}: "
                f"{reason}. Leave the argument out."
            )
    base = defaults
    if generation_config is not None:
        base = fill(generation_config, defaults, use_model_defaults)
    for name in _CHANGES_THE_TEXT:
        value = base.extra.get(name)
        harmless, reason = NOT_HERE[name]
        if name not in overrides and not _among(value, harmless):
            raise ValueError(
                f"generation_config.json asks for {name}={reprlib.repr(value)}, which refgit "
                f"cannot do: {reason}. Pass {name}={harmless[-1]} to go without."
            )
    given = {name: _plain(value) for name, value in overrides.items() if name in NAMES}
    given = {k: v for k, v in given.items() if v is not None or k in NULLABLE}
    merged = base.replace(**given)
    check_combination(merged, given)
    return merged


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


def check_combination(config: GenerationConfig, given: Collection[str] = ()) -> None:
    """Refuse what contradicts itself, and what the caller gave to no effect.

    Parameters
    ----------
    config : GenerationConfig
        Of the call.
    given : collection of str
        Names of the fields that the caller set, in contrast to those of generation_config.json.

    Raises
    ------
    ValueError
        The message names the arguments.
    """
    _check_beams(config)
    _check_returned(config)
    mode, sampling = search_mode(config), config.do_sample
    if sampling and config.temperature == 0:
        raise ValueError(
            "temperature is 0 and do_sample is True; expected a temperature above 0, or "
            "do_sample=False for the likeliest word at each step."
        )
    for name in _SAMPLING:
        idle = not sampling and not _among(getattr(config, name), _SAMPLING[name])
        idle = idle and not (name == "top_k" and mode == "contrastive")
        if name in given and idle:
            raise ValueError(_idle(config, name, "do_sample=True"))
    for name in _BEAMS:
        idle = config.num_beams == 1 and not _among(getattr(config, name), _BEAMS[name])
        if name in given and idle:
            raise ValueError(_idle(config, name, "num_beams above 1"))
    if "penalty_alpha" in given and config.penalty_alpha and mode != "contrastive":
        raise ValueError(_idle(config, "penalty_alpha", "num_beams=1, do_sample=False and top_k>1"))
    for name in OUTPUT_FLAGS:
        if name in given and getattr(config, name) and not config.return_dict_in_generate:
            raise ValueError(_idle(config, name, "return_dict_in_generate=True"))
    for least, most in (("min_length", "max_length"), ("min_new_tokens", "max_new_tokens")):
        if least in given and most in given and getattr(config, least) > getattr(config, most):
            raise ValueError(
                f"{least} is {getattr(config, least)} and {most} is {getattr(config, most)}; "
                f"expected {least} to be at most {most}."
            )


def search_mode(config: GenerationConfig) -> str:
    """Name the search that a config asks for.

    Returns
    -------
    str
        "greedy", "sample", "beam", "beam_sample", "group_beam", "constrained_beam" or
        "contrastive", by the rules of transformers 4.56.2.
    """
    if config.constraints is not None or config.force_words_ids is not None:
        return "constrained_beam"
    if config.num_beams > 1:
        if config.num_beam_groups > 1:
            return "group_beam"
        return "beam_sample" if config.do_sample else "beam"
    if config.do_sample:
        return "sample"
    contrastive = (config.top_k or 0) > 1 and (config.penalty_alpha or 0) > 0
    return "contrastive" if contrastive else "greedy"


def _check_beams(config: GenerationConfig) -> None:
    """Refuse beams that no search can have."""
    beams, groups, mode = config.num_beams, config.num_beam_groups, search_mode(config)
    if mode == "constrained_beam":
        what = "constraints" if config.constraints is not None else "force_words_ids"
        for name, holds, expected in (
            ("num_beams", beams > 1, "more than 1"),
            ("do_sample", not config.do_sample, "False"),
            ("num_beam_groups", groups == 1, "1"),
        ):
            if not holds:
                raise ValueError(
                    f"{what} was given and {name} is {getattr(config, name)}; expected {name} to "
                    f"be {expected} in constrained beam search."
                )
    elif beams > 1 and (groups > 1 or config.diversity_penalty):
        if config.do_sample:
            raise ValueError(
                f"num_beam_groups is {groups}, diversity_penalty {config.diversity_penalty} and "
                "do_sample True; expected do_sample=False, since groups of beams do not sample."
            )
        if groups == 1 or beams % groups:
            raise ValueError(
                f"num_beams is {beams} and num_beam_groups {groups}; expected at least 2 groups "
                "(for diversity_penalty), and num_beams to be a multiple of their number."
            )
        if not config.diversity_penalty:
            raise ValueError(
                f"num_beam_groups is {groups} and diversity_penalty "
                f"{config.diversity_penalty}; expected a diversity_penalty above 0, without which "
                "all groups are equal."
            )
    if config.beam_scoring == "microsoft" and beams > 1:
        if mode != "beam":
            raise ValueError(
                f'beam_scoring is "microsoft" and the other arguments ask for {_MODES[mode]}; '
                "expected do_sample=False, num_beam_groups=1 and no forced words, or "
                'beam_scoring="transformers".'
            )
        if config.length_penalty < 0:
            raise ValueError(
                f'length_penalty is {config.length_penalty} and beam_scoring "microsoft"; '
                "expected a length_penalty of at least 0."
            )


def _check_returned(config: GenerationConfig) -> None:
    """Refuse to return more texts than the search has."""
    count, beams = config.num_return_sequences, config.num_beams
    if beams > 1 and count > beams:
        raise ValueError(
            f"num_return_sequences is {count} and num_beams {beams}; expected at most as many "
            "texts as beams."
        )
    if beams == 1 and count > 1 and not config.do_sample:
        raise ValueError(
            f"num_return_sequences is {count}, num_beams 1 and do_sample False, which gives one "
            f"text alone; pass do_sample=True or num_beams={count}."
        )


def _idle(config: GenerationConfig, name: str, needed: str) -> str:
    value = reprlib.repr(getattr(config, name))
    return f"{name} is {value}, which has no effect without {needed}; pass that or leave it out."


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, [*NAMES, *NOT_HERE], 1)
    hint = f"; did you mean {near[0]}?" if near else "."
    return f"generate has no argument {name!r}{hint}"


def _among(value: Any, values: tuple[Any, ...]) -> bool:
    """Whether `value` is one of a few plain values; 1.0 is 1, but neither is True."""
    plain = value is None or isinstance(value, bool | int | float | str)
    return plain and any(
        value == x and isinstance(value, bool) == isinstance(x, bool) for x in values
    )


def _plain(value: Any) -> Any:
    """Turn arrays and numbers of NumPy (and its kin) into Python's."""
    return value.tolist() if hasattr(value, "tolist") else value


def _version(text: Any) -> tuple[int, int]:
    """Major and minor number of a version; without one, that of the transformers followed here."""
    numbers = [int(part) for part in str(text).split(".")[:2] if part.isdigit()]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (4, 56)
