"""What imports what: the arrows of the design, in the sources and in a fresh process."""

from __future__ import annotations

import ast
import importlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from email.parser import Parser
from functools import cache
from pathlib import Path

import pytest

import refgit

ROOT = Path(__file__).parent.parent
SOURCES = {"refgit": ROOT / "refgit", "refgit_backends": ROOT / "backends" / "refgit_backends"}
HEAVY = {"torch", "transformers", "cupy", "PIL", "tokenizers", "safetensors", "huggingface_hub"}


def modules_after(statement: str) -> set[str]:
    """Names in sys.modules of a fresh process that has run the statement."""
    paths = [str(ROOT), str(ROOT / "backends")]
    code = f"import sys; sys.path[:0] = {paths}; {statement}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    return set(done.stdout.split())


def module_files(package: str) -> list[Path]:
    return sorted(SOURCES[package].rglob("*.py"))


def module_name(path: Path) -> str:
    root = ROOT if path.is_relative_to(ROOT / "refgit") else ROOT / "backends"
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


@dataclass(frozen=True)
class Import:
    """An import statement: what it names, and where it is."""

    module: str
    in_function: bool
    for_types: bool


@cache
def imports_of(path: Path) -> tuple[Import, ...]:
    """Every import of a source file, relative ones resolved."""
    found: list[Import] = []

    def visit(node: ast.AST, in_function: bool, for_types: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, in_function, for_types) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            found.extend(Import(name, in_function, for_types) for name in targets(node, path))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                visit(child, in_function, True)
            for child in node.orelse:
                visit(child, in_function, for_types)
            return
        inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.iter_child_nodes(node):
            visit(child, inside, for_types)

    visit(ast.parse(path.read_text(encoding="utf-8")), False, False)
    return tuple(found)


