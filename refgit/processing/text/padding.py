"""Padding of token ids that are there already, as a batch is put together from single texts.

Calling the tokenizer pads by itself; this is `BertTokenizer.pad`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refgit.processing.feature import BatchFeature, check_return_tensors, on_device
from refgit.processing.text.lengths import Lengths
from refgit_backends import to_numpy

# What each entry, beside the ids, is padded with; other entries are not padded.
_FILLINGS = {"token_type_ids": 0, "attention_mask": 0, "special_tokens_mask": 1}


def pad_features(
    features: Any,
    name: str,
    lengths: Lengths,
    *,
    multiple: int | None,
    side: str,
    pad_id: int,
    masked: bool,
    return_tensors: str | None,
) -> BatchFeature:
    """Pad one feature, a batch of them, or a list of single ones.

    Parameters
    ----------
    features : mapping, or sequence of mappings
        The entries, lists or arrays.
    name : str
        The entry that says how long a sequence is: "input_ids".
    lengths : Lengths
        Whether to pad, and how far.
    multiple : int or None
        Lengths are rounded up to a multiple of this.
    side : {"right", "left"}
        Where padding goes.
    pad_id : int
        What `name` is padded with.
    masked : bool
        Whether an attention mask is added and padded.
    return_tensors : str or None
        None: arrays if `name` holds arrays, else lists.

    Raises
    ------
    TypeError, ValueError
        If an entry is missing or has the wrong form, or lengths differ as arrays.

    Notes
    -----
    Source: transformers 4.56.2, `PreTrainedTokenizerBase.pad`. As there, an attention mask is
    padded only where `masked` says so. A single array (T,) is taken as a single tensor is there.
    """
    check_return_tensors(return_tensors)
    entries = _entries(features)
    if name not in entries:
        raise ValueError(
            f"The features to pad have {', '.join(map(str, entries)) or 'no entries'}; expected "
            f"{name} among them."
        )
    if entries[name] is None or len(entries[name]) == 0:
        return BatchFeature({**entries, **({"attention_mask": []} if masked else {})})
    held_arrays = _holds_arrays(entries[name])
    if held_arrays and return_tensors is None:
        return_tensors = "np"
    columns = {key: _to_lists(value) for key, value in entries.items()} if held_arrays else entries
    single = not isinstance(columns[name][0], (list, tuple))
    rows = _rows(columns, name, single)
    length = 0  # which is shorter than any, so that nothing is padded
    if lengths.pads:
        length = lengths.padded_to((len(row[name]) for row in rows), multiple)
    fillings = {**_FILLINGS, name: pad_id}
    padded = [_pad(row, name, length, side, fillings, masked) for row in rows]
    joined = {key: [row[key] for row in padded] for key in padded[0]}
    found = BatchFeature({key: rows[0] for key, rows in joined.items()} if single else joined)
    return found if return_tensors is None else _as_arrays(found, return_tensors)


def _entries(features: Any) -> dict[str, Any]:
    """Bring a list of single features to one with lists."""
    if isinstance(features, Mapping):
        return dict(features)
    is_list = isinstance(features, (list, tuple)) and len(features) > 0
    if not is_list or not all(isinstance(feature, Mapping) for feature in features):
        raise TypeError(
            "What is padded is a mapping with input_ids, or a list of such, not empty; found "
            f"{type(features).__name__}."
        )
    for index, feature in enumerate(features):
        missing = sorted(set(features[0]) - set(feature))
        if missing:
            raise ValueError(
                f"Feature {index} lacks {', '.join(missing)}, which the first has; expected the "
                "same entries in each."
            )
    return {key: [feature[key] for feature in features] for key in features[0]}


def _holds_arrays(value: Any) -> bool:
    if not isinstance(value, (list, tuple)):
        return True
    inner = next((item for item in value if not isinstance(item, (list, tuple)) or len(item)), 0)
    if isinstance(inner, (list, tuple)):
        inner = inner[0]
    return not isinstance(inner, (int, list, tuple))


def _to_lists(value: Any) -> Any:
    """Turn arrays, also those inside lists, into lists of numbers."""
    if isinstance(value, (list, tuple)):
        return [_to_lists(item) for item in value]
    if isinstance(value, (int, float, str)) or value is None:
        return value
    return to_numpy(value).tolist()


def _rows(columns: Mapping[str, Any], name: str, single: bool) -> list[dict[str, Any]]:
    """Return the entries of each text; the entry `name` as a list."""
    if single:
        return [dict(columns)]
    size = len(columns[name])
    for key, value in columns.items():
        if len(value) != size:
            raise ValueError(
                f"{key} is of {len(value)} texts and {name} of {size}; expected as many of either."
            )
    return [{key: value[i] for key, value in columns.items()} for i in range(size)]


def _pad(
    row: Mapping[str, Any],
    name: str,
    length: int,
    side: str,
    fillings: Mapping[str, int],
    masked: bool,
) -> dict[str, Any]:
    made = dict(row)
    if masked and "attention_mask" not in made:
        made["attention_mask"] = [1] * len(row[name])
    missing = length - len(row[name])
    if missing <= 0:
        return made
    for key, filling in fillings.items():
        if key in made and (masked or key != "attention_mask"):
            values, more = list(made[key]), [filling] * missing
            made[key] = values + more if side == "right" else more + values
    return made


def _as_arrays(feature: BatchFeature, return_tensors: str) -> BatchFeature:
    arrays = BatchFeature()
    for key, value in feature.items():
        lengths = _row_lengths(value)
        if len(lengths) > 1:
            raise ValueError(
                f"{key} has different lengths, {lengths}, and cannot form one array; pass "
                "padding=True, or leave the entry out if it is not the tokenizer's."
            )
        array = np.asarray(value)
        arrays[key] = array if array.size else array.astype(np.int64)
    return on_device(arrays, return_tensors)


def _row_lengths(value: Any) -> list[int]:
    is_batch = isinstance(value, Sequence) and not isinstance(value, str)
    return sorted({len(row) for row in value if isinstance(row, (list, tuple))}) if is_batch else []
