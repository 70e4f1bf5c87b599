"""The documentation: its examples run, its links lead somewhere, its site builds.

Every ```python block of a page runs in one process, in order, from the repository's root. Blocks
with `exec` print what is stored below them, by docs/tools/site/write_pages.py as is the library's
code; of the others, each line with `print(` says behind it what it prints. Every ```sh block runs
as well, in a folder where docs/ and golden/ are at hand, unless the line before it gives the reason
why not. The README's and CONTRIBUTING's commands install things: running them is the task of
.ci/run.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from helpers.backends import ROOT
from helpers.browser import EXECUTABLE, browser
from helpers.forks import Forks

DOCS = ROOT / "docs"
SITE = DOCS / "tools" / "site"
STORED = {
    page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8")
    for page in (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))
}


@functools.cache
def site_module(name: str) -> Any:
    """One of the site's own modules, which need nothing but the standard library."""
    spec = importlib.util.spec_from_file_location(f"site_{name}", SITE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# What was written by hand: no outputs, no code of the library.
PAGES = {page: site_module("page_regions").bare(text) for page, text in STORED.items()}
# A page whose blocks need what is not here says why.
NEEDS_A_FILE = {"docs/microsoft.md": "a checkpoint of Microsoft's"}
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>.*?) -->\n)?```(?P<kind>\w+)(?P<options>[^\n]*)\n"
    r"(?P<code>.*?)^```[ ]*$",
    re.M | re.S,
)
ENVIRONMENT = {
    **{k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "TMPDIR", "LANG")},
    "PYTHONPATH": f"{ROOT}:{ROOT / 'backends'}",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


def blocks(page: str, kind: str) -> list[re.Match[str]]:
    return [found for found in FENCE.finditer(PAGES[page]) if found["kind"] == kind]


PYTHON = [page for page in PAGES if blocks(page, "python")]
SHELL = [page for page in PAGES if page != "README.md" and blocks(page, "sh")]
# The commands of these pages call the porter's tool a dozen times, or measure.
SLOW = {
    "docs/port-story.md",
    "docs/porting.md",
    "docs/reference/kit.md",
    "docs/fast.md",
    "docs/scale.md",
    "docs/explorer.md",
}
# Pages on which mistakes are put into the model, compared and diagnosed.
SLOW_PYTHON = {f"docs/model/{n}.md" for n in (
    "05-activation", "06-vit-block", "07-projection-and-time", "09-mask", "10-decoder-block",
    "11-head-and-loss", "12-decoding-and-cache",
)} | {"docs/reference/kit.md", "docs/port-story.md"}  # fmt: skip
PYTHON_PAGES = [pytest.param(p, marks=pytest.mark.slow) if p in SLOW_PYTHON else p for p in PYTHON]
SHELL_PAGES = [pytest.param(p, marks=pytest.mark.slow) if p in SLOW else p for p in SHELL]


# ---- examples


@pytest.fixture(scope="module")
def python() -> Iterator[Forks]:
    """Where the pages' Python runs: a process for each, with refgit imported."""
    with Forks(ROOT, ENVIRONMENT) as forks:
        yield forks


@pytest.mark.parametrize("page", PYTHON_PAGES)
def test_the_python_blocks_run_and_print_what_they_say(page: str, python: Forks) -> None:
    if page in NEEDS_A_FILE:
        pytest.skip(f"{page} shows {NEEDS_A_FILE[page]}")
    parts = blocks(page, "python")
    stop = "\x1e"  # between what two blocks print
    code = f"print({stop!r}, end='')\n".join(part["code"] for part in parts)
    returncode, printed, errors = python.run(code)
    assert returncode == 0, errors
    outputs = printed.split(stop)
    assert len(outputs) == len(parts)
    stored = iter(site_module("page_regions").printed(STORED[page]))
    for part, output in zip(parts, outputs, strict=True):
        if "exec=" in part["options"]:
            assert ("print(" in part["code"]) <= bool(output.strip())
            assert [line.rstrip() for line in output.rstrip().splitlines()] == next(
                stored
            ).splitlines(), f"run python docs/tools/site/write_pages.py {page}"
        else:
            printed_as_said(part["code"], output)


def printed_as_said(code: str, output: str) -> None:
    """Hold what a block printed against its comments; those that begin with words describe."""
    expected = [line.partition("  # ")[2] for line in code.splitlines() if "print(" in line]
    printed = output.splitlines()
    assert len(printed) == len(expected), output
    for found, wanted in zip(printed, expected, strict=True):
        if re.match(r"[\[\d]", wanted):
            assert found == wanted