def targets(node: ast.ImportFrom, path: Path) -> set[str]:
    """The modules that `from X import a, b` needs: X, or X.a where that is a module."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    base = package[: len(package) - node.level + 1] if node.level else []
    module = ".".join([*base, *([node.module] if node.module else [])])
    names = {f"{module}.{alias.name}" for alias in node.names}
    modules_named = {name for name in names if is_module(name)}
    return modules_named | ({module} if names - modules_named else set())


def imported(path: Path, *, at_type_checking: bool = False) -> set[str]:
    """Modules that a source file imports anywhere; those for type checking only on request."""
    return {x.module for x in imports_of(path) if at_type_checking or not x.for_types}


def ours(names: Iterable[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] in SOURCES}


@cache
def modules() -> frozenset[str]:
    return frozenset(module_name(path) for kind in SOURCES for path in module_files(kind))


def is_module(name: str) -> bool:
    return name in modules()


def part_of(module: str) -> str:
    """refgit.layers.linear -> layers; other packages by their own name."""
    first, _, rest = module.partition(".")
    return rest.partition(".")[0] if first == "refgit" and rest else first


# ---- in a fresh process


def test_importing_refgit_imports_nothing_heavy() -> None:
    found = modules_after("import refgit")
    assert "refgit" in found
    assert not found & HEAVY
    assert "numpy" not in found  # nor anything else that takes time


def test_the_command_line_speaks_to_openblas_before_numpy_loads_it() -> None:
    assert "numpy" not in modules_after("import refgit.cli.main")
    code = (
        "import os, sys, refgit.cli.main as cli; cli.main(['caption', 'docs/images/star.png']);"
        "assert 'numpy' in sys.modules; print(os.environ['OPENBLAS_THREAD_TIMEOUT'])"
    )
    paths = os.pathsep.join([str(ROOT), str(ROOT / "backends")])
    for given, expected in ((None, "22"), ("9", "9")):
        variables = {k: v for k, v in os.environ.items() if k != "OPENBLAS_THREAD_TIMEOUT"}
        variables |= {"PYTHONPATH": paths, **({"OPENBLAS_THREAD_TIMEOUT": given} if given else {})}
        done = subprocess.run(
            [sys.executable, "-c", code], env=variables, capture_output=True, text=True, cwd=ROOT
        )
        assert done.stdout.splitlines()[-1] == expected, done.stderr


def test_building_and_running_a_model_imports_nothing_it_does_not_need() -> None:
    found = modules_after(
        "import refgit; config = refgit.GitConfig(vision_config=dict(hidden_size=4, "
        "num_attention_heads=1, num_hidden_layers=1, image_size=16), vocab_size=9, hidden_size=4, "
        "num_attention_heads=1, num_hidden_layers=1, bos_token_id=1, eos_token_id=2); "
        "refgit.GitForCausalLM(config).generate(max_length=3)"
    )
    assert "refgit.model.git" in found
    assert not found & HEAVY


def test_the_processor_imports_neither_model_nor_torch() -> None:
    found = modules_after("from refgit import GitProcessor")
    assert {"PIL", "tokenizers"} <= found
    assert not found & {"torch", "transformers", "cupy", "refgit.model.git"}


def test_importing_the_backends_imports_nothing_of_refgit() -> None:
    found = modules_after("import refgit_backends; refgit_backends.get_backend('numpy')")
    assert "refgit_backends.numpy.backend" in found
    assert not {name for name in found if name == "refgit" or name.startswith("refgit.")}
    assert not found & HEAVY


@pytest.mark.parametrize("name", refgit.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(refgit, name).__name__ == name
    assert name in dir(refgit)


def test_public_names_are_sorted_and_nothing_else_resolves() -> None:
    assert refgit.__all__ == sorted(set(refgit.__all__))
    with pytest.raises(AttributeError, match="no attribute 'GitForImages'"):
        refgit.GitForImages  # noqa: B018
    names: dict[str, object] = {}
    exec("from refgit import *", names)
    assert set(refgit.__all__) <= set(names)


# ---- in the sources

# Who imports whom, beyond itself and the errors: exactly the arrows there are. Imports for type
# checking and inside functions count. docs/architecture.md says what each part is.
ARROWS: dict[str, set[str]] = {
    "__main__": {"cli"},
    "bench": {
        "files", "model", "openblas", "pipeline", "processing", "refgit_backends", "sizes",
        "version",
    },
    "captions": set(),
    "checkpoint": {"files", "validation"},
    "cli": {
        "bench", "captions", "checkpoint", "demo", "explain", "files", "generation", "hub", "jobs",
        "model", "openblas", "parity", "parts", "pipeline", "processing", "refgit_backends",
        "sizes", "traces", "version",
    },
    "demo": {"hub"},
    "errors": set(),
    "explain": {
        "captions", "files", "generation", "html", "layers", "model", "pipeline", "processing",
        "refgit_backends", "traces",
    },
    "export": set(),
    "files": set(),
    "generation": {"files", "layers", "outputs", "refgit_backends", "validation"},
    "html": set(),
    "hub": set(),
    "jobs": {"captions", "parts", "pipeline", "processing", "version"},
    "layers": set(),
    "model": {
        "checkpoint", "files", "generation", "layers", "outputs", "parts", "refgit_backends",
        "validation",
    },
    "openblas": set(),
    "outputs": set(),
    "parity": {
        "checkpoint", "demo", "files", "html", "hub", "layers", "model", "processing",
        "refgit_backends", "traces", "version",
    },
    "parts": {"files", "hub"},
    "pipeline": {
        "captions", "demo", "generation", "model", "parts", "processing", "refgit_backends",
        "validation",
    },
    "processing": {"files", "hub", "parts", "refgit_backends", "validation"},
    "refgit": {"model", "pipeline", "processing", "refgit_backends", "traces", "version"},
    "sizes": {"checkpoint", "model"},
    "testing": {"model"},
    "traces": {"checkpoint", "files", "model", "version"},
    "validation": set(),
    "version": set(),
}  # fmt: skip

# Imports of refgit inside functions, and why each is there: start-up time, in every case.
DEFERRED: dict[str, str] = {
    "refgit.bench.engine": "a cold start measures a caption, and needs no limits",
    "refgit.cli.arguments": "a colour is looked up in Pillow, which most commands never import",
    "refgit.cli.commands.caption": "jobs are needed with --out only",
}


def arrows() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path in module_files("refgit"):
        here = part_of(module_name(path))
        there = {part_of(name) for name in ours(imported(path, at_type_checking=True))}
        found.setdefault(here, set()).update(there - {here, "errors"})
    return found


@pytest.mark.parametrize("path", module_files("refgit"), ids=module_name)
def test_arrows_point_one_way(path: Path) -> None:
    here = part_of(module_name(path))
    inside = ours(imported(path, at_type_checking=True))
    assert {part_of(name) for name in inside} <= ARROWS[here] | {here, "errors"}


def test_arrows_name_parts_that_exist() -> None:
    """A part that is gone, or new, and an arrow that is gone has its line changed in the table."""
    assert arrows() == ARROWS


def test_no_arrow_has_a_twin_that_points_back() -> None:
    both = {(a, b) for a, there in ARROWS.items() for b in there if a in ARROWS.get(b, set())}
    assert not both


def test_no_part_imports_in_a_circle() -> None:
    """Neither at import, nor inside functions, nor for type checking."""
    graph = {
        module_name(path): ours(imported(path, at_type_checking=True))
        for kind in SOURCES
        for path in module_files(kind)
    }
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join([*way[way.index(module) :], module])
        if module not in done:
            for other in graph.get(module, set()) - {module}:
                visit(other, (*way, module))
            done.add(module)

    for module in graph:
        visit(module, ())
    assert len(done) >= len(graph)


def test_every_import_is_absolute() -> None:
    for kind in SOURCES:
        for path in module_files(kind):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            relative = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level]
            assert not relative, path


def test_imports_inside_functions_are_listed_with_their_reason() -> None:
    found = {
        module_name(path)
        for kind in SOURCES
        for path in module_files(kind)
        if any(x.in_function and ours({x.module}) for x in imports_of(path))
    }
    assert found == set(DEFERRED)
    assert all(DEFERRED.values())


def test_folders_hold_no_more_than_twelve_modules() -> None:
    """But for the textbook, and the commands, which are a file each."""
    counts = Counter(path.parent for kind in SOURCES for path in module_files(kind))
    large = {folder.relative_to(ROOT).as_posix() for folder, n in counts.items() if n > 12}
    assert large <= {"refgit/layers", "refgit/cli/commands"}


def test_no_module_bears_the_name_of_a_function_beside_it() -> None:
    """An import of the module would take the function's place (layers/: see the next test)."""
    for kind in SOURCES:
        for path in module_files(kind):
            if path.name != "__init__.py" or path.parent.name == "layers":
                continue
            beside = {p.stem for p in path.parent.iterdir() if p.suffix == ".py" or p.is_dir()}
            names = {
                alias.asname or alias.name
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                if isinstance(node, ast.ImportFrom)
                for alias in node.names
                if not is_module(f"{node.module}.{alias.name}")
            }
            listed = getattr(importlib.import_module(module_name(path)), "__all__", ())
            assert not beside & {*names, *listed}, path


