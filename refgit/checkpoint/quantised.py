"""Checkpoints whose weights are not floating-point numbers any more: told by name and refused."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from refgit.errors import CheckpointError

_BITSANDBYTES = (
    "Load it with transformers, then model.dequantize() and model.save_pretrained(DIR); or take "
    "the checkpoint that it was made from."
)
_OTHERS = "Take the checkpoint that it was made from; its numbers are lost in this one."
# How the names of tensors end, and what made them; the first that is found is named.
_ENDINGS = (
    (r"quant_state\.bitsandbytes__\w+|\.absmax|\.quant_map", "bitsandbytes, in 4 bits"),
    (r"\.SCB|\.weight_format", "bitsandbytes, in 8 bits"),
    (r"\.g_idx", "GPTQ"),
    (r"\.qweight|\.qzeros", "AWQ or GPTQ"),
    (r"\._?weight_qdata|\.weight:\w*qdata|\.weight_scale_and_zero", "torchao"),
    (r"\.W_q", "HQQ"),
    (r"\._data|\.weight_data_type", "quanto"),
    (r"\.weight_packed", "compressed-tensors"),
    (r"\.weight_scale(_inv)?", "an FP8 format"),
)
_METHODS = {
    "awq": "AWQ",
    "gptq": "GPTQ",
    "hqq": "HQQ",
    "fp8": "an FP8 format",
}


def refuse_quantised(names: Iterable[str], config: Mapping[str, Any], source: Path) -> None:
    """Refuse weights that were quantised.

    Parameters
    ----------
    names : iterable of str
        Of the tensors.
    config : mapping
        What config.json says.
    source : Path
        The file, for the message.

    Raises
    ------
    CheckpointError
        They are; the message names the program, and what to do.
    """
    method = _method_in(config.get("quantization_config"))
    hint = ""
    if method is not None:
        hint = ' If its weights are plain numbers, delete "quantization_config" from config.json.'
    else:
        names = list(names)
        found = (kind for end, kind in _ENDINGS if any(re.search(f"({end})$", n) for n in names))
        method = next(found, None)
    if method is not None:
        remedy = _BITSANDBYTES if method.startswith("bitsandbytes") else _OTHERS
        raise CheckpointError(
            f"{source} was quantised by {method}; expected floating-point weights. {remedy}{hint}"
        )


def _method_in(config: Any) -> str | None:
    """What config.json calls the program; None where it mentions none."""
    if not isinstance(config, Mapping):
        return None
    method = str(config.get("quant_method", "a program that it does not name"))
    if method.startswith("bitsandbytes"):
        bits = 4 if config.get("load_in_4bit") or config.get("_load_in_4bit") else 8
        return f"bitsandbytes, in {bits} bits"
    return _METHODS.get(method, method)


def refuse_torchao(message: str, source: Path) -> None:
    """Refuse by its name what a pickle of torchao's tensors asks for."""
    if "torchao" in message:
        raise CheckpointError(
            f"{source} was quantised by torchao; expected floating-point weights. {_OTHERS}"
        )
