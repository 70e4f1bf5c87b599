"""Write into the pages what their blocks print, and the code and tables of the library they show.

    python docs/tools/site/write_pages.py            write docs/**/*.md anew where something changed
    python docs/tools/site/write_pages.py --check    change nothing; name what is not up to date
    python docs/tools/site/write_pages.py docs/model/04-attention.md     only this page

So a reader on a code host has what a reader of the site has. The site and the tests run the blocks
again and hold what they print against what is stored. A block must not print False: a page claims
something and shows that it holds, so a False is a claim that failed.
"""

from __future__ import annotations

import argparse
import difflib
import posixpath
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT), str(ROOT / "backends")]

import code_blocks  # noqa: E402
import command_pages  # noqa: E402
import field_tables  # noqa: E402
import page_regions  # noqa: E402
import page_runner  # noqa: E402

_FALSE = re.compile(r"^.*(?<![=\w])False\b.*$", re.M)  # an argument=False claims nothing


def main() -> None:
    """Write the pages, or check them; exit code 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing, name what is stale")
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="by default all of docs/")
    arguments = parser.parse_args()
    paths = [Path(p).resolve() for p in arguments.pages] or sorted((ROOT / "docs").rglob("*.md"))
    pages = [path.relative_to(ROOT).as_posix() for path in paths]
    with ThreadPoolExecutor(2) as pool:
        wrong = 0
        for page, (text, problems) in zip(pages, pool.map(tried, pages), strict=True):
            stored = (ROOT / page).read_text(encoding="utf-8")
            if text != stored:
                if arguments.check:
                    problems = [_difference(stored, text), *problems]
                else:
                    print(f"{page}: written anew")
                    (ROOT / page).write_text(text, encoding="utf-8")
            for problem in problems:
                print(f"{page}: {problem}")
            wrong += bool(problems)
    if wrong:
        sys.exit(f"{wrong} pages are not right")


def tried(page: str) -> tuple[str, list[str]]:
    """Return a page as it should be, as far as it can be made, and what is wrong with it."""
    stored = (ROOT / page).read_text(encoding="utf-8")
    try:
        text = written(page, stored)
    except (page_runner.BlockFailedError, LookupError, ImportError) as error:
        return stored, [str(error)]
    return text, list(false_claims(text))


def written(page: str, text: str) -> str:
    """Return a page with its regions as they should be.

    Parameters
    ----------
    page : str
        Its path from the root of the repository.
    text : str
        The page, with regions or requests for them.

    Raises
    ------
    BlockFailedError
        If a block raised an error.
    LookupError
        If a name is asked for that the library does not have.
    """
    text = page_regions.bare(text)
    blocks = list(page_regions.blocks(text))
    if any(shown for _, _, shown in blocks):
        printed = page_runner.run(page, [(line, code) for line, code, _ in blocks])
        text = page_regions.with_printed(text, dict(enumerate(printed)))
    return page_regions.with_made(text, lambda kind, names: made(kind, names, page))


def problems_of(page: str) -> list[str]:
    """Return what is wrong with a stored page: stale regions, errors, claims that failed."""
    stored = (ROOT / page).read_text(encoding="utf-8")
    text, problems = tried(page)
    if text != stored:
        problems = [_difference(stored, text), *problems]
    return problems


def false_claims(text: str) -> Iterator[str]:
    """Yield each line that a page shows as printed and that holds the word False."""
    for output in page_regions.shown_outputs(text):
        for found in _FALSE.finditer(output):
            yield f"prints False, a claim that does not hold: {found[0].strip()!r}"


def _difference(stored: str, text: str) -> str:
    lines = difflib.unified_diff(
        stored.splitlines(), text.splitlines(), "stored", "should be", n=0, lineterm=""
    )
    first = "\n".join(f"    {line}" for line in list(lines)[2:14])
    return f"not up to date, run python docs/tools/site/write_pages.py:\n{first}"


def made(kind: str, names: str, page: str) -> str:
    """Return the Markdown of a request, as a code host shows it."""
    if kind == "command":
        return command_pages.show(names)
    if kind == "fields":
        return field_tables.show(names)
    parts, last = [], None
    for name in names.split():
        path, _, code = code_blocks.find(name)
        if path != last:
            target = posixpath.relpath(path, posixpath.dirname(page))
            parts.append(f"From [{path}]({target}):")
            last = path
        parts.append(f"```python\n{code}\n```")
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
