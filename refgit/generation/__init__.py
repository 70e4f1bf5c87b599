"""Generation: from scores of the next word to whole texts."""

from refgit.generation.config import GenerationDefaults
from refgit.generation.greedy import generate

__all__ = ["GenerationDefaults", "generate"]
