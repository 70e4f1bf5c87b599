"""docs/surface.md is true: every proof exists, no row lacks one, nothing of refgit is left out."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import fields
from functools import cache
from typing import Any

import pytest

from helpers import golden_cases
from helpers.backends import ROOT
from helpers.surface import ROWS, Row, names
from refgit import (
    BertTokenizer,
    CLIPImageProcessor,
    GitConfig,
    GitForCausalLM,
    GitModel,
    GitProcessor,
    GitVisionConfig,
    GitVisionModel,
)
from refgit.model import outputs


@cache
def functions_in(file: str) -> dict[str, bool]:
    """The test functions of a file, and whether each is expected to fail."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {
        node.name: any("xfail" in ast.unparse(mark) for mark in node.decorator_list)
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def is_open(proof: str) -> bool:
    """Whether a proof is expected to fail; it must exist."""
    case = re.fullmatch(r"golden: (\w+)", proof)
    if case:
        assert case[1] in golden_cases.MANIFEST, f"there is no golden case {case[1]}"
        return False
    file, _, function = proof.partition("::")
    assert (ROOT / file).is_file(), f"{proof}: there is no file {file}"
    assert function in functions_in(file), f"{file} has no test {function}"
    return functions_in(file)[function]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.section}-{row.name}")
def test_every_row_has_a_proof_that_exists(row: Row) -> None:
    assert row.section
    assert row.table
    assert row.meaning
    assert row.proofs, f"{row.name} of {row.section} has no proof"
    assert len(set(row.proofs)) == len(row.proofs)
    expected_to_fail = [is_open(proof) for proof in row.proofs]
    assert any(expected_to_fail) == ("**open" in row.meaning)


def test_no_row_stands_twice() -> None:
    keys = [row[:3] for row in ROWS]
    assert len(set(keys)) == len(keys) > 100


def arguments(function: Any) -> set[str]:
    """The parameters of a function, `self` excepted."""
    found = inspect.signature(function).parameters.values()
    kinds = {p.name: p.kind for p in found if p.name != "self"}
    return {
        f"**{name}" if kind is inspect.Parameter.VAR_KEYWORD else name
        for name, kind in kinds.items()
    }


@pytest.mark.parametrize("kind", [GitVisionConfig, GitConfig])
def test_every_field_of_a_config_has_a_row(kind: type) -> None:
    rows = names(kind.__name__, "Fields")
    assert rows == {f.name for f in fields(kind)} | {"**kwargs"}


@pytest.mark.parametrize(
    ("kind", "documented"),
    [(GitVisionModel, set()), (GitModel, set()), (GitForCausalLM, {"**kwargs"})],
)
def test_every_argument_of_a_model_has_a_row(kind: Any, documented: set[str]) -> None:
    assert names(kind.__name__, "Arguments") == arguments(kind.__call__) | documented


@pytest.mark.parametrize(
    ("kind", "output", "documented"),
    [
        ("GitVisionModel", outputs.BaseModelOutput, set()),
        ("GitModel", outputs.BaseModelOutputWithPast, {"pooler_output"}),
        ("GitForCausalLM", outputs.CausalLMOutputWithPast, set()),
    ],
)
def test_every_field_of_an_output_has_a_row(kind: str, output: Any, documented: set[str]) -> None:
    assert names(kind, "Returns") == {f.name for f in fields(output)} | documented


@pytest.mark.parametrize(
    "kind", [GitVisionConfig, GitVisionModel, GitConfig, GitProcessor, GitModel, GitForCausalLM]
)
def test_what_a_class_is_said_to_have_it_has(kind: Any) -> None:
    said = {row for row in ROWS if (row.section, row.table) == (kind.__name__, "Class")}
    made_from = arguments(kind.__init__)
    for row in said:
        has = row.name in made_from or callable(getattr(kind, row.name, None))
        assert has or "**open" in row.meaning, row.name
    assert {"from_pretrained", "save_pretrained"} <= {row.name for row in said}


def test_every_argument_and_option_of_the_processor_has_a_row() -> None:
    rows = names("GitProcessor", "Arguments")
    assert rows == arguments(GitProcessor.__call__) | {"audio", "videos"}
    common = {"return_tensors", "**overrides", "text", "images"}
    assert names("GitProcessor", "Text options") == arguments(BertTokenizer.__call__) - common
    settings = set(CLIPImageProcessor.setting_names())
    own = arguments(CLIPImageProcessor.__call__) - common
    assert names("GitProcessor", "Image options") == settings | own
    assert names("GitProcessor", "Class") >= arguments(GitProcessor.__init__)


def test_every_entry_the_processor_can_return_has_a_row() -> None:
    flags = {name.removeprefix("return_") for name in arguments(BertTokenizer.__call__)}
    returned = {"input_ids", "pixel_values"} | {"attention_mask", "token_type_ids"} & flags
    assert names("GitProcessor", "Returns") == returned
