"""Earlier commits of refgit as peers: found in the checkout's history, ready for pip to install."""

from __future__ import annotations

import io
import subprocess
import tarfile
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from refgit.bench import BenchError

# What refgit computes with; an earlier commit gets the versions that are installed here.
_LIBRARIES = ("numpy", "pillow", "safetensors", "tokenizers", "cupy-cuda12x", "cupy-cuda13x")


def commit_of(name: str) -> str:
    """Return the full hash of a commit of the repository that refgit runs from.

    Parameters
    ----------
    name : str
        A hash, or its beginning, a branch or a tag.

    Raises
    ------
    BenchError
        refgit does not run from a git repository, or that has no such commit.
    """
    root = repository()
    try:
        return _git(root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").decode().strip()
    except BenchError:
        raise BenchError(
            f"--peers names refgit@{name}, and the repository {root} has no commit {name!r}; "
            "expected a hash, a branch or a tag of its history. Is it a shallow clone? Then run "
            "git fetch --unshallow."
        ) from None


def repository() -> Path:
    """Return the top of the git repository that refgit runs from.

    Raises
    ------
    BenchError
        refgit is installed elsewhere, or git is missing.
    """
    root = Path(__file__).resolve().parents[2]
    try:
        top = _git(root, "rev-parse", "--show-toplevel").decode().strip()
    except BenchError as error:
        raise BenchError(f"{_elsewhere(root)} ({error})") from None
    if Path(top).resolve() != root:  # site-packages inside of another project's repository
        raise BenchError(_elsewhere(root))
    return root


def _elsewhere(root: Path) -> str:
    return (
        f"refgit@COMMIT needs refgit to run from a checkout of its repository, and {root} is not "
        "one. Clone the repository and run refgit bench there: python -m refgit bench ..."
    )


def extract(commit: str, folder: Path) -> None:
    """Write the files of a commit into a folder."""
    content = _git(repository(), "archive", "--format=tar", commit)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(folder, filter="data")


def libraries() -> tuple[str, ...]:
    """Return what pip is to install beside an earlier commit: the versions that are here."""
    found = []
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):  # CuPy, where there is no GPU
            found.append(f"{name}=={version(name)}")
    return tuple(found)


def _git(folder: Path, *arguments: str) -> bytes:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError as error:
        raise BenchError(f"git cannot be run: {error.strerror}") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["nothing"]
        raise BenchError(f"git {arguments[0]} ended with {done.returncode} and said: {lines[-1]}")
    return done.stdout
