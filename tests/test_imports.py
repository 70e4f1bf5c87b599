"""What imports what: the arrows of the design, in the sources and in a fresh process."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import zipfile
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


def imported(path: Path, *, at_type_checking: bool = False) -> set[str]:
    """Modules that a source file imports anywhere, those for type checking left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    names = set()
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse + (node.body if at_type_checking else [])  # type: ignore[operator]
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            inside = {f"{module}.{alias.name}" for alias in node.names}
            modules = {name for name in inside if is_module(name)}
            names |= modules or {module}
        waiting += list(ast.iter_child_nodes(node))
    return names


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

# Who may import whom, beyond itself: the arrows of the design. Anyone may raise refgit's errors.
ARROWS = {
    "architecture": {"checkpoint", "config", "parameters"},
    "bench": {
        "config", "model", "processing", "refgit", "refgit_backends", "spinning", "vision",
    },
    "__init__": {
        "arrays", "cache", "config", "errors", "model", "parity", "processing", "vision",
    },
    "__main__": {"cli"},
    "arrays": {"refgit_backends"},
    "cache": {"layers"},
    "checkpoint": {"config", "json_file", "parameters"},
    "checks": {"config"},
    "cli": {"commands", "refgit", "spinning"},
    "commands": {
        "architecture", "bench", "cache", "checkpoint", "config", "demo", "explain", "generation",
        "jobs", "json_file", "layers", "model", "parity", "processing", "refgit_backends",
    },
    "config": {"checkpoint", "json_file"},
    "decoder": {"cache", "config", "layers"},
    "demo": set(),
    "errors": set(),
    "explain": {
        "arrays", "generation", "html_page", "layers", "model", "outputs", "parity", "processing",
    },
    "generation": {
        "arrays", "cache", "checks", "config", "json_file", "layers", "model", "outputs",
        "refgit_backends",
    },
    "html_page": set(),
    "jobs": {"checkpoint", "demo", "generation", "model", "processing", "refgit"},
    "json_file": set(),
    "layers": set(),
    "model": {
        "cache", "checkpoint", "checks", "config", "decoder", "generation", "layers", "outputs",
        "parameters", "pretrained", "refgit_backends", "surgery", "vision",
    },
    "outputs": {"cache", "layers"},
    "parameters": {"config"},
    "parity": {
        "arrays", "cache", "config", "generation", "layers", "model", "outputs", "parameters",
        "pretrained", "processing", "refgit", "refgit_backends", "vision", "decoder", "json_file",
        "checkpoint", "demo", "html_page",
    },
    "processing": {"arrays", "checkpoint", "json_file", "refgit_backends"},
    "pretrained": {"checkpoint", "config", "layers", "parameters", "refgit_backends"},
    "spinning": set(),
    "surgery": {"config", "layers"},
    "vision": {"checks", "config", "layers", "outputs", "parameters", "pretrained"},
}  # fmt: skip


@pytest.mark.parametrize("path", module_files("refgit"), ids=module_name)
def test_arrows_point_one_way(path: Path) -> None:
    here = part_of(module_name(path)) if path != SOURCES["refgit"] / "__init__.py" else "__init__"
    allowed = ARROWS[here] | {here, "errors"}
    inside = {name for name in imported(path) if name.split(".")[0] in SOURCES}
    assert {part_of(name) for name in inside} <= allowed


def test_arrows_name_parts_that_exist() -> None:
    """A part that is gone, or new, has its line changed in the table above."""
    parts = {part_of(module_name(path)) for path in module_files("refgit")}
    assert parts - {"refgit"} | {"__init__"} == set(ARROWS)


def test_no_part_imports_in_a_circle() -> None:
    """At the time of import; inside functions the model may reach for what stands above it."""
    graph: dict[str, set[str]] = {}
    for path in module_files("refgit"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        top = ast.Module([node for node in tree.body if not_deferred(node)], [])
        graph[module_name(path)] = names_in(top)
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join([*way, module])
        if module not in done:
            for other in graph.get(module, set()):
                visit(other, (*way, module))
            done.add(module)

    for module in graph:
        visit(module, ())
    assert len(done) >= len(graph)


def not_deferred(node: ast.stmt) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


def names_in(tree: ast.Module) -> set[str]:
    names = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in inside if is_module(name)}
            names |= modules or {node.module}
    return {name for name in names if name.startswith("refgit.")}


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
    model = imported(ROOT / "refgit" / "model.py")
    assert {"numpy", "refgit.model.checks", "refgit.model.decoder", "refgit.model.base"} <= model
    assert "refgit.checkpoint" in imported(ROOT / "refgit" / "pretrained.py")


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
