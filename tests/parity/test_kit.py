"""The conformance kit: what is in it, how results are graded, and a port in another language."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import refgit
from helpers.backends import ROOT
from refgit.cli import main as cli
from refgit.parity.kit.case import LEVELS, Checkpoint, Evaluation
from refgit.parity.kit.case_grading import MISSING
from refgit.parity.kit.cases import computed_cases
from refgit.parity.kit.cases.checkpoints import CONFIG, draw_weights, kit_checkpoints, pixels
from refgit.parity.kit.cases.searches import SHAKE, check_stability, search_case
from refgit.parity.kit.files import write_kit
from refgit.parity.kit.grading import Grading, grade, read_tensors
from refgit.parity.kit.tolerance import (
    REFERENCE,
    UnstableError,
    rounded_up,
    tolerance,
)
from refgit.parity.numerics.summation import OrderedBackend
from refgit.testing import tiny_model

PORT = ROOT / "tests" / "helpers" / "port_js" / "git.mjs"


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kit") / "kit"
    write_kit(folder)
    return folder


@pytest.fixture(scope="module")
def index(kit: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((kit / "kit.json").read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="module")
def float32_results(tmp_path_factory: pytest.TempPathFactory, kit: Path) -> Path:
    """What refgit computes in float32, in an order of summation that measured no tolerance."""
    folder = tmp_path_factory.mktemp("float32")
    order = OrderedBackend(lambda n: np.random.RandomState(n + 1000).permutation(n))
    evaluation = Evaluation("other order", "float32", order)
    for case in computed_cases(kit_checkpoints()):
        save_file(case.run(evaluation), folder / f"{case.id}.safetensors")
    for path in (kit / "cases").iterdir():  # these have one right answer
        name, _, kind = path.name.partition(".")
        if kind.startswith("expected") and not (folder / f"{name}.safetensors").exists():
            shutil.copy(path, folder / f"{name}.{kind.removeprefix('expected.')}")
    return folder


@pytest.fixture
def results(float32_results: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(float32_results, tmp_path / "results"))


def spoil(results: Path, case: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the tensors of a case, by name."""
    path = results / f"{case}.safetensors"
    tensors = {name: x.copy() for name, x in load_file(path).items()}
    change(tensors)
    save_file(tensors, path)


def failed(grading: Grading) -> list[str]:
    return [case.id for case in grading.cases if case.status == "failed"]


def message_of(grading: Grading, case: str) -> str:
    return next(grade.message for grade in grading.cases if grade.id == case)


# ---- what is in the kit


