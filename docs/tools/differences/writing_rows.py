"""Differences in `generate`: docs/differences.md, "Writing"."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from pairs import CONFIG, N, failure, numbers, pair, pixels, quiet, tensors, words, write

LETTERS = [
    *"abcdefghijklmnopq",
    "abcdef",
]  # the last is what transformers looks for in a vocabulary


def listed(x: Any) -> list[int]:
    """The only text of a result."""
    return numbers(x)[0].tolist()


def padded_prompts() -> list[str]:
    """A short prompt beside a long one, and alone."""
    ours, theirs = pair()
    long, short = words(1, 6), words(1, 2)
    both = np.concatenate([long, np.pad(short, ((0, 0), (4, 0)))])
    mask = (both != 0).astype(np.int64)
    call = {"pixel_values": pixels(), "input_ids": both, "attention_mask": mask}
    lines = []
    for name, run in {
        "transformers": lambda **c: write(theirs, **c),
        "refgit": ours.generate,
    }.items():
        alone = run(pixel_values=pixels(), input_ids=short, max_new_tokens=6)
        beside = run(**call, max_new_tokens=6)
        lines += [
            f"{name}, alone: {listed(alone)[2:]}",
            f"{name}, padded on the left beside a longer one: {numbers(beside)[1, 6:].tolist()}",
        ]
    return lines


def generate_states() -> list[str]:
    """Rows of the hidden states that `generate` returns at each step."""
    ours, theirs = pair(CONFIG.replace(eos_token_id=None))
    wanted = {"output_hidden_states": True, "return_dict_in_generate": True, "max_new_tokens": 3}
    call = {"pixel_values": pixels(), "input_ids": words(1, 2)}
    return [
        f"{name}: rows at each step {[step[-1].shape[1] for step in out.hidden_states]}"
        for name, out in {
            "transformers": write(theirs, **call, **wanted),
            "refgit": ours.generate(**call, **wanted),
        }.items()
    ]


def ended_scores() -> list[str]:
    """The scores of a text that has ended, while another goes on."""
    ours, theirs = pair()
    ids = words(2, 3)
    free = numbers(ours.generate(pixels(2), ids, max_new_tokens=5, eos_token_id=None))[:, 3:]
    wanted = {"output_scores": True, "return_dict_in_generate": True, "max_new_tokens": 5}
    wanted["eos_token_id"] = int(free[0, 0])  # so the first text ends at once
    lines = []
    for name, out in {
        "transformers": write(theirs, pixel_values=pixels(2), input_ids=ids, **wanted),
        "refgit": ours.generate(pixels(2), ids, **wanted),
    }.items():
        after = numbers(out.scores[1])[0]
        lines.append(
            f"{name}: score of the padding word {after[0]:.2f}, best other {after[1:].max():.2f}"
        )
    return lines


def returned_cache() -> list[str]:
    """What the cache that `generate` returns holds."""
    ours, theirs = pair(CONFIG.replace(eos_token_id=None))
    wanted = {"return_dict_in_generate": True, "max_new_tokens": 4}
    other = write(theirs, pixel_values=pixels(), **wanted).past_key_values
    mine = ours.generate(pixels(), **wanted).past_key_values
    return [
        f"transformers: {other.layers[0].keys.shape[2]} tokens, all of the text",
        f"refgit: {mine.image_length} image tokens, {mine.text_length} text tokens",
    ]


def pad_zero() -> list[str]:
    """What fills up after an end, where the padding token's id is 0."""
    ours, theirs = pair()
    ids = words(2, 3)
    free = numbers(ours.generate(pixels(2), ids, max_new_tokens=5, eos_token_id=None))[:, 3:]
    wanted: dict[str, Any] = {"max_new_tokens": 5, "pad_token_id": 0}
    wanted["eos_token_id"] = int(free[0, 0])
    lines = []
    for beams in (1, 2):
        more = {**wanted, "num_beams": beams}
        for name, out in {
            "transformers": write(theirs, pixel_values=pixels(2), input_ids=ids, **more),
            "refgit": ours.generate(pixels(2), ids, **more),
        }.items():
            row = numbers(out)[:, 3:]
            ended = row[(row == wanted["eos_token_id"]).any(1)]
            lines.append(f"{name}, beams {beams}: {ended[0].tolist() if len(ended) else 'no end'}")
    return [f"end token {wanted['eos_token_id']}", *lines]


