"""Models drawn for the tests of the graph, and the tensors it is recomputed from."""

from __future__ import annotations

from typing import Any

import numpy as np

from refgit import GitConfig, GitForCausalLM


def model_of(case: dict[str, Any]) -> GitForCausalLM:
    model = GitForCausalLM(
        GitConfig.from_dict(case["config"]), seed=case["seed"], dtype="float64", kernels="off"
    )
    rng = np.random.default_rng(case["seed"])
    for array in {id(x): x for x in model.state_dict().values()}.values():
        array += 0.1 * rng.standard_normal(array.shape)  # biases and norms of their own
    if case["prune"]:
        model.prune_heads({0: [1]})
    return model


def inputs_of(case: dict[str, Any], model: GitForCausalLM) -> dict[str, np.ndarray]:
    """The inputs of the first call under the names of a trace."""
    rng = np.random.default_rng(case["seed"] + 1)
    rows, length = max(case["images"], 1) * case["repeat"], case["length"]
    inputs = {"input.input_ids": rng.integers(0, 31, (rows, length))}
    if case["images"]:
        frames = () if case["frames"] is None else (case["frames"],)
        inputs["input.pixel_values"] = rng.standard_normal(
            (case["images"], *frames, 3, *case["size"])
        )
    if case["embeds"]:
        del inputs["input.input_ids"]
        width = model.config.hidden_size
        inputs["input.inputs_embeds"] = rng.standard_normal((rows, length, width))
    if case["padding"] != "none":
        mask = np.ones((rows, length), np.int64)
        mask[0, 0 if case["padding"] == "left" else -1] = 0
        inputs["input.attention_mask"] = mask
    if case["positions"]:
        inputs["input.position_ids"] = rng.integers(0, 50, (rows, length))
    if case["head_mask"] and not case["prune"]:
        config = model.config
        shape = (config.num_hidden_layers, config.num_attention_heads)
        inputs["input.head_mask"] = rng.integers(0, 2, shape).astype(np.float64)
    return inputs


def hooks_of(
    case: dict[str, Any], model: GitForCausalLM, inputs: dict[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """All inputs, those of the steps included, and all hooks of the model."""
    rng = np.random.default_rng(case["seed"] + 2)
    inputs, hooks = dict(inputs), {}
    call = {name.removeprefix("input."): x for name, x in inputs.items()}
    out = model(**call, interpolate_pos_encoding=True, use_cache=True, hook=hooks.__setitem__)
    rows = out.logits.shape[0]
    for number, length in enumerate(case["steps"], 1):
        step = {"input_ids": rng.integers(0, 31, (rows, length))}
        if case["positions"]:
            step["position_ids"] = rng.integers(0, 50, (rows, length))
        more = {name: call[name] for name in ("head_mask",) if name in call}
        prefix = f"step.{number}."
        inputs |= {f"{prefix}input.{name}": x for name, x in (step | more).items()}
        out = model(
            **step,
            **more,
            past_key_values=out.past_key_values,
            hook=lambda name, x, prefix=prefix: hooks.__setitem__(prefix + name, x),
        )
    return inputs, hooks
