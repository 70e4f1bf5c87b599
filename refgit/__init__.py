"""refgit: GIT, the Generative Image-to-text Transformer, in explicit array operations.

`GitForCausalLM` is the whole model and `GitProcessor` what stands around it: pictures and words to
arrays, and back. docs/model explains the mathematics page by page, docs/reference each name.

Names are imported when first used, so that ``import refgit`` itself is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from refgit.version import __version__ as __version__

if TYPE_CHECKING:
    from refgit.errors import CheckpointError
    from refgit.model.cache import KeyValueCache
    from refgit.model.causal_lm import GitForCausalLM
    from refgit.model.config import GitConfig, GitVisionConfig
    from refgit.model.git import GitModel
    from refgit.model.vision import GitVisionModel
    from refgit.processing import (
        BertTokenizer,
        CLIPImageProcessor,
        GitProcessor,
        VideoMAEImageProcessor,
    )
    from refgit.traces.container import trace
    from refgit_backends import to_numpy

_HOMES = {
    "BertTokenizer": "refgit.processing",
    "CLIPImageProcessor": "refgit.processing",
    "CheckpointError": "refgit.errors",
    "GitConfig": "refgit.model.config",
    "GitForCausalLM": "refgit.model.causal_lm",
    "GitModel": "refgit.model.git",
    "GitProcessor": "refgit.processing",
    "GitVisionConfig": "refgit.model.config",
    "GitVisionModel": "refgit.model.vision",
    "KeyValueCache": "refgit.model.cache",
    "VideoMAEImageProcessor": "refgit.processing",
    "to_numpy": "refgit_backends",
    "trace": "refgit.traces.container",
}

__all__ = [
    "BertTokenizer",
    "CLIPImageProcessor",
    "CheckpointError",
    "GitConfig",
    "GitForCausalLM",
    "GitModel",
    "GitProcessor",
    "GitVisionConfig",
    "GitVisionModel",
    "KeyValueCache",
    "VideoMAEImageProcessor",
    "to_numpy",
    "trace",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'refgit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
