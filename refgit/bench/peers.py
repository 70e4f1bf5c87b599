"""The peers: which they are, and the Python that runs each.

A peer has an environment of its own, made on first use with pinned versions, or one that the user
names. What it needs is never installed into refgit's. An earlier commit of refgit is a peer, too.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from refgit.bench import BenchError
from refgit.bench.checkpoint import cache_folder
from refgit.bench.history import commit_of, extract, libraries

TORCH = "torch==2.13.0"


@dataclass(frozen=True)
class Peer:
    """One peer.

    Attributes
    ----------
    name : str
        In the table.
    module : str
        Its worker, a file in `workers/`.
    requirements : tuple of str
        What pip installs for it.
    python : str or None
        The interpreter, if the user names one.
    paths : tuple of str
        Where its worker is imported from, if it is not in `workers/`.
    commit : str
        The commit of refgit's own history that is installed, too; empty for none.
    """

    name: str
    module: str
    requirements: tuple[str, ...]
    python: str | None = None
    paths: tuple[str, ...] = ()
    commit: str = ""

    @property
    def installed(self) -> tuple[str, ...]:
        """All that its environment has, for messages."""
        return (*self.requirements, self.name) if self.commit else self.requirements


KNOWN = {
    "transformers": Peer(
        "transformers", "peer_transformers", ("transformers==5.23.0", TORCH, "pillow", "numpy")
    ),
    "transformers4": Peer(
        "transformers4", "peer_transformers", ("transformers==4.56.2", TORCH, "pillow", "numpy")
    ),
    "onnxruntime": Peer(
        "onnxruntime",
        "peer_onnxruntime",
        ("onnxruntime==1.32.0", "onnx==1.23.2", "numpy", "pillow", "safetensors", "tokenizers"),
    ),
}


def parse_peers(names: str, pythons: Sequence[str] = ()) -> list[Peer]:
    """Read ``--peers onnxruntime==1.32.0,refgit@COMMIT`` and ``--peer-python NAME=PATH``.

    Raises
    ------
    BenchError
        A name or a commit is unknown, or an interpreter is given for a peer that is not asked for.
    """
    peers = [_peer(name.strip()) for name in names.split(",") if name.strip()]
    chosen = dict(_python(text) for text in pythons)
    found = [replace(p, python=chosen.pop(p.name, p.python)) for p in peers]
    if chosen:
        raise BenchError(
            f"--peer-python names {', '.join(chosen)}, which --peers does not; it names "
            f"{', '.join(p.name for p in peers) or 'none'}."
        )
    if len({p.name for p in found}) < len(found):
        raise BenchError(f"--peers {names} names a peer twice; expected each once.")
    return found


def _peer(name: str) -> Peer:
    if name.startswith("refgit@"):
        commit = commit_of(name.removeprefix("refgit@"))
        # Its own engine knows its own layers; serve.py and the cases are ours.
        return Peer(name, "refgit.bench.engine", libraries(), commit=commit)
    plain, equal, version = name.partition("==")
    if plain not in KNOWN:
        raise BenchError(
            f"--peers names {plain!r}; expected some of {', '.join(KNOWN)}, each with ==VERSION "
            "if you like, or refgit@COMMIT."
        )
    peer = KNOWN[plain]
    if not equal:
        return peer
    library = peer.requirements[0].partition("==")[0]
    return replace(peer, requirements=(f"{library}=={version}", *peer.requirements[1:]))


def _python(text: str) -> tuple[str, str]:
    name, equal, path = text.partition("=")
    if not equal or not path:
        raise BenchError(f"--peer-python is {text!r}; expected NAME=PATH of a Python interpreter.")
    if not Path(path).exists():
        raise BenchError(f"--peer-python {name}: there is no {path}.")
    return name, path


def python_of(peer: Peer, say: Callable[[str], None]) -> str:
    """The interpreter of a peer; its environment is made if it has none.

    Raises
    ------
    BenchError
        The environment cannot be made; the message ends with what pip said.
    """
    if peer.python is not None:
        return peer.python
    text = " ".join((sys.version, *peer.requirements, peer.commit))
    key = hashlib.sha256(text.encode()).hexdigest()[:10]
    folder = cache_folder() / "environments" / f"{peer.name.replace('/', '-')}-{key}"
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if (folder / "ready").exists():
        return str(python)
    say(f"installing {', '.join(peer.installed)} into {folder} (once)")
    shutil.rmtree(folder, ignore_errors=True)
    _run(peer, [sys.executable, "-m", "venv", str(folder)])
    install = [str(python), "-m", "pip", "install", "--quiet", *peer.requirements]
    with tempfile.TemporaryDirectory(prefix="refgit-bench-") as source:
        if peer.commit:
            extract(peer.commit, Path(source))
            install.append(source)
        _run(peer, install)
    (folder / "ready").touch()
    return str(python)


def _run(peer: Peer, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["nothing"]
        raise BenchError(
            f"{peer.name}: its environment cannot be made, {' '.join(command[1:4])} ended with "
            f"exit code {done.returncode} and said: {said[-1]} -- name an interpreter that has "
            f"{', '.join(peer.installed)}: --peer-python {peer.name}=PATH."
        )
