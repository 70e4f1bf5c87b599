"""The mutation benchmark: one mistake at a time in another implementation, found and named?

    python -m pytest tests/parity/test_mutations.py -s       prints the tables

Each mutation is put at a drawn layer of a drawn tiny model of `other_git.OtherGit`, which is
float32 and shares no code with refgit. "Located": the first tensor that the diagnosis names is the
one whose operation was broken. "Diagnosed": the first cause it gives is the mistake that was made.
A draw in which the mistake changes its tensor by less than float32 can show (less than 3e-6 of the
largest value, by two float64 runs of the other implementation) is drawn anew.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers.mutations import (  # noqa: F401  # fixtures
    CASES,
    TEXT,
    VISION,
    Row,
    broken,
    case,
    diagnoses,
    draw,
    drawn_for,
    examined,
    rows,
    shows,
    trials,
)
from helpers.other_git import Mutation
from refgit.parity.diagnosis.procedure import Diagnosis, diagnose
from refgit.parity.graph.graph import Graph


def test_there_are_mutations_enough_and_each_once() -> None:
    assert len({c.name for c in CASES}) == len(CASES) >= 40


# ---- drawn models and inputs


def table(title: str, rows: list[Row]) -> str:
    lines = [
        f"\n{title}",
        f"{'mutation':28} {'located':8} {'cause':>5} {'of':>3} {'resid.':>7}  first",
    ]
    lines += [
        f"{row.case.name:28} {'yes' if row.is_located else 'NO':8} {row.rank or '-':>5} "
        f"{row.several:>3} {row.residual:>7.2f}  {row.first}"
        + ("" if row.is_located else f"   [{row.located}; broken: {row.name}]")
        for row in rows
    ]
    located, named = sum(r.is_located for r in rows), sum(r.is_diagnosed for r in rows)
    found = sum(r.rank > 0 for r in rows)
    lines.append(
        f"{len(rows)} mutations: {located} located ({located / len(rows):.0%}), {named} with the "
        f"right cause first ({named / len(rows):.0%}), {found} with it among the causes"
    )
    return "\n".join(lines)


def blamed(diagnosis: Diagnosis) -> set[str]:
    """All tensors that are found wrong; a step's under the first call's names."""
    return {
        finding.name.split("step.1.")[-1].split("step.2.")[-1] for finding in diagnosis.findings
    }


def test_every_mutation_is_located(rows: list[Row]) -> None:
    print(table("Every tensor in the trace", rows))
    assert [row.case.name for row in rows if not row.is_located] == []


def test_nine_of_ten_mutations_are_diagnosed(rows: list[Row]) -> None:
    assert sum(row.is_diagnosed for row in rows) >= 0.9 * len(rows)


# What is broken in several tensors at once, since the joint sequence has no name.
JOINED = {f"{TEXT}0.attention.{x}" for x in ("self.query", "self.key", "self.value",
                                             "output.residual")}  # fmt: skip


def test_nothing_but_the_broken_tensor_is_blamed(trials: Any, diagnoses: list[Diagnosis]) -> None:
    for (each, _, _, name), diagnosis in zip(trials, diagnoses, strict=True):
        broken_ones = {name.removeprefix("step.1.")}
        if each.place == "join":
            broken_ones = JOINED
        if each.place.endswith("prenorm"):
            broken_ones = {f.name for f in diagnosis.findings if f.name.endswith(QKV)}
            assert len(broken_ones) >= 3
        assert blamed(diagnosis) - {f"step.1.{x}" for x in broken_ones} <= broken_ones, each.name


QKV = ("q_proj", "k_proj", "v_proj", "query", "key", "value")


# ---- what no hypothesis foresees

UNFORESEEN = [
    case("v.q", "row_lost", "v:self_attn.q_proj", "-"),
    case("t.fc2", "row_lost", "t:output.dense", "-"),
    case("t.fc1", "bias_of_first", "t:intermediate.dense", "a constant vector"),
    case("v.ln2", "clamped", "v:layer_norm2", "-"),
    case("t.ln1", "clamped", "t:attention.output.LayerNorm", "-"),
    case("v.act", "hard", "v:mlp.activation_fn", "-"),
    case("t.act", "clipped", "t:intermediate.intermediate_act_fn", "-"),
    case("t.res1", "weak", "t:attention.output.residual", "-"),
    case("v.res2", "weak", "v:", "-"),
    case("v.scores", "tempered", "v:self_attn.scores", "scaled by 0.9"),
    case("t.probs", "pruned", "t:attention.self.probabilities", "zeros"),
    case("vemb", "one_wrong", VISION + "embeddings", "-"),
    case("head", "word_lost", "output", "-"),
]


def test_a_mistake_that_no_hypothesis_foresees_is_located_and_not_explained_away() -> None:
    found = []
    for i, each in enumerate(UNFORESEEN):
        drawn, mutation, name = drawn_for(each, 500 + i)
        found.append(examined(each, name, diagnose(drawn.inputs, drawn.run([mutation]),
                                                   drawn.model)))  # fmt: skip
    print(table("Mistakes that no hypothesis foresees", found))
    assert [row.case.name for row in found if not row.is_located] == []
    assert [row.first for row in found if row.first not in row.case.causes] == []


# ---- several at once


@pytest.mark.slow
def test_several_mistakes_are_each_found_where_they_are() -> None:
    plain = [c for c in CASES if not c.need and c.place not in ("join", "v.prenorm", "t.prenorm")]
    wrong = right = 0
    for seed in range(40):
        drawn = draw(2 * 10**6 + seed)
        rng = np.random.default_rng(seed)
        chosen = [plain[i] for i in rng.choice(len(plain), 3, replace=False)]
        made = [broken(each, drawn) for each in chosen]
        if len({name for _, name in made}) < 3:
            continue
        showing = [name for mutation, name in made if shows(drawn, mutation, name)]
        diagnosis = diagnose(drawn.inputs, drawn.run([m for m, _ in made]), drawn.model)
        names = [finding.name for finding in diagnosis.findings]
        assert blamed(diagnosis) <= {name for _, name in made}
        wrong += len(set(showing) - set(names))
        right += len(set(showing) & set(names))
    print(f"\nthree mistakes at once: {right} located, {wrong} not")
    assert right >= 60
    assert wrong == 0


# ---- coarser traces


def only_layers(other: dict[str, Any]) -> dict[str, Any]:
    """What a port shows that has no hooks inside a layer."""
    ends = ("pre_layrnorm", "post_layernorm", "visual_projection.1", "git.embeddings.LayerNorm")
    return {
        name: x
        for name, x in other.items()
        if name.endswith(ends)
        or (".layers." in name and name.rsplit(".", 1)[1].isdigit())
        or (".layer." in name and name.endswith(".output.LayerNorm") and "attention" not in name)
        or (name.endswith("output") and "git." not in name)
    }


@pytest.mark.slow
def test_with_the_layers_outputs_alone_most_mistakes_are_still_named(trials: Any) -> None:
    found, hidden = [], []
    for each, drawn, other, name in trials:
        order = list(Graph(drawn.model.state_dict(), drawn.config, drawn.inputs).nodes)
        shown = only_layers(other)
        after = [x for x in shown if order.index(x) >= order.index(name)]
        first = min(after, key=order.index)
        mutation, _ = broken(each, drawn)
        if not shows(drawn, mutation, first):  # what a softmax or a norm has undone
            hidden.append(each.name)
            continue
        found.append(examined(each, first, diagnose(drawn.inputs, shown, drawn.model)))
    print(table("Only the layers' outputs", found), f"\nhidden from there: {hidden}")
    assert len(found) > 100
    assert [row.case.name for row in found if not row.is_located] == []
    assert sum(row.is_diagnosed for row in found) >= 0.9 * len(found)


EVERYWHERE = [
    ("v.act", "gelu", "activation gelu"), ("t.act", "quick_gelu", "activation quick_gelu"),
    ("v.ln1", "eps=1e-3", "eps 0.001"), ("t.ln2", "eps=1e-3", "eps 0.001"),
    ("t.mask", "causal", "mask causal"), ("t.mask", "text_blind", "text blind to image"),
    ("t.scores", "no_scale", "no scale"), ("v.scores", "no_scale", "no scale"),
    ("t.mask", "off_by_one", "mask off by one"), ("v.fc2", "no_bias", "no bias"),
    ("pos", "behind_image", "positions behind the image"), ("head", "tied", "tied head"),
    ("vemb", "no_positions", "image positions missing"), ("patch", "bgr", "channels reversed"),
]  # fmt: skip


@pytest.mark.slow
def test_from_the_logits_alone_a_mistake_made_everywhere_is_named() -> None:
    """No target: eps in one of two norms of every layer, for one, has no hypothesis for itself."""
    # unpadded: what a query gets that sees nothing at all is nobody's to say
    need, found = frozenset(["absolute", "v_quick", "gelu", "once", "unpadded", "shallow"]), []
    for i, (place, kind, cause) in enumerate(EVERYWHERE):
        drawn = draw(4 * 10**6 + i, need)
        tower = place[:2] if place[1] == "." else ""
        config = drawn.config if tower == "t." else drawn.config.vision_config
        layers = range(config.num_hidden_layers) if tower else [None]
        other = drawn.run([Mutation(place, kind, layer) for layer in layers])
        diagnosis = diagnose(drawn.inputs, {"output": other["output"]}, drawn.model)
        found.append(examined(case(place, kind, "output", cause), "output", diagnosis))
        assert any("More than a layer lies between" in line for line in diagnosis.sentences)
    print(table("Only the logits, the mistake in every layer", found))
    assert [row.case.name for row in found if not row.is_located] == []
    assert sum(row.rank > 0 for row in found) >= 0.6 * len(found)


# ---- no alarm where nothing is wrong


@pytest.mark.slow
def test_no_false_alarm_on_two_hundred_right_models() -> None:
    alarms = []
    for seed in range(200):
        drawn = draw(10**6 + seed)
        diagnosis = diagnose(drawn.inputs, drawn.run([]), drawn.model)
        assert diagnosis.checked > 30
        if not diagnosis.ok:
            alarms.append((seed, diagnosis.sentences))
    print(f"\nfalse alarms on 200 right models: {len(alarms)}")
    assert alarms == []


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_no_false_alarm_in_other_precisions(dtype: Any) -> None:
    for seed in range(40):
        drawn = draw(3 * 10**6 + seed)
        other = {name: x.astype(dtype) for name, x in drawn.run([], dtype).items()}
        assert diagnose(drawn.inputs, other, drawn.model).sentences[0].startswith("Each of"), seed
