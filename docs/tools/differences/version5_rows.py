"""Differences to transformers 5: docs/differences.md, "transformers 5"."""

from __future__ import annotations

import inspect
import tempfile
from typing import Any

import numpy as np
from pairs import CONFIG, N, ask, gap, numbers, pair, pixels, quiet, words


def positions() -> list[str]:
    """A decode step written by hand, with and without position_ids."""
    ours, theirs = pair()
    ids = words(1, 6)
    whole = numbers(ours(ids, pixel_values=pixels()).logits)[:, -1]
    start = {"pixel_values": pixels(), "input_ids": ids[:, :5]}
    lines = []
    for told in ({}, {"position_ids": np.array([[5]])}):
        past = ask(theirs, **start, use_cache=True).past_key_values
        step = ask(theirs, input_ids=ids[:, 5:], past_key_values=past, **told).logits[:, -1]
        name = "with position_ids" if told else "without"
        lines.append(f"transformers, {name}, against the whole text at once: {gap(step, whole)}")
    cache = ours(**start, use_cache=True).past_key_values
    step = ours(ids[:, 5:], past_key_values=cache).logits[:, -1]
    lines.append(f"refgit, without: {gap(step, whole)}")
    table = ours.state_dict()["git.embeddings.position_embeddings.weight"]
    spread = gap(table[5 + N], table[5])
    return [*lines, f"vectors of place 5 and place 5 + {N} differ by {spread}"]


def relative() -> list[str]:
    """A checkpoint with relative positions, and head masks."""
    import transformers

    ours, theirs = pair(CONFIG.replace(position_embedding_type="relative_key"))
    call = {"pixel_values": pixels(), "input_ids": words()}
    other = ask(theirs, **call, use_cache=False).logits
    kept = [name for name in theirs.state_dict() if "distance" in name]
    arguments = inspect.signature(transformers.GitForCausalLM.forward).parameters
    return [
        f"tables of distances: refgit {CONFIG.num_hidden_layers}, transformers {len(kept)}",
        f"transformers against refgit: {gap(other, ours(**call).logits)}",
        f"forward takes head_mask: {'yes' if 'head_mask' in arguments else 'no'}",
        f"prune_heads: {'yes' if hasattr(transformers.GitForCausalLM, 'prune_heads') else 'no'}",
    ]


def videos() -> list[str]:
    """The time embeddings of a video checkpoint under the hub's names."""
    import safetensors.numpy
    import transformers

    from refgit import GitForCausalLM

    ours = GitForCausalLM(CONFIG.replace(num_image_with_embedding=3), seed=3)
    with tempfile.TemporaryDirectory() as folder, quiet():
        ours.config.save_pretrained(folder)
        weights = {name: numbers(x) for name, x in ours.state_dict().items()}
        path = f"{folder}/model.safetensors"
        safetensors.numpy.save_file(weights, path, metadata={"format": "pt"})
        transformers.utils.logging.set_verbosity_error()
        _, report = transformers.GitForCausalLM.from_pretrained(folder, output_loading_info=True)
        again = GitForCausalLM.from_pretrained(folder)
    times = [name for name in weights if "img_temp" in name]
    same = all(np.array_equal(again.state_dict()[name], weights[name]) for name in times)
    lines = [f"in the file: {times[0]}"]
    for what in ("unexpected", "missing"):
        lines += [f"transformers, {what}: {min(report[what + '_keys'])}"]
    return [*lines, f"refgit reads all {len(times)}: {same}"]


def resize() -> list[str]:
    """The same picture through Pillow's resize and through torch's, which torchvision calls."""
    import torch
    import transformers

    from refgit.processing.image.processor import CLIPImageProcessor

    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (300, 300, 3), dtype=np.uint8)
    options: dict[str, Any] = {
        "size": {"shortest_edge": 224},
        "do_center_crop": False,
        "do_rescale": False,
        "do_normalize": False,
    }
    mine = CLIPImageProcessor(**options)(image, return_tensors="np").pixel_values
    pillow = transformers.CLIPImageProcessorPil(**options)(image, return_tensors="np").pixel_values
    tensor = torch.tensor(image).permute(2, 0, 1)[None]
    ways = {"CLIPImageProcessorPil": pillow}
    for antialias in (True, False):
        way = torch.nn.functional.interpolate(
            tensor, (224, 224), mode="bicubic", antialias=antialias
        )
        ways[f"torch, antialias={antialias}"] = way.numpy()
    lines = []
    for name, other in ways.items():
        error = np.abs(mine.astype(float) - np.asarray(other))
        lines.append(
            f"{name}: {(error > 0).mean():.1%} of the values differ from refgit's, "
            f"by at most {error.max():g} of 255"
        )
    return lines


ROWS: dict[str, Any] = {
    "new-positions": positions,
    "new-relative": relative,
    "new-videos": videos,
    "new-resize": resize,
}
