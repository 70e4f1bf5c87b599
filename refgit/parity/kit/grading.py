"""Grading a port: the files it wrote for the cases of a conformance kit, case by case.

A kit has cases of several levels, from single layers to whole captions. Its *order of attack* is
that in which one would mend a port: what is computed first, first. A broken file fails its case and
no other; the first failure in this order is named with what to look at.
"""

from __future__ import annotations

import difflib
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from refgit.checkpoint.safetensors_file import open_safetensors
from refgit.errors import CheckpointError
from refgit.files import read_json
from refgit.parity.kit.case_grading import FAILED, MISSING, PASSED, CaseGrade, grade_case
from refgit.parity.kit.files import FORMAT, INDEX

SUFFIXES = (".safetensors", ".npz", ".json")


@dataclass(frozen=True)
class Grading:
    """What became of every case.

    Attributes
    ----------
    version : str
        Of the refgit that made the kit.
    cases : tuple of CaseGrade
        In the order of attack.
    level_names : tuple of str
        Such as "layer", "vision", "greedy", in the order of attack.
    notes : tuple of str
        Files that belong to no case.
    """

    version: str
    cases: tuple[CaseGrade, ...]
    level_names: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def passed(self) -> int:
        """How many cases passed."""
        return sum(case.status == PASSED for case in self.cases)

    @property
    def ok(self) -> bool:
        """Whether all did."""
        return self.passed == len(self.cases)

    @property
    def first_failure(self) -> CaseGrade | None:
        """The first wrong case in the order of attack; one that is missing is not wrong."""
        return next((case for case in self.cases if case.status == FAILED), None)

    @property
    def levels(self) -> dict[str, tuple[int, int]]:
        """Cases passed and cases of each level."""
        counts = {}
        for level in self.level_names:
            here = [case.status == PASSED for case in self.cases if case.level == level]
            if here:
                counts[level] = (sum(here), len(here))
        return counts

    @property
    def badge(self) -> str:
        """The score in one line of text, for the port's README."""
        levels = ", ".join(f"{name} {n}/{of}" for name, (n, of) in self.levels.items())
        score = f"{self.passed}/{len(self.cases)}"
        return f"GIT conformance (refgit {self.version}): {score}, levels: {levels}"

    @property
    def markdown(self) -> str:
        """A picture of the score for a README; shields.io draws it when it is looked at."""
        score, share = f"{self.passed}/{len(self.cases)}", self.passed / len(self.cases)
        colour = "brightgreen" if self.ok else "yellow" if share >= 0.5 else "red"
        label = f"GIT conformance (refgit {self.version})"
        path = "-".join(quote(part.replace("-", "--"), safe="") for part in (label, score))
        return f"![{label}: {score}](https://img.shields.io/badge/{path}-{colour})"

    @property
    def advice(self) -> str:
        """What to do next: the first failure, or what is missing; empty where all passed."""
        case = self.first_failure
        if case is not None:
            return (
                f"first failure: {case.id} ({case.level}): {case.message}. "
                f"What to look at: {case.look_at}"
            )
        missing = [case.id for case in self.cases if case.status == MISSING]
        if not missing:
            return ""
        return f"nothing is wrong, but {len(missing)} cases are missing; the next: {missing[0]}."

    def table(self) -> str:
        """A line a case: level, case, status, worst multiple of the tolerance, what is wrong."""
        rows = [("level", "case", "result", "error/tolerance", "")]
        for case in self.cases:
            worst = case.worst
            multiple = "" if worst is None else f"{worst.multiple:.2f}"
            what = case.brief if case.status == FAILED else ""
            if not what and worst is not None and worst.multiple > 0:
                what = worst.name
            rows.append((case.level, case.id, case.status, multiple, what))
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        return "\n".join(
            f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:<{widths[2]}}  "
            f"{row[3]:>{widths[3]}}  {row[4]}".rstrip()
            for row in rows
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what --json prints."""
        first = self.first_failure
        return {
            "refgit": self.version,
            "ok": self.ok,
            "passed": self.passed,
            "failed": sum(case.status == FAILED for case in self.cases),
            "missing": sum(case.status == MISSING for case in self.cases),
            "total": len(self.cases),
            "levels": {name: {"passed": n, "total": of} for name, (n, of) in self.levels.items()},
            "first_failure": None if first is None else first.id,
            "advice": self.advice,
            "badge": self.badge,
            "markdown": self.markdown,
            "notes": list(self.notes),
            "cases": [case.to_dict() for case in self.cases],
        }


def grade(results: str | Path, kit: str | Path) -> Grading:
    """Grade the results of a port.

    Parameters
    ----------
    results : str or Path
        Directory with a file a case, ``ID.safetensors``, ``ID.npz`` or ``ID.json``.
    kit : str or Path
        Directory that `write_kit` wrote.

    Returns
    -------
    Grading

    Raises
    ------
    ValueError
        There is no such directory, no result in it, or no kit.
    """
    folder, kit = Path(results), Path(kit)
    index = _read_index(kit)
    files, notes = _result_files(folder, [entry["id"] for entry in index["cases"]])
    cases = tuple(_graded(entry, kit, files.get(entry["id"], [])) for entry in index["cases"])
    levels = tuple(level["name"] for level in index["levels"])
    return Grading(index["refgit"], cases, levels, tuple(notes))


def _read_index(kit: Path) -> dict[str, Any]:
    path = kit / INDEX
    if not path.is_file():
        raise ValueError(
            f"{kit} holds no {INDEX}; expected a conformance kit, as `refgit kit --out {kit}` "
            "writes it."
        )
    index = read_json(path)
    if index.get("format") != FORMAT:
        raise ValueError(
            f"{path} is of the format {index.get('format')!r}; this refgit reads {FORMAT!r}. Make "
            "the kit again with `refgit kit`."
        )
    for key in ("refgit", "levels", "cases"):
        if key not in index:
            raise ValueError(f"{path} has no {key!r}. Make the kit again with `refgit kit`.")
    return index


def _result_files(folder: Path, known: list[str]) -> tuple[dict[str, list[Path]], list[str]]:
    """The files of each case, and notes on those that belong to none."""
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise ValueError(f"{folder} should be a directory of results; found {found} there.")
    files: dict[str, list[Path]] = {}
    notes = []
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            notes.append(f"{path.name} is a directory; expected a file")
        elif path.suffix not in SUFFIXES or path.stem not in known:
            near = difflib.get_close_matches(path.stem, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            what = "is not a case of this kit" if path.suffix in SUFFIXES else "was not read"
            notes.append(f"{path.name} {what}{hint}")
        else:
            files.setdefault(path.stem, []).append(path)
    if not files:
        raise ValueError(
            f"{folder} holds no results of this kit; expected files such as "
            f"{known[0]}.safetensors, .npz or .json."
        )
    return files, notes


def _graded(entry: Mapping[str, Any], kit: Path, files: list[Path]) -> CaseGrade:
    """Grade a case by the files of its results; what cannot be read fails it."""
    if not files:
        return CaseGrade(entry["id"], entry["level"], MISSING)
    expected = read_tensors(kit / entry["expected"])
    if len(files) > 1:
        names = " and ".join(path.name for path in files)
        message = f"there are two files, {names}; expected one"
    else:
        try:
            return grade_case(entry, expected, read_tensors(files[0]))
        except CheckpointError as error:
            message = str(error).rstrip(".")
    return CaseGrade(entry["id"], entry["level"], FAILED, (), message, entry["look_at"])


def read_tensors(path: Path) -> dict[str, Any]:
    """Read a file of results: arrays by name, or what JSON holds.

    Raises
    ------
    CheckpointError
        It cannot be read.
    """
    if path.suffix == ".json":
        return read_json(path)
    if path.suffix == ".safetensors":
        return dict(open_safetensors(path))
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise CheckpointError(f"{path} is not an .npz file of numbers: {error}") from error
