"""The notebook as a page: its cells, and what they printed and drew when it was stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import write_pages


def markdown(path: Path) -> str:
    """Return a notebook as Markdown, pictures inside.

    Raises
    ------
    ValueError
        If it holds an error, or printed False, a claim that failed.
    """
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "\n\n".join(part for cell in cells for part in _parts(cell)) + "\n"
    for claim in write_pages.false_claims(text):
        raise ValueError(f"{path.name} {claim}")
    return text


def _parts(cell: dict[str, Any]) -> Iterator[str]:
    source = _text(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
    elif cell["cell_type"] == "code" and source.strip():
        yield f"```python\n{source}\n```"
        for output in cell["outputs"]:
            yield from _shown(output)


def _shown(output: dict[str, Any]) -> Iterator[str]:
    """Return the best that a page can show of one output."""
    data = output.get("data", {})
    if output["output_type"] == "stream":
        yield f"```text\n{_text(output['text']).rstrip()}\n```"
    elif output["output_type"] == "error":
        raise ValueError(f"the notebook holds an error: {output['ename']}: {output['evalue']}")
    elif "image/png" in data:
        base64 = "".join(_text(data["image/png"]).split())
        yield f'<img alt="what the cell above draws" src="data:image/png;base64,{base64}">'
    elif "image/svg+xml" in data:
        yield f"<div>{_text(data['image/svg+xml'])}</div>"
    elif "text/markdown" in data:
        yield _text(data["text/markdown"])
    elif "text/plain" in data:
        yield f"```text\n{_text(data['text/plain']).rstrip()}\n```"


def _text(lines: str | list[str]) -> str:
    return lines if isinstance(lines, str) else "".join(lines)
