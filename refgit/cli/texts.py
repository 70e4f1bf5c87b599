"""The options that say what becomes of a text once the model has written it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

from refgit.captions.endings import INVENTED_ENDINGS
from refgit.captions.treatment import INVENTED, Treatment, split_patterns
from refgit.cli.output import put

_OPTIONS = {"remove": "--remove-words", "replace": "--find and --replace"}


def add_raw(group: argparse._ActionsContainer) -> None:
    """Declare that punctuation may stay as the tokenizer sets it."""
    group.add_argument(
        "--raw",
        action="store_true",
        help="leave the spaces beside punctuation as the tokenizer sets them (it ' s an upside - "
        "down t - shirt); by default they are an English writer's (it's an upside-down t-shirt)",
    )


def add_treatment_options(parser: argparse.ArgumentParser) -> None:
    """Declare what becomes of captions; see `refgit.captions.Treatment`."""
    group = parser.add_argument_group(
        "text",
        "what becomes of each caption, in this order: punctuation, --remove-words, --find, "
        "--fail-phrases, --prefix and --suffix",
    )
    add_raw(group)
    group.add_argument(
        "--remove-words",
        nargs="?",
        const="",
        action="append",
        metavar="PATTERNS",
        help="take words out: alone, the writing that TextCaps checkpoints invent (with the words "
        "..., that says ...); or what regular expressions fit, commas between them; may be given "
        "several times",
    )
    group.add_argument(
        "--list-remove-words",
        action=_ListRemoveWords,
        help="show what --remove-words takes out when it is given alone, and exit",
    )
    for name, text in (("find", "replace this text"), ("replace", "by this one, which may be ''")):
        group.add_argument(
            f"--{name}",
            action="append",
            metavar="TEXT",
            help=f"{text}; the two may be given several times, in pairs",
        )
    group.add_argument(
        "--regex",
        action="store_true",
        help=r"take each --find for a regular expression; in --replace \1 is its first group",
    )
    group.add_argument(
        "--fail-phrases",
        action="append",
        metavar="PHRASES",
        help="phrases, commas between them: a caption with one of these is written once more, "
        "drawn at random, and if that has one too, the image has failed",
    )
    group.add_argument("--prefix", metavar="TEXT", help="what each caption begins with")
    group.add_argument("--suffix", metavar="TEXT", help="what each caption ends with")


def treatment_of(arguments: argparse.Namespace) -> Treatment:
    """Return what the options ask for; a command may have `add_raw` alone, or nothing.

    Raises
    ------
    ValueError
        A regular expression is wrong, or --find and --replace are not pairs.
    """
    if not hasattr(arguments, "remove_words"):
        return Treatment(raw=getattr(arguments, "raw", False))
    finds, replacements = arguments.find or [], arguments.replace or []
    if len(finds) != len(replacements):
        raise ValueError(
            f"--find is given {_times(finds)} and --replace {_times(replacements)}; expected a "
            "--replace for each --find. To take a text out, replace it by ''."
        )
    if arguments.regex and not finds:
        raise ValueError("--regex says what --find is; expected --find and --replace as well.")
    try:
        return Treatment(
            raw=arguments.raw,
            remove=_patterns(arguments.remove_words or []),
            replace=tuple(zip(finds, replacements, strict=True)),
            regex=arguments.regex,
            prefix=arguments.prefix or "",
            suffix=arguments.suffix or "",
            fail_phrases=_phrases(arguments.fail_phrases or []),
        )
    except ValueError as error:
        field, colon, rest = str(error).partition(": ")
        raise ValueError(f"{_OPTIONS.get(field, field)}{colon}{rest}") from error


def _patterns(given: Sequence[str]) -> tuple[str, ...]:
    found: list[str] = []
    for text in given:
        if os.path.exists(text):
            raise ValueError(
                f"--remove-words is {text}, which is a file or directory; put --remove-words after "
                "the images, or write --remove-words=PATTERN."
            )
        found += split_patterns(text) if text else INVENTED
    return tuple(dict.fromkeys(found))


def _phrases(given: Sequence[str]) -> tuple[str, ...]:
    phrases = [phrase.strip() for text in given for phrase in text.split(",")]
    return tuple(dict.fromkeys(filter(None, phrases)))


def _times(given: Sequence[str]) -> str:
    return {0: "not at all", 1: "once", 2: "twice"}.get(len(given), f"{len(given)} times")


class _ListRemoveWords(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        for pattern, example in INVENTED_ENDINGS:
            shorter = Treatment(remove=(pattern,))(example)
            put(f"{example}  ->  {shorter}\n    {pattern}")
        parser.exit()
