"""Labels as texts: their tokens, each once, in a trie that fits a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from refgit.generation.classification.ranking import check_labels, trie_of
from refgit.generation.classification.trie import LabelError, Trie
from refgit.generation.protocol import CaptionModel


@dataclass(frozen=True)
class LabelSet:
    """Labels of a classification, from `prepare_labels`.

    Attributes
    ----------
    texts : tuple of str
        As they were given.
    numbers : tuple of int
        Which of the texts each label of the trie is, from 0; a text of the same tokens as an
        earlier one is left out.
    trie : Trie
    prompt : tuple of int
        Token ids before each label.
    repeated : tuple of (int, int)
        Texts that are left out, and the earlier ones of the same tokens.
    unknown : tuple of int
        Texts with words that the tokenizer does not know.
    """

    texts: tuple[str, ...]
    numbers: tuple[int, ...]
    trie: Trie
    prompt: tuple[int, ...]
    repeated: tuple[tuple[int, int], ...]
    unknown: tuple[int, ...]


def prepare_labels(
    model: CaptionModel,
    tokenizer: Any,
    texts: Sequence[str],
    prompt: Sequence[int],
    num_image_tokens: int,
) -> LabelSet:
    """Turn texts into labels that a model can rank.

    Parameters
    ----------
    model : GitForCausalLM
    tokenizer : BertTokenizer
    texts : sequence of str
    prompt : sequence of int
        Token ids before each label, the opening one included.
    num_image_tokens : int
        Of the images that will be classified.

    Raises
    ------
    LabelError
        A text has no tokens, or more than the model has positions for.
    ValueError
        The model has no end token.
    """
    if not model.generation_config.eos_ids:
        raise ValueError(
            "the model names no token that ends a text; expected eos_token_id in its "
            "generation_config.json or config.json."
        )
    first: dict[tuple[int, ...], int] = {}
    repeated, unknown = [], []
    for i, ids in enumerate(tokenizer(list(texts), add_special_tokens=False)["input_ids"]):
        if not ids:
            raise LabelError(i, "has no words to read.")
        earlier = first.setdefault(tuple(ids), i)
        if earlier != i:
            repeated.append((i, earlier))
        elif tokenizer.unk_token_id in ids:
            unknown.append(i)
    numbers = tuple(first.values())
    try:
        trie = trie_of(model, list(first))
        check_labels(trie, model.config, len(prompt), num_image_tokens)
    except LabelError as error:
        raise LabelError(numbers[error.label], error.why) from error
    return LabelSet(tuple(texts), numbers, trie, tuple(prompt), tuple(repeated), tuple(unknown))