def stop_strings() -> list[str]:
    """What follows in a text that a stop string has ended, while another goes on."""
    import tempfile
    from pathlib import Path

    import transformers

    from refgit.processing.text.tokenizer import BertTokenizer

    vocabulary = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]", *LETTERS]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "vocab.txt").write_text("\n".join(vocabulary))
        other = transformers.BertTokenizerFast(f"{folder}/vocab.txt")
    mine = BertTokenizer.from_vocab(vocabulary)
    ours, theirs = pair(CONFIG.replace(eos_token_id=None))
    ids = words(2, 3)
    free = numbers(ours.generate(pixels(2), ids, max_new_tokens=6))[:, 3:]
    stop = vocabulary[next(w for w in free[0] if w > 4 and w not in free[1])]
    more = {"max_new_tokens": 6, "stop_strings": [stop], "pad_token_id": 0}
    found = {
        "transformers": write(
            theirs, pixel_values=pixels(2), input_ids=ids, tokenizer=other, **more
        ),
        "refgit": ours.generate(pixels(2), ids, tokenizer=mine, **more),
    }
    lines = [f"stop string {stop!r}, which is word {vocabulary.index(stop)}"]
    return [*lines, *(f"{name}: {numbers(x)[0, 3:].tolist()}" for name, x in found.items())]


def unused_arguments() -> list[str]:
    """Arguments that have no effect, and lengths that contradict each other."""
    ours, theirs = pair()
    calls = {
        "temperature without sampling": {"temperature": 0.5},
        "num_beam_groups 1 with diversity_penalty": {"diversity_penalty": 0.5},
        "max_length with max_new_tokens": {"max_length": 9, "max_new_tokens": 3},
        "min_length above max_length": {"min_length": 9, "max_length": 5},
    }
    lines = []
    for name, more in calls.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            other = failure(lambda more=more: write(theirs, pixel_values=pixels(), **more))
            mine = failure(lambda more=more: ours.generate(pixels(), **more))
        lines.append(f"{name}: transformers {other}, refgit {mine}")
    return lines


def max_length() -> list[str]:
    """A call's max_length where generation_config.json has max_new_tokens."""
    ours, theirs = pair(CONFIG.replace(eos_token_id=None))
    ours.generation_config = ours.generation_config.replace(max_new_tokens=3)
    theirs.generation_config.max_new_tokens = 3
    other = write(theirs, pixel_values=pixels(), max_length=9)
    return [
        f"asked for max_length=9; transformers writes {other.shape[1]} tokens, "
        f"refgit {ours.generate(pixels(), max_length=9).shape[1]}"
    ]


def no_word_left() -> list[str]:
    """A processor that forbids every word."""
    ours, theirs = pair()

    def forbid(_: Any, scores: Any) -> Any:
        return scores - float("inf")

    more: dict[str, Any] = {"logits_processor": [forbid], "max_new_tokens": 3}
    other = write(theirs, pixel_values=pixels(), **more)
    mine = failure(lambda: ours.generate(pixels(), **more))
    return [f"transformers writes {listed(other)[1:]}", f"refgit: {mine}"]


def decay() -> list[str]:
    """`exponential_decay_length_penalty` where the end token is forbidden."""
    ours, theirs = pair()
    more = {
        "exponential_decay_length_penalty": (1, 1.5),
        "min_new_tokens": 6,
        "max_new_tokens": 6,
    }
    return [
        f"{name} writes {listed(x)[1:]}"
        for name, x in {
            "transformers": write(theirs, pixel_values=pixels(), **more),
            "refgit": ours.generate(pixels(), **more),
        }.items()
    ]


def prompt_penalty() -> list[str]:
    """`encoder_repetition_penalty` with two images and two beams."""
    ours, theirs = pair(CONFIG.replace(eos_token_id=None))
    ids = words(2, 6)
    more: dict[str, Any] = {"encoder_repetition_penalty": 3.0, "num_beams": 2, "max_new_tokens": 5}
    lines = []
    for name, run in {
        "transformers": lambda p, i: write(theirs, pixel_values=p, input_ids=i, **more),
        "refgit": lambda p, i: ours.generate(p, i, **more),
    }.items():
        together = numbers(run(pixels(2), ids))[:, 6:]
        alone = [numbers(run(pixels(2)[b : b + 1], ids[b : b + 1]))[0, 6:] for b in (0, 1)]
        same = ["no", "yes"]
        said = [same[np.array_equal(x, y)] for x, y in zip(together, alone, strict=True)]
        lines.append(f"{name}: each prompt as it is alone: {', '.join(said)}")
    return lines


