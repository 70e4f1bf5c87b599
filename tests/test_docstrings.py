"""Every function of the mathematics gives its equation, its shapes and where it is from."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from conftest import ROOT

NO_MATHEMATICS = {"array_api", "operations"}  # the namespace's gaps, and the choice of kernels


def parts() -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    for path in sorted((ROOT / "refgit" / "layers").glob("*.py")):
        if path.stem not in NO_MATHEMATICS:
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_":
                    yield f"{path.stem}.{node.name}", node


PARTS = dict(parts())


@pytest.mark.parametrize("name", PARTS)
def test_a_docstring_gives_equation_shapes_and_source(name: str) -> None:
    node = PARTS[name]
    text = ast.get_docstring(node) or ""
    function = isinstance(node, ast.FunctionDef)
    headings = ["Parameters", "Returns", "Notes"] if function else ["Attributes", "Notes"]
    places = [text.find(f"\n{word}\n{'-' * len(word)}\n") for word in headings]
    assert -1 not in places
    assert places == sorted(places)
    assert ".. math::" in text
    assert "\nSource: " in text[places[-1] :]
    if isinstance(node, ast.FunctionDef):
        inside = text[places[0] : places[1]]
        names = [arg.arg for arg in (*node.args.args, *node.args.kwonlyargs)]
        assert [name for name in names if name not in inside] == []


def test_there_is_mathematics_to_look_at() -> None:
    assert {"attention.split_heads", "softmax.softmax", "position.RelativePositions"} <= set(PARTS)
