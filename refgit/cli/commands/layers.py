"""`refgit layers`: the mathematics of GIT, function by function, to be read in a terminal."""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from textwrap import indent
from typing import Any

from refgit.cli.arguments import add_output_options
from refgit.cli.output import print_json, put
from refgit.cli.table import print_table
from refgit.cli.terminal import has_colours, rich_console
from refgit_backends import BackendError, available, get_backend

DESCRIPTION = (
    "List the functions that are the model's mathematics, or show one: its "
    "equation, its shapes, its code, where the model uses it and who has a faster version."
)
EPILOG = """\
examples:
  refgit layers
  refgit layers layer_norm
  refgit layers attention | less
  refgit layers softmax --json

A layer is a function of arrays, in a file of its own in refgit/layers. Equations are written in
LaTeX. In the shapes B is the batch, T text tokens, N image tokens, L all tokens, D the
width, H the heads, F the width inside the feed-forward network, V the vocabulary, Q queries, K
keys, C channels and P the side of a patch. A kernel is a faster version of an operation that a
backend brings along; the definition shown here is what it must equal.

exit codes: 0 all well, 2 there is no layer of that name
"""
_REFGIT = Path(__file__).parents[2]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="a layer, such as layer_norm")
    add_output_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """List the layers, or show the one that is named."""
    layers = all_layers()
    if arguments.name is not None:
        layer = find_layer(arguments.name, layers)
        if arguments.json:
            print_json(**entries(layer), source=layer.source)
        else:
            show(layer)
        return 0
    if arguments.json:
        for layer in layers.values():
            print_json(**entries(layer))
        return 0
    rows = [[x.name, x.summary, f"{x.file}:{x.line}"] for x in layers.values()]
    print_table("", ("name", "what it does", "where"), rows)
    put(f"{len(rows)} layers; refgit layers NAME shows one.")
    return 0


# ---- finding them


@dataclass(frozen=True)
class Layer:
    """A public function or class of refgit/layers.

    Attributes
    ----------
    name : str
    file : str
        As in refgit/layers/softmax.py.
    line : int
        Of the file, with its name, below a decorator.
    docstring : str
        Equation, shapes and source.
    source : str
        Its code, docstring included.
    """

    name: str
    file: str
    line: int
    docstring: str
    source: str

    @property
    def summary(self) -> str:
        """The docstring's first line."""
        return self.docstring.partition("\n")[0].rstrip(".")

    @property
    def code(self) -> str:
        """Its code without the docstring."""
        node = ast.parse(self.source).body[0]
        lines = self.source.splitlines()
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            first = node.body[0]
            del lines[first.lineno - 1 : first.end_lineno]
        return "\n".join(lines)


def all_layers() -> dict[str, Layer]:
    """Every public function and class of refgit/layers by name, file by file."""
    found = {}
    for path in sorted(_REFGIT.glob("layers/*.py")):
        if path.stem.startswith("_"):  # the namespace's gaps, and the choice of kernels
            continue
        module = importlib.import_module(f"refgit.layers.{path.stem}")
        for name, thing in vars(module).items():
            ours = getattr(thing, "__module__", "") == module.__name__
            if ours and name[0] != "_" and (inspect.isfunction(thing) or inspect.isclass(thing)):
                code, first = inspect.getsourcelines(thing)
                source = "".join(code)
                line = first + ast.parse(source).body[0].lineno - 1
                file = f"refgit/layers/{path.name}"
                found[name] = Layer(name, file, line, inspect.getdoc(thing) or "", source)
    return found


def find_layer(name: str, layers: dict[str, Layer]) -> Layer:
    """Find a layer by its name, with or without its file's before it.

    Raises
    ------
    ValueError
        There is none; the message names similar ones.
    """
    wanted = name.rpartition(".")[2]
    if wanted in layers:
        return layers[wanted]
    near = get_close_matches(wanted.lower(), layers, 3, cutoff=0.5)
    near += [known for known in layers if wanted.lower() in known and known not in near]
    meant = f" Did you mean {' or '.join(near[:3])}?" if near else ""
    raise ValueError(f"no layer is called {name!r}.{meant} refgit layers lists all of them.")


# ---- what there is to say


def entries(layer: Layer) -> dict[str, Any]:
    """Say what `--json` prints of a layer."""
    return {
        "name": layer.name,
        "summary": layer.summary,
        "file": layer.file,
        "line": layer.line,
        "docstring": layer.docstring,
        "kernels": kernels_for(layer.name),
        "used_by": list(uses_of(layer.name)),
    }


def kernels_for(name: str) -> dict[str, bool | None]:
    """Say of each backend whether it has a kernel; None where it does not run here."""
    found: dict[str, bool | None] = {}
    for backend in available():
        try:
            found[backend] = name in get_backend(backend).kernels
        except (BackendError, ImportError):
            found[backend] = None
    return found


def uses_of(name: str) -> Iterator[str]:
    """Say which functions of the model call a layer, as refgit/model/vision.py:56 image_encoder."""
    files = [_REFGIT / f"model/{part}.py" for part in ("vision", "decoder", "git", "causal_lm")]
    for path in (*files, *sorted(_REFGIT.glob("layers/*.py"))):
        text = path.read_text(encoding="utf-8")
        if name not in text:
            continue
        for function in _functions(ast.parse(text)):
            names = (node for node in ast.walk(function) if isinstance(node, ast.Name))
            lines = [node.lineno for node in names if node.id == name]
            if lines and function.name != name:
                where = f"refgit/{path.relative_to(_REFGIT).as_posix()}:{min(lines)}"
                yield f"{where} {function.name}"


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """The functions of a module and the methods of its classes."""
    for node in tree.body:
        inside = node.body if isinstance(node, ast.ClassDef) else [node]
        yield from (part for part in inside if isinstance(part, ast.FunctionDef))


# ---- how it is printed


def show(layer: Layer) -> None:
    """Print all of a layer."""
    put(f"{layer.name}   {layer.file}:{layer.line}\n")
    put(indent(layer.docstring, "    ") + "\n")
    show_code(layer.code)
    put()
    kernels = kernels_for(layer.name)
    having = [backend for backend, has in kernels.items() if has]
    absent = [backend for backend, has in kernels.items() if has is None]
    put(f"kernels   {', '.join(having) or 'none; every backend runs the definition above'}")
    if absent:
        put(f"          not known of {', '.join(absent)}, which cannot be started here")
    uses = list(uses_of(layer.name))
    put(f"used by   {uses[0] if uses else 'nothing in the model itself'}")
    for use in uses[1:]:
        put(f"          {use}")


def show_code(code: str) -> None:
    """Print Python code, in colours where stdout takes them."""
    console = rich_console(sys.stdout) if has_colours(sys.stdout) else None
    if console is None:
        put(code)
        return
    from rich.syntax import Syntax

    coloured = Syntax(code, "python", theme="ansi_dark", background_color="default")
    with console.capture() as drawn:
        console.print(coloured.highlight(code), soft_wrap=True, end="")
    put(drawn.get(), end="")
