"""Special tokens of the tiny model, and the same model with another end token."""

from __future__ import annotations

from refgit import GitForCausalLM

PAD, BOS, EOS = 0, 1, 2


def with_eos(model: GitForCausalLM, eos: int | list[int] | None) -> GitForCausalLM:
    """A model of the same weights that ends its texts with another word."""
    return GitForCausalLM(
        model.config.replace(eos_token_id=eos), _parameters=dict(model.state_dict())
    )
