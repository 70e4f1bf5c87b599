"""adapter_config.json of peft: how a LoRA is scaled, and what cannot be merged, refused by name."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refgit.errors import CheckpointError
from refgit.files import read_json

FILE_NAME = "adapter_config.json"
# Types of peft that put tokens or layers into a model, so that its weights alone cannot be them.
_NOT_WEIGHTS = {
    "ADAPTION_PROMPT", "CARTRIDGE", "CPT", "MULTITASK_PROMPT_TUNING", "POLY", "PREFIX_TUNING",
    "PROMPT_TUNING", "P_TUNING", "XLORA",
}  # fmt: skip
# Options of a LoRA with which it is something else than scaled products that are added.
_REFUSED = (
    "alora_invocation_tokens", "arrow_config", "kasa_config", "layer_replication",
    "monteclora_config", "target_parameters", "trainable_token_indices", "use_bdlora",
    "use_qalora", "velora_config",
)  # fmt: skip
# Initialisations that change the base as well.
_CHANGE_BASE = ("corda", "loftq", "lora_ga", "mica", "olora", "pissa")


@dataclass(frozen=True)
class AdapterConfig:
    """What adapter_config.json says of a LoRA.

    Attributes
    ----------
    path : Path
        The file.
    r, alpha : int
        Rank and scale of each layer that no pattern names.
    rank_pattern, alpha_pattern : mapping of str to int
        Those of the layers that a regular expression names.
    rslora : bool
        Whether the scale is alpha / sqrt(r), not alpha / r.
    dora : bool
        Whether each output has a magnitude of its own.
    base : str or None
        The model that it changes, as peft was given it.
    """

    path: Path
    r: int
    alpha: float
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    rslora: bool
    dora: bool
    base: str | None

    def scaling(self, layer: str, rank: int) -> float:
        """What the product of a layer's two matrices is multiplied with.

        Parameters
        ----------
        layer : str
            Its name in the model that was trained.
        rank : int
            Of its matrices.

        Raises
        ------
        CheckpointError
            The file gives the layer another rank.
        """
        wanted = self._of(self.rank_pattern, layer, self.r)
        if rank != wanted:
            raise CheckpointError(
                f"{self.path} gives {layer} the rank {wanted}, and its matrices have {rank}; "
                "expected the same. Take both files from the same training."
            )
        alpha = self._of(self.alpha_pattern, layer, self.alpha)
        return float(alpha) / (math.sqrt(rank) if self.rslora else rank)

    def _of(self, patterns: Mapping[str, Any], layer: str, otherwise: Any) -> Any:
        """The value of the first pattern that a layer's name ends with."""
        for pattern, value in patterns.items():
            try:
                if re.match(rf"(.*\.)?({pattern})$", layer):
                    return value
            except re.error as error:
                raise CheckpointError(
                    f"{self.path}: the pattern {pattern!r} is not a regular expression: {error}."
                ) from error
        return otherwise


def read_adapter_config(adapter: Path) -> AdapterConfig:
    """Read the adapter_config.json of a directory.

    Raises
    ------
    CheckpointError
        It is missing or broken, or describes what cannot be merged.
    """
    path = adapter / FILE_NAME
    values = read_json(path)
    _refuse_other_types(path, values.get("peft_type"))
    start = values.get("init_lora_weights")
    changes = isinstance(start, str) and start.lower().startswith(_CHANGE_BASE)
    options = [name for name in _REFUSED if values.get(name)]
    options += ["init_lora_weights"] if changes else []
    if options:
        said = f"{options[0]} {values[options[0]]!r}"
        raise CheckpointError(f"{path} has {said}, which refgit does not merge. {_merged(path)}")
    r, alpha = values.get("r", 8), values.get("lora_alpha", 8)
    patterns = [values.get(name) or {} for name in ("rank_pattern", "alpha_pattern")]
    numbers = [
        r,
        alpha,
        *(x for pattern in patterns if isinstance(pattern, dict) for x in pattern.values()),
    ]
    whole = all(isinstance(x, int | float) and not isinstance(x, bool) and x > 0 for x in numbers)
    if not whole or not all(isinstance(pattern, dict) for pattern in patterns):
        raise CheckpointError(
            f"{path}: r, lora_alpha, rank_pattern or alpha_pattern is not positive numbers; "
            "expected those that peft has written."
        )
    return AdapterConfig(
        path=path,
        r=r,
        alpha=alpha,
        rank_pattern=patterns[0],
        alpha_pattern=patterns[1],
        rslora=bool(values.get("use_rslora")),
        dora=bool(values.get("use_dora")),
        base=values.get("base_model_name_or_path"),
    )


def _refuse_other_types(path: Path, kind: Any) -> None:
    if kind == "LORA":
        return
    what = f"{path} describes an adapter of type {kind}; refgit reads LORA."
    if kind in _NOT_WEIGHTS:
        raise CheckpointError(
            f"{what} This type cannot be merged into weights: caption with peft, or train a LoRA."
        )
    raise CheckpointError(f"{what} {_merged(path)}")


def _merged(path: Path) -> str:
    return (
        f"Merge it in peft: PeftModel.from_pretrained(base, {str(path.parent)!r})"
        ".merge_and_unload().save_pretrained(DIR), and load DIR."
    )
