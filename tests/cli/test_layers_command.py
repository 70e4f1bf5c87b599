"""`refgit layers`: the mathematics, listed and shown."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
from collections.abc import Callable

import numpy as np
import pytest

import refgit.layers
from helpers.backends import ROOT
from helpers.docstrings import PARTS
from refgit.cli import main as cli
from refgit.cli.commands import layers as command
from refgit_backends import available, get_backend

Run = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run_it(*arguments: str) -> tuple[int, list[str], list[str]]:
        code = cli.main(["layers", *arguments])
        out, err = capsys.readouterr()
        return code, out.split("\n")[:-1], err.split("\n")[:-1]

    return run_it


NAMES = [name.partition(".")[2] for name in PARTS]


def test_the_list_holds_every_layer_with_its_line_and_its_place(run: Run) -> None:
    code, lines, err = run()
    assert (code, err) == (0, [])
    header, *rows, empty, last = lines
    assert header.split() == ["name", "what", "it", "does", "where"]
    assert empty == ""
    assert last.startswith(f"{len(NAMES)} layers")
    assert [row.split()[0] for row in rows] == NAMES
    for row, node in zip(rows, PARTS.values(), strict=True):
        summary = (ast.get_docstring(node) or "").partition("\n")[0].rstrip(".")
        assert f" {summary} " in row
        file, _, line = row.split()[-1].partition(":")
        assert f" {node.name}(" in (ROOT / file).read_text().splitlines()[int(line) - 1] or (
            isinstance(node, ast.ClassDef)
        )


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_is_shown_with_equation_shapes_and_code(name: str, run: Run) -> None:
    code, lines, err = run(name)
    assert (code, err) == (0, [])
    text = "\n".join(lines)
    assert lines[0].startswith(f"{name}   refgit/layers/")
    assert ".. math::" in text
    assert "Source: " in text
    assert text.count(".. math::") == (command.all_layers()[name].docstring).count(".. math::")
    assert f"def {name}(" in text or f"class {name}" in text
    assert '"""' not in text  # the docstring is shown once
    assert any(line.startswith("kernels   ") for line in lines)
    assert any(line.startswith("used by   ") for line in lines)


@pytest.mark.parametrize("name", NAMES)
def test_the_code_that_is_shown_is_the_code_that_runs(name: str) -> None:
    layer = command.all_layers()[name]
    shown = ast.parse(layer.code).body[0]
    module = importlib.import_module(layer.file.removesuffix(".py").replace("/", "."))
    real = ast.parse(inspect.getsource(getattr(module, name))).body[0]
    assert isinstance(shown, ast.FunctionDef | ast.ClassDef)
    assert isinstance(real, ast.FunctionDef | ast.ClassDef)
    assert ast.get_docstring(real)
    assert ast.get_docstring(shown) is None
    assert [ast.dump(node) for node in shown.body] == [ast.dump(node) for node in real.body[1:]]


def test_kernels_are_those_of_the_backends(run: Run) -> None:
    for name in ("linear", "gelu", "softmax"):
        (line,) = run(name, "--json")[1]
        found = json.loads(line)["kernels"]
        assert set(found) == set(available())
        assert found["numpy"] is (name in get_backend("numpy").kernels)
        assert found["strict"] is False
    (line,) = (line for line in run("linear")[1] if line.startswith("kernels"))
    assert "numpy" in line
    assert "strict" not in line


def test_uses_are_places_in_which_the_name_stands(run: Run) -> None:
    for name, caller in (
        ("layer_norm", "vision_block"), ("embed", "_embedded"), ("softmax", "attention"),
        ("multi_head_attention", "decoder_block"), ("relative_scores", "attention"),
    ):  # fmt: skip
        (line,) = run(name, "--json")[1]
        uses = json.loads(line)["used_by"]
        assert caller in [use.split()[1] for use in uses]
        for use in uses:
            file, _, place = use.split()[0].partition(":")
            assert name in (ROOT / file).read_text().splitlines()[int(place) - 1]


def test_a_name_may_stand_behind_its_file(run: Run) -> None:
    assert run("attention.split_heads") == run("split_heads")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("layernorm", "layer_norm"),
        ("LayerNorm", "layer_norm"),
        ("sofmax", "softmax"),
        ("heads", "split_heads"),
        ("position", "add_absolute_positions"),
    ],
)
def test_a_wrong_name_gets_close_ones(wrong: str, right: str, run: Run) -> None:
    code, out, (line,) = run(wrong)
    assert (code, out) == (2, [])
    assert repr(wrong) in line
    assert right in line


def test_a_name_like_none_gets_the_list(run: Run) -> None:
    code, _, (line,) = run("zzzzzz")
    assert code == 2
    assert "Did you mean" not in line
    assert "refgit layers lists" in line


def test_json_prints_an_object_a_line(run: Run) -> None:
    code, lines, err = run("--json")
    assert (code, err) == (0, [])
    entries = [json.loads(line) for line in lines]
    assert [entry["name"] for entry in entries] == NAMES
    (line,) = run("gelu", "--json")[1]
    one = json.loads(line)
    namespace: dict[str, object] = {}
    exec("from refgit.layers.activation import *\nfrom refgit.layers.erf import erf", namespace)
    exec("from __future__ import annotations\nimport math\n" + one["source"], namespace)
    x = np.linspace(-2, 2, 5)
    np.testing.assert_array_equal(namespace["gelu"](x), refgit.layers.gelu(x))  # type: ignore[operator]
