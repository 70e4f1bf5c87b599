"""What generation_config.json says: the lengths and special ids a checkpoint generates with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from refgit.config import GitConfig, read_json

FILE = "generation_config.json"


@dataclass(frozen=True)
class GenerationDefaults:
    """Defaults of `generate`.

    Attributes
    ----------
    max_length : int
        Longest text in tokens, the prompt included; 20 as in transformers.
    min_length : int
        Shortest text in tokens, the prompt included.
    bos_token_id, pad_token_id : int or None
        Opens a text; fills the rows that ended before others.
    eos_token_id : int, list of int or None
        Ends a text.
    extra : mapping
        Other keys of the file, written back as they were.
    """

    max_length: int = 20
    min_length: int = 0
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, config: GitConfig) -> GenerationDefaults:
        """Take the special ids of a model's config."""
        return cls(
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
        return cls(**known, extra={k: v for k, v in values.items() if k not in names})

    def save_pretrained(self, directory: str | Path) -> None:
        """Write generation_config.json."""
        values = {**self.extra}
        values |= {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extra"}
        known = {k: v for k, v in values.items() if v is not None}
        text = json.dumps(known, indent=2, sort_keys=True) + "\n"
        (Path(directory) / FILE).write_text(text, encoding="utf-8")
