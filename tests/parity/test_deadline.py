"""Deadlines: what a comparison does in a given time, and what it says it did not reach.

The clocks tick once a question, so that nothing hangs on how quick a machine is.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.other_git import Mutation, OtherGit
from refgit.cli import main as cli
from refgit.parity import Comparison, Deadline, NoiseFloor, Trace, compare_files, diagnose, record
from refgit.parity.deadline import TimeIsUpError
from refgit.parity.diagnosis.hypotheses.trials import COMMON, likeliest_first, trials_of
from refgit.parity.graph.graph import Graph, View
from refgit.testing import CONFIG, pixels, tiny_model, tokens

NO_TIME = "no diagnosis: there was no time for it; --time gives it some."


def ticking(ticks: float, step: float = 1.0) -> Deadline:
    """A deadline that has passed when it was asked so often."""
    now = -step

    def clock() -> float:
        nonlocal now
        now += step
        return now

    return Deadline(ticks, clock=clock)


@pytest.fixture(scope="module")
def model() -> Any:
    """One layer in each tower, with weights that make mistakes show."""
    config = CONFIG.replace(
        num_hidden_layers=1, vision_config=CONFIG.vision_config.replace(num_hidden_layers=1)
    )
    made = tiny_model(config=config)
    rng = np.random.default_rng(1)
    for array in made.state_dict().values():
        array += 0.1 * rng.standard_normal(array.shape).astype(np.float32)
    return made


def inputs() -> dict[str, Any]:
    return {"input.pixel_values": pixels(), "input.input_ids": tokens()}


def other(model: Any, *mutations: Mutation) -> dict[str, Any]:
    return OtherGit(model.state_dict(), model.config.to_dict(), list(mutations)).run(
        pixels(), tokens()
    )


def logits(model: Any, *mutations: Mutation) -> dict[str, Any]:
    return {"output": other(model, *mutations)["output"]}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The operations that are begun."""
    begun: list[str] = []
    plain = View.recompute

    def recompute(view: View, name: str) -> Any:
        begun.append(name)
        return plain(view, name)

    monkeypatch.setattr(View, "recompute", recompute)
    return begun


# ---- the object


def test_a_deadline_passes_after_its_seconds() -> None:
    deadline = ticking(3)
    assert (deadline.left, deadline.left, deadline.passed, deadline.left) == (2, 1, True, 0)
    with pytest.raises(TimeIsUpError):
        deadline.check()


def test_without_seconds_there_is_no_end() -> None:
    for deadline in (Deadline(), Deadline.of(None), Deadline().share(0.5)):
        deadline.check()
        assert deadline.left == deadline.seconds == np.inf


def test_a_share_is_a_part_of_what_is_left() -> None:
    assert ticking(11).share(0.5).seconds == 5.0
    deadline = Deadline(5.0)
    assert Deadline.of(deadline) is deadline
    assert Deadline.of(0).passed


@pytest.mark.parametrize("seconds", [-1.0, float("nan")])
def test_seconds_below_zero_are_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="expected a number >= 0"):
        Deadline(seconds)


# ---- the search


def test_no_operation_is_begun_after_the_deadline(model: Any, counted: list[str]) -> None:
    """Each operation is asked for once more than it may be: that question ends the step."""
    wrong = logits(model, Mutation("v.fc1", "row_lost", 0))
    for ticks in (0, 1, 10, 100, 400):
        counted.clear()
        found = diagnose(inputs(), wrong, model, time=ticking(ticks))
        assert not found.complete
        # a question each, and one whenever a step is cut short
        assert len(counted) <= 2 * ticks + 2


def test_a_search_that_is_cut_short_says_how_far_it_came(model: Any) -> None:
    wrong = logits(model, Mutation("v.fc1", "row_lost", 0))
    found = diagnose(inputs(), wrong, model, time=ticking(400))
    (finding,) = found.findings
    whole = diagnose(inputs(), wrong, model).findings[0]
    assert 0 < finding.tried < whole.tried
    assert finding.tried + sum(finding.untried.values()) == whole.tried
    said = " ".join(found.sentences)
    assert f"{finding.tried} of {whole.tried} hypotheses were tried." in said
    assert "none of the hypotheses tried so far reproduces it" in said
    first = next(iter(finding.untried))
    assert re.search(
        rf"Not reached when 400 s were up: [\d,]+ trials of hypotheses \({re.escape(first)}, ", said
    )
    assert "--time gives it longer" in said
    as_json = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert as_json["findings"][0]["untried"] == finding.untried
    assert (as_json["complete"], as_json["seconds"]) == (False, 400)


