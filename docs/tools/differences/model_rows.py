"""Differences in a call of the model: docs/differences.md, "Reading"."""

from __future__ import annotations

from typing import Any

import numpy as np
from pairs import (
    CONFIG,
    VISION,
    N,
    ask,
    failure,
    gap,
    numbers,
    pair,
    pixels,
    words,
    write,
)


def image_runs() -> list[str]:
    """How often the image encoder runs while 20 words are written."""
    ours, theirs = pair(CONFIG.replace(eos_token_id=None))
    runs = {"transformers": 0, "refgit": 0}

    def count(*_: Any) -> None:
        runs["transformers"] += 1

    theirs.git.image_encoder.register_forward_hook(count)
    ids = write(theirs, pixel_values=pixels(), max_new_tokens=20)
    read = ours.encode_checked

    def counted(*args: Any, **options: Any) -> Any:
        runs["refgit"] += 1
        return read(*args, **options)

    ours.encode_checked = counted
    same = np.array_equal(ids, ours.generate(pixels(), max_new_tokens=20))
    return [*(f"image encoder runs, {k}: {v}" for k, v in runs.items()), f"same words: {same}"]


def distances() -> list[str]:
    """Relative positions with and without a cache."""
    lines = []
    for kind in ("relative_key", "relative_key_query"):
        ours, theirs = pair(CONFIG.replace(position_embedding_type=kind))
        call = {"pixel_values": pixels(), "input_ids": words()}
        plain, cached = (ask(theirs, **call, use_cache=use).logits for use in (False, True))
        lines += [
            f"{kind}: transformers, cached against uncached: {gap(cached, plain)}",
            f"{kind}: refgit, cached against transformers, uncached: "
            f"{gap(ours(**call, use_cache=True).logits, plain)}",
        ]
    return lines


def padding() -> list[str]:
    """Whether the words at masked places matter to the step after it."""
    ours, theirs = pair()
    ids, mask = words(1, 5), np.array([[1, 0, 0, 1, 1]])
    other = ids.copy()
    other[0, 1:3] = 22 - ids[0, 1:3]  # what stands below the mask should not count
    found: dict[str, list[Any]] = {"transformers": [], "refgit": []}
    for text in (ids, other):
        image, start, last = pixels(), text[:, :4], text[:, 4:]
        out = ask(theirs, pixel_values=image, input_ids=start, attention_mask=mask[:, :4])
        step = ask(
            theirs,
            pixel_values=image,
            input_ids=last,
            attention_mask=mask,
            past_key_values=out.past_key_values,
        )
        found["transformers"].append(step.logits[:, -1])
        mine = ours(pixel_values=image, input_ids=start, attention_mask=mask[:, :4])
        again = ours(last, attention_mask=mask, past_key_values=mine.past_key_values)
        found["refgit"].append(again.logits[:, -1])
    return [
        f"{name}: the masked words change the step's logits by {gap(*pair_of)}"
        for name, pair_of in found.items()
    ]


def image_size() -> list[str]:
    """An image larger than the trained size, with a loss and with a cache."""
    ours, theirs = pair()
    image, ids = pixels(size=12), words()
    call = {"pixel_values": image, "input_ids": ids, "interpolate_pos_encoding": True}
    plain, cached = (ask(theirs, **call, use_cache=use) for use in (False, True))
    mine = ours(**call)
    tokens = plain.logits.shape[1] - ids.shape[1]
    assumed = theirs.git.encoder.layer[0].attention.self.image_patch_tokens
    held = [
        x.shape[2] if hasattr(x, "shape") else x
        for x in (cached.past_key_values.layers[0].keys, mine.past_key_values.text_length)
    ]
    loss = failure(lambda: ask(theirs, **call, labels=ids))
    return [
        f"image tokens: {tokens}; transformers takes them for {assumed}",
        f"refgit against transformers, uncached: {gap(mine.logits, plain.logits)}",
        f"text tokens in the cache: transformers {held[0]}, refgit {held[1]}, true {ids.shape[1]}",
        f"loss: transformers {loss}, refgit {float(ours(**call, labels=ids).loss):.3f}",
    ]


