"""`refgit convert DIR`: a checkpoint written anew, an adapter merged, in the dtype asked for."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refgit.checkpoint import load_parameters
from refgit.checkpoint.casting import cast_weight
from refgit.checkpoint.headers import stored_dtypes
from refgit.checkpoint.video_files import save_weights_and_config
from refgit.cli.output import one_line, put, reason, say
from refgit.cli.terminal import waiting
from refgit.demo import find_model
from refgit.errors import CheckpointError
from refgit.files import whole_directory
from refgit.generation import GenerationConfig
from refgit.model.causal_lm import GitForCausalLM
from refgit.model.config import GitConfig
from refgit.model.git import GitModel
from refgit.parts import Parts, find_parts
from refgit.processing import GitProcessor

_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
# What config.json says of the files it was read with.
_OF_THE_FILE = (
    "dtype", "torch_dtype", "configuration_files", "transformers_weights", "quantization_config",
)  # fmt: skip


def convert_checkpoint(arguments: argparse.Namespace, target: Path) -> int:
    """Write a checkpoint anew; what is wrong with it is found before anything is written.

    Parameters
    ----------
    arguments : argparse.Namespace
        Of `refgit convert`.
    target : Path
        The directory to write.

    Returns
    -------
    int
        The exit code: 1 where all but the processor was written.
    """
    parts = find_parts(
        find_model(arguments.file), base=arguments.base, processor=arguments.processor
    )
    config = GitConfig.from_pretrained(parts.model)
    with waiting(f"reading {one_line(arguments.file)}"):
        kind = GitModel if config.extra.get("architectures") == ["GitModel"] else GitForCausalLM
        weights, dtype = read_cast(parts, config, kind, arguments.dtype or "as-is")
    processor, missing = None, None
    try:
        processor = GitProcessor.from_pretrained(parts.processor)
    except CheckpointError as error:
        if arguments.processor is not None:
            raise
        missing = error
    with waiting(f"writing {one_line(arguments.out)}"), whole_directory(target) as folder:
        if kind is GitForCausalLM:
            GenerationConfig.from_pretrained(parts.model, config).save_pretrained(folder)
        if processor is not None:
            processor.save_pretrained(folder)
        content = config_to_write(config, kind.__name__, dtype)
        save_weights_and_config(folder, weights, content)
    count = sum(x.size for x in weights.values())
    merged = "" if parts.adapter is None else ", the adapter merged"
    put(one_line(f"{arguments.out}: {count:,} parameters, {dtype}{merged}"))
    if missing is None:
        return 0
    say(f"{arguments.out} has no processor: {reason(missing)} All else is written.")
    return 1


def read_cast(
    parts: Parts, config: GitConfig, kind: type[GitModel | GitForCausalLM], wanted: str
) -> tuple[dict[str, Any], str]:
    """Read the weights and bring each to the dtype wanted, or to the one it is stored in.

    Returns
    -------
    tuple of dict of str to array, and str
        The weights without those that are tied to others; what config.json is to call the dtype.
    """
    shapes, tied = kind.shapes(config), kind.tied(config)
    found = load_parameters(
        parts.model, shapes, prefix=kind.prefix, tied=tied, adapter=parts.adapter
    )
    stored = stored_dtypes(parts.model, shapes, tied)
    weights, used = {}, set()
    for name, x in found.items():
        if name not in tied:
            dtype = _NAMES[stored.get(name, "F32")] if wanted == "as-is" else wanted
            weights[name] = cast_weight(x, dtype, name, parts.directory)
            used.add(dtype)
    return weights, used.pop() if len(used) == 1 else "float32"


def config_to_write(config: GitConfig, architecture: str, dtype: str) -> Mapping[str, Any]:
    """Return the entries of config.json, those true of other files left out."""
    content = {k: v for k, v in config.to_json_dict().items() if k not in _OF_THE_FILE}
    vision = content["vision_config"]
    content["vision_config"] = {k: v for k, v in vision.items() if k not in _OF_THE_FILE}
    return {**content, "architectures": [architecture], "torch_dtype": dtype}
