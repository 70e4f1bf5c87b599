"""The kit's cases of generation: steps on top of a cache, greedy search, beam search.

Ids are asked for exactly, so they must not hang on rounding: each search is run again with its
scores shaken by far more than any tolerance, and a case whose ids change is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from refgit.layers._array_api import Array
from refgit.model.causal_lm import GitForCausalLM
from refgit.parity.kit.case import Case, Checkpoint, Evaluation, Part, Tensors
from refgit.parity.kit.cases.checkpoints import FRAMES, pixels, text
from refgit.parity.kit.cases.models import model_case
from refgit.parity.kit.cases.parts import vision_case
from refgit.parity.kit.tolerance import UnstableError
from refgit.traces.container import Tensor

# How much the scores are shaken; tolerances of logits are near 1e-5 in the small models.
SHAKE = 2e-3
SHAKE_OF_A_CHECKPOINT = 2e-4


# ---- steps


def step_cases(models: Mapping[str, Checkpoint]) -> Iterator[Case]:
    """The prompt in one call, then a word at a time on top of the cache."""
    words, image = models["image"].config.vocab_size, models["image"]
    images, steps = pixels(51, 2, 3, 16, 16), 4
    ids = text(52, 2, 4 + steps, words)
    count = np.arange(4 + steps)
    plain = np.stack([count, count])
    yield step_case("decode-steps", image, "Two images, two texts.", images, ids, 4, plain)
    yield step_case(
        "decode-steps-texts-per-image",
        image,
        "One image, three texts: its keys and values are shared.",
        images[:1],
        text(53, 3, 4 + steps, words),
        4,
        np.stack([count] * 3),
    )
    for kind in ("relative_key", "relative_key_query"):
        name = f"decode-steps-{kind.replace('_', '-')}"
        what = f"{kind}: distances run over image and text, cached or not."
        yield step_case(name, models[kind], what, images, ids, 4, plain)
    mask = np.ones_like(ids)
    mask[1, :2] = 0
    places = np.maximum(np.cumsum(mask, axis=1) - 1, 0)
    what = "The second text has padding in front, which stays masked in every step."
    yield step_case("decode-steps-padding", image, what, images, ids, 4, places, mask)
    what = "A video of two frames."
    videos = pixels(54, 1, FRAMES, 3, 16, 16)
    yield step_case("decode-steps-video", models["video"], what, videos, ids[:1], 4, plain[:1])


def step_case(
    name: str,
    checkpoint: Checkpoint,
    what: str,
    images: Tensor,
    ids: Tensor,
    prompt: int,
    places: Tensor,
    mask: Tensor | None = None,
) -> Case:
    """Logits (texts, V) of the word after the prompt, and after each word behind it."""
    inputs = {"pixel_values": images, "input_ids": ids, "position_ids": places}
    if mask is not None:
        inputs["attention_mask"] = mask

    def computed(part: Part) -> dict[str, Array]:
        model, cache, found = checkpoint.model(part.evaluation), None, {}
        stops = range(prompt, ids.shape[1] + 1)
        for step, (start, stop) in enumerate(zip([0, *stops], stops, strict=False)):
            out = model(
                input_ids=ids[:, start:stop],
                position_ids=places[:, start:stop],
                attention_mask=None if mask is None else mask[:, :stop],
                pixel_values=part.given["pixel_values"] if step == 0 else None,
                past_key_values=cache,
                use_cache=True,
            )
            assert not isinstance(out, tuple)
            cache = out.past_key_values
            found[f"step.{step}.logits"] = out.logits[:, -1, :]
        return found

    steps = ids.shape[1] - prompt
    return Case(
        name,
        "decode step",
        "decode_steps",
        f"{what} Step 0 reads the image and the first {prompt} tokens at once, each further step "
        f"one token more with the cache of those before. Logits of the last token, (texts, V).",
        inputs,
        computed,
        {"prompt_length": prompt, "steps": steps},
        checkpoint,
        "",
        tuple(f"step.{step}.logits" for step in range(steps + 1)),
    )


# ---- searches


def search_cases(models: Mapping[str, Checkpoint]) -> Iterator[Case]:
    """Greedy and beam search, of captions and answers."""
    captions = {"pixel_values": pixels(61, 3, 3, 16, 16)}
    answers = {**captions, "input_ids": text(62, 3, 4, models["image"].config.vocab_size)}
    videos = {"pixel_values": pixels(63, 2, FRAMES, 3, 16, 16)}
    greedy: dict[str, Any] = {"max_length": 16}
    beam: dict[str, Any] = {"max_length": 14, "num_beams": 4}
    two = {**beam, "length_penalty": 0.6, "num_return_sequences": 2}
    for name, model, what, inputs, options in (
        ("greedy", "image", "Captions of three images.", captions, greedy),
        ("greedy-answers", "image", "Three images with a prompt each (a question), of one length.",
         answers, greedy),
        *((f"greedy-{kind.replace('_', '-')}", kind, f"With {kind} positions.", captions, greedy)
          for kind in ("relative_key", "relative_key_query")),
        ("greedy-video", "video", "Captions of two videos.", videos, greedy),
        ("beam", "image", "Four beams.", captions, beam),
        ("beam-length-penalty", "image",
         "Four beams, length penalty 0.6, the two best texts of each image.", captions, two),
        ("beam-answers", "image",
         "Three beams behind prompts; words of the prompt do not count in the score.",
         answers, {**beam, "num_beams": 3}),
    ):  # fmt: skip
        yield search_case(name, models[model], what, inputs, options)


def search_case(
    name: str,
    checkpoint: Checkpoint,
    what: str,
    inputs: dict[str, Tensor],
    options: dict[str, Any],
) -> Case:
    """Ids, with scores from beams."""
    beams = options.get("num_beams", 1) > 1
    config = checkpoint.config
    ids = {name: getattr(config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    defaults = {"num_beams": 1, "length_penalty": 1.0, "num_return_sequences": 1}

    def computed(part: Part) -> Tensors:
        return _searched(checkpoint.model(part.evaluation), inputs, options)

    return Case(
        name,
        "beam" if beams else "greedy",
        "beam" if beams else "greedy",
        f"{what} Ids with the prompt in front and [PAD] behind the end"
        + (", and the score of each text." if beams else "."),
        inputs,
        computed,
        {**defaults, **options, **ids},
        checkpoint,
        "",
        ("sequences", "sequences_scores") if beams else ("sequences",),
    )


def _searched(
    model: GitForCausalLM, inputs: dict[str, Tensor], options: dict[str, Any], **more: Any
) -> Tensors:
    settings = {"do_sample": False, "num_beams": 1, **options}
    if settings["num_beams"] > 1:
        more |= {"return_dict_in_generate": True, "output_scores": True}
    out = model.generate(**inputs, **settings, **more)
    if settings["num_beams"] == 1:
        return {"sequences": _filled(out, model)}
    scores = np.asarray(out.sequences_scores)
    return {"sequences": _filled(out.sequences, model), "sequences_scores": scores}


def _filled(sequences: Any, model: GitForCausalLM) -> Tensor:
    """Put [PAD] behind the end; beam search has the end token there, as in transformers."""
    ids, config = np.array(sequences, np.int64), model.generation_config
    ended = np.cumsum(np.isin(ids, config.eos_ids), axis=1)
    behind = np.concatenate([np.zeros_like(ended[:, :1]), ended[:, :-1]], axis=1) > 0
    ids[behind] = config.filler_id
    return ids


def check_stability(case: Case, shake: float, evaluation: Evaluation) -> None:
    """Refuse a search whose ids change when its scores are shaken by up to `shake`.

    Raises
    ------
    UnstableError
        They change.
    """
    assert case.checkpoint is not None
    model, inputs = case.checkpoint.model(evaluation), dict(case.inputs)
    names = ("max_length", "num_beams", "length_penalty", "num_return_sequences")
    options = {name: case.arguments[name] for name in names}
    if options["num_beams"] == 1:
        del options["length_penalty"]
    wanted = _searched(model, inputs, options)["sequences"]
    for seed in range(3):
        random = np.random.RandomState(seed)

        def shaken(_ids: Tensor, scores: Tensor, random: Any = random) -> Tensor:
            return np.asarray(scores + random.uniform(-shake, shake, scores.shape))

        found = _searched(model, inputs, options, logits_processor=[shaken])["sequences"]
        if not np.array_equal(found, wanted):
            raise UnstableError(
                f"case {case.id}: the ids change when scores are shaken by {shake:g}; rounding in "
                "a port might change them too."
            )


# ---- a checkpoint of the user's own


def checkpoint_cases(checkpoint: Checkpoint) -> Iterator[Case]:
    """Vision, model, steps and searches of one checkpoint, at its own sizes."""
    config, words = checkpoint.config, checkpoint.config.vocab_size
    side, frames = config.vision_config.image_size, config.num_image_with_embedding
    one = (frames,) if frames else ()
    shape = (1, *one, config.vision_config.num_channels, side, side)
    images = pixels(71, *shape)
    ids = text(72, 1, 6, words, config.bos_token_id or 0)
    if not frames:
        yield vision_case("vision-checkpoint", checkpoint, images, "of the checkpoint")
    both = {"pixel_values": images, "input_ids": ids}
    what = "The checkpoint: one image and a text."
    yield model_case("model-checkpoint", checkpoint, what, both)
    places, what = np.arange(6)[None], "The checkpoint."
    yield step_case("decode-steps-checkpoint", checkpoint, what, images, ids, 4, places)
    given = {"pixel_values": images}
    yield search_case("greedy-checkpoint", checkpoint, what, given, {"max_length": 10})
    options = {"max_length": 8, "num_beams": 3}
    yield search_case("beam-checkpoint", checkpoint, what, given, options)