@pytest.mark.slow
def test_the_same_bytes_come_each_time(kit: Path, tmp_path: Path) -> None:
    """Also in another process, in which sets and dicts of the hash have another order."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "backends")])
    code = "import sys; from refgit.parity.kit.files import write_kit; write_kit(sys.argv[1])"
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": "77"}
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "again")], env=environment, check=True
    )
    files = {path.relative_to(kit) for path in kit.rglob("*") if path.is_file()}
    again = {
        p.relative_to(tmp_path / "again") for p in (tmp_path / "again").rglob("*") if p.is_file()
    }
    assert files == again
    different = [
        f for f in files if (kit / f).read_bytes() != (tmp_path / "again" / f).read_bytes()
    ]
    assert different == []


def test_the_kit_is_small(kit: Path) -> None:
    assert sum(path.stat().st_size for path in kit.rglob("*") if path.is_file()) < 3_000_000


def test_every_level_has_cases_in_the_order_of_attack(index: dict[str, Any]) -> None:
    levels = [entry["level"] for entry in index["cases"]]
    assert list(dict.fromkeys(levels)) == list(LEVELS)
    assert [level["cases"] for level in index["levels"]] == [levels.count(name) for name in LEVELS]
    assert index["left_out"] == []


def test_every_case_is_complete(kit: Path, index: dict[str, Any]) -> None:
    ids = [entry["id"] for entry in index["cases"]]
    assert len(ids) == len(set(ids)) >= 60
    for entry in index["cases"]:
        assert entry["description"].endswith(".")
        assert entry["look_at"]
        assert (kit / entry["inputs"]).is_file()
        expected = read_tensors(kit / entry["expected"])
        counts = {spec["counts"] for spec in entry["tensors"].values() if "counts" in spec}
        assert set(expected) == set(entry["tensors"]) | counts
        assert any(spec["required"] for spec in entry["tensors"].values())
        for name, spec in entry["tensors"].items():
            check_tensor(spec, expected[name])
        weights = entry.get("weights")
        if weights:
            names = load_file(kit / weights["file"])
            assert any(name.startswith(weights["prefix"]) for name in names)
            assert (kit / weights["config"]).is_file()


def check_tensor(spec: dict[str, Any], expected: Any) -> None:
    """Floats have a tolerance, everything else is exact."""
    if spec["dtype"] == "json":
        assert isinstance(expected, list)
        return
    assert (str(expected.dtype), list(expected.shape)) == (spec["dtype"], spec["shape"])
    assert np.isfinite(expected).all()
    if spec["dtype"] == "float32":
        # far below what is computed, and no tighter than the noise that was measured
        assert 0 < spec["tolerance"] < 0.05 * spec["largest"]
        assert spec["tolerance"] >= 1.9 * spec["noise"] > 0
    else:
        assert "tolerance" not in spec


def test_a_pictures_png_holds_the_raw_pixels(kit: Path, index: dict[str, Any]) -> None:
    from PIL import Image

    modes = set()
    for entry in index["cases"]:
        for i, name in enumerate(entry.get("pictures", [])):
            picture = Image.open(kit / name)
            modes.add(picture.mode)
            (raw,) = load_file(kit / entry["inputs"]).values()
            np.testing.assert_array_equal(picture.convert("RGB"), raw[i] if raw.ndim == 4 else raw)
    assert modes == {"RGB", "L", "RGBA", "P"}


def test_captions_differ_and_end_at_different_lengths(kit: Path) -> None:
    ids = load_file(kit / "cases" / "greedy.expected.safetensors")["sequences"].tolist()
    assert len({tuple(row) for row in ids}) == len(ids)
    assert {CONFIG.eos_token_id in row for row in ids} == {True, False}


def test_the_models_of_the_kit_are_checkpoints_like_any(kit: Path) -> None:
    for name in ("image", "relative_key", "relative_key_query", "video"):
        model = refgit.GitForCausalLM.from_pretrained(kit / "models" / name)
        assert all(np.abs(x).min() > 0 for k, x in model.state_dict().items() if "bias" in k)


def test_the_readme_names_every_level_and_the_margin(kit: Path) -> None:
    text = (kit / "README.md").read_text(encoding="utf-8")
    assert all(f"| {level} | " in text for level in LEVELS)
    assert "`tolerance` = 8 x max(noise" in text
    assert "little-endian" in text


def test_a_search_that_hangs_on_rounding_is_refused() -> None:
    weights = draw_weights(CONFIG, 0)
    weights["output.weight"][:] = weights["output.bias"][:] = 0  # all words are equally likely
    given = {"pixel_values": pixels(0, 1, 3, 16, 16)}
    flat = Checkpoint("flat", CONFIG, weights)
    with pytest.raises(UnstableError, match="case flat: the ids change"):
        check_stability(search_case("flat", flat, "", given, {"max_length": 8}), SHAKE, REFERENCE)


def test_tolerances_have_two_digits_and_are_never_below_their_measure() -> None:
    for x in (1.01e-7, 9.99e-3, 1.0, 0.25, 3e-6):
        assert x <= rounded_up(x) <= 1.1 * x * (1 + 1e-9)
        assert float(f"{rounded_up(x):.1e}") == rounded_up(x)
    assert rounded_up(0.0) == 0
    # without noise, half a unit in the last place of the largest number
    assert tolerance(0.0, np.array([1.0, -4.0])) == rounded_up(8 * 4 * 2.0**-24)


@pytest.mark.slow
def test_a_checkpoint_of_ones_own_adds_cases(tmp_path: Path) -> None:
    tiny_model(3).save_pretrained(tmp_path / "mine")
    out = tmp_path / "kit"
    index = write_kit(out, model=tmp_path / "mine")
    wanted = {
        f"{what}-checkpoint" for what in ("vision", "model", "decode-steps", "greedy", "beam")
    }
    found = {entry["id"]: entry for entry in index["cases"] if "checkpoint" in entry["id"]}
    left_out = {case["id"] for case in index["left_out"]}
    assert set(found) | left_out == wanted
    assert left_out <= {"greedy-checkpoint", "beam-checkpoint"}
    weights = found["model-checkpoint"]["weights"]
    assert weights["file"] == f"{tmp_path / 'mine'}/model.safetensors"
    logits = load_file(out / found["model-checkpoint"]["expected"])["logits"]
    inputs = load_file(out / found["model-checkpoint"]["inputs"])
    model = tiny_model(3)(**inputs)
    np.testing.assert_allclose(model.logits[:, -6:, :], logits, atol=1e-4)  # type: ignore[union-attr]


# ---- grading


@pytest.mark.slow
def test_float32_in_an_order_of_its_own_passes_everything(float32_results: Path, kit: Path) -> None:
    grading = grade(float32_results, kit)
    assert failed(grading) == []
    assert grading.ok
    assert grading.advice == ""
    assert grading.notes == ()
    multiples = [case.worst.multiple for case in grading.cases if case.worst is not None]
    assert 0.02 < max(multiples) < 0.6  # neither exact nor near the limit


@pytest.mark.parametrize(
    ("case", "tensor"),
    [
        ("layer-gelu", "y"),
        ("vision-block", "mlp.activation_fn"),
        ("decoder-block-plain", "attention.self.scores"),
        ("model", "loss"),
        ("decode-steps", "step.3.logits"),
        ("beam", "sequences_scores"),
        ("preprocess-wide", "pixel_values"),
    ],
)
def test_an_error_of_twenty_tolerances_fails_its_case_alone(
    case: str, tensor: str, results: Path, kit: Path, index: dict[str, Any]
) -> None:
    entry = next(entry for entry in index["cases"] if entry["id"] == case)
    limit = entry["tensors"][tensor]["tolerance"]
    expected = load_file(kit / entry["expected"])[tensor]

    def off_by(multiple: float) -> Callable[[dict[str, Any]], object]:
        def change(tensors: dict[str, Any]) -> None:
            wrong = expected.astype(np.float64)
            wrong[(-1,) * wrong.ndim] += multiple * limit
            tensors[tensor] = wrong

        return change

    spoil(results, case, off_by(20))
    grading = grade(results, kit)
    assert failed(grading) == [case]
    message = message_of(grading, case)
    assert message.startswith(f"{tensor} is off by ")
    assert " 20 times the tolerance" in message
    assert grading.first_failure is not None
    assert grading.advice.startswith(f"first failure: {case} ({entry['level']}): {tensor} is off")
    spoil(results, case, off_by(0.9))
    assert grade(results, kit).ok


def test_the_first_wrong_tensor_in_the_order_of_computation_is_named(
    results: Path, kit: Path
) -> None:
    def change(tensors: dict[str, Any]) -> None:
        for name in ("y", "mlp.fc2", "layer_norm2"):
            tensors[name][:] = 0

    spoil(results, "vision-block", change)
    assert message_of(grade(results, kit), "vision-block").startswith("layer_norm2 is off")


def test_the_first_failure_is_the_first_in_the_order_of_attack(results: Path, kit: Path) -> None:
    for case in ("beam-answers", "model", "decoder", "tokenize-words"):
        (results / f"{case}.safetensors").write_bytes(b"")
        (results / f"{case}.json").unlink(missing_ok=True)
    first = grade(results, kit).first_failure
    assert first is not None
    assert first.id == "decoder"


def test_a_case_without_results_is_missing_and_not_wrong(results: Path, kit: Path) -> None:
    (results / "beam.safetensors").unlink()
    grading = grade(results, kit)
    assert failed(grading) == []
    assert [case.id for case in grading.cases if case.status == MISSING] == ["beam"]
    assert not grading.ok
    assert grading.advice == "nothing is wrong, but 1 cases are missing; the next: beam."
    assert grading.levels["beam"] == (2, 3)


def test_tensors_on_the_way_may_be_left_out_and_others_not(results: Path, kit: Path) -> None:
    def keep(*names: str) -> Callable[[dict[str, Any]], object]:
        return lambda tensors: [tensors.pop(name) for name in list(tensors) if name not in names]

    spoil(results, "vision-block", keep("y", "mlp.fc1"))
    assert grade(results, kit).ok
    spoil(results, "vision-block", keep("mlp.fc1"))
    message = message_of(grade(results, kit), "vision-block")
    assert message == "no y in the results; found mlp.fc1"


def test_rows_at_padding_are_not_compared(results: Path, kit: Path) -> None:
    def at(row: int, token: int) -> Callable[[dict[str, Any]], object]:
        return lambda tensors: tensors["logits"].__setitem__((row, token), np.nan)

    spoil(results, "model-padding-behind", at(1, 5))
    assert grade(results, kit).ok
    spoil(results, "model-padding-behind", at(1, 3))
    assert failed(grade(results, kit)) == ["model-padding-behind"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: np.full_like(y, np.nan), r"y is NaN in 816 of 816 places"),
        (lambda y: np.where(y > 0, np.inf, y), r"y is infinite in \d+ of 816 places"),
        (lambda y: y.swapaxes(1, 2), r"y has the shape \[2, 24, 17\]; .* two axes swapped\?"),
        (lambda y: y.reshape(34, 24), r"\[34, 24\]; expected \[2, 17, 24\] \(as many numbers"),
        (lambda y: y[None], r"\[1, 2, 17, 24\]; .*an axis of length 1 too many or too few"),
        (lambda y: y[:1], r"y has the shape \[1, 17, 24\]; expected \[2, 17, 24\]$"),
    ],
)
def test_what_cannot_be_compared_is_said(
    change: Callable[[Any], Any], message: str, results: Path, kit: Path
) -> None:
    def spoiled(tensors: dict[str, Any]) -> None:
        tensors["y"] = np.ascontiguousarray(change(tensors["y"]))

    spoil(results, "vision-block", spoiled)
    grading = grade(results, kit)
    assert failed(grading) == ["vision-block"]
    assert re.search(message, message_of(grading, "vision-block"))


def test_a_loss_may_be_an_array_of_one_number(results: Path, kit: Path) -> None:
    spoil(results, "model", lambda t: t.__setitem__("loss", t["loss"].reshape(1)))
    assert grade(results, kit).ok


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ids: ids[:2], "sequences has 2 rows; expected 3"),
        (lambda ids: ids + 0.5, "sequences holds fractions; expected ids"),
        (lambda ids: ids[:, 0], "sequences is not a list of rows of ids"),
        (lambda ids: ids[:, :-1], "sequences differs in row 0 at token 15: found no more"),
    ],
)
def test_ids_must_be_equal(
    change: Callable[[Any], Any], message: str, results: Path, kit: Path
) -> None:
    def spoiled(tensors: dict[str, Any]) -> None:
        tensors["sequences"] = np.ascontiguousarray(change(tensors["sequences"]))

    spoil(results, "greedy", spoiled)
    assert message_of(grade(results, kit), "greedy").startswith(message)


def test_one_wrong_id_fails_and_what_stands_behind_the_end_does_not(
    results: Path, kit: Path
) -> None:
    ids = load_file(results / "greedy.safetensors")["sequences"]
    row, end = np.argwhere(ids == CONFIG.eos_token_id)[0]
    spoil(results, "greedy", lambda t: t["sequences"][row, end + 1 :].fill(17))
    assert grade(results, kit).ok
    spoil(results, "greedy", lambda t: t["sequences"].__setitem__((row, end - 1), 17))
    message = message_of(grade(results, kit), "greedy")
    assert message == (
        f"sequences differs in row {row} at token {end - 1}: found 17, expected {ids[row, end - 1]}"
    )


def test_results_may_be_json_or_npz(results: Path, kit: Path) -> None:
    """Lists of different lengths too, where texts end at different places."""
    ids = load_file(results / "greedy.safetensors")["sequences"]
    rows = [[int(i) for i in row if i != CONFIG.pad_token_id] for row in ids]
    assert len({len(row) for row in rows}) > 1
    (results / "greedy.safetensors").unlink()
    (results / "greedy.json").write_text(json.dumps({"sequences": rows}))
    loss = load_file(results / "model.safetensors")
    (results / "model.safetensors").unlink()
    (results / "model.json").write_text(json.dumps({k: x.tolist() for k, x in loss.items()}))
    vision = load_file(results / "vision.safetensors")
    (results / "vision.safetensors").unlink()
    np.savez(results / "vision.npz", **{k: x.astype(np.float64) for k, x in vision.items()})
    assert grade(results, kit).ok


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("layer-gelu.safetensors", b"\x08\0\0\0\0\0\0\0{}", "is not a complete safetensors file"),
        ("layer-gelu.safetensors", b"", "is not a complete safetensors file"),
        ("layer-gelu.npz", b"PK\x03\x04broken", "is not an .npz file of numbers"),
        ("layer-gelu.json", b'{"y": [1, 2', "is not valid JSON"),
        ("layer-gelu.json", b"[1, 2]", "holds a JSON list; expected an object"),
        ("layer-gelu.json", b'{"y": [[1], [1, 2]]}', "y is a list of rows of different lengths"),
        ("layer-gelu.json", b'{"y": ["a"]}', "y holds <U1, not numbers"),
        ("layer-gelu.json", b'{"Y": [1]}', "no y in the results; found Y"),
        ("layer-gelu.json", b"{}", "no y in the results; found nothing"),
    ],
)
def test_a_broken_file_fails_its_case_and_the_others_are_graded(
    name: str, content: bytes, message: str, results: Path, kit: Path
) -> None:
    (results / "layer-gelu.safetensors").unlink()
    (results / name).write_bytes(content)
    grading = grade(results, kit)
    assert failed(grading) == ["layer-gelu"]
    assert message in message_of(grading, "layer-gelu")
    assert grading.passed == len(grading.cases) - 1


def test_two_files_for_one_case_are_refused(results: Path, kit: Path) -> None:
    (results / "layer-gelu.json").write_text('{"y": [1]}')
    message = message_of(grade(results, kit), "layer-gelu")
    assert (
        message == "there are two files, layer-gelu.json and layer-gelu.safetensors; expected one"
    )


def test_texts_must_be_equal(results: Path, kit: Path) -> None:
    path = results / "tokenize-words.json"
    content = json.loads(path.read_text())
    content["input_ids"][1][2] = 9
    path.write_text(json.dumps(content))
    assert message_of(grade(results, kit), "tokenize-words").startswith(
        "input_ids differs at item 1: found [2, "
    )
    path.write_text(json.dumps({"input_ids": {}, "attention_mask": content["attention_mask"]}))
    message = message_of(grade(results, kit), "tokenize-words")
    assert message == "input_ids is a dict; expected a list"


def test_files_of_no_case_are_noted_and_change_nothing(results: Path, kit: Path) -> None:
    (results / "layer-gelo.safetensors").write_bytes(b"")
    (results / "notes.txt").write_text("mine")
    grading = grade(results, kit)
    assert grading.ok
    assert grading.notes == (
        "layer-gelo.safetensors is not a case of this kit; did you mean layer-gelu?",
        "notes.txt was not read",
    )


def test_a_result_that_is_a_directory_is_noted(results: Path, kit: Path) -> None:
    name = next(results.glob("*.safetensors")).name
    (results / name).unlink()
    (results / name).mkdir()
    found = grade(results, kit)
    assert f"{name} is a directory; expected a file" in found.notes
    assert [c.status for c in found.cases if c.id == Path(name).stem] == ["missing"]


def test_an_index_without_cases_is_refused(tmp_path: Path, kit: Path) -> None:
    index = json.loads((kit / "kit.json").read_text())
    del index["cases"]
    (tmp_path / "kit.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"has no 'cases'\. Make the kit again"):
        grade(tmp_path, tmp_path)


def test_what_cannot_be_graded_is_refused(kit: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="should be a directory of results; found nothing there"):
        grade(tmp_path / "none", kit)
    with pytest.raises(ValueError, match="holds no results of this kit; expected files such as"):
        grade(tmp_path, kit)
    with pytest.raises(ValueError, match=r"holds no kit\.json; expected a conformance kit"):
        grade(kit / "cases", tmp_path)
    (tmp_path / "kit.json").write_text('{"format": "refgit-kit/9"}')
    with pytest.raises(
        ValueError, match=r"format 'refgit-kit/9'; this refgit reads 'refgit-kit/1'"
    ):
        grade(kit / "cases", tmp_path)


def test_a_kit_goes_into_an_empty_directory_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match="is not empty and holds no kit"):
        write_kit(tmp_path)
    with pytest.raises(ValueError, match="is a file; expected a directory"):
        write_kit(tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


# ---- on the command line


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """The two commands, on the command line's own ways."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = cli.main([str(argument) for argument in arguments])
        return (code, *capsys.readouterr())

    return run


