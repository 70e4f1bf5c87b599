"""What the site needs beyond MkDocs: source pages, the library's code, mathematics, references.

Each is a file beside this one; here they are hung into the build.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

import code_blocks
import drawings
import mathematics
import notebook_page
import page_regions
import repository
import write_pages
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

_log = logging.getLogger("mkdocs.hooks.refgit")
_pages: frozenset[str] = frozenset()  # files of the repository that have a page


def on_files(files: Files, config: Any) -> Files:
    """Add pages of the repository's files: those always shown, and what these and docs link to."""
    global _pages
    notebook = repository.ROOT / "docs" / "walkthrough.ipynb"
    if notebook.exists():
        text = notebook_page.markdown(notebook)
        files.append(File.generated(config, repository.NOTEBOOK_PAGE, content=text))
    waiting = list(repository.always())
    for file in files.documentation_pages():
        waiting += _leaving(file.content_string, file.src_uri)
        waiting += repository.tests_named(file.content_string)
    seen: set[str] = set()
    while waiting:
        path = waiting.pop()
        if path in seen or not (repository.ROOT / path).exists():
            continue
        seen.add(path)
        name = repository.page_of(path)
        if name.endswith(".md"):
            text = repository.markdown_of(path)
            page = File.generated(config, name, content=text)
            page.inclusion = InclusionLevel.NOT_IN_NAV
            waiting += [*_leaving(text, name), *repository.tests_named(text)]
        else:
            page = File.generated(config, name, abs_src_path=str(repository.ROOT / path))
        files.append(page)
    _pages = frozenset(seen)
    return files


def _leaving(markdown: str, source: str) -> list[str]:
    """Return the files outside docs/ that a page links to."""
    there = [
        repository.resolve(t, repository.folder_of(source)) for t in repository.links(markdown)
    ]
    return [t[0] for t in there if t is not None and not repository.is_page_of_docs(t[0])]


def on_config(config: Any) -> Any:
    """Let the parser's and the configs' tables be made of this checkout."""
    sys.path[:0] = [str(repository.ROOT), str(repository.ROOT / "backends")]
    return config


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:
    """Hold the page's regions against what is true, and lead links that leave docs/ to their pages.

    A strict build stops where a block of a page raises an error, prints False, or does not print
    what is stored, and where code or tables of the library have changed since they were stored.
    """
    source = page.file.src_uri
    if repository.is_page_of_docs(f"docs/{source}") and page.file.generated_by is None:
        for problem in write_pages.problems_of(f"docs/{source}"):
            _log.warning("%s: %s", source, problem)

    def made(kind: str, names: str) -> str:
        if kind == "source":  # with the line, which would be stale too soon to be stored
            return "\n".join(code_blocks.show(name, source) for name in names.split())
        return write_pages.made(kind, names, f"docs/{source}")

    return repository.rewrite_links(page_regions.for_site(markdown, made), source)


def on_page_content(content: str, page: Page, config: Any, files: Files) -> str:
    """Render the mathematics, put in the code of source pages, and link names of files."""
    source = page.file.src_uri
    if source.startswith(repository.PREFIX):
        code = repository.code_of(source.removeprefix(repository.PREFIX).removesuffix(".md"))
        if code is not None:
            page.present_anchor_ids = (page.present_anchor_ids or set()) | code[1]
            return content + code[0]
    try:
        content = mathematics.render(content)
    except mathematics.MathematicsError as error:
        _log.warning("%s: %s", source, error)
    content = repository.link_names(content, page.file.dest_uri, _pages)
    content = drawings.put_in(content, repository.ROOT / "docs", page.file.dest_uri)
    content = _OPTIONS.sub(
        lambda code: _OPTION.sub(r'<span class="whole">\1</span>', code[0]), content
    )
    content = _CELL.sub(lambda cell: _LONG.sub(_breakable, cell[0]), content)
    if "::: refgit" not in (page.markdown or ""):
        return content
    return _TYPE.sub(_as_written, _UNDESCRIBED.sub("", content))


_OPTIONS = re.compile(r"(?<!</span>)(?<!<pre>)<code>[^<]*--[^<]*</code>")  # none of a block
_OPTION = re.compile(r"(?<![\w-])(--[a-z][\w-]*)")  # no line ends inside
_UNDESCRIBED = re.compile(r'\s*–\s*<div class="doc-md-description">\s*</div>')
_CELL = re.compile(r"<td.*?</td>", re.S)
_LONG = re.compile(r"<code>[^<]{18,}</code>")
_TYPE = re.compile(r"<code>((?:(?!</?code>).)*)</code>")


def _breakable(code: re.Match[str]) -> str:
    """Let a long name in a table break behind its dots and the like, not in words or numbers."""
    return re.sub(r"(?<=[\w\]])(\.(?!\d+\b(?!\.))|/|::|_)(?=\w)", r"\1<wbr>", code[0])


def _as_written(code: re.Match[str]) -> str:
    """Show a type as the docstring has it: "array (B, N, D)", without marks around names.

    What reads like Python was taken apart and put together again, "int or None, optional" as a
    pair in parentheses.
    """
    text = re.sub(r"(?<![\w.])array\(", "array (", code[1].replace("`", ""))
    pair = re.fullmatch(r"\((?![A-Z],)(.*, .*)\)", text)
    balanced = pair is not None and all(
        pair[1][:end].count("(") >= pair[1][:end].count(")") for end in range(len(pair[1]) + 1)
    )
    return f"<code>{pair[1] if pair is not None and balanced else text}</code>"
