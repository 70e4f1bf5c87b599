"""Downloading by name: the real client, against a local server that speaks the hub's API."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

from helpers.backends import ROOT
from refgit import CheckpointError, GitForCausalLM, testing
from refgit.demo import demo_path
from refgit.hub import find_checkpoint

pytest.importorskip("huggingface_hub", reason="pip install huggingface_hub")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "someone/tiny-git"


class Hub(ThreadingHTTPServer):
    """One repository, at one commit, with the files of a folder; writes down what is asked."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.asked, self.tokens = folder, [], []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        path = unquote(self.path).partition("?")[0]
        self.server.tokens.append(self.headers.get("authorization"))
        headers = {}
        about, _, revision = path.removeprefix(f"/api/models/{REPOSITORY}").rpartition("/")
        if path.startswith("/api/") and revision in ("", "main", "v1", COMMIT):
            files = sorted(self.server.folder.iterdir())
            if about == "/tree":
                listing: object = [
                    {
                        "type": "file",
                        "path": f.name,
                        "size": f.stat().st_size,
                        "oid": hashlib.sha1(f.read_bytes()).hexdigest(),
                    }
                    for f in files
                ]
            else:
                siblings = [{"rfilename": f.name} for f in files]
                listing = {"id": REPOSITORY, "sha": COMMIT, "siblings": siblings}
            data = json.dumps(listing).encode()
            headers["content-type"] = "application/json"
        else:
            name = path.rpartition("/")[2]
            file = self.server.folder / name
            if not path.startswith(f"/{REPOSITORY}/resolve/") or not file.is_file():
                self.send_response(404)
                self.send_header("x-error-code", "RepoNotFound")
                self.send_header("content-length", "0")
                self.end_headers()
                return
            data = file.read_bytes()
            headers["etag"] = f'"{hashlib.sha256(data).hexdigest()}"'
            headers["x-repo-commit"] = COMMIT
            if body:
                self.server.asked.append(name)
        self.send_response(200)
        for key, value in {**headers, "content-length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(data)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    folder = tmp_path / "repository"
    GitForCausalLM(testing.CONFIG, seed=1).save_pretrained(folder)
    (folder / "pytorch_model.bin").write_bytes(b"a second copy of the weights")
    (folder / "README.md").write_text("not needed")
    server = Hub(folder)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def run(hub: Hub, home: Path, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own: the client reads its settings when it is imported."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    settings = {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_XET": "1",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'backends'}:{ROOT / 'tests'}",
        "NO_PROXY": "127.0.0.1",
    }
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**kept, **settings, **environment},
        capture_output=True,
        text=True,
        check=False,
        cwd=home.parent,
    )


LOAD = f"""
import numpy as np
from refgit import testing
from refgit import GitForCausalLM
model = GitForCausalLM.from_pretrained({REPOSITORY!r})
wanted = GitForCausalLM(testing.CONFIG, seed=1).state_dict()
assert all((model.state_dict()[k] == v).all() for k, v in wanted.items())
print("equal")
"""


@pytest.mark.slow
def test_a_model_is_downloaded_by_name_into_the_clients_cache_and_found_there_offline(
    hub: Hub, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    first = run(hub, home, LOAD)
    assert first.stdout == "equal\n", first.stderr
    assert "model.safetensors" in hub.asked
    assert "pytorch_model.bin" not in hub.asked
    assert "README.md" not in hub.asked
    assert list(home.glob(f"hub/models--someone--tiny-git/snapshots/{COMMIT}/config.json"))
    hub.asked.clear()
    again = run(hub, home, LOAD)
    assert again.stdout == "equal\n", again.stderr
    assert not hub.asked  # nothing is downloaded twice
    offline = run(hub, home, LOAD, HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:9")
    assert offline.stdout == "equal\n", offline.stderr


def test_a_processor_takes_the_small_files_alone(hub: Hub, tmp_path: Path) -> None:
    for file in demo_path().iterdir():
        if file.suffix in (".json", ".txt") and file.name != "config.json":
            (hub.folder / file.name).write_bytes(file.read_bytes())
    home = tmp_path / "home"
    home.mkdir()
    code = f"from refgit import GitProcessor; p = GitProcessor.from_pretrained({REPOSITORY!r}); "
    found = run(hub, home, code + "print(p.decode(p(text='red apple').input_ids))")
    assert found.stdout == "[CLS] red apple [SEP]\n", found.stderr
    assert "vocab.txt" in hub.asked
    assert not [name for name in hub.asked if name.endswith((".safetensors", ".bin"))]


@pytest.mark.slow
def test_revision_and_token_reach_the_hub(hub: Hub, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    code = LOAD.replace(f"{REPOSITORY!r})", f"{REPOSITORY!r}, revision='v1', token='hf_secret')")
    found = run(hub, home, code)
    assert found.stdout == "equal\n", found.stderr
    assert "Bearer hf_secret" in hub.tokens
    code = LOAD.replace(f"{REPOSITORY!r})", f"{REPOSITORY!r}, revision='no-such')")
    lost = run(hub, home, code)
    assert "CheckpointError" in lost.stderr


def test_an_unknown_repository_is_one_clear_error(hub: Hub, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    code = LOAD.replace("someone/tiny-git", "someone/else")
    lost = run(hub, home, code)
    last = lost.stderr.strip().splitlines()[-1]
    assert last.startswith("refgit.errors.CheckpointError: someone/else is not a directory")


def test_without_the_client_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError, match=r"microsoft/git-base.*pip install huggingface_hub"):
        find_checkpoint("microsoft/git-base")


@pytest.mark.parametrize("path", ["no-such-folder", "./no/such", "/no/such", "a/b/c"])
def test_what_is_neither_a_folder_nor_a_repositorys_name_is_said_so(path: str) -> None:
    with pytest.raises(CheckpointError, match="does not exist; expected a checkpoint directory"):
        find_checkpoint(path)
    with pytest.raises(CheckpointError, match="is not a directory"):
        find_checkpoint(__file__)


def test_a_directory_is_taken_before_a_repository_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "microsoft/git-base").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint("microsoft/git-base") == Path("microsoft/git-base")
