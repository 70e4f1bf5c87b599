"""What `padding`, `truncation` and `max_length` mean together: the lengths of token sequences.

The rules are those of transformers 4.56.2, `_get_padding_truncation_strategies`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from refgit.validation import expect, is_size

# transformers writes this number where a tokenizer sets no limit; anything close to it is no limit.
NO_LIMIT = int(1e30)
_LARGE = int(1e20)

_PADDINGS = (True, False, "longest", "max_length", "do_not_pad")
_STRATEGIES = ("longest_first", "only_first", "only_second")
_TRUNCATIONS = (None, True, False, *_STRATEGIES, "do_not_truncate")


class Lengths(NamedTuple):
    """What is to happen to the lengths of a batch.

    Attributes
    ----------
    truncation : {"longest_first", "only_first", "only_second"} or None
        Which text of a pair is cut; None cuts nothing.
    limit : int or None
        The length to truncate to, special tokens counted in.
    pads : bool
        Whether sequences are padded.
    padded : int or None
        The length to pad to; None is that of the longest sequence.
    """

    truncation: str | None
    limit: int | None
    pads: bool
    padded: int | None

    def padded_to(self, lengths: Iterable[int], multiple: int | None) -> int:
        """Return the length to pad sequences of these lengths to, rounded up to a multiple."""
        length = max(lengths) if self.padded is None else self.padded
        if multiple is None:
            return length
        expect("pad_to_multiple_of", multiple, is_size(multiple), "a whole number of at least 1")
        return -(-length // multiple) * multiple


def settle_lengths(
    padding: bool | str, truncation: bool | str | None, max_length: int | None, model_limit: int
) -> Lengths:
    """Settle lengths from the options of a call and the longest sequence that the model takes.

    Raises
    ------
    ValueError
        If an option has no meaning.
    """
    if max_length is not None:
        expect("max_length", max_length, is_size(max_length), "a whole number of at least 1")
    expect("padding", padding, padding in _PADDINGS, f"one of {_PADDINGS}")
    expect("truncation", truncation, truncation in _TRUNCATIONS, f"one of {_TRUNCATIONS}")
    limit = max_length
    if limit is None and model_limit <= _LARGE:
        limit = model_limit
    if truncation is None and max_length is not None and padding is False:
        truncation = True
    cuts = truncation not in (None, False, "do_not_truncate") and limit is not None
    pads = padding not in (False, "do_not_pad")
    if padding == "max_length" and limit is None:
        pads = False  # no length to pad to: transformers then leaves the sequences as they are
    return Lengths(
        truncation=("longest_first" if truncation is True else str(truncation)) if cuts else None,
        limit=limit if cuts else None,
        pads=pads,
        padded=limit if padding == "max_length" else None,
    )
