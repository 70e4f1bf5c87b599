"""The report: a comparison and its diagnosis as one HTML file that needs nothing else.

    write_report("report.html", comparison, diagnosis, reference, other)

The tower, the sentences and the table of all tensors are plain HTML and need no JavaScript.
What a click shows is made from the data block at the end of the file: data.py and pictures.py say
how it is packed, report.js unpacks it.
"""

from __future__ import annotations

from pathlib import Path

from refgit.errors import TraceError
from refgit.files import write_whole
from refgit.html.page import script_safe, whole_page
from refgit.parity.comparison.row import Comparison
from refgit.parity.diagnosis.result import Diagnosis
from refgit.parity.report.data import chosen_detail, data_block
from refgit.parity.report.page import Page
from refgit.traces.container import Trace


def write_report(
    path: str | Path,
    comparison: Comparison,
    diagnosis: Diagnosis | None,
    reference: Trace,
    other: Trace,
) -> None:
    """Write a comparison as one self-contained HTML file.

    Parameters
    ----------
    path : str or Path
        The folder is there; a file is replaced.
    comparison : Comparison
    diagnosis : Diagnosis or None
        None where none was made.
    reference, other : Trace
        What was compared.

    Raises
    ------
    TraceError
        The file cannot be written.
    """
    path = Path(path)
    text = html_report(comparison, diagnosis, reference, other)
    try:
        write_whole(path, text)
    except OSError as error:
        raise TraceError(f"the report {path} cannot be written: {error}.") from error


def html_report(
    comparison: Comparison, diagnosis: Diagnosis | None, reference: Trace, other: Trace
) -> str:
    """Return the report as text; see `write_report`."""
    detail = chosen_detail(comparison)
    page = Page(comparison, diagnosis, reference, other)
    parts = {
        "verdict": page.verdict(),
        "diagnosis": page.diagnosed(),
        "runs": page.runs(),
        "detail": page.detail(detail),
        "inputs": page.inputs(),
        "legend": page.legend(),
        "tower": page.tower(),
        "table": page.table(),
        "unmatched": page.unmatched(),
        "data": script_safe(data_block(comparison, diagnosis, reference, detail)),
    }
    return whole_page("refgit.parity.report", "report", parts)
