"""What the site needs beyond MkDocs: source pages, the library's code, mathematics, references.

Each is a file beside this one; here they are hung into the build.
"""

from __future__ import annotations

import logging
import os
import re
from typing import Any

import code_blocks
import command_pages
import drawings
import field_tables
import mathematics
import notebook_page
import repository
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

_log = logging.getLogger("mkdocs.hooks.refgit")
_DIRECTIVE = re.compile(r"^\{\{ (source|command|fields) ([^{}\n]+?) \}\}$", re.M)
_MAKERS = {"command": command_pages.show, "fields": field_tables.show}
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
    """Run the pages' examples from the root of the repository, wherever MkDocs was called."""
    os.chdir(repository.ROOT)
    return config


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:
    """Carry out the directives, and lead links that leave docs/ to their pages."""
    source = page.file.src_uri

    def directive(found: re.Match[str]) -> str:
        try:
            if found[1] == "source":
                return "\n".join(code_blocks.show(n, source) for n in found[2].split())
            return _MAKERS[found[1]](found[2])
        except (LookupError, ImportError) as error:
            _log.warning("%s: %s", source, error)
            return found[0]

    return repository.rewrite_links(_DIRECTIVE.sub(directive, markdown), source)


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
