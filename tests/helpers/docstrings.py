"""The public functions and classes of refgit/layers, for the tests of their docstrings."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from helpers.backends import ROOT

NO_MATHEMATICS = {"_array_api", "_operations"}  # the namespace's gaps, and the choice of kernels


def parts() -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    for path in sorted((ROOT / "refgit" / "layers").glob("*.py")):
        if path.stem not in NO_MATHEMATICS:
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_":
                    yield f"{path.stem}.{node.name}", node


PARTS = dict(parts())
