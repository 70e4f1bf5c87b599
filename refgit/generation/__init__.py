"""Generation: from scores of the next word to whole texts."""

from refgit.generation.config import GenerationConfig
from refgit.generation.generate import generate
from refgit.generation.outputs import GenerateBeamDecoderOnlyOutput, GenerateDecoderOnlyOutput

__all__ = [
    "GenerateBeamDecoderOnlyOutput",
    "GenerateDecoderOnlyOutput",
    "GenerationConfig",
    "generate",
]
