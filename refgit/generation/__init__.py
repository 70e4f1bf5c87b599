"""Generation: from scores of the next token to whole texts.

Terms (docs/model/12-decoding-and-cache.md explains the steps, docs/generation.md the arguments):

    token             what one step adds: a word of the vocabulary or a piece of one, by its id
    prompt            what a text starts with; at least the opening token, ``bos_token_id``
    end token         the token that ends a text, ``eos_token_id``
    step              one call of the decoder: every text that has not ended grows by a token
    row               a text as the decoder holds it, along the first axis of all arrays
    beam              one of the k rows that beam search carries on for one text
    parents           for each row, which row of the call before it continues
    scores            a number for each token as the next one, (rows, V); probabilities by softmax
    logits processor  a function that changes the scores before a token is chosen
    warper            a processor that changes what sampling draws from
    criterion         a function that says which rows have ended

The letters of shapes are those of refgit.layers; B counts prompts, B' images, R rows.
"""

from refgit.generation.api import generate
from refgit.generation.config import GenerationConfig
from refgit.generation.results import GenerateBeamDecoderOnlyOutput, GenerateDecoderOnlyOutput

__all__ = [
    "GenerateBeamDecoderOnlyOutput",
    "GenerateDecoderOnlyOutput",
    "GenerationConfig",
    "generate",
]