def test_a_search_with_time_enough_is_complete(model: Any) -> None:
    wrong = logits(model, Mutation("t.act", "gelu_new", 0))
    found = diagnose(inputs(), wrong, model, time=3600, trials=20)
    assert found.complete
    assert found.findings[0].untried == {}
    assert not any("Not reached" in line for line in found.sentences)
    assert json.loads(json.dumps(diagnose(inputs(), wrong, model, trials=1).to_dict()))[
        "seconds"
    ] is None  # fmt: skip


def test_tensors_that_there_was_no_time_for_are_counted(model: Any) -> None:
    right = other(model)
    found = diagnose(inputs(), right, model, time=ticking(20))
    assert found.ok
    assert 0 < found.checked < len(right)
    assert found.checked + len(found.unreached) == len(right)
    assert found.sentences[0].startswith(f"Each of {found.checked} tensors follows")
    tensors = f"{len(found.unreached)} tensors from {found.unreached[0]} on"
    assert found.sentences[1].startswith(f"Not reached when 20 s were up: {tensors}.")
    none = diagnose(inputs(), right, model, time=0)
    assert (none.checked, none.complete) == (0, False)
    assert len(none.sentences) == 1


def test_what_is_wrong_is_known_before_the_causes_are_looked_for(model: Any) -> None:
    wrong = other(model, Mutation("t.act", "gelu_new", 0), Mutation("v.act", "relu", 0))
    whole = [f.name for f in diagnose(inputs(), wrong, model).findings]
    assert len(whole) == 2
    ticks = 2 * len(wrong) + 3  # twice each tensor, in float64 and as it was computed
    found = diagnose(inputs(), wrong, model, time=ticking(ticks))
    assert [f.name for f in found.findings] == whole
    assert any("there was no time to look for the cause" in line for line in found.sentences)


def test_of_several_logits_the_first_are_explained_before_the_others_are_measured() -> None:
    """Each takes a run of the whole model."""
    made = tiny_model()
    ours = record(made, pixels(), tokens(), tokens=3)
    logits = [name for name in ours if name.endswith("output") and "git." not in name]
    wrong = {name: ours[name] * np.float32(1.1) for name in logits}
    found = diagnose(ours, wrong, made, time=ticking(600))
    assert found.findings[0].name == "output"
    assert found.findings[0].tried > 0
    assert [f.name for f in found.findings] + found.unreached == logits
    assert found.unreached


def test_suspects_are_recomputed_first(model: Any) -> None:
    wrong = other(model, Mutation("t.act", "gelu_new", 0))
    late = list(wrong)[-5:]
    found = diagnose(inputs(), wrong, model, time=ticking(8), suspects=late)
    assert found.unreached
    assert not set(late[:2]) & set(found.unreached)


def test_progress_tells_of_tensors_and_of_hypotheses(model: Any) -> None:
    told: list[tuple[str, int, int | None]] = []
    wrong = logits(model, Mutation("t.act", "gelu_new", 0))
    diagnose(inputs(), wrong, model, trials=5, progress=lambda *said: told.append(said))
    assert told == [
        ("recomputing your tensors", 0, 1),
        *(("trying hypotheses at head (logits)", i, 5) for i in range(5)),
    ]


# ---- the order of hypotheses


def test_common_mistakes_come_first_then_those_made_everywhere() -> None:
    made = tiny_model()
    graph = Graph(made.state_dict(), made.config, inputs())
    listed = list(trials_of(list(graph.nodes), graph))
    trials = likeliest_first(listed, graph)
    assert sorted(map(id, trials)) == sorted(map(id, listed))
    assert trials[0].name == COMMON[0]
    assert {t.name for t in trials[:20]} <= set(COMMON)
    in_one_layer = [bool(graph.nodes[t.node].block) and not t.everywhere for t in trials]
    listed_apart = [one or t.name in COMMON for t, one in zip(trials, in_one_layer, strict=True)]
    ranks = [t.rank for t, apart in zip(trials, listed_apart, strict=True) if not apart]
    assert ranks.index(3) == len(ranks) - sum(rank >= 3 for rank in ranks)
    first = in_one_layer.index(True)
    assert first > len(trials) / 50
    assert all(t.rank <= 2 or t.name in COMMON for t in trials[:first])


def test_every_common_mistake_is_a_hypothesis_of_some_model() -> None:
    """A name that is misspelt would never come first."""
    video = CONFIG.replace(num_image_with_embedding=2)
    made, given = tiny_model(config=video), inputs()
    given["input.pixel_values"] = np.zeros((1, 2, *pixels().shape[1:]), np.float32)
    graph = Graph(made.state_dict(), made.config, given)
    names = {trial.name for trial in trials_of(list(graph.nodes), graph)}
    relu = CONFIG.replace(
        hidden_act="relu", vision_config=CONFIG.vision_config.replace(hidden_act="relu")
    )
    other_act = tiny_model(config=relu)
    graph = Graph(other_act.state_dict(), relu, inputs())
    names |= {trial.name for trial in trials_of(list(graph.nodes), graph)}
    assert set(COMMON) - names <= {"eps 1e-05", "eps 1e-12"}  # those of a model are no mistakes


