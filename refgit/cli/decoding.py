"""The options that say how a text is searched for, alike in all commands that write texts."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection, Mapping
from typing import Any

from refgit.cli.arguments import count_of, number_of

# The option's name in the parsed arguments, and what `generate` calls it.
_FIELDS = {
    "num_beams": "num_beams",
    "num_captions": "num_return_sequences",
    "min_length": "min_length",
    "max_length": "max_length",
    "max_new_tokens": "max_new_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "seed": "seed",
    "repetition_penalty": "repetition_penalty",
    "no_repeat_ngram": "no_repeat_ngram_size",
    "preset": "preset",
}
_SAMPLING = ("temperature", "top_p", "top_k")
OPTIONS = (*_FIELDS, "prompt", "scores")
_LENGTH = "by default what the checkpoint says, or else "


def add_decoding_options(
    parser: argparse.ArgumentParser,
    *,
    default: str = "50 tokens in all",
    without: Collection[str] = (),
) -> None:
    """Declare how texts are searched for: options of `generate`.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    default : str
        How long a text may become where nobody says; for the help.
    without : collection of str
        Names in `OPTIONS` that the command refuses; see `refuse_decoding`. They are parsed, so
        that the refusal can say why, and the help does not show them.
    """
    group = parser.add_argument_group(
        "decoding",
        "how a text is searched for; by default as the checkpoint's generation_config.json says",
    )

    def add(name: str, help: str, where: Any = group, **options: Any) -> None:
        options.setdefault("metavar", "N")
        if "action" in options:
            del options["metavar"]
        shown = argparse.SUPPRESS if name in without else help
        where.add_argument("--" + name.replace("_", "-"), help=shown, **options)

    add("num_beams", "beams: texts that are continued side by side", type=count_of(1))
    add(
        "num_captions",
        "texts for each image, or for each question: the best of a beam search, which has as many "
        "beams unless --num-beams says more, or as many as are drawn when sampling",
        type=count_of(1),
    )
    add("prompt", "words that the text begins with, and that are printed with it", metavar="TEXT")
    lengths = group if "max_length" in without else group.add_mutually_exclusive_group()
    add(
        "max_length",
        "longest text in tokens, which are words or pieces of words, the opening one and the "
        f"prompt's included; {_LENGTH}{default}",
        lengths,
        type=count_of(2),
    )
    add("max_new_tokens", "longest text in tokens, without the prompt's", lengths, type=count_of(1))
    add("min_length", "shortest text in tokens, counted as --max-length", type=count_of(0))
    add(
        "temperature",
        "draw tokens at random (sampling): below 1 the likelier ones more often, above 1 less",
        type=number_of(0),
        metavar="X",
    )
    add("top_p", "draw among the likeliest tokens that have this probability together; implies "
        "sampling", type=number_of(0, 1), metavar="X")  # fmt: skip
    add("top_k", "draw among so many of the likeliest tokens; implies sampling", type=count_of(1))
    add(
        "seed",
        "make what is drawn depend only on this number and on the image (and question), so that "
        "it can be repeated",
        type=count_of(0),
    )
    add("repetition_penalty", "above 1, make tokens less likely that the text has already",
        type=number_of(0), metavar="X")  # fmt: skip
    add("no_repeat_ngram", "never repeat so many tokens in a row", type=count_of(0))
    add(
        "preset",
        "decode as Microsoft's implementation does, with which the paper's models came: beams, "
        "their own length penalty, and no token twice in a row",
        choices=("paper",),
        metavar="NAME",
    )
    add(
        "scores",
        "add how likely each text is: the mean log-probability of its tokens, the end token "
        "included and the prompt not, and their sum",
        action="store_true",
    )


def refuse_decoding(arguments: argparse.Namespace, reasons: Mapping[str, str]) -> None:
    """Refuse options that mean nothing to a command.

    Parameters
    ----------
    arguments : argparse.Namespace
    reasons : mapping of str to str
        Why, by the names in `OPTIONS`.

    Raises
    ------
    ValueError
        One was given; the message names it.
    """
    for name, why in reasons.items():
        if getattr(arguments, name) not in (None, False):
            raise ValueError(f"--{name.replace('_', '-')} means nothing here: {why}.")


def decoding_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what `add_decoding_options` has parsed, as keyword arguments of `generate`.

    Raises
    ------
    ValueError
        Two options contradict each other.
    """
    given = {name: getattr(arguments, name, None) for name in _FIELDS}
    found = {_FIELDS[name]: value for name, value in given.items() if value is not None}
    drawn = [name for name in _SAMPLING if name in found]
    if drawn and "preset" in found:
        raise ValueError(
            f"--preset {found['preset']} searches with beams, and --{drawn[0].replace('_', '-')} "
            "draws tokens at random; expected one of the two."
        )
    return found | ({"do_sample": True} if drawn else {})


_WORDS = {
    "do_sample=True": "sampling (--temperature, --top-p or --top-k)",
    **{field: "--" + name.replace("_", "-") for name, field in _FIELDS.items()},
}


def in_options(message: str) -> str:
    """Say of an error of `generate` what the options are called, in the place of its arguments."""
    names = "|".join(re.escape(word) for word in _WORDS if word not in ("seed", "preset"))
    found = re.sub(rf"(?<![\w-])({names})(?!\w)", lambda hit: _WORDS[hit[1]], message)
    found = re.sub(r"^the prompt ", "--prompt ", found)
    return re.sub(r"^(seed|preset) is", r"--\1 is", found)