@pytest.mark.parametrize("page", SHELL_PAGES)
def test_the_shell_blocks_run(page: str, tmp_path: Path) -> None:
    if page in NEEDS_A_FILE:
        pytest.skip(f"{page} shows {NEEDS_A_FILE[page]}")
    reasons = {block["reason"] for block in blocks(page, "sh")} - {None}
    commands = [block for block in blocks(page, "sh") if block["reason"] is None]
    if not commands:
        pytest.skip(f"{page}: {'; '.join(sorted(reasons))}")
    here = tmp_path / "here"
    here.mkdir()
    for folder in ("docs", "golden"):
        (here / folder).symlink_to(ROOT / folder)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, start in (("python", ""), ("refgit", "-m refgit ")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {start}"$@"\n')
        (programs / name).chmod(0o755)
    for block in commands:
        code = block["code"]
        run = subprocess.run(
            ["bash", "-e", "-c", code],
            capture_output=True,
            text=True,
            check=False,
            cwd=here,
            env={**ENVIRONMENT, "PATH": f"{programs}:{ENVIRONMENT['PATH']}"},
        )
        assert run.returncode == 0, f"{code}\n{run.stdout}\n{run.stderr}"
        shown = re.match(r"\n```text\n(.*?)^```$", PAGES[page][block.end() + 1 :], re.M | re.S)
        if shown is not None:
            assert without_numbers(run.stdout) == without_numbers(shown[1]), code


def without_numbers(text: str) -> list[str]:
    """Return the words of each line: numbers, and which tensor has one, differ by machine."""
    text = re.sub(r"\w+(\.\w+){2,}", "@", text)
    text = re.sub(r" \(its rms: \S+ x\)", "", text)  # said where it is the larger of two numbers
    lines = [re.sub(r"[\d.]+(e[+-]\d+)?", "#", line) for line in text.rstrip().splitlines()]
    return [" ".join(line.split()) for line in lines]


MODEL_PAGES = [page for page in PAGES if re.match(r"docs/model/\d", page)]


@pytest.mark.parametrize("page", MODEL_PAGES)
def test_a_page_of_the_model_has_a_picture_then_words_then_the_formula(page: str) -> None:
    text = re.sub(r"^```.*?^```$", "", PAGES[page], flags=re.M | re.S)
    assert re.findall(r"^## (.*)$", text, re.M) == [
        "The picture", "In words", "The equation", "Symbols and shapes", "The code",
        "A small example", "How it goes wrong", "Sources",
    ]  # fmt: skip
    parts = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", text, re.M | re.S))
    assert "](../images/model/" in parts["The picture"]
    assert "$$" not in parts["The picture"] + parts["In words"]
    assert "$$" in parts["The equation"]
    assert "{{ source " in parts["The code"]
    wrong = parts["How it goes wrong"]
    folded = re.findall(r'^<details markdown="1">\n<summary>(.*?)</details>$', wrong, re.M | re.S)
    assert len(folded) == 1
    assert folded[0].count("\n| ") == wrong.count("\n| ") > 3


def test_the_pages_of_the_model_say_what_attends_to_what_and_not_who_sees_whom() -> None:
    for page in (*MODEL_PAGES, "docs/model/index.md"):
        text = re.sub(r"^```.*?^```$|`[^`]*`", "", PAGES[page], flags=re.M | re.S)
        assert not re.search(r"\b(sees? (all|the|it|no|one an)|sees whom|looks? at)\b", text), page


@pytest.mark.parametrize("page", PAGES)
def test_no_page_shows_a_claim_that_failed(page: str) -> None:
    assert list(site_module("write_pages").false_claims(STORED[page])) == []


def test_a_comparison_says_within_what_it_holds() -> None:
    for page in PYTHON:
        for block in blocks(page, "python"):
            assert "allclose(" not in block["code"], f"{page}: its default tolerance is not seen"


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ("print(1 + 1)", None),
        ("print('as in the model:', 1 + 1 == 3)", "prints False, a claim that does not hold"),
        ("print([True, False])", "prints False, a claim that does not hold"),
        ("print('antialias=False')", None),
        ("print(1 / 0)", "line 3: ZeroDivisionError: division by zero"),
    ],
)
def test_a_page_is_held_against_what_its_blocks_print(
    page: str, problem: str | None, tmp_path: Path
) -> None:
    writer, path = site_module("write_pages"), tmp_path / "page.md"
    path.write_text(f'words\n```python exec="on"\n{page}\n```\n')
    text, problems = writer.tried(str(path))
    assert [p.startswith(problem or "") for p in problems] == [True] * (problem is not None)
    if problem is None:
        assert "not up to date" in writer.problems_of(str(path))[0]
        path.write_text(text)
        assert "<!-- printed -->\n\n```text\n" in text
        assert writer.problems_of(str(path)) == []
        path.write_text(text.replace("```text\n", "```text\nanother "))
        assert "another" in writer.problems_of(str(path))[0]
        assert writer.tried(str(path))[0] == text


