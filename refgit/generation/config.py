"""What generation_config.json says: the lengths and special ids a checkpoint generates with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from refgit.config import GitConfig, is_integer, require, require_token_ids
from refgit.errors import CheckpointError
from refgit.json_file import read_json, write_whole

DEFAULT_LENGTH = 20
FILE = "generation_config.json"


@dataclass(frozen=True)
class GenerationDefaults:
    """Defaults of `generate`.

    Attributes
    ----------
    max_length : int
        Longest text in tokens, the prompt included; 20 as in transformers.
    max_new_tokens : int or None
        Longest continuation in tokens; where given, it counts in the place of `max_length`.
    min_length : int
        Shortest text in tokens, the prompt included.
    bos_token_id, pad_token_id : int or None
        Opens a text; fills the rows that ended before others.
    eos_token_id : int, list of int or None
        Ends a text.
    extra : mapping
        Other keys of the file, written back as they were.
    """

    max_length: int = DEFAULT_LENGTH
    max_new_tokens: int | None = None
    min_length: int = 0
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self, "max_length", is_integer(self.max_length, 1), "a positive integer")
        fits = self.max_new_tokens is None or is_integer(self.max_new_tokens, 1)
        require(self, "max_new_tokens", fits, "None or a positive integer")
        require(self, "min_length", is_integer(self.min_length), "an integer of at least 0")
        require_token_ids(self, "bos_token_id eos_token_id pad_token_id")

    @classmethod
    def of(cls, config: GitConfig) -> GenerationDefaults:
        """Take the special ids of a model's config, and the lengths where an old one has them."""
        lengths = {k: config.extra[k] for k in ("max_length", "min_length") if k in config.extra}
        return cls(
            **lengths,
            bos_token_id=config.bos_token_id,
            eos_token_id=config.eos_token_id,
            pad_token_id=config.pad_token_id,
        )

    @classmethod
    def from_pretrained(cls, directory: str | Path, config: GitConfig) -> GenerationDefaults:
        """Read generation_config.json; without one, take the ids of `config`."""
        path = Path(directory) / FILE
        if not path.exists():
            return cls.of(config)
        values = read_json(path)
        names = {f.name for f in fields(cls)} - {"extra"}
        known = {k: v for k, v in values.items() if k in names and v is not None}
        try:
            return cls(**known, extra={k: v for k, v in values.items() if k not in names})
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from error

    def save_pretrained(self, directory: str | Path) -> None:
        """Write generation_config.json."""
        values = {**self.extra}
        values |= {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extra"}
        known = {k: v for k, v in values.items() if v is not None}
        text = json.dumps(known, indent=2, sort_keys=True) + "\n"
        write_whole(Path(directory) / FILE, text)