def test_functions_of_layers_stay_what_their_package_exports() -> None:
    """Its files bear the names of their functions, so importing a file must not replace one."""
    files = [p.stem for p in (ROOT / "refgit" / "layers").glob("*.py") if p.stem != "__init__"]
    code = (
        f"import importlib, sys, refgit.layers as package; files = {files}; "
        "[importlib.import_module(f'refgit.layers.{name}') for name in files]; "
        "sys.modules.update({name: 1 for name in files if callable(getattr(package, name))})"
    )
    found = modules_after(code)
    assert {"attention", "erf", "feed_forward", "linear", "lm_head", "softmax"} <= found


@pytest.mark.parametrize("path", module_files("refgit_backends"), ids=module_name)
def test_backends_import_nothing_of_refgit(path: Path) -> None:
    assert not {name for name in imported(path, at_type_checking=True) if part_of(name) != name
                and name.startswith("refgit.")}  # fmt: skip
    assert "refgit" not in imported(path, at_type_checking=True)


LAYERS = [path for path in module_files("refgit") if path.parent.name == "layers"]
PLAIN = {"__future__", "collections", "dataclasses", "functools", "math", "sys", "typing"}


@pytest.mark.parametrize("path", LAYERS, ids=module_name)
def test_layers_are_mathematics_alone(path: Path) -> None:
    outside = {
        name
        for name in imported(path, at_type_checking=True)
        if not (name == "refgit.layers" or name.startswith("refgit.layers."))
    }
    assert {name.split(".")[0] for name in outside} <= PLAIN


