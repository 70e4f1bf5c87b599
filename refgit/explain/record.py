"""From an image and a text to an `Explanation`: one pass through the model, with a hook.

Where no text is given the model writes one first, step by step on its cache; the recorded pass then
reads image and text jointly, as in training ("teacher forcing"). Both give the same probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refgit.captions import close_up
from refgit.errors import SeveralImagesError
from refgit.explain.attention_rollout import rollout
from refgit.explain.data import Bytes, ExplainError, Ids, Numbers
from refgit.explain.explanation import Explanation
from refgit.generation.logits.scores import probabilities
from refgit.layers.lm_head import lm_head
from refgit.model.causal_lm import GitForCausalLM
from refgit.model.outputs import BaseModelOutputWithPast
from refgit.pipeline import Captioner
from refgit.processing import GitProcessor
from refgit.traces.names import TensorName
from refgit_backends import to_numpy

ALTERNATIVES = 10
_DECODING: Mapping[str, Any] = {}


def explain(
    model: GitForCausalLM,
    processor: GitProcessor,
    image: Any,
    text: str | None = None,
    max_length: int | None = None,
    *,
    decoding: Mapping[str, Any] = _DECODING,
    prompt: str | None = None,
) -> Explanation:
    """Record what a model does with an image, token by token.

    Parameters
    ----------
    model : GitForCausalLM
    processor : GitProcessor
    image : path, bytes, PIL image, array, or the frames of a video
        One image or video; see `refgit.pipeline.Captioner`.
    text : str, optional
        What to explain; by default what the model writes. The opening and the end token are added.
    max_length, decoding, prompt
        How the model writes; see `refgit.pipeline.Captioner`.

    Returns
    -------
    Explanation

    Raises
    ------
    ExplainError
        There are several images, or the text is empty or too long.
    ValueError, TypeError
        The processor or the model cannot take the image.
    """
    try:
        pixels = Captioner(model, processor).read(image)
    except SeveralImagesError as error:
        raise ExplainError(f"{error} Explain one after the other.") from error
    return explain_pixels(
        model, processor, pixels, text, max_length, decoding=decoding, prompt=prompt
    )


def explain_pixels(
    model: GitForCausalLM,
    processor: GitProcessor,
    pixel_values: Any,
    text: str | None = None,
    max_length: int | None = None,
    *,
    decoding: Mapping[str, Any] = _DECODING,
    prompt: str | None = None,
) -> Explanation:
    """Do what `explain` does, with an image that the processor has been through.

    Parameters
    ----------
    pixel_values : array (1, 3, H, W) or (1, F, 3, H, W)
    model, processor, text, max_length, decoding, prompt
        See `explain`.
    """
    pixels = model.checked_pixels(pixel_values, any_size=processor.keeps_aspect_ratio)
    if pixels.shape[0] != 1:
        raise ExplainError(
            f"there are {pixels.shape[0]} images; expected one. Explain one after the other."
        )
    room = model.config.text_room(model.count_image_tokens(pixels))
    captioner = Captioner(model, processor, max_length, decoding=decoding, prompt=prompt)
    if captioner.max_length > room:  # an image of another size, and relative positions
        options = {k: v for k, v in decoding.items() if k not in ("max_length", "max_new_tokens")}
        captioner = Captioner(model, processor, room, decoding=options, prompt=prompt)
    ids = _written(captioner, pixel_values) if text is None else _given(captioner, text, room)
    states, scores = _pass(model, pixels, ids[:-1], any_size=processor.keeps_aspect_ratio)
    patch = model.config.vision_config.patch_size
    rows, columns = (size // patch for size in pixels.shape[-2:])
    return Explanation(
        generated=text is None,
        heads=_heads(model),
        image=_as_seen(to_numpy(pixel_values), processor.image_processor, patch),
        grid=(pixels.shape[1] if pixels.ndim == 5 else 1, rows, columns),
        **states,
        **_predictions(processor.tokenizer, ids, scores),
    )


# ---- the text


def _written(captioner: Captioner, pixels: Any) -> list[int]:
    """What the model writes, as `refgit caption` does: opening token, caption, end token."""
    (ids,) = captioner.token_ids(pixels)
    if len(ids) < 2:
        raise ExplainError(
            f"the model wrote nothing within {captioner.max_length} tokens; expected a word."
        )
    return ids


def _given(captioner: Captioner, text: str, room: int) -> list[int]:
    try:
        ids = captioner.prompt(text, "the text")
    except ValueError as error:
        raise ExplainError(str(error)) from error
    if len(ids) > room:  # the end token, which follows, is predicted and not read
        raise ExplainError(
            f"the text is {len(ids)} tokens, its opening one included; this model has "
            f"positions for {room}. Give a shorter one."
        )
    return [*ids, captioner.processor.tokenizer.sep_token_id]  # type: ignore[list-item]


# ---- the pass


def _pass(
    model: GitForCausalLM, pixels: Any, ids: Sequence[int], *, any_size: bool
) -> tuple[dict[str, Any], Numbers]:
    """Run the model on image and text at once; the head only reads the text's positions.

    A decoder layer ends as the last one does, so the head can read the states after any. Returned
    are what an `Explanation` says of the states, and the head's scores of each, (layers + 1, T, V).
    """
    image_norms: list[Numbers] = []

    def hook(name: str, value: Any) -> None:
        where = TensorName.parse(name)
        if where.is_image and (where.leaf == "pre_layrnorm" or (where.block and not where.leaf)):
            patches = _precise(value)[:, 1:]  # (F, 1 + R C, D) -> (F, R C, D)
            image_norms.append(_norm(patches).reshape(-1))

    out = model.git(  # without the head, which would read the image too
        np.array([ids]),
        pixel_values=pixels,
        use_cache=False,
        output_attentions=True,
        output_hidden_states=True,
        interpolate_pos_encoding=any_size,
        return_dict=True,
        hook=hook,
    )
    assert isinstance(out, BaseModelOutputWithPast)
    assert out.attentions is not None
    assert out.hidden_states is not None
    n_image = model.count_image_tokens(pixels)
    attentions = [_precise(a)[0] for a in out.attentions]  # (1, H, L, L) -> (H, L, L)
    text = [state[:, n_image:, :] for state in out.hidden_states]  # (1, L, D) -> (1, T, D)
    head, ops = model.parameters["output"], model.operations
    states = {
        "attentions": tuple(a[:, n_image:].copy() for a in attentions),
        "rollouts": rollout(attentions)[:, n_image:].copy(),
        "image_norms": np.stack(image_norms),
        "text_norms": np.stack([_norm(_precise(x)[0]) for x in text]),
    }
    return states, np.stack([_precise(lm_head(x, head, ops=ops))[0] for x in text])


def _precise(x: Any) -> Numbers:
    """On the host, in at least float32."""
    host = to_numpy(x)
    return host.astype(np.result_type(host.dtype, np.float32), copy=False)


def _norm(x: Numbers) -> Numbers:
    return np.asarray(np.sqrt(np.square(x).sum(axis=-1)))


def _heads(model: GitForCausalLM) -> tuple[tuple[int, ...], ...]:
    """The heads that each decoder layer has left, by their numbers in the unpruned model."""
    config = model.config
    return tuple(
        tuple(h for h in range(config.num_attention_heads) if h not in gone)
        for gone in (config.pruned_heads.get(i, ()) for i in range(config.num_hidden_layers))
    )


# ---- put together


def _predictions(tokenizer: Any, ids: list[int], scores: Numbers) -> dict[str, Any]:
    """What an `Explanation` says of the tokens, and of their scores after each layer."""
    tokens = np.array(ids[1:], np.int64)  # (T,)
    p = probabilities(scores.reshape(-1, scores.shape[-1])).reshape(scores.shape)
    own = np.take_along_axis(p, tokens[None, :, None], axis=-1)[..., 0]  # (layers + 1, T)
    last = p[-1]  # (T, V)
    top = np.argsort(-last, axis=-1, kind="stable")[:, :ALTERNATIVES]
    lens = p.argmax(axis=-1)  # (layers + 1, T)

    def written(table: Ids) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(tokenizer.convert_ids_to_tokens(row.tolist())) for row in table)

    pieces = tuple(tokenizer.convert_ids_to_tokens(ids))
    return {
        "text": close_up(
            tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        ).strip(),
        "token_ids": tokens,
        "tokens": pieces[1:],
        "context": pieces[:-1],
        "probabilities": own[-1],
        "ranks": 1 + (last > own[-1][:, None]).sum(axis=-1),
        "top_ids": top,
        "top_tokens": written(top),
        "top_probabilities": np.take_along_axis(last, top, axis=-1),
        "lens_ids": lens,
        "lens_tokens": written(lens),
        "lens_probabilities": p.max(axis=-1),
        "lens_of_token": own,
    }


def _as_seen(pixel_values: Any, settings: Any, patch: int) -> Bytes:
    """Turn pixel values back into a picture: (1, [F,] 3, H, W) -> (F, R P, C P, 3)."""
    x = np.asarray(pixel_values, np.float64)
    x = x.reshape(-1, *x.shape[-3:]).transpose(0, 2, 3, 1)  # (F, H, W, 3)
    if settings.do_normalize:
        x = x * np.asarray(settings.image_std) + np.asarray(settings.image_mean)
    if settings.do_rescale:
        x = x / settings.rescale_factor
    elif x.size and x.max() <= 1 + 1e-6:  # what was given lay between 0 and 1
        x = x * 255
    height, width = (size // patch * patch for size in x.shape[1:3])  # the rest fills no patch
    return np.clip(np.rint(x[:, :height, :width]), 0, 255).astype(np.uint8)
