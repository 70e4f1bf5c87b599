"""`{{ source refgit.layers.softmax.softmax }}`: the library's own code, never a copy of it."""

from __future__ import annotations

import ast
import functools
import posixpath
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
HOMES = {"refgit": ROOT / "refgit", "refgit_backends": ROOT / "backends" / "refgit_backends"}


class NoSuchNameError(LookupError):
    """A name that the library does not have."""


def show(name: str, page: str) -> str:
    """Return the Markdown that shows a function or class: where it stands, and its code."""
    path, line, code = find(name)
    target = posixpath.relpath(f"source/{path}.html", posixpath.dirname(page) or ".")
    head = (
        f'<p class="source-of"><a href="{target}#L{line}"><code>{path}</code>, line {line}</a></p>'
    )
    return f"{head}\n\n```python\n{code}\n```\n"


def find(name: str) -> tuple[str, int, str]:
    """Return the file, the line and the code without docstrings of a dotted name."""
    words = name.split(".")
    for end in range(len(words) - 1, 0, -1):
        file = _file(words[:end])
        if file is not None:
            break
    else:
        raise NoSuchNameError(f"{name}: no module of that name in {', '.join(HOMES)}")
    text, body = file.read_text(encoding="utf-8"), _tree(file).body
    node: ast.AST | None = None
    for word in words[end:]:
        node = next((child for child in body if _name(child) == word), None)
        if node is None:
            path = file.relative_to(ROOT).as_posix()
            raise NoSuchNameError(f"{name}: {path} has no {word} on its top level or in its class")
        body = getattr(node, "body", [])
    assert isinstance(node, ast.stmt)
    line = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    return file.relative_to(ROOT).as_posix(), line, _code(node, line, text.splitlines())


def _file(words: list[str]) -> Path | None:
    """Return the file of a module."""
    if words[0] not in HOMES:
        return None
    place = HOMES[words[0]].joinpath(*words[1:])
    files = (place.with_suffix(".py"), place / "__init__.py")
    return next((file for file in files if file.is_file()), None)


@functools.cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _name(node: ast.stmt) -> str | None:
    """Return what a statement defines."""
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.target.id
    return getattr(node, "name", None)


def _code(node: ast.stmt, first: int, lines: list[str]) -> str:
    """Return a statement's lines, those of docstrings left out, moved to the left margin."""
    left_out = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(inner):
            text = inner.body[0]
            left_out.update(range(text.lineno, (text.end_lineno or text.lineno) + 1))
            after = text.end_lineno or text.lineno
            if len(inner.body) > 1 and after < len(lines) and not lines[after].strip():
                left_out.add(after + 1)
    kept = [n for n in range(first, (node.end_lineno or first) + 1) if n not in left_out]
    indent = len(lines[first - 1]) - len(lines[first - 1].lstrip())
    return "\n".join(lines[n - 1][indent:] for n in kept)