Command = Callable[..., tuple[int, str, str]]


def test_kit_says_what_it_wrote_and_check_makes_one_by_itself(
    command: Command,
    kit: Path,
    index: dict[str, Any],
    results: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def copied(folder: str, model: str | None = None) -> dict[str, Any]:
        assert model is None
        shutil.copytree(kit, folder, dirs_exist_ok=True)
        return index

    for name in ("kit", "check"):  # making it takes seconds
        monkeypatch.setattr(f"refgit.cli.commands.{name}.write_kit", copied)
    code, out, err = command("kit", "--out", tmp_path / "kit")
    assert (code, err) == (0, "")
    assert re.fullmatch(r"\S+/kit: 7\d cases, [12]\.\d MB; see \S+/kit/README.md\n", out)
    code, out, _ = command("kit", "--out", tmp_path / "kit", "--json")
    assert json.loads(out)["cases"] == len(index["cases"])
    code, out, err = command("check", results)
    assert code == 0
    assert err == "refgit: making the kit anew, since no --kit was given.\n"
    assert out.splitlines()[-2].startswith(f"GIT conformance (refgit {refgit.__version__}): 7")


def test_check_prints_a_table_and_a_badge(command: Command, results: Path, kit: Path) -> None:
    (results / "beam.safetensors").unlink()
    spoil(results, "greedy", lambda t: t["sequences"].fill(3))
    code, out, err = command("check", results, "--kit", kit)
    assert (code, err) == (1, "")
    lines = out.splitlines()
    n = len(grade(results, kit).cases)
    assert lines[0].split() == ["level", "case", "result", "error/tolerance"]
    assert re.search(r"^greedy +greedy +failed +inf  sequences differs in row 0", out, re.M)
    assert re.search(r"^beam +beam +missing$", out, re.M)
    assert re.search(r"^vision block +vision-block +passed +0\.\d\d  \S+$", out, re.M)
    assert lines[n + 2].startswith("first failure: greedy (greedy): sequences differs in row 0")
    badge, picture = lines[-2:]
    assert badge.startswith(f"GIT conformance (refgit 0.1.0): {n - 2}/{n}, levels: layer 15/15, ")
    assert "greedy 4/5, beam 2/3" in badge
    assert picture == (
        f"![GIT conformance (refgit 0.1.0): {n - 2}/{n}](https://img.shields.io/badge/"
        f"GIT%20conformance%20%28refgit%200.1.0%29-{n - 2}%2F{n}-yellow)"
    )


def test_check_prints_json(command: Command, results: Path, kit: Path) -> None:
    spoil(results, "layer-linear", lambda t: t["y"].fill(np.nan))
    code, out, _ = command("check", results, "--kit", kit, "--json")
    found = json.loads(out)
    assert code == 1
    assert (found["failed"], found["missing"], found["ok"]) == (1, 0, False)
    assert found["first_failure"] == "layer-linear"
    assert found["levels"]["layer"] == {"passed": 14, "total": 15}
    case = next(case for case in found["cases"] if case["id"] == "layer-linear")
    assert case["tensors"][0]["multiple"] is None  # JSON has no infinity
    assert case["message"] == "y is NaN in 70 of 70 places"


def test_what_cannot_be_started_gives_two(command: Command, kit: Path, tmp_path: Path) -> None:
    code, out, err = command("check", tmp_path / "none", "--kit", kit)
    assert (code, out) == (2, "")
    assert err.startswith("refgit: ")
    assert err.count("\n") == 1
    code, out, err = command("kit", "--out", ROOT / "tests")
    assert (code, out) == (2, "")
    assert "holds no kit" in err


# ---- a port that is not Python

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="the port in JavaScript needs node")