@pytest.mark.parametrize("place", ["t.act", "v.act"])
def test_another_activation_everywhere_is_found_in_few_trials(model: Any, place: str) -> None:
    wrong = logits(model, Mutation(place, "gelu_new", 0))
    found = diagnose(inputs(), wrong, model, trials=12)
    assert found.causes[0].hypothesis == "activation gelu_new"


# ---- noise floors


def test_floors_are_measured_as_far_as_there_is_time() -> None:
    made = tiny_model()
    trace = record(made, pixels(), tokens())
    whole = NoiseFloor.measure(made, trace, ("float32",))
    assert whole.unfinished == ""
    computed = len(whole.floors["float32"])
    counts = []
    for ticks in (1, computed + 10, 2 * computed + 20, 3 * computed + 40):
        part = NoiseFloor.measure(made, trace, ("float32",), deadline=ticking(ticks))
        counts.append(len(part.floors.get("float32", {})))
        assert bool(part.unfinished) == (ticks < 3 * computed)
        for name, floor in part.floors.get("float32", {}).items():
            assert floor.max <= whole.floors["float32"][name].max
    assert counts[0] == 0
    assert 0 < counts[1] < computed
    assert counts[2:] == [computed, computed]


# ---- the whole comparison


def reference() -> Trace:
    return record(tiny_model(), pixels(), tokens(), dtype="float64")


def test_the_table_comes_before_the_cause_is_looked_for() -> None:
    events: list[str] = []

    def compared(found: Comparison) -> None:
        events.append(found.sentence)

    def progress(what: str, done: int, total: int | None) -> None:
        events.append(what)

    ours = reference()
    wrong = Trace({**ours, "output": ours["output"] * 1.1})
    found = compare_files(ours, wrong, model=tiny_model(), compared=compared, progress=progress)
    place = events.index(found.comparison.sentence)
    assert "looking for the cause" not in events[:place]
    assert "looking for the cause" in events[place:]


def test_without_time_there_is_the_table_alone() -> None:
    ours = reference()
    found = compare_files(ours, ours, model=tiny_model(), time=0)
    assert found.comparison.noise == "estimated"
    assert (found.diagnosis, found.notes) == (None, (NO_TIME,))


def test_half_of_the_time_is_kept_for_the_cause() -> None:
    """The floors of this reference take longer than all of it."""
    ours = reference()
    found = compare_files(ours, Trace(dict(ours)), model=tiny_model(), time=ticking(100))
    assert found.comparison.noise == "estimated"
    assert any("no time to measure all noise floors" in x for x in found.sentences)
    assert not any("the reference carries no" in x for x in found.sentences)
    assert found.diagnosis is not None
    assert found.diagnosis.checked > 0
    assert found.diagnosis.unreached


# ---- the command


def command(*arguments: Any) -> int:
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """The reference, a wrong port's logits, and the model."""
    tiny_model().save_pretrained(tmp_path / "model")
    ours = reference()
    ours.meta["noise"] = NoiseFloor.measure(tiny_model(), ours, ("float32",)).to_json()
    ours.save(tmp_path / "ref.safetensors")
    np.savez(tmp_path / "port.npz", logits=ours["output"].astype(np.float32) * np.float32(1.1))
    return tmp_path / "ref.safetensors", tmp_path / "port.npz", tmp_path / "model"


def test_the_command_takes_a_time(
    files: tuple[Path, Path, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    ref, port, model = files
    assert command("compare", ref, port, "--model", model, "--time", "0") == 1
    said = capsys.readouterr()
    assert "the first tensor that differs" in said.out
    assert "diagnosis" not in said.out
    assert NO_TIME in said.err
    for wrong in ("-1", "soon", "inf", "nan"):
        with pytest.raises(SystemExit):
            command("compare", ref, port, "--time", wrong)
        assert f"must be a number >= 0 (got '{wrong}')" in capsys.readouterr().err


def test_json_and_html_hold_what_was_not_reached(
    files: tuple[Path, Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ref, port, model = files
    page = tmp_path / "page.html"
    arguments = ("compare", ref, port, "--model", model, "--time", "1e-9")
    assert command(*arguments, "--json", "--html", page) == 1
    (line,) = capsys.readouterr().out.splitlines()  # one object, at the end
    found = json.loads(line)
    assert found["diagnosis"]["unreached"] == ["output"]
    assert not found["diagnosis"]["complete"]
    assert found["notes"] == []
    assert "Not reached when 1e-09 s were up: 1 tensor from output on." in page.read_text()
    assert command(*arguments) == 1
    assert "diagnosis: Not reached when 1e-09 s were up" in capsys.readouterr().out