def loss() -> list[str]:
    """The loss that the model returns, and the definition by hand."""
    ours, theirs = pair()
    ids = words(2, 7)
    call = {"pixel_values": pixels(2), "input_ids": ids, "labels": ids}
    logits = numbers(ours(pixel_values=pixels(2), input_ids=ids).logits)[:, N:-1].astype(float)
    scores = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    flat, target = scores.reshape(-1, CONFIG.vocab_size), ids[:, 1:].reshape(-1)
    by_hand = {
        "the next word": (flat, target),
        "the word after it, across the ends of rows": (flat[:-1], target[1:]),
    }
    lines = [f"transformers: {float(ask(theirs, **call).loss):.4f}"]
    shifted = ask(theirs, **call, shift_labels=ids[:, 1:].copy())
    lines.append(f"transformers with shift_labels: {float(shifted.loss):.4f}")
    lines.append(f"refgit: {float(ours(**call).loss):.4f}")
    for name, (x, y) in by_hand.items():
        lines.append(f"by hand, {name}: {-x[np.arange(len(y)), y].mean():.4f}")
    return lines


def float64() -> list[str]:
    """What of a float64 model is computed in float32."""
    import torch

    ours, theirs = pair(dtype="float64")
    ids = words(2)
    call = {"pixel_values": pixels(2).astype(float), "input_ids": ids}
    labels = {"labels": ids, "shift_labels": ids[:, 1:].copy()}
    mine, other = ours(**call), ask(theirs, **call, use_cache=False)
    lines = [f"logits, refgit against transformers: {gap(mine.logits, other.logits)}"]
    plain = torch.nn.functional.softmax

    def wide(x: Any, dim: int, dtype: Any = None) -> Any:
        return plain(x, dim=dim)

    torch.nn.functional.softmax = wide
    try:
        other = ask(theirs, **call, **labels, use_cache=False)
    finally:
        torch.nn.functional.softmax = plain
    return [
        *lines,
        f"the same, its softmax not cast to float32: {gap(mine.logits, other.logits)}",
        f"dtype of the loss: transformers {str(other.loss.dtype).removeprefix('torch.')}, "
        f"refgit {ours(**call, labels=ids).loss.dtype}",
    ]


def embeddings() -> list[str]:
    """Whether a call changes the inputs_embeds that it is given."""
    import torch

    ours, theirs = pair()
    given = np.random.default_rng(1).standard_normal((1, 4, 16)).astype(np.float32)
    tensor, array = torch.tensor(given), given.copy()
    ask(theirs, inputs_embeds=tensor, pixel_values=pixels())
    ours(inputs_embeds=array, pixel_values=pixels())
    return [
        f"transformers changes inputs_embeds by {gap(tensor, given)}",
        f"refgit changes inputs_embeds by {gap(array, given)}",
    ]


def selu() -> list[str]:
    """A model whose activation is selu."""
    import transformers

    config = CONFIG.replace(hidden_act="selu")
    theirs = failure(
        lambda: transformers.GitForCausalLM(transformers.GitConfig(**config.to_dict()))
    )
    from refgit import GitForCausalLM

    ours = GitForCausalLM(config, seed=0)
    shape = ours(words(), pixel_values=pixels()).logits.shape
    return [f"transformers: {theirs}", f"refgit: logits {shape}"]


def tiling() -> list[str]:
    """Which image a text sees where there are more texts than images."""
    ours, theirs = pair()
    call = {"pixel_values": pixels(2), "input_ids": words(4)}
    mine, other = ours(**call).logits, ask(theirs, **call).logits
    orders = {"0 1 0 1": [0, 1, 0, 1], "0 0 1 1": [0, 0, 1, 1]}
    lines = [f"refgit against transformers: {gap(mine, other)}"]
    for name, order in orders.items():
        each = ours(call["input_ids"], pixel_values=pixels(2)[order]).logits
        lines.append(f"transformers against images {name}: {gap(other, each)}")
    return lines


def projection_eps() -> list[str]:
    """Which eps the layer norm of the visual projection has."""
    config = CONFIG.replace(layer_norm_eps=0.5, vision_config=VISION.replace(layer_norm_eps=0.02))
    ours, theirs = pair(config)
    call = {"pixel_values": pixels(), "input_ids": words()}
    norm = theirs.git.visual_projection.visual_projection[1]
    return [
        f"eps of the decoder 0.5, of the image encoder 0.02; of the projection: {norm.eps:g}",
        f"refgit against transformers: {gap(ours(**call).logits, ask(theirs, **call).logits)}",
    ]


ROWS = {
    "image-runs": image_runs,
    "distances": distances,
    "padding": padding,
    "image-size": image_size,
    "loss": loss,
    "float64": float64,
    "embeddings": embeddings,
    "selu": selu,
    "tiling": tiling,
    "projection-eps": projection_eps,
}
