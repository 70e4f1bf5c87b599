"""What docstrings say: all of them something, those of the mathematics equation, shapes, source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from helpers.backends import ROOT
from helpers.docstrings import PARTS


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


# ---- every public name of every module


def public(body: list[ast.stmt], path: str) -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    """Functions, classes and methods, less the setters of properties."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_":
            setter = [d for d in node.decorator_list if getattr(d, "attr", "") == "setter"]
            if not setter:
                yield f"{path}.{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{path}.{node.name}")


ALL = {
    name: node
    for path in sorted((ROOT / "refgit").rglob("*.py"))
    for name, node in public(
        ast.parse(path.read_text(encoding="utf-8")).body,
        ".".join(path.relative_to(ROOT).with_suffix("").parts),
    )
}


def section(node: ast.FunctionDef | ast.ClassDef, heading: str) -> list[str]:
    """The lines below a heading of the docstring; none without it."""
    text = ast.get_docstring(node) or ""
    pattern = rf"^{heading}\n-+\n(.*?)(?=^\w[\w ]*\n-{{3,}}$|\Z)"
    found = re.search(pattern, text, re.M | re.S)
    return [line for line in found[1].splitlines() if line.strip()] if found else []


def test_every_public_name_has_a_docstring() -> None:
    assert len(ALL) > 1000
    assert [name for name, node in ALL.items() if not ast.get_docstring(node)] == []


def test_a_list_of_parameters_leaves_none_out() -> None:
    left_out = []
    for name, node in ALL.items():
        listed = " ".join(section(node, "Parameters"))
        if listed and isinstance(node, ast.FunctionDef):
            a = node.args
            given = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
            words = {"self", "cls", *re.findall(r"\w+", listed)}
            left_out += [f"{name}: {x.arg}" for x in given if x.arg not in words]
    assert left_out == []


def test_every_error_that_is_listed_says_when_it_is_raised() -> None:
    bare = []
    for name, node in ALL.items():
        lines = [*section(node, "Raises"), ""]
        heads = [i for i, line in enumerate(lines[:-1]) if line[0] != " "]
        bare += [f"{name}: {lines[i]}" for i in heads if lines[i + 1][:1] != " "]
    assert bare == []
