"""Golden cases of generation: what each search of transformers 4.56.2 writes.

Used by generate.py. One tiny model, whose weights golden/weights.py draws; the bias of some words
that may end a text is raised, since random models hardly ever choose them. What is drawn at random
is drawn from numbers that NumPy's RandomState gives, by rules that the tests repeat:

    sample        the word at which the cumulative probability first exceeds u, one u a step
    beam_sample   the highest sums of log-probability and -log(-log(u)), one u a candidate

Contrastive search is not among the searches: this version of transformers has none of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
import transformers

Tensors = dict[str, np.ndarray]

CONFIG: dict[str, Any] = {
    "vision_config": {
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 1,
        "num_attention_heads": 3,
        "image_size": 8,
        "patch_size": 4,
    },
    "vocab_size": 29,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 48,
    "max_position_embeddings": 24,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SEED, NUMBERS = 20221127, 5
RAISED = {2: 1.5, 5: 1.0}  # words, and what is added to their bias

# Name, what is read, and the arguments of generate.
ALL, QUESTIONS, ONE = "images", "questions", "one image"
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "greedy": (ALL, {"max_length": 14}),
    "greedy_repetition": (
        QUESTIONS,
        {"max_length": 14, "repetition_penalty": 1.7, "no_repeat_ngram_size": 2, "min_length": 9},
    ),
    "greedy_forced": (
        ALL,
        {
            "max_new_tokens": 7,
            "forced_bos_token_id": 7,
            "forced_eos_token_id": 2,
            "bad_words_ids": [[9], [3, 4]],
            "suppress_tokens": [6, 11, 12],
            "min_new_tokens": 4,
        },
    ),
    "greedy_biased": (
        QUESTIONS,
        {
            "max_new_tokens": 8,
            "sequence_bias": [[[8], 1.5], [[8, 9], 6.0], [[2], -2.0]],
            "begin_suppress_tokens": [8, 10],
            "encoder_repetition_penalty": 1.3,
            "encoder_no_repeat_ngram_size": 2,
            "renormalize_logits": True,
        },
    ),
    "greedy_decay": (
        ALL,
        {"max_new_tokens": 10, "exponential_decay_length_penalty": [2, 1.6], "guidance_scale": 1.5},
    ),
    "greedy_two_ends": (QUESTIONS, {"max_new_tokens": 10, "eos_token_id": [5, 2]}),
    "sample": (ONE, {"max_new_tokens": 12, "do_sample": True, "eos_token_id": None}),
    "sample_warped": (
        ONE,
        {
            "max_new_tokens": 12,
            "do_sample": True,
            "eos_token_id": None,
            "temperature": 1.6,
            "top_k": 12,
            "top_p": 0.9,
            "min_p": 0.02,
        },
    ),
    "sample_typical": (
        ONE,
        {
            "max_new_tokens": 12,
            "do_sample": True,
            "eos_token_id": None,
            "typical_p": 0.7,
            "epsilon_cutoff": 0.01,
            "eta_cutoff": 0.05,
        },
    ),
    "beam": (ALL, {"max_length": 14, "num_beams": 4}),
    "beam_early": (
        QUESTIONS,
        {
            "max_length": 14,
            "num_beams": 3,
            "num_return_sequences": 3,
            "early_stopping": True,
            "length_penalty": 0.6,
        },
    ),
    "beam_never": (
        QUESTIONS,
        {
            "max_new_tokens": 9,
            "num_beams": 5,
            "num_return_sequences": 2,
            "early_stopping": "never",
            "length_penalty": 2.0,
        },
    ),
    "beam_short": (
        ALL,
        {"max_length": 12, "num_beams": 2, "num_return_sequences": 2, "length_penalty": -1.0},
    ),
    "beam_two_ends": (
        QUESTIONS,
        {
            "max_length": 12,
            "num_beams": 3,
            "num_return_sequences": 2,
            "eos_token_id": [5, 2],
            "repetition_penalty": 1.4,
            "min_length": 7,
        },
    ),
    "beam_sample": (
        ONE,
        {"max_new_tokens": 8, "num_beams": 3, "num_return_sequences": 3, "do_sample": True},
    ),
    "group_beam": (
        ALL,
        {
            "max_length": 13,
            "num_beams": 4,
            "num_beam_groups": 2,
            "num_return_sequences": 4,
            "diversity_penalty": 0.7,
        },
    ),
    "group_beam_three": (
        QUESTIONS,
        {
            "max_length": 12,
            "num_beams": 6,
            "num_beam_groups": 3,
            "num_return_sequences": 6,
            "diversity_penalty": 2.5,
            "length_penalty": 0.0,
            "early_stopping": True,
        },
    ),
    "constrained_beam": (
        ALL,
        {
            "max_length": 14,
            "num_beams": 4,
            "num_return_sequences": 2,
            "force_words_ids": [[7], [12, 3]],
        },
    ),
    "constrained_beam_alternatives": (
        QUESTIONS,
        {
            # the second of two alternatives from one beginning is looked at after the first
            "max_length": 14,
            "num_beams": 3,
            "num_return_sequences": 2,
            "force_words_ids": [[[20, 7], [20, 8]], [11]],
        },
    ),
}


def inputs() -> dict[str, Tensors]:
    """What the runs read."""
    rng = np.random.RandomState(SEED + 1)
    pixels = rng.standard_normal((3, 3, 8, 8)).astype(np.float32)
    questions = rng.randint(6, CONFIG["vocab_size"], (3, 3))
    opening = np.full((3, 1), CONFIG["bos_token_id"])
    return {
        ALL: {"pixel_values": pixels, "input_ids": opening},
        QUESTIONS: {"pixel_values": pixels, "input_ids": questions},
        ONE: {"pixel_values": pixels[:1], "input_ids": questions[:1]},
    }


@contextmanager
def drawn_by_numbers() -> Iterator[None]:
    """Draw by the rules above, in the place of torch's."""
    rng, plain, last = np.random.RandomState(NUMBERS), torch.nn.functional.softmax, {}

    def softmax(x: torch.Tensor, dim: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        if x.ndim == 2:
            last["scores"] = x.numpy().astype(np.float64)
        return plain(x, dim=dim, dtype=dtype)

    def multinomial(probs: torch.Tensor, num_samples: int, **_: Any) -> torch.Tensor:
        assert len(probs) == 1
        if num_samples == 1:
            up_to = np.cumsum(probs.numpy().astype(np.float64), axis=-1)
            words = np.argmax(up_to > rng.random_sample((1, 1)) * up_to[:, -1:], axis=-1)[:, None]
        else:
            keys = last["scores"] - np.log(-np.log(rng.random_sample(probs.shape)))
            words = np.argsort(-keys, axis=-1, kind="stable")[:, :num_samples]
        return torch.from_numpy(words)

    with (
        mock.patch.object(torch, "multinomial", multinomial),
        mock.patch.object(torch.nn.functional, "softmax", softmax),
    ):
        yield


def run(model: Any, read: Tensors, arguments: dict[str, Any]) -> Any:
    """Ask the oracle for ids and scores."""
    asked = dict(arguments)
    if "sequence_bias" in asked:
        asked["sequence_bias"] = {tuple(ids): bias for ids, bias in asked["sequence_bias"]}
    if "exponential_decay_length_penalty" in asked:
        asked["exponential_decay_length_penalty"] = tuple(asked["exponential_decay_length_penalty"])
    tensors = {name: torch.from_numpy(x) for name, x in read.items()}
    with torch.no_grad(), warnings.catch_warnings(), drawn_by_numbers():
        warnings.simplefilter("ignore")
        # with scores its constrained search breaks off where a text lacks a forced word
        scored = "force_words_ids" not in asked
        return model.generate(
            **tensors, **asked, return_dict_in_generate=True, output_scores=scored
        )


def modes(build: Callable[..., Any]) -> tuple[Tensors, dict[str, Any]]:
    """Run every search; `build` makes the oracle's model from config, seed and dtype."""
    transformers.logging.set_verbosity_error()
    model = build(CONFIG, SEED, torch.float32)
    for word, more in RAISED.items():
        model.output.bias.data[word] += more
    read = inputs()
    tensors = {
        "input.pixel_values": read[ALL]["pixel_values"],
        "input.questions": read[QUESTIONS]["input_ids"],
    }
    for name, (which, arguments) in RUNS.items():
        out = run(model, read[which], arguments)
        tensors[f"ids.{name}"] = out.sequences.numpy()
        if arguments.get("num_beams", 1) > 1:
            if out.sequences_scores is not None:
                tensors[f"sequences_scores.{name}"] = out.sequences_scores.numpy()
        else:  # (steps, rows, V)
            tensors[f"scores.{name}"] = torch.stack(out.scores).numpy()
    return {name: np.array(x, order="C") for name, x in tensors.items()}, {
        "config": CONFIG,
        "drawn_weights": "golden/weights.py",
        "seed": SEED,
        "raised": [[word, more] for word, more in RAISED.items()],
        "numbers": NUMBERS,
        "runs": {name: {"reads": which, **arguments} for name, (which, arguments) in RUNS.items()},
        "tolerance": 1e-4,
        "dtype": "float32",
        "description": "each search but contrastive, with the arguments of `runs`: ids, and the "
        "scores of the words or of the texts",
    }
