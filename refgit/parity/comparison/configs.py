"""In what two configs differ, as far as it changes numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from refgit.model.config import GitConfig

# What changes no number.
_IDLE = (
    "extra", "architectures", "initializer_range", "use_cache", "hidden_dropout_prob",
    "attention_probs_dropout_prob", "attention_dropout", "bos_token_id", "eos_token_id",
    "pad_token_id", "model_type", "torch_dtype", "dtype", "transformers_version",
)  # fmt: skip


def config_differences(
    ours: GitConfig | None, theirs: GitConfig | None
) -> list[tuple[str, Any, Any]]:
    """Return the settings in which two configs differ, as far as they change numbers.

    Returns
    -------
    list of (str, object, object)
        The key, our value and theirs.
    """
    if ours is None or theirs is None:
        return []
    a, b = dict(_settings(ours.to_dict())), dict(_settings(theirs.to_dict()))
    return [(key, a[key], b[key]) for key in a if key in b and a[key] != b[key]]


def _settings(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{prefix}{key}.")
        elif key not in _IDLE:
            yield prefix + key, value