def test_code_and_tables_of_the_library_are_stored_as_they_are() -> None:
    regions, made = site_module("page_regions"), site_module("write_pages").made
    for page, text in STORED.items():
        now = regions.with_made(regions.bare_of_made(text), lambda *asked: made(*asked, page))  # noqa: B023
        assert now == text, f"run python docs/tools/site/write_pages.py {page}"
    assert "{{ " not in STORED["docs/model/04-attention.md"]
    assert "def softmax(" in STORED["docs/model/04-attention.md"]


def test_the_site_shows_an_output_once_and_no_comment_of_a_region() -> None:
    regions = site_module("page_regions")
    page = 'a\n\n```python exec="on"\nprint(1)\n```\n\n{{ source x }}\n'
    page = regions.with_made(regions.with_printed(page, {0: "1 \n"}), lambda *_: "made")
    assert page.count("<!-- end -->") == 2
    shown = regions.for_site(page, lambda kind, names: f"{kind} of {names}")
    assert shown == "a\n\n```python\nprint(1)\n```\n\n```text\n1\n```\n\nsource of x\n"


def test_a_block_that_is_not_run_gives_a_reason() -> None:
    for page, text in PAGES.items():
        for reason in re.findall(r"<!-- not run(.*?)-->\n```", text, re.S):
            assert re.fullmatch(r": \S.{5,} ", reason), page


# ---- links, and the library's code


def test_every_link_into_the_repository_leads_somewhere() -> None:
    for page in (*PAGES, "CONTRIBUTING.md", "refgit/demo/README.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(
            r"\]\(([^)#\s]+)[^)]*\)", re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.S)
        ):
            if "://" not in target:
                assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


def test_every_name_whose_source_is_shown_exists() -> None:
    find = site_module("code_blocks").find
    shown = [
        (page, name)
        for page, text in PAGES.items()
        for names in re.findall(r"^\{\{ source ([^}]+) \}\}$", text, re.M)
        for name in names.split()
    ]
    for page, name in shown:
        path, line, code = find(name)
        first = (ROOT / path).read_text(encoding="utf-8").splitlines()[line - 1]
        assert first.strip() in code, f"{page}: {name}"


def test_a_shown_source_has_its_signature_and_no_docstring() -> None:
    path, _, code = site_module("code_blocks").find("refgit.layers.softmax.softmax")
    assert path == "refgit/layers/softmax.py"
    assert code.startswith("@operation\ndef softmax(")
    assert '"""' not in code
    assert "return" in code


