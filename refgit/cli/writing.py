"""One text below an image, for the commands that show it as it comes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refgit.model.causal_lm import GitForCausalLM
    from refgit.processing import GitProcessor


def write_one(model: GitForCausalLM, processor: GitProcessor, **options: Any) -> Iterator[str]:
    """Write one text, as the checkpoint's generation_config.json says it is to be written.

    Parameters
    ----------
    model : GitForCausalLM
    processor : GitProcessor
    **options
        Of `generate`: the image and the prompt of one text, and its lengths.

    Returns
    -------
    iterator of str
        The text so far, a word longer each time; whole at once with beams, which change their
        minds on the way.

    Raises
    ------
    ValueError, TypeError
        As `generate`.
    """
    options = {
        **options,
        "num_return_sequences": 1,
        "tokenizer": processor.tokenizer,
    }
    if model.generation_config.num_beams == 1:
        words = model.stream(**options)
        return ((word.text or "").strip() for word in words)
    ids = model.generate(**options, return_dict_in_generate=False)
    prompt = options.get("input_ids", [[0]])
    written = model.backend.to_numpy(ids)[:, len(prompt[0]) :]
    return iter([processor.batch_decode(written, skip_special_tokens=True)[0].strip()])
