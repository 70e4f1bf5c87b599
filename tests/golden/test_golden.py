"""Every golden tensor of every case, on every backend.

The stored tensors are what transformers 4.56.2 on torch computed; golden/generate.py made them.
"""

from __future__ import annotations

import numpy as np
import pytest

from helpers import golden_cases as golden
from helpers.backends import each_backend, make_backend
from helpers.golden_checks import SMALL, WRITING, relative_error
from refgit import to_numpy
from refgit_backends import Backend

# Hooks of what no module of the oracle returns; parity/graph.py recomputes them from the others.
BETWEEN_MODULES = (".scores", ".context", ".residual", ".sum")


def _of_the_oracle(name: str) -> str:
    """The oracle's module `attention.self` of the decoder returns what is hooked as its context."""
    return name.removesuffix(".context") if name.endswith("attention.self.context") else name


def check_case(case: str, backend: Backend) -> None:
    """Forward once with hooks; compare all that is stored."""
    model, inputs = golden.model(case, backend), golden.inputs(case)
    hooks: dict[str, np.ndarray] = {}

    def listen(name: str, x: object) -> None:
        assert name not in hooks, f"two hooks are called {name}"
        hooks[name] = to_numpy(x)

    options = golden.MANIFEST[case].get("options", {})
    out = model(**inputs, **options, output_attentions=True, output_hidden_states=True, hook=listen)
    computed = {f"tap.{_of_the_oracle(name)}": x for name, x in hooks.items()}
    computed = {name: x for name, x in computed.items() if not name.endswith(BETWEEN_MODULES)}
    computed["output.logits"] = to_numpy(out.logits)
    computed["output.loss"] = to_numpy(out.loss)
    for i, x in enumerate(out.hidden_states):
        computed[f"output.hidden_states.{i}"] = to_numpy(x)
    for i, x in enumerate(out.attentions):
        computed[f"output.attentions.{i}"] = to_numpy(x)
    wanted = {k: v for k, v in golden.tensors(case).items() if k.startswith(("tap.", "output."))}
    if golden.MANIFEST[case]["part"] != [1, 1]:  # attentions stand among the hooks already
        computed = {k: v for k, v in computed.items() if not k.startswith("output.attentions")}
    assert set(computed) == set(wanted)
    for name, value in wanted.items():
        error = relative_error(golden.stored_part(case, computed[name]), value)
        assert error <= golden.MANIFEST[case]["tolerance"], f"{name}: relative error {error:.2e}"


@pytest.mark.parametrize("case", SMALL)
def test_every_tensor_equals_the_oracles(case: str, backend: Backend) -> None:
    if golden.MANIFEST[case]["dtype"] not in backend.float_names:
        pytest.skip(f"{backend.name} has no {golden.MANIFEST[case]['dtype']}")
    check_case(case, backend)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("numpy", marks=pytest.mark.slow),
        pytest.param("strict", marks=pytest.mark.slow),
        pytest.param("cupy", marks=pytest.mark.gpu),
    ],
)
def test_every_tensor_of_git_base_size_equals_the_oracles(name: str) -> None:
    check_case("git_base", make_backend(name))


@pytest.mark.slow
def test_git_base_size_holds_for_the_bare_definitions() -> None:
    check_case("git_base", make_backend("numpy-definitions"))


@pytest.mark.parametrize("backend", each_backend("strict"), indirect=True)
@pytest.mark.parametrize("case", WRITING)
def test_generated_ids_equal_the_oracles(case: str, backend: Backend) -> None:
    model, inputs = golden.model(case, backend), golden.inputs(case)
    image, ids = {"pixel_values": inputs["pixel_values"]}, inputs["input_ids"]
    if case == "demo":
        runs = {
            "caption": model.generate(**image, max_length=20),
            "answer": model.generate(**image, input_ids=ids, max_length=20),
        }
    else:
        mask = inputs.get("attention_mask")
        prompt = {
            "input_ids": ids[:, :4],
            "attention_mask": None if mask is None else mask[:, :4],
        }
        runs = {
            "caption": model.generate(**image, max_length=16),
            "caption_long": model.generate(**image, max_new_tokens=14, min_length=12),
            "answer": model.generate(**image, **prompt, max_length=14),
        }
    wanted = golden.group(case, "ids")
    assert set(runs) == set(wanted)
    for name, found in runs.items():
        np.testing.assert_array_equal(to_numpy(found), wanted[name])


@pytest.mark.slow
def test_generated_ids_of_git_base_size_equal_the_oracles() -> None:
    model = golden.model("git_base", make_backend("numpy"))
    found = model.generate(golden.inputs("git_base")["pixel_values"], max_length=8)
    np.testing.assert_array_equal(found, golden.group("git_base", "ids")["caption"])


def test_greedy_runs_end_at_different_lengths() -> None:
    """Else the cases would not show what stands after the end token."""
    ids = golden.group("tiny_float32", "ids")
    ended = [(row == 2).any() for run in ids.values() for row in run]
    assert any(ended)
    assert not all(ended)


def test_the_folder_is_small() -> None:
    size = sum(f.stat().st_size for f in golden.GOLDEN.rglob("*") if f.is_file())
    assert size <= 10_000_000
