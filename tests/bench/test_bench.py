"""`refgit bench`: what is measured, that it is the same computation, and what goes wrong.

Nothing here asks how long anything takes.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from helpers.backends import ROOT
from refgit import GitConfig, testing
from refgit.bench import (
    BenchError,
    cases,
    checkpoint,
    history,
    limits,
    machine,
    peers,
    process,
    report,
    rounds,
    run,
)
from refgit.bench.engine import Engine
from refgit.bench.peers import Peer
from refgit.bench.rounds import Series
from refgit.bench.workers.serve import Server
from refgit.cli import main as cli
from refgit.model.parameters import causal_lm_shapes
from refgit.sizes import products

WORKERS = sorted((ROOT / "refgit" / "bench" / "workers").glob("*.py"))
GRAPHS = ROOT / "refgit" / "export" / "onnx_graphs.py"  # which the worker of ONNX Runtime loads


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint with its processor."""
    return checkpoint.write_model(testing.tiny_model(), tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(autouse=True)
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks at the times, so nothing is repeated to make them better."""
    monkeypatch.setattr(rounds, "LEAST", 0.0)
    monkeypatch.setattr(rounds, "PAUSE", 0.0)


def plan(model: Path, *names: str, **options: Any) -> run.Plan:
    return run.Plan(model=model, only=names, repeats=2, **options)


FAKE = """
import os, sys, time
import numpy as np
from refgit.bench import engine

class Engine(engine.Engine):
    def __init__(self, settings):
        {loading}
        super().__init__(settings)

    def case(self, case):
        before, run = super().case(case)
        return before, lambda: changed(run())

def changed(x):
    {change}

once = engine.once
"""


def fake_peer(folder: Path, change: str = "return x", loading: str = "pass") -> Peer:
    """A peer that is refgit itself, with something changed."""
    (folder / "fake_peer.py").write_text(FAKE.format(change=change, loading=loading))
    return Peer("fake", "fake_peer", (), sys.executable, (str(folder), *run.our_paths()))


# ---- the command


def bench(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    try:
        code = cli.main(["bench", "--threads", "1", "--repeats", "1", *map(str, arguments)])
    except SystemExit as end:  # of argparse
        code = int(str(end.code))
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


@pytest.mark.slow
def test_json_is_one_object_with_every_figure(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "load_average", lambda: 0.0)
    names = "load,preprocess,vision-1,vision-8,prefill,decode,greedy-1,greedy-8,beam-4"
    code, out, err = bench(capsys, "--model", model, "--json", "--only", names)
    assert (code, err) == (0, "")
    data = json.loads(out)
    assert [row["case"] for row in data["cases"]] == names.split(",")
    for row in data["cases"]:
        figures = row["refgit"]
        assert 0 < figures["least"] <= figures["seconds"] <= figures["most"]
        bounded = row["case"] not in ("load", "preprocess")
        assert ("products" in row["limits"]) == bounded
    decode = data["cases"][names.split(",").index("decode")]
    assert decode["meaning"] == f"one more token at {testing.IMAGE_TOKENS + cases.TEXT} keys"
    assert decode["limits"]["read"]["bytes"] == products.step_bytes(testing.CONFIG, 4)
    assert data["machine"]["threads"] == 1
    assert {"cpu", "cores", "numpy", "blas", "date"} <= set(data["machine"])
    assert data["programs"]["refgit"]["backend"] == "numpy"
    assert not data["busy"]


def test_the_bundled_model_gives_a_table_and_what_its_rows_mean(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, _ = bench(capsys, "--model", "refgit-emoji", "--only", "prefill,decode")
    assert code == 0
    head, *rows = (line.split() for line in out.splitlines()[3:6])
    assert head[:2] == ["case", "refgit"]
    assert [row[0] for row in rows] == ["prefill", "decode"]
    assert "prefill: encode 1 image and read the opening token" in out
    assert "limit of decode" in out


def test_a_busy_machine_is_mentioned(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "load_average", lambda: 7.0)
    _, out, err = bench(capsys, "--model", model, "--only", "load", "--json")
    assert "the machine is busy (load average 7.0 on 1 threads)" in err
    assert json.loads(out)["busy"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--only", "vision-1,speed"], "--only names 'speed'; expected some of start, load"),
        (["--peers", "keras"], "--peers names 'keras'; expected some of transformers"),
        (["--peers", "onnxruntime,onnxruntime==1.2"], "names a peer twice"),
        (["--peer-python", "transformers=/bin/sh"], "names transformers, which --peers does not"),
        (["--peers", "transformers", "--peer-python", "transformers"], "expected NAME=PATH"),
        (["--peers", "transformers", "--peer-python", "transformers=/no/python"], "there is no"),
        (["--clock", "processor", "--threads", "2"], "expected --threads 1"),
        (["--repeats", "0"], "must be an integer >= 1 (got '0')"),
    ],
)
def test_wrong_arguments_are_named_before_anything_runs(
    model: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    code, out, err = bench(capsys, "--model", model, *arguments)
    assert (code, out) == (2, "")
    assert sentence in err


def test_a_model_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = bench(capsys, "--model", "./no-such-folder")
    assert code == 2
    assert "no-such-folder" in err


# ---- verification


def measured(
    model: Path, folder: Path, peer: Peer, *names: str, **options: Any
) -> tuple[dict[str, Any], bool]:
    return run.measure_plan(plan(model, *names, peers=[peer], **options), folder, print)


@pytest.mark.slow
@pytest.mark.parametrize("clock", ["wall", "processor"])
def test_a_peer_that_computes_the_same_is_timed_in_every_case(
    model: Path, tmp_path: Path, clock: str
) -> None:
    names = ("start", "vision-1", "greedy-1")
    data, failed = measured(model, tmp_path, fake_peer(tmp_path), *names, clock=clock)
    assert not failed
    assert data["clock"] == clock
    for row in data["cases"]:
        peer = row["peers"]["fake"]
        assert peer["rounds"] == row["refgit"]["rounds"] == 2
        assert peer["ratio_least"] <= peer["ratio"] <= peer["ratio_most"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "name", "sentence"),
    [
        ("return x + np.float32(0.01) * abs(x).max()", "vision-1", "differs from refgit's by 1.0e"),
        ("return x[:, :-1]", "vision-1", "gives shape (1, 4, 12), refgit's has (1, 5, 12)"),
        ("return x * np.float32('nan')", "decode", "differs from refgit's by nan"),
        ("x[0, 3] += 1; return x", "greedy-1", "at (0, 3), refgit"),
        ("return None", "beam-4", "gives shape None"),
        ("raise KeyError('weights')", "vision-1", "KeyError: 'weights'"),
        ("os._exit(3)", "vision-1", "ended with exit code 3 when asked for 'result'"),
    ],
)
def test_a_peer_that_computes_something_else_is_not_timed(
    model: Path, tmp_path: Path, change: str, name: str, sentence: str
) -> None:
    data, failed = measured(model, tmp_path, fake_peer(tmp_path, change), name)
    assert failed
    (row,) = data["cases"]
    assert row["peers"] == {}
    assert row["refgit"]["rounds"] == 2
    (note,) = data["notes"]
    assert note.startswith(f"left out: fake, {name}")
    assert sentence in note


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loading", "sentence"),
    [
        ("raise ImportError('no torch here')", "ImportError: no torch here"),
        ("print('lost', file=sys.stderr); sys.exit(4)", "exit code 4 when asked for 'prepare'"),
        ("time.sleep(60)", "no answer to 'prepare' within 2 s"),
    ],
)
def test_a_peer_that_cannot_load_is_left_out_and_refgit_goes_on(
    model: Path, tmp_path: Path, loading: str, sentence: str
) -> None:
    peer = fake_peer(tmp_path, loading=loading)
    data, failed = measured(model, tmp_path, peer, "load", patience=2.0)
    assert failed
    assert [sentence in note for note in data["notes"]] == [True]
    assert data["cases"][0]["refgit"]["rounds"] == 2


def test_a_peer_without_a_python_is_left_out(model: Path, tmp_path: Path) -> None:
    peer = Peer("fake", "fake_peer", (), str(tmp_path / "python"))
    data, failed = measured(model, tmp_path, peer, "load")
    assert failed
    assert "cannot be run (No such file or directory)" in data["notes"][0]


def test_an_answer_that_is_no_json_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "serve.py"
    script.write_text("input(); print('hello'); input()")
    monkeypatch.setattr(process, "SERVE", script)
    worker = process.Worker("fake", sys.executable, "none", threads=1)
    with pytest.raises(BenchError, match="answered 'hello' to 'prepare'; expected a JSON object"):
        worker.ask(do="prepare")


def test_what_a_library_prints_does_not_disturb_the_answers(model: Path, tmp_path: Path) -> None:
    peer = fake_peer(tmp_path, loading="print('loading'); os.write(1, b'weights ...')")
    _, failed = measured(model, tmp_path, peer, "load")
    assert not failed


def test_where_refgit_itself_fails_nothing_is_measured(model: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"refgit: BackendError: no backend is called 'abacus'"):
        run.measure_plan(plan(model, "load", backend="abacus"), tmp_path, print)


@pytest.mark.slow
def test_float16_is_compared_less_strictly(model: Path, tmp_path: Path) -> None:
    peer = fake_peer(tmp_path, "return x + np.float16(0.005) * abs(x).max()")
    data, failed = measured(model, tmp_path, peer, "vision-1", dtype="float16")
    assert not failed
    assert "fake" in data["cases"][0]["peers"]


# ---- peers and their environments


def test_every_known_peer_has_a_worker_and_pinned_versions() -> None:
    for peer in peers.KNOWN.values():
        assert peer.module in {path.stem for path in WORKERS}
        assert "==" in peer.requirements[0]


def test_a_version_replaces_the_pinned_one() -> None:
    (peer,) = peers.parse_peers("transformers==5.1.0")
    assert (peer.name, peer.requirements[0]) == ("transformers", "transformers==5.1.0")


def test_an_environment_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ran = []

    def pretend(command: list[str], **_: Any) -> SimpleNamespace:
        ran.append(command)
        if "venv" in command:
            Path(command[-1]).mkdir(parents=True)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(peers.subprocess, "run", pretend)
    peer, said = peers.KNOWN["onnxruntime"], []
    first = peers.python_of(peer, said.append)
    assert peers.python_of(peer, said.append) == first
    assert [command[1:3] for command in ran] == [["-m", "venv"], ["-m", "pip"]]
    assert set(peer.requirements) <= set(ran[1])
    assert len(said) == 1


def test_what_pip_says_ends_the_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    failed = SimpleNamespace(returncode=1, stderr="a line\nno such version\n", stdout="")
    monkeypatch.setattr(peers.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(BenchError, match=r"said: no such version .* --peer-python onnxruntime="):
        peers.python_of(peers.KNOWN["onnxruntime"], print)


# ---- earlier commits as peers


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=Tester", "-c", "user.email=tester@example.org")
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of two commits, from which refgit seems to run."""
    root = tmp_path / "checkout"
    room = root / "refgit" / "bench"
    room.mkdir(parents=True)
    git(root, "init", "--quiet", "--initial-branch=main")
    for text in ("old", "new"):
        (root / "refgit" / "speed.txt").write_text(text)
        git(root, "add", ".")
        git(root, "commit", "--quiet", "-m", text)
    git(root, "tag", "v1", "HEAD~1")
    monkeypatch.setattr(history, "__file__", str(room / "history.py"))
    return root


def test_a_commit_is_found_by_hash_branch_or_tag(repository: Path) -> None:
    old = git(repository, "rev-parse", "v1")
    (peer,) = peers.parse_peers(f"refgit@{old[:7]}")
    assert (peer.name, peer.commit, peer.module) == (
        f"refgit@{old[:7]}", old, "refgit.bench.engine"
    )  # fmt: skip
    assert f"numpy=={np.__version__}" in peer.requirements
    assert history.commit_of("v1") == history.commit_of("main~1") == old
    assert [p.name for p in peers.parse_peers("refgit@v1,transformers")] == [
        "refgit@v1", "transformers"
    ]  # fmt: skip


def test_a_commit_that_is_not_there_is_named(
    repository: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = bench(capsys, "--model", model, "--peers", "refgit@v2")
    assert (code, out) == (2, "")
    assert f"the repository {repository} has no commit 'v2'; expected a hash" in err


def test_outside_of_a_checkout_there_are_no_commits(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither without a repository, nor installed inside of another project's."""
    inside = repository / "site-packages" / "refgit" / "bench"
    inside.mkdir(parents=True)
    for folder in (repository.parent / "away" / "refgit" / "bench", inside):
        folder.mkdir(parents=True, exist_ok=True)
        monkeypatch.setattr(history, "__file__", str(folder / "history.py"))
        with pytest.raises(BenchError, match=r"needs refgit to run from a checkout .* Clone"):
            peers.parse_peers("refgit@main")


def test_a_machine_without_git_is_told_so(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(repository))
    with pytest.raises(BenchError, match="git cannot be run: No such file"):
        peers.parse_peers("refgit@v1")


def test_a_commit_is_installed_from_the_files_it_had(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    real, ran, found = subprocess.run, [], []

    def pretend(command: list[str], **options: Any) -> Any:
        if command[0] == "git":
            return real(command, **options)
        ran.append(command)
        if "venv" in command:
            Path(command[-1]).mkdir(parents=True)
        else:
            found.append((Path(command[-1]) / "refgit" / "speed.txt").read_text())
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(peers.subprocess, "run", pretend)
    (peer,) = peers.parse_peers("refgit@v1")
    said: list[str] = []
    first = peers.python_of(peer, said.append)
    assert found == ["old"]
    assert peers.python_of(peer, said.append) == first
    assert len(ran) == 2
    assert "refgit@v1 into" in said[0]
    git(repository, "tag", "--force", "v1", "HEAD")  # the tag moves, and so does the environment
    assert peers.python_of(*peers.parse_peers("refgit@v1"), said.append) != first
    assert found == ["old", "new"]


@pytest.mark.slow
def test_another_refgit_is_measured_like_any_peer(model: Path, tmp_path: Path) -> None:
    peer = Peer("refgit@v1", "refgit.bench.engine", (), sys.executable, run.our_paths())
    data, failed = measured(model, tmp_path, peer, "start", "vision-1", "decode")
    assert not failed
    assert [list(row["peers"]) for row in data["cases"]] == [["refgit@v1"]] * 3


BEFORE = "8366953"  # the last commit before the modules moved to their rooms


@pytest.mark.slow
def test_the_commit_before_the_move_runs_every_case(model: Path, tmp_path: Path) -> None:
    """Without pip: its tree is what the worker imports from."""
    try:
        commit = history.commit_of(BEFORE)
    except BenchError as error:
        pytest.skip(f"this checkout lacks the commit to compare with: {error}")
    history.extract(commit, tmp_path / "before")
    paths = (str(tmp_path / "before"), str(tmp_path / "before" / "backends"))
    peer = Peer(f"refgit@{BEFORE}", "refgit.bench.engine", (), sys.executable, paths)
    data, failed = measured(model, tmp_path, peer, *cases.MEANINGS)
    assert not failed
    assert data["notes"] == []
    assert {row["case"] for row in data["cases"] if row["peers"]} == set(cases.MEANINGS)


# ---- the workers' files


@pytest.mark.parametrize("path", [*WORKERS, GRAPHS], ids=lambda path: path.stem)
def test_workers_import_nothing_of_refgit_and_nothing_heavy_by_statement(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names.add(str(node.module).partition(".")[0])
    assert names - set(sys.stdlib_module_names) <= {"numpy"}


def test_all_programs_get_the_same_threads_and_no_path_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/ours")
    monkeypatch.setenv("REFGIT_NUM_THREADS", "7")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # what pip installs is compiled already
    variables = process.environment(3, ())
    assert "REFGIT_NUM_THREADS" not in variables
    assert variables["OPENBLAS_THREAD_TIMEOUT"] == "22"  # as on refgit's command line
    assert {variables[name] for name in process.THREAD_VARIABLES} == {"3"}
    assert "PYTHONPATH" not in variables
    assert "PYTHONDONTWRITEBYTECODE" not in variables


# ---- the worker


def test_a_short_case_is_repeated_and_a_long_one_is_not() -> None:
    done = []
    server = Server("none")
    server.engine = SimpleNamespace(wait=lambda: None)
    short = server.seconds(lambda: None, lambda: done.append(1), 0.001)
    assert 1 < len(short) < len(done)  # the first warms up
    done.clear()
    assert len(server.seconds(lambda: None, lambda: done.append(1), 0.0)) == len(done) == 1


def test_on_the_processors_clock_waiting_is_free() -> None:
    server = Server("none")
    server.engine = SimpleNamespace(wait=lambda: None)
    assert server.timed(lambda: None, lambda: time.sleep(0.2))[0] >= 0.2
    server.now = time.process_time
    assert server.timed(lambda: None, lambda: time.sleep(0.2))[0] < 0.2


def test_a_decode_step_starts_from_the_same_cache_each_time(model: Path, tmp_path: Path) -> None:
    (case,) = cases.make_cases(testing.CONFIG, tmp_path, ["decode"])
    engine = Engine({"model": str(model), "backend": "numpy", "dtype": "float32"})
    before, step = engine.case(case)
    found = []
    for _ in range(3):
        before()
        found.append(np.array(step()))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    ids, pixels = np.array(case["ids"]), np.load(case["pixels"])
    whole = testing.tiny_model()(ids, pixel_values=pixels).logits[:, -1]
    np.testing.assert_allclose(found[0], whole, atol=1e-4)


def test_captions_are_as_long_as_they_say_whatever_the_model_would_write(
    model: Path, tmp_path: Path
) -> None:
    engine = Engine({"model": str(model), "backend": "numpy", "dtype": "float32"})
    for case in cases.make_cases(testing.CONFIG, tmp_path, ["greedy-1", "greedy-8", "beam-4"]):
        ids = engine.host(engine.case(case)[1]())
        assert ids.shape == (case["batch"], 1 + cases.TOKENS)
        assert testing.CONFIG.eos_token_id not in ids


# ---- limits


@pytest.mark.parametrize("config", [GitConfig(), testing.CONFIG], ids=["base", "tiny"])
def test_a_step_passes_by_every_matrix_of_the_decoder_once(config: GitConfig) -> None:
    sizes = {
        name: int(np.prod(shape)) for name, shape in causal_lm_shapes(config).items()
        if len(shape) == 2 and (name.startswith("git.encoder.") or name == "output.weight")
    }  # fmt: skip
    assert products.step_bytes(config, 2) == 2 * sum(sizes.values())


@pytest.mark.parametrize("config", [GitConfig(), testing.CONFIG], ids=["base", "tiny"])
def test_the_products_of_the_image_encoder_use_every_matrix_once(config: GitConfig) -> None:
    weights = sum(p.inner * p.columns for p in products.vision_products(config, 1) if p.weight)
    matrices = sum(
        int(np.prod(shape)) for name, shape in causal_lm_shapes(config).items()
        if len(shape) > 1 and "image_encoder" in name and "position" not in name
    )  # fmt: skip
    assert weights == matrices


def test_images_multiply_the_work_and_words_do_not_grow_with_images_read() -> None:
    one, eight = (products.operations(products.vision_products(testing.CONFIG, n)) for n in (1, 8))
    assert eight == 8 * one
    more = products.operations(products.step_products(testing.CONFIG, 1, 5, 4))
    assert more > products.operations(products.step_products(testing.CONFIG, 1, 5, 3))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["numpy", "strict"])
def test_limits_run_on_any_backend(backend: str) -> None:
    bounds = limits.Limits(testing.tiny_model(backend=backend), threads=2)
    for of in ("vision", "prefill", "step"):
        bounds.run_of({"of": of, "batch": 2, "keys": 7})()
    if backend == "numpy":
        bounds.run_of({"of": "read"})()


def test_the_limit_of_a_caption_is_its_image_and_a_reading_for_each_further_token() -> None:
    case = {"kind": "generate", "batch": 2, "beams": 3, "tokens": 5}
    assert cases.limit_of(case, {"limit prefill-2": 10.0, "limit read": 1.0}) == 14.0
    assert cases.limit_of(case, {"limit read": 1.0}) is None
    assert cases.limit_of({"kind": "load"}, {}) is None


# ---- figures


def test_ratios_are_taken_round_by_round() -> None:
    ours, theirs = Series([[1.0], [10.0], [3.0]]), Series([[2.0], [20.0]])
    assert report.paired(ours, theirs) == {"ratio": 0.5, "ratio_least": 0.5, "ratio_most": 0.5}


def test_a_series_counts_the_median_of_each_round_and_the_extremes_of_all_runs() -> None:
    series = Series([[1.0, 9.0, 2.0], [4.0], [3.0, 3.0]])
    assert (series.median, series.least, series.most) == (3.0, 1.0, 9.0)


@pytest.mark.parametrize(("tried", "count"), [(1.0, 7), (11.0, 3), (31.0, 2)])
def test_who_is_slow_gets_fewer_rounds_and_it_is_said(tried: float, count: int) -> None:
    results = rounds.Results()
    turns = [rounds.Turn("a", lambda: [1.0], 0.1), rounds.Turn("b", lambda: [1.0], tried)]
    times = rounds._in_turns(turns, 7, "greedy-1", results)
    assert [len(series.rounds) for series in times.values()] == [7, count]
    assert [f"b, greedy-1: {count} rounds" in note for note in results.notes] == [True] * (
        count < 7
    )


def test_programs_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "PAUSE", 0.0)
    order: list[str] = []

    def turn(name: str) -> rounds.Turn:
        return rounds.Turn(name, lambda: [float(order.append(name) is None)], 0.1)

    rounds._in_turns([turn("a"), turn("b"), turn("c")], 3, "load", rounds.Results())
    assert "".join(order) == "abcabcabc"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(123.4, "123 s"), (1.234, "1.23 s"), (0.0156, "15.6 ms"), (2e-7, "0.20 us")],
)
def test_times_have_three_figures_and_a_unit(seconds: float, text: str) -> None:
    assert report.short(seconds) == text


def test_a_table_in_markdown() -> None:
    text = report.markdown([["case", "refgit"], ["load", "1 s"]])
    assert text == "| case | refgit |\n|---|---:|\n| load | 1 s |"


# ---- the default model


def test_random_weights_are_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = testing.tiny_model()
    monkeypatch.setattr(model, "save_pretrained", lambda _: (tmp_path / "no" / "x").write_text(""))
    with pytest.raises(FileNotFoundError):
        checkpoint.write_model(model, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_the_default_model_is_written_once_to_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(checkpoint, "GitConfig", lambda: testing.CONFIG)
    said: list[str] = []
    folder = checkpoint.default_model(said.append)
    assert folder.is_relative_to(tmp_path)
    assert checkpoint.default_model(said.append) == folder
    assert len(said) == 1
    assert GitConfig.from_pretrained(folder).hidden_size == testing.CONFIG.hidden_size


def test_words_that_are_made_up_have_the_special_ones_in_berts_places() -> None:
    words = checkpoint.made_up_words(30522)
    assert (words[0], words[101], words[102], words[1000]) == ("[PAD]", "[CLS]", "[SEP]", "w1000")
    assert len(set(words)) == 30522


def test_videos_are_read_whole_and_their_first_frames_alone_by_the_image_encoder(
    tmp_path: Path,
) -> None:
    config = testing.CONFIG.replace(num_image_with_embedding=2)
    found = {case["name"]: case for case in cases.make_cases(config, tmp_path)}
    assert np.load(found["prefill"]["pixels"]).shape == (1, 2, 3, 8, 8)
    assert np.load(found["vision-8"]["pixels"]).shape == (8, 3, 8, 8)
    assert found["decode"]["keys"] == 2 * testing.IMAGE_TOKENS + cases.TEXT


# ---- docs/tools/measure/growth.py


@pytest.fixture(scope="module")
def growth() -> Any:
    """The script, as a module."""
    spec = importlib.util.spec_from_file_location(
        "growth", ROOT / "docs" / "tools" / "measure" / "growth.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["growth"] = module  # where its dataclasses look for their types
    spec.loader.exec_module(module)
    return module


def test_a_straight_line_is_found_again(growth: Any) -> None:
    points = {f"batch {n} read": {"seconds": [9.0, 1.0 + 0.5 * n, 0.0]} for n in (1, 2, 4, 8)}
    fit = growth.line({"points": points}, "batch", "read")
    assert (fit.start, fit.slope) == pytest.approx((1.0, 0.5))
    assert fit.error < 1e-9
    assert growth.line({"points": points}, "beams", "caption") is None


def test_growths_arithmetic_is_that_of_the_cases(growth: Any) -> None:
    config = GitConfig()
    one = products.operations(products.prefill_products(config, 1))
    assert growth.Point("batch", 1).gflop("read") * 1e9 == one
    assert growth.Point("batch", 8).gflop("read") == 8 * growth.Point("beams", 1).gflop("read")
    assert growth.Point("frames", 6).image_tokens() == 6 * 197


def test_each_point_is_measured_once_and_beams_do_not_read(growth: Any) -> None:
    everything = growth.missing({"points": {}})
    assert len({growth.key(*x) for x in everything}) == len(everything)
    assert not [x for x in everything if (x[0].axis, x[1]) == ("beams", "read")]
    done = {growth.key(*everything[0]): {}}
    assert growth.missing({"points": done}) == everything[1:]


def test_only_what_stands_between_the_marks_is_replaced(growth: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x: made by a script -->\nold\n<!-- /x -->\nb\n")
    growth.write_between(page, "x", "new")
    assert page.read_text() == "a\n<!-- x: made by a script -->\n\nnew\n\n<!-- /x -->\nb\n"
    with pytest.raises(SystemExit, match="lacks the lines <!-- y"):
        growth.write_between(page, "y", "new")


def test_the_page_has_the_marks_of_both_scripts() -> None:
    text = (ROOT / "docs" / "fast.md").read_text()
    for name in ("speed", "growth"):
        assert text.count(f"<!-- {name}: made by a script -->") == 1
        assert text.count(f"<!-- /{name} -->") == 1