def run_port(kit: Path, results: Path, *options: str) -> Grading:
    assert NODE is not None
    subprocess.run([NODE, str(PORT), str(kit), str(results), *options], check=True)
    return grade(results, kit)


def multiples(grading: Grading) -> list[float]:
    return [case.worst.multiple for case in grading.cases if case.worst is not None]


@needs_node
def test_a_port_in_javascript_passes_everything(kit: Path, tmp_path: Path) -> None:
    """In float64, so that its results, rounded to float32, are nearly the kit's."""
    grading = run_port(kit, tmp_path / "results")
    assert failed(grading) == []
    assert grading.ok
    assert max(multiples(grading)) < 0.2


@pytest.mark.slow
@needs_node
def test_the_port_passes_in_float32_with_room_to_spare(kit: Path, tmp_path: Path) -> None:
    grading = run_port(kit, tmp_path / "results", "--float32")
    assert failed(grading) == []
    assert grading.ok
    assert 0.05 < max(multiples(grading)) < 0.6


@pytest.mark.slow
@needs_node
@pytest.mark.parametrize(
    ("mistake", "first", "tensor", "intact"),
    [
        ("tanh_gelu", "layer-gelu", "y", ("vision block", "vision", "embed")),
        ("causal_image_mask", "layer-mask", "sees", ("vision block", "vision", "embed")),
        ("eps_outside_root", "layer-layer-norm-vision", "y", ("decoder block", "preprocess")),
        ("no_residual", "vision-block", "self_attn.residual", ("layer", "decoder block")),
        ("images_repeated", "model-texts-per-image", "logits", ("layer", "decoder", "beam")),
        ("positions_count_image", "decode-steps", "step.1.logits", ("layer", "decoder", "model")),
        ("no_antialias", "preprocess-wide", "pixel_values", ("layer", "beam", "tokenize")),
        ("bgr", "preprocess-wide", "pixel_values", ("layer", "beam", "tokenize")),
    ],
)
def test_a_mistake_in_the_port_is_found_where_it_is(
    mistake: str, first: str, tensor: str, intact: tuple[str, ...], kit: Path, tmp_path: Path
) -> None:
    grading = run_port(kit, tmp_path / "results", "--float32", "--break", mistake)
    assert grading.first_failure is not None
    assert grading.first_failure.id == first
    assert grading.first_failure.message.startswith(f"{tensor} ")
    for level in intact:
        passed, total = grading.levels[level]
        assert passed == total
    assert all(case.status != MISSING for case in grading.cases)


@needs_node
def test_the_port_uses_no_packages_and_never_reads_what_is_expected() -> None:
    for path in PORT.parent.iterdir():
        text = path.read_text(encoding="utf-8")
        modules = re.findall(r'from "([^"]+)"', text)
        assert all(name.startswith(("node:", "./")) for name in modules)
        assert "expected" not in text