def test_there_are_layers_and_backends_to_look_at() -> None:
    assert len(LAYERS) >= 10
    assert len(module_files("refgit_backends")) >= 5
    model = imported(ROOT / "refgit" / "model" / "git.py")
    assert {"refgit.model.arguments", "refgit.model.decoder", "refgit.model.base"} <= model
    assert "refgit.checkpoint" in imported(ROOT / "refgit" / "model" / "base.py")


@pytest.mark.parametrize(
    "path", [path for kind in SOURCES for path in module_files(kind)], ids=module_name
)
def test_nothing_at_run_time_imports_torch(path: Path) -> None:
    assert not {name.split(".")[0] for name in imported(path)} & {"torch", "transformers"}


# ---- in the wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel that pip builds from these sources, among which someone left a few files."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy: building leaves folders behind
    left_behind = (".*", "__pycache__", "*.egg-info", "build", "dist", "site", "venv")
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*left_behind))
    for name in ("model.safetensors.partial", "notes.bak", "train.log"):
        (source / "refgit" / "demo" / name).write_text("not for the wheel")
    command = "pip wheel --quiet --no-deps --wheel-dir"
    subprocess.run([sys.executable, "-m", *command.split(), folder, source], check=True)
    (file,) = folder.glob("*.whl")
    return zipfile.ZipFile(file)


@pytest.mark.slow
def test_the_wheel_holds_two_packages_and_their_licence(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    info = f"refgit-{refgit.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"refgit", "refgit_backends", info}
    assert {"refgit/py.typed", "refgit_backends/py.typed", f"{info}/licenses/LICENSE"} <= names
    for kind, source in SOURCES.items():
        files = {f"{kind}/{path.relative_to(source).as_posix()}" for path in module_files(kind)}
        assert {name for name in names if name.startswith(f"{kind}/") and name.endswith(".py")} == (
            files
        )


@pytest.mark.slow
def test_the_wheel_holds_the_bundled_model_and_nothing_beside_it(wheel: zipfile.ZipFile) -> None:
    folder = "refgit/demo/"
    found = {name.removeprefix(folder) for name in wheel.namelist() if name.startswith(folder)}
    assert found == {
        "README.md", "__init__.py", "config.json", "generation_config.json", "model.safetensors",
        "preprocessor_config.json", "special_tokens_map.json", "tokenizer.json",
        "tokenizer_config.json", "vocab.txt",
    }  # fmt: skip
    for name in found:
        assert wheel.read(folder + name) == (SOURCES["refgit"] / "demo" / name).read_bytes()


@pytest.mark.slow
def test_the_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    info = f"refgit-{refgit.__version__}.dist-info"
    metadata = Parser().parsestr(wheel.read(f"{info}/METADATA").decode())
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Version"] == refgit.__version__
    needed = {r.split(";")[0] for r in metadata.get_all("Requires-Dist", []) if "extra" not in r}
    assert {name.split(">")[0] for name in needed} == {
        "numpy", "pillow", "safetensors", "tokenizers"
    }  # fmt: skip
    points = wheel.read(f"{info}/entry_points.txt").decode()
    assert "refgit = refgit.cli.main:main" in points
    assert "[refgit.backends]" in points
    assert wheel.read(f"{info}/top_level.txt").decode().split() == ["refgit", "refgit_backends"]
