"""Run both implementations on the same weights and inputs, and print what each makes of them.

    python docs/tools/differences/show.py                 the names there are
    python docs/tools/differences/show.py distances loss  some of them
    python docs/tools/differences/show.py --all           all that this transformers can show

Each name belongs to a section of docs/differences.md, which quotes what is printed here. It needs
torch 2.13.0 and transformers: 4.56.2 for most names, 5.23.0 for those that begin with `new-`.
Weights and inputs are random with fixed seeds, so the figures come out again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import model_rows
import picture_rows
import version5_rows
import writing_rows
from pairs import transformers_version

Row = Callable[[], list[str]]
ROWS: dict[str, Row] = {
    **model_rows.ROWS,
    **writing_rows.ROWS,
    **picture_rows.ROWS,
    **version5_rows.ROWS,
}


def wanted_version(name: str) -> str:
    """The major version of transformers that shows the row."""
    return "5" if name.startswith("new-") else "4"


def main() -> int:
    """Print the rows that are asked for."""
    names = sys.argv[1:]
    if not names:
        print("\n".join(ROWS))
        return 0
    here = transformers_version().partition(".")[0]
    if names == ["--all"]:
        names = [name for name in ROWS if wanted_version(name) == here]
    for name in names:
        if name not in ROWS:
            sys.exit(f"{name!r} is not the name of a difference; without names all are listed.")
        if wanted_version(name) != here:
            sys.exit(
                f"{name} needs transformers {wanted_version(name)}.x; "
                f"found {transformers_version()}."
            )
    for name in names:
        heading = [f"# {name}"] if len(names) > 1 else []
        print("\n".join([*heading, *ROWS[name]()]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
