"""Punctuation as an English writer sets it: ``upside - down`` -> ``upside-down``.

The text of a tokenizer has a space on either side of every mark. Each rule here takes out spaces
beside one kind of mark, and nothing else, where one can tell from the words around it; where one
cannot, as in ``a dog - a cat``, the spaces stay. Letters, digits and the order of everything stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

# After these a hyphen is a dash, unless another hyphen follows: one-of-a-kind.
_NOT_IN_COMPOUNDS = (
    "a an the this that these those it its he his she her they their we our you your i my "
    "and but or so is are was were has have with from for while who which where when"
)
_AFTER_DASH = rf"(?!(?:{'|'.join(_NOT_IN_COMPOUNDS.split())})\b(?! *-))"
_MONEY = "$€£¥"

# What a pattern matches is left without its spaces.
_RULES: tuple[str, ...] = (
    # 10 : 30 -> 10:30
    r"(?<![\w:])\d{1,2} +: +\d{1,2}(?!\d)",
    # a , b -> a, b; but not nice : )
    r"(?<=[^\s([{]) +(?:[,.;!?]|:(?! *[()]))(?!\w)",
    # upside - down -> upside-down
    rf"(?<=[^\W_]) +- +(?=[^\W_]){_AFTER_DASH}",
    # and / or -> and/or
    r"(?<=[^\W_]) +/ +(?=[^\W_])",
    # it ' s -> it's, but not the letter ' s '; don ' t -> don't; i ' m -> i'm
    r"(?<=\w) +['’] +(?:s|d|ll|re|ve)(?!\w)(?! ['’](?!\w))",
    r"(?<=n) +['’] +t(?!\w)(?! ['’](?!\w))",
    r"(?<!\w)i +['’] +m(?!\w)",
    # o ' clock -> o'clock; l ' oreal, d ' or
    r"(?<!\w)[old] +['’] +(?=[^\W\d_])",
    # the ' 90s -> the '90s
    r"(?<!\S)['’] +(?=\d0s(?!\w))",
    # 10 , 000 -> 10,000; two numbers of a list stay apart: 10, 200
    r"(?<![\w.,])\d{1,3} *, *0\d\d(?: *, *\d{3})*(?!\w)",
    rf"(?<=[{_MONEY}])\d{{1,3}}(?: *, *\d{{3}})+(?!\w)",
    # 3 . 5 -> 3.5; years end sentences
    r"(?<![\w.])\d{1,3}(?: *\. *\d+)+",
    rf"(?<=[{_MONEY}])\d+ *\. *\d\d(?!\w)",
    # $ 5 -> $5; # 1 -> #1, but not c # code; 50 % -> 50%
    rf"[{_MONEY}] +(?=\d)",
    r"(?<!\w)(?<!\b[cf] )# +(?=\w)",
    r"(?<=\d) +[%°](?!\w)",
    # ( x ) -> (x); “ x ” -> “x”
    r"(?<![:;])(?<![:;] )[(\[{“] +(?=\S)",
    r"(?<=\S) +[)\]}”]",
    # www . example . com -> www.example.com
    r"(?<!\w)www *\. *(?=\w)",
    r"(?<=\w) *\. *(?:com|org|net)(?!\w)",
    # 5 p . m . -> 5 p.m.; u . s . -> u.s.
    r"(?<=\d )[ap] *\. *m *\.(?!\w)",
    r"(?<!\w)(?:u *\. *s|u *\. *k|d *\. *c) *\.(?!\w)",
)
_COMPILED = [re.compile(rule) for rule in _RULES]
_MARK = re.compile(r"[^\w\s]")
_STANDING = r"(?<!\S)%s(?![^\s,.;:!?)\]}])"  # with a space before it, and not at a word
_DOUBLE, _SINGLE = re.compile(_STANDING % '"'), re.compile(_STANDING % "['’]")
# After says ' there is a quotation.
_POSSESSOR = re.compile(r"(?<!\w)(?!(?:says|reads|spells|words|letters|is|was|has|this)\b)\w+s +$")


def close_up(text: str) -> str:
    r"""Take out the spaces that an English writer would not set beside punctuation.

    Parameters
    ----------
    text : str
        As a tokenizer gives it; best without its own `clean_up`, which joins ``says ' stop '`` to
        ``says'stop '``.

    Returns
    -------
    str
        The same letters, digits and marks in the same order, without some of the spaces.

    Examples
    --------
    >>> from refgit.captions import close_up
    >>> close_up("a man ' s t - shirt with the words \" no . 1 , 000 \" ( $ 5 )")
    'a man\'s t-shirt with the words "no. 1,000" ($5)'
    """
    if not _MARK.search(text):  # most captions
        return text
    while (closed := _close_up_once(text)) != text:
        text = closed
    return text


def _close_up_once(text: str) -> str:
    text = _in_quotes(text, _DOUBLE, _spans_of_pairs)
    for pattern in _COMPILED:
        text = pattern.sub(lambda found: found[0].replace(" ", ""), text)
    return _in_quotes(text, _SINGLE, _spans_of_apostrophes)


def _in_quotes(
    text: str, mark: re.Pattern[str], spans: Callable[[str, Sequence[int]], list[tuple[int, int]]]
) -> str:
    r"""Take out the spaces that `spans` finds for all standing marks of one kind."""
    at = [found.start() for found in mark.finditer(text)]
    for start, end in sorted(spans(text, at), reverse=True):
        text = text[:start] + text[start:end].replace(" ", "") + text[end:]
    return text


def _spans_of_pairs(text: str, at: Sequence[int]) -> list[tuple[int, int]]:
    """The spaces within pairs of quotation marks; none where it is open what is a pair."""
    if len(at) % 2 or any(text[:i].rstrip(" ")[-1:].isdigit() for i in at[::2]):  # 5 " is inches
        return []
    found: list[tuple[int, int]] = []
    for first, last in zip(at[::2], at[1::2], strict=True):
        inner = text[first + 1 : last]
        if inner.strip(" "):
            found += [(first + 1, first + 1 + len(inner) - len(inner.lstrip(" ")))]
            found += [(first + 1 + len(inner.rstrip(" ")), last)]
    return found


def _spans_of_apostrophes(text: str, at: Sequence[int]) -> list[tuple[int, int]]:
    """The spaces beside apostrophes that stand alone: dogs ' toys, or says ' stop '."""
    possessive = [_POSSESSOR.search(text[:i]) is not None for i in at]
    if len(at) == 1 and possessive[0]:
        return [(len(text[: at[0]].rstrip(" ")), at[0])]
    ambiguous = any(map(all, zip(possessive[::2], possessive[1::2], strict=False)))
    return [] if ambiguous else _spans_of_pairs(text, at)