def test_no_page_pastes_a_function_of_the_mathematics() -> None:
    ours = {
        node.name
        for file in (ROOT / "refgit" / "layers").glob("*.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    assert "softmax" in ours
    for page in PYTHON:
        for block in blocks(page, "python"):
            tree = ast.parse(block["code"])
            defined = {
                n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)
            }
            assert not defined & ours, page


# ---- the site


class Page(HTMLParser):
    """What a page loads, where it leads, and its text outside code."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self._inside = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self._inside += tag in ("code", "pre", "script", "style")
        if tag in ("script", "img", "iframe", "source", "video", "audio", "embed"):
            self.loads.append(found.get("src") or "")
        if tag == "a":
            self.links.append(found.get("href") or "")
        if tag == "link" and found.get("rel") != "canonical":
            self.loads.append(found.get("href") or "")

    def handle_endtag(self, tag: str) -> None:
        self._inside -= tag in ("code", "pre", "script", "style")

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.words.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly: a warning is an error."""
    pytest.importorskip("mkdocs", reason="needs the extra docs: pip install '.[docs]'")
    pytest.importorskip("material", reason="needs the extra docs: pip install '.[docs]'")
    out = tmp_path_factory.mktemp("site") / "site"
    build = [sys.executable, "-m", "mkdocs", "build", "--strict"]  # quiet, it counts no warning
    run = subprocess.run(
        [*build, "-f", str(SITE / "mkdocs.yml"), "-d", str(out)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**ENVIRONMENT, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return out


@pytest.fixture(scope="module")
def parsed(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


@pytest.mark.slow
def test_every_page_of_docs_is_in_the_site(site: Path) -> None:
    for page in PAGES:
        if page.startswith("docs/"):
            assert (site / page.removeprefix("docs/")).with_suffix(".html").is_file(), page


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site: Path, parsed: dict[Path, Page]) -> None:
    assert len(parsed) > 100
    for path, page in parsed.items():
        for address in page.loads:
            assert not re.match(r"(\w+:)?//", address), f"{path}: {address}"
    for path in site.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(@import|url\()\s*[\"']?(\w+:)?//", text), path


@pytest.mark.slow
def test_nothing_of_a_page_is_left_unrendered(parsed: dict[Path, Page]) -> None:
    for path, page in parsed.items():
        text = " ".join(page.words)
        left = re.search(r"\$\$|\{\{ |\\\(|\\\[|\.\. math::|:math:", text)
        assert left is None, f"{path}: {text[max(0, left.start() - 40) : left.end() + 40]}"


@pytest.mark.slow
def test_every_local_link_of_the_site_leads_to_a_file(parsed: dict[Path, Page]) -> None:
    for path, page in parsed.items():
        for target in {link.partition("#")[0] for link in page.links}:
            if not re.match(r"\w+:", target) and path.name != "404.html":  # that is for servers
                assert (path.parent / target).exists(), f"{path}: {target}"


def test_a_drawing_with_links_is_put_into_its_page(tmp_path: Path) -> None:
    drawings = site_module("drawings")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "map.svg").write_text(
        '<?xml version="1.0"?>\n<svg width="5pt" height="5pt" viewBox="0 0 5 5">\n'
        '<a xlink:href="../model/one.html" target="_blank"><path d="M 0 0"/></a></svg>'
    )
    shown = '<a href="../images/map.svg"><img alt="The map" src="../images/map.svg"></a>'
    found = drawings.put_in(f"<p>{shown}</p>", tmp_path, "model/index.html")
    assert found == (
        '<p><svg class="drawing" role="img" aria-label="The map" viewBox="0 0 5 5">\n'
        '<a href="one.html" tabindex="-1"><path d="M 0 0"/></a></svg></p>'
    )


def test_the_notebook_becomes_a_page(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# A title\n", "and words"]},
        {
            "cell_type": "code",
            "source": "print(2)",
            "outputs": [
                {"output_type": "stream", "text": ["2\n"]},
                {"output_type": "display_data", "data": {"image/png": "AAAA\n", "text/plain": "x"}},
            ],
        },
    ]
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    page = site_module("notebook_page").markdown(path)
    assert page.startswith(
        "# A title\nand words\n\n```python\nprint(2)\n```\n\n```text\n2\n```\n\n<img "
    )
    assert page.endswith('src="data:image/png;base64,AAAA">\n')


@pytest.mark.slow
def test_pages_opened_as_files_fit_a_phone_ask_for_nothing_and_can_be_searched(site: Path) -> None:
    if EXECUTABLE is None:
        pytest.skip("needs chromium, in which the pages are opened")
    with browser() as window:
        window.look(390, 844)
        for path in sorted(site.rglob("*.html")):
            parts = path.relative_to(site).parts
            if parts[0] != "source" and parts != ("404.html",):  # that one is for servers
                window.open(path)
                assert window.ask("document.documentElement.scrollWidth") <= 390, path
        window.look(1280, 900)
        window.open(site / "index.html", "#")
        window.click(".md-search__input")
        window.ask(
            "(() => { const e = document.querySelector('.md-search__input');"
            "e.value = 'quick_gelu'; e.dispatchEvent(new KeyboardEvent('keyup')); })()"
        )
        found = "[...document.querySelectorAll('.md-search-result__link')].map(e => e.href).join()"
        end = time.monotonic() + 60
        while not window.ask(found) and time.monotonic() < end:
            time.sleep(0.1)
        assert "reference/layers.html" in window.ask(found)
        assert window.problems == []
