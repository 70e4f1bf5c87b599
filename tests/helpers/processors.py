"""All logits processors by name, and the functions that build and run them."""

from __future__ import annotations

from types import SimpleNamespace

from refgit.generation.logits import build, distribution, length, repetition, sampling, token

_MODULES = (build, distribution, length, repetition, sampling, token)
processors = SimpleNamespace(**{k: v for module in _MODULES for k, v in vars(module).items()})
