"""Cutting token sequences to a length: one text, or the texts of a pair.

The rules are those of the `tokenizers` library, which transformers sets; here they work on
one call, and leave the tokenizer as it is.
"""

from __future__ import annotations

from typing import Any


def kept_lengths(first: int, second: int | None, room: int, strategy: str) -> tuple[int, int]:
    """Compute how many tokens remain of a text and of the second text of a pair.

    With a, b the lengths and r the room, where a + b > r:

    - "only_first": (r - b, b), "only_second": (a, r - a); the one that is cut must keep a token;
    - "longest_first": the longer text is cut down to the shorter one, then both equally. So if
      the shorter is at most r / 2, it stays and the other one gets what is left; else the longer
      keeps ceil(r / 2), and the shorter floor(r / 2); of two equal ones the second is the longer.

    Parameters
    ----------
    first, second : int, int or None
        Their present lengths; None where there is no second text, and then 0 is returned for it.
    room : int
        How many tokens may remain in all; with no room at all, nothing remains of either.
    strategy : {"longest_first", "only_first", "only_second"}
        Which of them is cut.

    Raises
    ------
    ValueError
        If the text that is to be cut is missing or too short.
    """
    excess = first + (second or 0) - room
    if excess <= 0:
        return first, second or 0
    if room == 0:
        return 0, 0
    if second is None and strategy != "only_second":
        return room, 0
    if strategy == "longest_first":
        assert second is not None
        short, long = sorted((first, second))
        if 2 * short <= room:
            long = room - short
        else:
            short, long = room // 2, room - room // 2
        return (long, short) if first > second else (short, long)
    chosen = first if strategy == "only_first" else second
    if chosen is None or chosen <= excess:
        found = "there is none" if chosen is None else f"it has {chosen} tokens"
        raise ValueError(
            f'truncation is "{strategy}", so {excess} tokens must go from the '
            f"{strategy.removeprefix('only_')} text, and {found}; make max_length larger, or "
            'pass truncation="longest_first".'
        )
    return (first - excess, second or 0) if strategy == "only_first" else (first, chosen - excess)


def cut_to(room: int, first: Any, second: Any, strategy: str, stride: int, side: str) -> None:
    """Shorten a text, or the texts of a pair, in place; what is cut off is their `overflowing`.

    Parameters
    ----------
    room : int
        How many tokens may remain in all.
    first, second : tokenizers.Encoding, tokenizers.Encoding or None
        The tokens of a text, and of the second text of a pair.
    strategy : {"longest_first", "only_first", "only_second"}
        Which of them is cut.
    stride : int
        How many tokens each overflowing piece repeats from the piece before it.
    side : {"right", "left"}
        The end at which tokens are cut off.

    Raises
    ------
    ValueError
        If the text that is to be cut is missing or too short, or the pieces would repeat all that
        they hold.
    """
    lengths = len(first), None if second is None else len(second)
    if lengths[0] + (lengths[1] or 0) <= room:
        return
    kept = kept_lengths(*lengths, room, strategy)
    for encoding, length in zip((first, second), kept, strict=True):
        if encoding is None or len(encoding) <= length:
            continue
        if stride >= length > 0:  # the library would panic
            raise ValueError(
                f"stride is {stride}, and a text is cut into pieces of {length} tokens, special "
                "tokens not counted; expected fewer than that. Make max_length larger."
            )
        encoding.truncate(length, stride=stride, direction=side)
