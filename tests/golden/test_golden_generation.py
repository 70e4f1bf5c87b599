"""Every search's golden ids and scores, on every backend.

The stored tensors are what transformers 4.56.2 on torch wrote, by golden/cases/generation.py.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from helpers import golden_cases as golden
from refgit import GitConfig, GitForCausalLM, to_numpy
from refgit.generation.request import Request
from refgit.generation.resolve import resolve
from refgit_backends import Backend

CASE = golden.MANIFEST["generation_modes"]
TENSORS = golden.tensors("generation_modes")
RUNS: dict[str, dict[str, Any]] = CASE["runs"]


class Given(np.random.Generator):
    """Gives the numbers that the golden runs were drawn by."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))
        self.numbers = np.random.RandomState(CASE["numbers"])

    def random(self, size: Any = None, *_: Any, **__: Any) -> Any:
        return self.numbers.random_sample(size)


def model(backend: Backend) -> GitForCausalLM:
    config = GitConfig.from_dict(CASE["config"])
    weights = golden.make_weights(GitForCausalLM.shapes(config), CASE["seed"])
    for word, more in CASE["raised"]:
        weights["output.bias"][word] += np.float32(more)
    return GitForCausalLM(config, backend=backend, dtype=CASE["dtype"], _parameters=weights)


def generate(name: str, backend: Backend, **more: Any) -> Any:
    """What refgit writes in a golden run."""
    arguments = dict(RUNS[name])
    reads, pixels = arguments.pop("reads"), TENSORS["input.pixel_values"]
    ids = TENSORS["input.questions"]
    if reads == "images":
        ids = None
    elif reads == "one image":
        pixels, ids = pixels[:1], ids[:1]
    if arguments.get("do_sample"):
        arguments["seed"] = Given()
    return model(backend).generate(pixels, ids, **arguments, **more)


@pytest.mark.parametrize("name", RUNS)
def test_ids_and_scores_equal_the_oracles(name: str, backend: Backend) -> None:
    found = generate(name, backend, return_dict_in_generate=True, output_scores=True)
    np.testing.assert_array_equal(to_numpy(found.sequences), TENSORS[f"ids.{name}"])
    tolerance = CASE["tolerance"]
    if f"sequences_scores.{name}" in TENSORS:
        wanted = TENSORS[f"sequences_scores.{name}"]
        np.testing.assert_allclose(to_numpy(found.sequences_scores), wanted, rtol=tolerance)
    if f"scores.{name}" in TENSORS:
        wanted, scores = TENSORS[f"scores.{name}"], np.stack([*map(to_numpy, found.scores)])
        assert scores.shape == wanted.shape
        running = ~np.isneginf(np.delete(scores, CASE["config"]["pad_token_id"], axis=-1)).all(-1)
        assert running[0].all()
        np.testing.assert_array_equal(np.isneginf(scores[running]), np.isneginf(wanted[running]))
        np.testing.assert_allclose(scores[running], wanted[running], rtol=tolerance, atol=tolerance)


def test_the_ids_alone_are_the_same(backend: Backend) -> None:
    for name in ("greedy", "sample", "beam", "beam_sample", "group_beam", "constrained_beam"):
        np.testing.assert_array_equal(
            to_numpy(generate(name, backend)), TENSORS[f"ids.{name}"], err_msg=name
        )


def test_the_runs_are_of_every_search_but_contrastive_and_end_unevenly() -> None:
    kinds: Counter[str] = Counter()
    uneven = 0
    defaults = model_defaults()
    for name, run in RUNS.items():
        arguments = {k: v for k, v in run.items() if k != "reads"}
        kinds[resolve(defaults, Request(arguments=arguments), room=99).search.name] += 1
        ids = TENSORS[f"ids.{name}"]
        ends = {int(np.argmax(row == 2)) if 2 in row else -1 for row in ids}
        uneven += len(ends) > 1
    assert set(kinds) == {
        "greedy", "sample", "beam", "beam_sample", "group_beam", "constrained_beam"
    }  # fmt: skip
    assert min(kinds.values()) >= 1
    assert uneven >= len(RUNS) // 3


def model_defaults() -> Any:
    return GitForCausalLM(GitConfig.from_dict(CASE["config"])).generation_config
