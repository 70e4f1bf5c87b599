"""refgit: GIT, the Generative Image-to-text Transformer, in explicit array operations.

`GitForCausalLM` is the whole model, `GitProcessor` turns pictures and text into arrays and back,
and `Captioner` goes from a file to its text. docs/model explains the mathematics page by page,
docs/reference each name.

Names are imported when first used, so that ``import refgit`` itself is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from refgit.version import __version__ as __version__

if TYPE_CHECKING:  # what `_HOMES` says, for type checkers
    from refgit.errors import CheckpointError as CheckpointError
    from refgit.model.cache import KeyValueCache as KeyValueCache
    from refgit.model.causal_lm import GitForCausalLM as GitForCausalLM
    from refgit.model.config import GitConfig as GitConfig
    from refgit.model.config import GitVisionConfig as GitVisionConfig
    from refgit.model.git import GitModel as GitModel
    from refgit.model.vision import GitVisionModel as GitVisionModel
    from refgit.pipeline import Captioner as Captioner
    from refgit.processing import BertTokenizer as BertTokenizer
    from refgit.processing import CLIPImageProcessor as CLIPImageProcessor
    from refgit.processing import GitProcessor as GitProcessor
    from refgit.processing import VideoMAEImageProcessor as VideoMAEImageProcessor
    from refgit.traces.recorder import trace as trace
    from refgit_backends import to_numpy as to_numpy

_HOMES = {
    "BertTokenizer": "refgit.processing",
    "CLIPImageProcessor": "refgit.processing",
    "Captioner": "refgit.pipeline",
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
    "trace": "refgit.traces.recorder",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'refgit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
