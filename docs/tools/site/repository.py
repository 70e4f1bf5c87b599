"""Files of the repository as pages of the site, so that every link works, offline too.

A link that leaves docs/ leads to a page made here: program files in colours with an anchor for each
line (`#L12`), Markdown rendered, directories as lists, anything else copied.
"""

from __future__ import annotations

import ast
import functools
import html
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_for_filename
from pygments.util import ClassNotFound

ROOT = Path(__file__).resolve().parents[3]
ALWAYS = (
    "refgit/**/*.py", "backends/**/*.py", "golden/**/*.py", "docs/**/*.py",
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "refgit/demo/README.md",
)  # fmt: skip
PREFIX = "source/"
NOTEBOOK, NOTEBOOK_PAGE = "docs/walkthrough.ipynb", "walkthrough.md"
_LARGEST = 300_000  # characters of a text that is shown as a page
_LITERAL = re.compile(r"^( *)(```+|~~~+).*?^\1\2[ ]*$|(`+)[^`]+?\3", re.M | re.S)
_LINK = re.compile(r"(\]\()([^)\s]+)((?:\s+\"[^\"]*\")?\))|^(\[[^\]]+\]:\s+)(\S+)()$", re.M)


# ---- which


def always() -> list[str]:
    """Return the paths of the files that have a page whether linked or not."""
    paths = {path for pattern in ALWAYS for path in ROOT.glob(pattern)}
    return sorted(path.relative_to(ROOT).as_posix() for path in paths)


def tests_named(markdown: str) -> set[str]:
    """Return the tests that a page names, linked or not."""
    return set(re.findall(r"\btests/[\w/]+\.py\b", markdown))


def links(markdown: str) -> Iterator[str]:
    """Yield where a page's links lead, without those inside code."""
    for found in _LINK.finditer(_LITERAL.sub("", markdown)):
        yield found[2] or found[5]


def resolve(target: str, folder: str) -> tuple[str, str] | None:
    """Return the path in the repository and the fragment of a link from a page in `folder`.

    None for a link to elsewhere, or within its page.
    """
    path, _, fragment = target.partition("#")
    if not path or "://" in path or path.startswith(("/", "mailto:")):
        return None
    return posixpath.normpath(posixpath.join(folder, path)), fragment


def is_page_of_docs(path: str) -> bool:
    """Return whether MkDocs has this file itself."""
    if (ROOT / path).is_dir():
        return False
    folders = ("docs/tools/", "docs/recipes/")
    return path.startswith("docs/") and not path.endswith(".py") and not path.startswith(folders)


def page_of(path: str) -> str:
    """Return the site's own name of a file of the repository."""
    if path == NOTEBOOK:
        return NOTEBOOK_PAGE
    if is_page_of_docs(path):
        return path.removeprefix("docs/")
    if (ROOT / path).is_dir():
        return f"{PREFIX}{path}/index.md"
    if path.endswith(".md") or not is_text(path):
        return PREFIX + path
    return f"{PREFIX}{path}.md"


@functools.cache
def is_text(path: str) -> bool:
    """Return whether a file can be shown as text."""
    data = (ROOT / path).read_bytes()
    return len(data) <= _LARGEST and b"\0" not in data


def folder_of(source: str) -> str:
    """Return the folder in the repository that a page's links start from."""
    if source.startswith(PREFIX):
        return posixpath.dirname(source.removeprefix(PREFIX))
    return posixpath.join("docs", posixpath.dirname(source)).rstrip("/")


def rewrite_links(markdown: str, source: str) -> str:
    """Return a page with its links into the repository leading to the site's own pages."""
    folder = folder_of(source)

    def moved(found: re.Match[str]) -> str:
        before, target, after = [found[i] or found[i + 3] or "" for i in (1, 2, 3)]
        there = resolve(target, folder)
        if there is None or not (ROOT / there[0]).exists():
            return found[0]
        page = posixpath.relpath(page_of(there[0]), posixpath.dirname(source) or ".")
        return f"{before}{page}{'#' if there[1] else ''}{there[1]}{after}"

    parts, end = [], 0
    for literal in _LITERAL.finditer(markdown):
        parts += [_LINK.sub(moved, markdown[end : literal.start()]), literal[0]]
        end = literal.end()
    return "".join([*parts, _LINK.sub(moved, markdown[end:])])


# ---- what stands on them


def markdown_of(path: str) -> str:
    """Return the page of a file or folder before it is rendered."""
    file = ROOT / path
    exclude = "---\nsearch:\n  exclude: true\nhide: [toc]\n---\n"
    if file.is_dir():
        names = sorted(
            f"{child.name}/" if child.is_dir() else child.name
            for child in file.iterdir()
            if not child.name.startswith((".", "__pycache__")) and child.suffix != ".pyc"
        )
        rows = "\n".join(
            f"- [{name}]({posixpath.relpath(page_of(f'{path}/{name}'.rstrip('/')), PREFIX + path)})"
            if f"{path}/{name}".rstrip("/") in _listed()
            else f"- {name}"
            for name in names
        )
        return f"{exclude}# {path}/\n\n{rows}\n"
    if path.endswith(".md"):
        return exclude + file.read_text(encoding="utf-8")
    return f"{exclude}# {path}\n"


@functools.cache
def _listed() -> frozenset[str]:
    return frozenset(always())


def code_of(path: str) -> tuple[str, set[str]] | None:
    """Return a program's text in colours, and the anchors in it; None for other pages."""
    if path.endswith(".md") or not (ROOT / path).is_file():
        return None
    text = (ROOT / path).read_text(encoding="utf-8")
    try:
        lexer = get_lexer_for_filename(path, stripnl=False)
    except ClassNotFound:
        lexer = get_lexer_for_filename("a.txt", stripnl=False)
    formatter = HtmlFormatter(linenos="inline", linespans="L", wrapcode=True, cssclass="highlight")
    code = highlight(text, lexer, formatter).replace('id="L-', 'id="L')
    lines = text.count("\n") + 1
    return f'<div class="file-source">{code}</div>', {f"L{n}" for n in range(1, lines + 1)}


@functools.cache
def lines_of(path: str) -> dict[str, int]:
    """Return the line of each function, class and method of a Python file."""
    found = {}
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.setdefault(node.name, node.lineno)
    return found


_CODE = re.compile(
    r"(<a [^>]*>.*?</a>|<pre.*?</pre>)|<code>([\w./-]+?\.py)(?:::(\w+))?</code>", re.S
)


def link_names(page: str, here: str, exists: frozenset[str]) -> str:
    """Make links of the file names in code type, such as `tests/cli/test_cli.py::test_x`."""

    def linked(found: re.Match[str]) -> str:
        path, name = found[2], found[3]
        if found[1] is not None or path not in exists:
            return found[0]
        line = lines_of(path).get(name) if name else None
        target = posixpath.relpath(f"{PREFIX}{path}.html", posixpath.dirname(here) or ".")
        text = html.escape(f"{path}::{name}" if name else path)
        return f'<a href="{target}{f"#L{line}" if line else ""}"><code>{text}</code></a>'

    return _CODE.sub(linked, page)
