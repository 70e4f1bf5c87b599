"""What `refgit compare` decides, from Python: model, weights, floors, diagnosis, verdict."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from refgit import CheckpointError, GitForCausalLM
from refgit.demo import NAME
from refgit.parity import NoiseFloor, Trace, TraceError, compare_files, provenance, record, session
from refgit.parity.numerics.floor import MULTIPLE, SUSPECT
from refgit.processing.reading import Reading
from refgit.testing import pixels, tiny_model, tokens

WRONG = "git.encoder.layer.1.output.dense"


@cache
def reference() -> Trace:
    """Float64 with a decode step and the floors of float32."""
    found = record(tiny_model(), pixels(2), tokens(2), tokens=1, dtype="float64")
    found.meta["noise"] = NoiseFloor.measure(tiny_model(), found, ("float32",)).to_json()
    return found


def with_meta(**meta: str) -> Trace:
    return Trace(dict(reference()), meta={**reference().meta, **meta})


@cache
def port() -> Trace:
    return record(tiny_model(), pixels(2), tokens(2), tokens=1)


def port_with(name: str, change: Any) -> Trace:
    return Trace({**port(), name: change(port()[name].copy())}, meta=port().meta)


def wrong_port() -> Trace:
    return port_with(WRONG, lambda x: x * 1.1)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The tiny model as a checkpoint."""
    tiny_model().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def diagnoses(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The precisions that a diagnosis is asked for; one stands in that finds an operation wrong."""
    asked: list[Any] = []
    found = SimpleNamespace(ok=False, sentences=("layer 1: tanh-gelu.",), to_dict=lambda: {"x": 1})

    def diagnose(*arguments: Any, precision: str, **options: Any) -> Any:
        asked.append(precision)
        return found

    monkeypatch.setattr(session, "diagnose", diagnose)
    return asked


# ---- the verdict


def test_traces_are_compared_as_objects_and_as_files(tmp_path: Path) -> None:
    reference().save(tmp_path / "ref.safetensors")
    np.savez(tmp_path / "port.npz", **port())
    for pair in (
        (reference(), port()),
        (tmp_path / "ref.safetensors", str(tmp_path / "port.npz")),
        (reference(), tmp_path / "port.npz"),
    ):
        found = compare_files(*pair)
        assert found.ok
        assert found.comparison.ok
        assert (found.diagnosis, found.notes, found.same_weights) == (None, (), False)
        assert found.sentences == found.comparison.sentences


def test_a_difference_is_found_and_it_is_said_why_there_is_no_diagnosis() -> None:
    found = compare_files(reference(), wrong_port())
    assert not found.ok
    assert found.comparison.first is not None
    assert found.comparison.first.name == WRONG
    assert found.notes == (
        "for a diagnosis pass the model the reference was made with: --model MODEL.",
    )
    assert found.sentences[-1] == found.notes[0]
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["diagnosis"] is None


def test_a_model_that_is_given_diagnoses_even_what_agrees(diagnoses: list[Any]) -> None:
    found = compare_files(reference(), port(), model=tiny_model())
    assert diagnoses == ["float32"]
    assert found.comparison.ok
    assert not found.ok  # an operation is wrong by itself
    assert found.same_weights
    assert found.sentences[-1] == "layer 1: tanh-gelu."
    assert found.to_dict()["diagnosis"] == {"x": 1}


def test_the_real_diagnosis_names_the_wrong_operation() -> None:
    found = compare_files(reference(), wrong_port(), model=tiny_model())
    assert found.diagnosis is not None
    assert found.diagnosis.located == WRONG
    assert not found.ok
    assert compare_files(reference(), port(), model=tiny_model()).ok


def test_a_wrong_operation_does_not_count_with_other_weights(
    saved: Path, diagnoses: list[Any]
) -> None:
    found = compare_files(with_meta(sha256=64 * "0"), port(), model=saved)
    assert len(diagnoses) == 1
    assert found.ok
    assert not found.same_weights
    (note,) = found.notes
    assert note.startswith(f"{saved} holds other weights than those the reference was made with")
    assert note.endswith("the noise floors and the diagnosis are of these.")


def test_weights_that_are_several_files_may_be_the_references(
    saved: Path, diagnoses: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "weights_checksum", lambda path: None)
    found = compare_files(with_meta(sha256=64 * "0"), port(), model=saved)
    assert (found.ok, found.same_weights, found.notes) == (False, True, ())
    assert len(diagnoses) == 1


# ---- given the wrong way round


def test_swapped_files_are_noticed_and_compared_rightly(tmp_path: Path) -> None:
    reference().save(tmp_path / "ref.safetensors")
    wrong_port().save(tmp_path / "port.safetensors")
    bare = {f"my.{name}": x for name, x in wrong_port().items() if not name.startswith("input.")}
    np.savez(tmp_path / "port.npz", **bare)
    other = Trace(bare, meta={"producer": "transformers 5", "format": "refgit-trace/1"})
    other.save(tmp_path / "other.safetensors")
    names = {f"my.{WRONG}": WRONG}  # theirs to ours, whichever comes first
    for port_file in ("port.npz", "other.safetensors"):
        files = tmp_path / "ref.safetensors", tmp_path / port_file
        right = compare_files(*files, names=names)
        swapped = compare_files(*reversed(files), names=names)
        assert right.comparison.first is not None
        assert right.comparison.first.name == WRONG
        assert swapped.comparison.rows == right.comparison.rows
        assert swapped.reference.meta == right.reference.meta
        verdict, said, *others = swapped.sentences
        assert (verdict, *others) == right.sentences
        assert said == (
            "the first of the two is not a trace of refgit and the second is: taken the other way "
            "round, the second as the reference."
        )


def test_two_traces_of_refgit_are_taken_as_they_are_given() -> None:
    for pair in ((reference(), port()), (port(), reference())):
        assert not any("the other way round" in said for said in compare_files(*pair).sentences)
    found = compare_files(Trace(dict(reference())), Trace(dict(port())))
    assert not any("the other way round" in said for said in found.sentences)


# ---- which model


def test_the_reference_s_own_model_is_taken_where_an_error_is_suspect(
    saved: Path, diagnoses: list[Any]
) -> None:
    known = with_meta(**provenance.origin(str(saved)))
    assert compare_files(known, port()).ok
    assert diagnoses == []
    row = next(row for row in compare_files(known, port()).comparison.rows if row.name == "output")

    def nudge(x: Any) -> Any:
        x[0, 0, 0] += (SUSPECT + 2) * row.floor
        return x

    assert SUSPECT + 2 < MULTIPLE
    found = compare_files(known, port_with("output", nudge))
    assert found.comparison.ok
    assert diagnoses == ["float32"]
    assert not found.ok


def test_other_weights_in_the_place_of_the_reference_s_are_not_taken(
    saved: Path, diagnoses: list[Any]
) -> None:
    known = with_meta(**provenance.origin(str(saved)))
    tiny_model(seed=1).save_pretrained(saved)
    found = compare_files(known, wrong_port())
    assert (found.diagnosis, found.same_weights, diagnoses) == (None, False, [])
    assert "holds other weights" in found.notes[0]
    assert found.notes[0].endswith("for a diagnosis pass the right ones: --model MODEL.")
    assert compare_files(known, port()).notes == ()  # nobody asks for a cause


def test_a_model_of_another_architecture_is_refused_or_left(saved: Path) -> None:
    config = json.loads(reference().meta["config"]) | {"layer_norm_eps": 0.25}
    other = with_meta(model=str(saved), config=json.dumps(config))
    why = "is another model than the reference's: its config says layer_norm_eps = "
    for model in (saved, tiny_model(), NAME):
        with pytest.raises(ValueError, match=r"is another model than the reference's: its config"):
            compare_files(other, port(), model=model)
    found = compare_files(other, wrong_port())
    assert found.diagnosis is None
    assert why in found.notes[0]
    assert found.notes[0].endswith("for a diagnosis pass the right one: --model MODEL.")


def test_a_model_that_is_nowhere_is_refused() -> None:
    with pytest.raises(CheckpointError, match="no/such/dir"):
        compare_files(reference(), port(), model="no/such/dir")


def test_a_trace_says_how_its_image_was_read() -> None:
    reading = Reading(exif_transpose=False, background="#102030", frames=(1, 5))
    trace = with_meta(**provenance.origin(None, reading))
    assert provenance.recorded_reading(trace) == reading
    assert provenance.recorded_reading(with_meta()) == Reading()
    assert provenance.recorded_reading(with_meta(reading='{"of": "a later version"}')) == Reading()
    for broken in ("no JSON", "3", '{"background": "no colour"}', '{"max_pixels": "many"}'):
        with pytest.raises(TraceError, match=r"the trace's reading is .*; expected a JSON object"):
            provenance.recorded_reading(with_meta(reading=broken))


def test_origin_names_the_bundled_model_a_directory_and_the_weights(saved: Path) -> None:
    for model in (None, NAME):
        assert provenance.origin(model)["model"] == NAME
        assert len(provenance.origin(model)["sha256"]) == 64
    found = provenance.origin(str(saved))
    assert found["model"] == str(saved.resolve())
    (saved / "model.safetensors").rename(saved / "model-00001-of-00001.safetensors")
    assert provenance.weights_checksum(saved) is None
    assert provenance.origin(str(saved)) == {"model": str(saved.resolve())}


# ---- floors and precision


def test_floors_that_the_reference_lacks_are_measured_with_the_model() -> None:
    meta = {key: value for key, value in reference().meta.items() if key != "noise"}
    bare = Trace(dict(reference()), meta=meta)
    assert compare_files(bare, port()).comparison.noise == "estimated"
    assert compare_files(bare, port(), model=tiny_model()).comparison.noise == "measured"
    carried = compare_files(reference(), port(), precision="bfloat16").comparison
    measured = compare_files(
        reference(), port(), precision="bfloat16", model=tiny_model()
    ).comparison
    assert carried.precision == measured.precision == "bfloat16"
    assert carried.rows[-1].floor != measured.rows[-1].floor  # scaled from float32's


def test_a_trace_without_inputs_keeps_the_floors_it_has() -> None:
    outputs = Trace({"output": reference()["output"]}, meta=reference().meta)
    outputs.meta.pop("noise")
    found = compare_files(outputs, port(), model=tiny_model())
    assert found.comparison.noise == "estimated"
    assert any(
        note.startswith("no diagnosis: the reference trace holds no") for note in found.notes
    )


def test_the_diagnosis_is_in_the_precision_of_the_port_and_not_of_the_reference(
    diagnoses: list[Any],
) -> None:
    narrow = with_meta(dtype="float16")
    found = compare_files(narrow, port(), model=tiny_model())
    assert found.comparison.precision == "float16"
    assert diagnoses == ["float32"]
    compare_files(narrow, port(), model=tiny_model(), precision="bfloat16")
    assert diagnoses == ["float32", "bfloat16"]


@pytest.mark.parametrize(("multiple", "ok"), [(1e-3, False), (MULTIPLE, True)])
def test_the_multiple_decides(multiple: float, ok: bool) -> None:
    assert compare_files(reference(), port(), multiple=multiple).ok is ok


# ---- a diagnosis that fails, names, the report, progress


def test_a_diagnosis_that_fails_is_a_note_unless_it_is_strict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def diagnose(*arguments: Any, **options: Any) -> None:
        raise KeyError("x")

    monkeypatch.setattr(session, "diagnose", diagnose)
    found = compare_files(reference(), port(), model=tiny_model())
    assert found.ok
    assert found.notes == ("no diagnosis: KeyError: 'x' (--debug shows where)",)
    with pytest.raises(KeyError):
        compare_files(reference(), port(), model=tiny_model(), strict=True)


def test_names_are_a_mapping_or_a_file(tmp_path: Path) -> None:
    other = Trace({"foo": port()["output"]})
    (tmp_path / "names.toml").write_text('foo = "output"')
    for names in ({"foo": "output"}, tmp_path / "names.toml", str(tmp_path / "names.toml")):
        (row,) = compare_files(reference(), other, names=names).comparison.rows
        assert (row.name, row.how) == ("output", "the map")
    with pytest.raises(TraceError, match="cannot be read"):
        compare_files(reference(), other, names=tmp_path / "none.toml")


def test_a_report_is_written(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    compare_files(reference(), wrong_port()).write_report(page)
    assert WRONG in page.read_text(encoding="utf-8")
    with pytest.raises(TraceError, match="cannot be written"):
        compare_files(reference(), wrong_port()).write_report(tmp_path / "none" / "report.html")


def test_progress_is_told_of_every_stage(saved: Path) -> None:
    meta = {key: value for key, value in reference().meta.items() if key != "noise"}
    stages: list[str] = []
    counts: list[tuple[int, int]] = []

    def progress(what: str, done: int, total: int | None) -> None:
        stages.append(what)
        if total is not None:
            counts.append((done, total))

    bare = Trace(dict(reference()), meta=meta)
    compare_files(bare, port(), model=saved, progress=progress)
    assert list(dict.fromkeys(stages)) == [
        "reading the tensors",
        "looking for the model",
        f"loading {saved}",
        "measuring the noise floors",
        "comparing",
        "looking for the cause",
        "recomputing your tensors",
    ]
    assert counts[:3] == [(0, 2), (0, 2), (1, 2)]
    assert counts[3:] == [(i, len(port()) - 5) for i in range(len(port()) - 5)]


def test_a_loaded_model_is_taken_as_it_is() -> None:
    model = tiny_model()
    assert isinstance(model, GitForCausalLM)
    found = compare_files(with_meta(sha256=64 * "0"), port(), model=model)
    assert found.same_weights
    assert found.notes == ()