def guidance() -> list[str]:
    """`guidance_scale` with beams: are the sequences' scores those of their words?"""
    ours, theirs = pair(CONFIG.replace(eos_token_id=None))
    more: dict[str, Any] = {
        "guidance_scale": 2.0,
        "num_beams": 3,
        "max_new_tokens": 6,
        "length_penalty": 0.0,
        "return_dict_in_generate": True,
        "output_scores": True,
    }
    lines = []
    for name, out in {
        "transformers": write(theirs, pixel_values=pixels(), **more),
        "refgit": ours.generate(pixels(), **more),
    }.items():
        ids, said = numbers(out.sequences), float(numbers(out.sequences_scores)[0])
        lines.append(
            f"{name}: {ids[0, 1:].tolist()}, score {said:.3f}; "
            f"of these words by themselves {guided(ours, ids, 2.0):.3f}"
        )
    return lines


def guided(model: Any, ids: np.ndarray, scale: float) -> float:
    """The sum of guided scores of a text: with the image against without it."""
    seen = numbers(model(ids[:, :-1], pixel_values=pixels()).logits)[:, N:]
    blind = numbers(model(ids[:, :-1]).logits)
    seen, blind = (log_softmax(x.astype(float)) for x in (seen, blind))
    scores = scale * (seen - blind) + blind
    return float(scores[0, np.arange(ids.shape[1] - 1), ids[0, 1:]].sum())


def log_softmax(x: np.ndarray) -> np.ndarray:
    """Logarithm of the softmax over the last axis."""
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def groups() -> list[str]:
    """`beam_indices` of a search in groups: do they lead to the words' scores?"""
    ours, theirs = pair(CONFIG.replace(eos_token_id=None))
    more: dict[str, Any] = {
        "num_beams": 4,
        "num_beam_groups": 2,
        "diversity_penalty": 1.0,
        "num_return_sequences": 4,
        "max_new_tokens": 5,
        "length_penalty": 0.0,
        "return_dict_in_generate": True,
        "output_scores": True,
    }
    with quiet():
        out = theirs.generate(**tensors({"pixel_values": pixels()}), **more)
        other = theirs.compute_transition_scores(out.sequences, out.scores, out.beam_indices)
    mine = ours.generate(pixels(), **more)
    own = ours.compute_transition_scores(mine.sequences, mine.scores, mine.beam_indices)
    lines = []
    for name, scores, sums in (
        ("transformers", other, out.sequences_scores),
        ("refgit", own, mine.sequences_scores),
    ):
        wrong = np.abs(numbers(scores).sum(-1) - numbers(sums)) > 1e-3
        lines.append(f"{name}: texts whose word scores do not add up to their own: {wrong.sum()}")
    return lines


def prefix_allowed() -> list[str]:
    """What `prefix_allowed_tokens_fn` is told when several texts are drawn for a prompt."""
    ours, theirs = pair()
    told: list[int] = []

    def allowed(number: int, _: Any) -> list[int]:
        told.append(int(number))
        return list(range(3, 23))

    more: dict[str, Any] = {
        "prefix_allowed_tokens_fn": allowed,
        "do_sample": True,
        "num_return_sequences": 2,
        "max_new_tokens": 1,
    }
    with quiet():
        theirs.generate(**tensors({"pixel_values": pixels(2)}), **more)
    lines = [f"two images, two texts each; transformers tells {told}"]
    told.clear()
    ours.generate(pixels(2), **more)
    return [*lines, f"refgit tells {told}"]


def no_cache() -> list[str]:
    """`use_cache=False` in `generate`."""
    ours, theirs = pair()
    other = write(theirs, pixel_values=pixels(), max_new_tokens=8, use_cache=False)
    mine = ours.generate(pixels(), max_new_tokens=8, use_cache=False)
    kept = ours.generate(pixels(), max_new_tokens=8)
    return [
        f"refgit's words are transformers': {np.array_equal(mine, other)}",
        f"they are those with the cache: {np.array_equal(mine, kept)}",
    ]


ROWS = {
    "padded-prompts": padded_prompts,
    "generate-states": generate_states,
    "ended-scores": ended_scores,
    "returned-cache": returned_cache,
    "pad-zero": pad_zero,
    "stop-strings": stop_strings,
    "unused-arguments": unused_arguments,
    "max-length": max_length,
    "no-word-left": no_word_left,
    "decay": decay,
    "prompt-penalty": prompt_penalty,
    "guidance": guidance,
    "groups": groups,
    "prefix-allowed": prefix_allowed,
    "no-cache": no_cache,
}
