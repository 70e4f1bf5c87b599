"""Comparing traces: names, layouts, the numbers of a row, the first divergence, and the command."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refgit.cli import compare_table
from refgit.cli import main as cli
from refgit.errors import TraceError
from refgit.parity import Comparison, compare, provenance, read_map, session
from refgit.parity.comparison.row import Row
from refgit.parity.matching.families import simple
from refgit.parity.matching.layouts import best_layout, possible_layouts
from refgit.parity.matching.matcher import match
from refgit.parity.numerics.floor import Floor, pooled
from refgit.parity.numerics.noise import NoiseFloor
from refgit.parity.numerics.rerun import replay
from refgit.testing import CONFIG, pixels, tiny_model, tokens
from refgit.traces.container import Trace
from refgit.traces.names import is_input
from refgit.traces.recorder import record

STAR = Path(__file__).parents[2] / "docs" / "images" / "star.png"
LAYER = "git.encoder.layer.1"


@cache
def reference() -> Trace:
    """Float64, two rows, a decode step, with the floors of float32."""
    found = record(tiny_model(), pixels(2), tokens(2), tokens=1, dtype="float64")
    found.meta["noise"] = NoiseFloor.measure(tiny_model(), found).to_json()
    return found


@cache
def single() -> Trace:
    return record(tiny_model(), pixels(2), tokens(2), tokens=1)


def changed(**changes: Any) -> Trace:
    """The float32 trace with other values: name__with__dots=function."""
    tensors = dict(single())
    for name, change in changes.items():
        tensors[name.replace("__", ".")] = change(tensors[name.replace("__", ".")].copy())
    return Trace(tensors, meta=single().meta)


def row_of(found: Comparison, name: str) -> Row:
    return next(row for row in found.rows if row.name == name)


# ---- the first divergence


def test_float32_agrees_with_float64_within_a_few_floors() -> None:
    found = compare(reference(), single())
    assert found.ok
    assert found.first is None
    assert [row.name for row in found.rows] == reference().order
    assert max(row.error for row in found.rows) < 2
    assert found.sentence.startswith(f"all {len(reference())} tensors agree: the largest error is")
    assert (found.precision, found.noise) == ("float32", "measured")
    assert found.missing == found.extra == found.unmatched == found.notes == ()


@pytest.mark.slow
@given(name=st.sampled_from([n for n in record(tiny_model(), pixels(2), tokens(2))
                             if not n.startswith("input.")]), data=st.data())  # fmt: skip
def test_the_first_tensor_that_differs_is_named_wherever_it_is(
    name: str, data: st.DataObject
) -> None:
    shape = single()[name].shape
    place = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    scale = np.abs(single()[name]).max()

    def nudge(x: np.ndarray) -> np.ndarray:
        x[place] += 0.01 * scale
        return x

    found = compare(reference(), changed(**{name.replace(".", "__"): nudge}))
    assert found.first is not None
    assert (found.first.name, found.first.worst) == (name, place)
    where = ", ".join(map(str, place))
    assert f"{name} is the first tensor that differs: " in found.sentence
    assert f"x the float32 noise floor at [{where}]; everything before it agrees." in found.sentence


SENTENCE = re.compile(
    r"(?P<name>\S+) is the first tensor that differs: (?P<floors>\S+) x the float32 noise floor at "
    r"\[(?P<place>[\d, ]*)\](?: \(its rms: (?P<rms>\S+) x\))?; .*"
)


@pytest.mark.parametrize("kind", ["one element", "all alike", "all by a share", "the last token"])
def test_the_headline_number_is_that_of_the_place_it_names(kind: str) -> None:
    """And so is the table's: where the rms is what decides, it is said beside it."""
    mistakes: dict[str, Callable[[Any], Any]] = {
        "one element": lambda x: np.where(np.arange(x.size).reshape(x.shape) == 77, x + 0.5, x),
        "all alike": lambda x: x + np.float32(0.01),
        "all by a share": lambda x: x * np.float32(1.05),
        "the last token": lambda x: x[:, -1:] * np.float32(1.05),
    }
    theirs = changed(output=mistakes[kind])
    found = compare(reference(), theirs)
    row, read = found.first, SENTENCE.fullmatch(found.sentence)
    assert row is not None
    assert read is not None
    place = tuple(map(int, read["place"].split(",")))
    ours = reference()["output"][:, -theirs["output"].shape[1] :]
    error = np.abs(ours - theirs["output"].astype(np.float64))
    floor = NoiseFloor.of_trace(reference())
    assert floor is not None
    there = error[place] / floor.of("output", reference()["output"]).max
    assert (read["name"], place) == ("output", row.worst)
    assert error[place] == error.max() == row.max_abs
    assert float(read["floors"]) == pytest.approx(there, rel=0.01)
    assert row.at_worst == pytest.approx(there)
    assert row.error == pytest.approx(max(row.at_worst, float(read["rms"] or 0)), rel=0.01)
    assert row.by_rms == (read["rms"] is not None) == (kind != "one element")


def test_of_several_that_differ_the_first_computed_is_named() -> None:
    found = compare(
        reference(),
        changed(
            output=lambda x: x + 1,
            git__encoder__layer__1__output__dense=lambda x: x + 1,
            step__1__output=lambda x: x + 1,
        ),
    )
    assert found.first is not None
    assert found.first.name == f"{LAYER}.output.dense"
    assert sum(not row.ok for row in found.rows) == 3


def test_an_error_spread_thinly_is_seen_in_the_root_mean_square() -> None:
    name = f"{LAYER}.output.dense"
    floor = NoiseFloor.of_trace(reference())
    assert floor is not None
    level = floor.of(name, reference()[name])
    exact = reference()[name] + 9 * level.rms
    tensors = {**single(), name: exact}
    found = compare(reference(), Trace(tensors), precision="float32")
    assert found.first is not None
    assert found.first.name == name
    assert found.first.max_abs < 8 * found.first.floor


def test_a_tensor_that_differs_alone_is_told_to_be_so() -> None:
    found = compare(reference(), changed(git__encoder__layer__1__output__dense=lambda x: 2 * x))
    assert any("after it agree again" in sentence for sentence in found.sentences)


@pytest.mark.parametrize("multiple", [1e-3, 1e6])
def test_the_multiple_decides(multiple: float) -> None:
    found = compare(reference(), changed(output=lambda x: x + 1e-4), multiple=multiple)
    assert found.ok is (multiple > 1)


# ---- inputs


def test_other_pixels_are_said_first() -> None:
    found = compare(
        reference(),
        changed(input__pixel_values=lambda x: x[:, ::-1], output=lambda x: x + 1),
    )
    assert found.first is not None
    assert found.first.name == "input.pixel_values"
    assert found.sentence.startswith("your pixel_values already differ, by up to ")
    assert "says nothing about the model" in found.sentence


def test_other_words_are_said_first_with_all_inputs_that_differ() -> None:
    found = compare(
        reference(),
        changed(input__input_ids=lambda x: x + 1, input__position_ids=lambda x: x + 5),
    )
    assert found.sentence.startswith("your input_ids already differ, by up to 1 at [0, 0] (100.0%")
    assert "So do your position_ids." in found.sentences
    assert row_of(found, "input.input_ids").ulp == 1


def test_positions_of_a_step_that_differ_are_found_behind_what_comes_before() -> None:
    found = compare(reference(), changed(step__1__input__position_ids=lambda x: x + 5))
    assert found.first is not None
    assert found.first.name == "step.1.input.position_ids"
    assert "everything before it agrees" in found.sentence


def test_inputs_that_are_not_there_are_said_to_be_unseen() -> None:
    tensors = {n: x for n, x in single().items() if not is_input(n)}
    found = compare(reference(), Trace(tensors))
    assert found.ok
    assert (
        "your trace does not hold input.pixel_values, input.input_ids: whether these agree was not "
        "seen." in found.sentences
    )
    assert any("does not hold input.position_ids: taken to be" in text for text in found.sentences)


def test_positions_that_are_no_default_are_said_to_be_unseen() -> None:
    given = Trace({**reference(), "input.position_ids": np.array([[3, 4, 5, 6]])})
    tensors = {n: x for n, x in single().items() if n != "input.position_ids"}
    found = compare(given, Trace(tensors))
    assert (
        "your trace does not hold input.position_ids: whether these agree was not seen."
        in found.sentences
    )


# ---- the numbers of a row


def row(theirs: Any, ours: Any, floor: float = 1.0, precision: str = "float32") -> Row:
    floors = NoiseFloor({precision: {"a": Floor(floor, floor)}})
    pair = Trace({"a": np.asarray(ours)}), Trace({"a": np.asarray(theirs)})
    return compare(*pair, noise=floors, precision=precision).rows[0]


def test_a_row_measures_the_difference() -> None:
    found = row([[1.0, 2.0], [3.0, 14.0]], [[1.0, 2.0], [2.0, 4.0]], floor=0.1)
    assert (found.max_abs, found.worst, found.floor) == (10.0, (1, 1), 0.1)
    assert found.max_rel == 2.5
    assert found.rms == pytest.approx(np.sqrt(101 / 4))
    assert found.error == pytest.approx(100.0)
    assert found.mismatching == 0.5
    assert found.cosine == pytest.approx(67 / np.sqrt(210 * 25))
    assert (found.shape, found.dtype, found.ok) == ((2, 2), "float64", False)


@given(
    x=st.floats(-(2.0**100), 2.0**100, width=32).map(np.float32) | st.just(np.float32(0)),
    steps=st.integers(0, 50),
)
def test_ulps_count_the_numbers_between(x: np.float32, steps: int) -> None:
    y = x
    for _ in range(steps):
        y = np.nextafter(y, np.float32(np.inf))
    assert row([y] * 2, [x] * 2).ulp == steps


@pytest.mark.parametrize(
    ("precision", "step"), [("bfloat16", 2.0**-7), ("float16", 2.0**-10), ("float64", 2.0**-52)]
)
def test_ulps_are_those_of_the_precision(precision: str, step: float) -> None:
    assert row([1.0 + 3 * step], [1.0], precision=precision).ulp == 3
    assert row([-1.0 - 3 * step], [-1.0], precision=precision).ulp == 3


@pytest.mark.parametrize(
    ("theirs", "ours", "cosine"),
    [([0.0], [0.0], 1.0), ([1.0], [0.0], 0.0), ([1e300], [1e300], 1.0), ([-2.0], [1.0], -1.0)],
)
def test_the_cosine_is_one_of_equals_and_never_no_number(
    theirs: list[float], ours: list[float], cosine: float
) -> None:
    assert row(theirs, ours).cosine == cosine


def test_integers_must_be_equal() -> None:
    found = row(np.array([1, 2, 4]), np.array([1, 2, 3]))
    assert (found.error, found.ok, found.ulp, found.worst) == (np.inf, False, 1, (2,))
    assert row(np.array([True, False]), np.array([1, 0])).ok


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_said_with_its_place(bad: float) -> None:
    def spoil(x: np.ndarray) -> np.ndarray:
        x[1, 2, 3] = x[1, 4, 0] = bad
        return x

    found = compare(reference(), changed(git__encoder__layer__1__output__dense=spoil))
    first = found.first
    assert first is not None
    assert (first.name, first.worst, first.nan) == (f"{LAYER}.output.dense", (1, 2, 3), 2)
    assert "it holds NaN or infinity, first at [1, 2, 3] (2 of 288 elements)" in found.sentence
    text = json.dumps(found.to_dict(), allow_nan=False)
    assert json.loads(text)["first"] == f"{LAYER}.output.dense"


def test_no_number_where_the_reference_has_none_agrees() -> None:
    assert row([np.nan, np.inf, 1.0], [np.nan, np.inf, 1.0]).ok
    assert not row([np.nan, -np.inf, 1.0], [np.nan, np.inf, 1.0]).ok
    assert not row([0.0, np.inf, 100.0], [np.nan, np.inf, 1.0]).ok


def test_pixels_with_nan_are_said_first() -> None:
    found = compare(reference(), changed(input__pixel_values=lambda x: x * np.nan))
    assert found.sentence.startswith("your pixel_values already differ: NaN or infinity, first at")


def test_empty_tensors_agree() -> None:
    assert row(np.zeros((0, 3)), np.zeros((0, 3))).ok


def test_scores_behind_the_mask_are_compared_where_it_lets_them_through() -> None:
    name = "git__encoder__layer__1__attention__self__scores"

    def mask(low: float) -> Callable[[np.ndarray], np.ndarray]:
        return lambda x: np.where(np.triu(np.ones(x.shape[-2:], bool), 6), low, x).astype("f4")

    for low in (-np.inf, -1e9, float(np.finfo(np.float32).min)):
        found = compare(reference(), changed(**{name: mask(low)}))
        assert found.ok
        note = row_of(found, name.replace("__", ".")).note
        assert note == "48 masked elements left out"
    for wiped in (-1e5, -np.inf):  # a mask hides no whole rows, nor what the reference attends to
        found = compare(reference(), changed(**{name: lambda x, w=wiped: x * 0 + np.float32(w)}))
        assert found.first is not None
        assert found.first.name == name.replace("__", ".")
        bare = Trace({n: reference()[n] for n in reference() if not n.endswith("probabilities")})
        assert not compare(bare, changed(**{name: lambda x, w=wiped: x * 0 + np.float32(w)})).ok
        assert compare(bare, changed(**{name: mask(wiped)})).ok
    dense = "git__encoder__layer__1__output__dense"
    assert not compare(reference(), changed(**{dense: lambda x: x * 0 - np.inf})).ok


# ---- precisions


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_has_its_own_floor(precision: str) -> None:
    half = replay(tiny_model(), reference(), precision)
    found = compare(reference(), half)
    assert found.ok
    assert (found.precision, found.noise) == (precision, "measured")
    assert any(f"numbers are of {precision}" in note for note in found.notes)
    assert not compare(reference(), half, precision="float32").ok


def test_a_narrow_reference_has_the_floor_of_its_own_precision() -> None:
    half = replay(tiny_model(), reference(), "float16")
    found = compare(half, single())
    assert found.ok
    assert found.precision == "float16"
    assert any("the reference's numbers are of float16" in note for note in found.notes)
    assert compare(single(), Trace(dict(reference()))).precision == "float32"
    asked = compare(reference(), single(), precision="bfloat16")
    assert asked.notes[0] == "the noise floor is that of bfloat16, as asked."


def test_canonical_tensors_know_what_they_were_stored_in() -> None:
    kinds = dict.fromkeys(single(), "bfloat16")
    found = compare(reference(), Trace(dict(single()), dtypes=kinds))
    assert found.canonical.dtype_of("output") == "bfloat16"


def test_the_floor_of_a_step_is_that_of_all_calls() -> None:
    exact = {name: np.full(2, size) for name, size in (("a", 1.0), ("step.1.a", 4.0), ("b", 1.0))}
    floors = {"a": Floor(1e-7, 1e-8), "step.1.a": Floor(1e-7, 9e-8), "b": Floor(1e-9, 1e-9)}
    found = pooled(floors, exact)
    assert found["b"] == floors["b"]
    assert found["a"] == Floor(1e-7, pytest.approx(9e-8 / 4))
    assert found["step.1.a"] == Floor(pytest.approx(4e-7), 9e-8)
    endless = {"a": Floor(np.inf, np.inf), "step.1.a": Floor(1e-7, 1e-7)}
    assert pooled(endless, exact) == endless


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(TraceError, match="precision is 'int8'; expected one of float64"):
        compare(reference(), single(), precision="int8")


def test_without_measured_floors_they_are_estimated_and_it_is_said() -> None:
    bare = Trace(dict(reference()), meta={"dtype": "float64"})
    found = compare(bare, single())
    assert found.ok
    assert found.noise == "estimated"
    assert any("noise floor is estimated" in note for note in found.notes)
    assert not compare(bare, changed(output=lambda x: x * 1.001)).ok


def test_configs_that_differ_are_said() -> None:
    other = Trace(dict(single()), meta=single().meta)
    config = json.loads(other.meta["config"])
    config["vision_config"]["layer_norm_eps"] = 1e-6
    config["initializer_range"] = 7.0  # changes nothing
    other.meta["config"] = json.dumps(config)
    notes = compare(reference(), other).notes
    assert notes == (
        "your config says vision_config.layer_norm_eps = 1e-06, the reference's 1e-05.",
    )


# ---- missing, extra, none at all


def test_a_part_of_the_tensors_is_compared_and_the_rest_counted() -> None:
    tensors = {n: x for n, x in single().items() if is_input(n) or ".layer.2." in n}
    tensors["my.own"] = np.zeros(3, np.float32)
    found = compare(reference(), Trace(tensors))
    assert found.ok
    assert found.extra == ("my.own",)
    assert len(found.missing) == len(reference()) - len(found.rows)
    assert found.missing[0] in found.sentences[1]
    assert "1 of your" in found.sentences[2]


def test_nothing_in_common_is_refused_with_names_of_both() -> None:
    other = Trace({"x": np.zeros((3, 7), np.float32), "y": np.zeros(2, np.float32)})
    with pytest.raises(TraceError, match=r"none of your 2 tensors \('x', 'y', .*pixel_values.*map"):
        compare(reference(), other)


def test_a_shape_that_fits_in_no_layout_is_the_first_that_differs() -> None:
    found = compare(reference(), changed(output=lambda x: x[..., :-1]))
    line = row_of(found, "output")
    assert found.first is line
    assert (line.ok, line.error, line.matched) == (False, np.inf, "output")
    assert line.note == "shape (2, 9, 22), expected (2, 9, 23)"
    assert [row.name for row in found.rows] == reference().order
    assert found.sentence == (
        "output is the first tensor that differs: yours has shape (2, 9, 22), expected (2, 9, 23), "
        "and no known layout makes one of the other; everything before it agrees."
    )
    assert "output" not in found.canonical
    assert found.missing == found.extra == ()
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize("theirs", [np.zeros(0), np.zeros((0, 23)), np.float32(1), np.zeros(1)])
def test_empty_and_single_numbers_are_wrong_shapes(theirs: np.ndarray) -> None:
    found = compare(reference(), Trace({"output": np.asarray(theirs, np.float32)}))
    assert found.first is not None
    assert found.first.note == f"shape {np.shape(theirs)}, expected (2, 9, 23)"


def test_an_image_of_another_size_is_another_input() -> None:
    found = compare(reference(), changed(input__pixel_values=lambda x: x[:, :, :-2]))
    assert found.sentence.startswith("your pixel_values already differ: shape (2, 3, ")


def test_a_comparison_in_part_is_said() -> None:
    found = compare(reference(), changed(output=lambda x: x[:, -1:]))
    assert found.ok
    assert "1 tensor was compared in part: the table (--all) says which positions." in found.notes
    assert row_of(found, "output").whole_shape == (2, 9, 23)
    whole = found.canonical["output"]
    assert whole.shape == (2, 1, 23)  # the logits of the last word can be diagnosed


POOLED = "git.image_encoder.vision_model.post_layernorm"


def up_to(last: str, **changes: Any) -> Trace:
    """The float32 trace up to a tensor and no further."""
    found = changed(**changes)
    return Trace({n: found[n] for n in found.order[: found.order.index(last) + 1]})


def first_token(x: np.ndarray) -> np.ndarray:
    return x[:, 0]


def test_a_tensor_of_which_the_end_is_a_part_does_not_pass_as_a_whole() -> None:
    pooled = up_to(POOLED, git__image_encoder__vision_model__post_layernorm=first_token)
    found = compare(reference(), pooled)
    whole = reference()[POOLED].shape
    assert (found.ok, found.first, found.partial) == (False, None, (POOLED,))
    assert found.sentence.startswith(
        f"{len(pooled) - 1} tensors agree; 1 could be compared only in part: {POOLED} has shape "
        f"{pooled[POOLED].shape}, expected {whole}; the largest error is"
    )
    assert row_of(found, POOLED).whole_shape == whole
    assert found.to_dict()["partial"] == [POOLED]


def test_a_part_is_enough_where_what_is_made_of_the_whole_agrees() -> None:
    change = {"git__image_encoder__vision_model__post_layernorm": first_token}
    found = compare(reference(), changed(**change))
    assert (found.ok, found.partial) == (True, ())
    text = up_to("git.embeddings.LayerNorm", **change)  # made without the image
    rest = {n: x for n, x in text.items() if "projection" not in n}
    assert compare(reference(), Trace(rest)).partial == (POOLED,)


def test_the_last_positions_of_the_decoder_are_no_part_of_a_mistake() -> None:
    found = compare(reference(), up_to("output", output=lambda x: x[:, -1]))
    assert found.ok
    image = up_to(f"{LAYER}.output.LayerNorm",
                  git__encoder__layer__1__output__LayerNorm=lambda x: x[:, :5])  # fmt: skip
    assert compare(reference(), image).partial == (f"{LAYER}.output.LayerNorm",)


def test_twice_the_heads_are_no_repeated_batch() -> None:
    one = record(tiny_model(), pixels(1), tokens(1))
    name = f"{LAYER}.attention.self.scores"
    heads = np.concatenate([one[name]] * 2, axis=1)
    words = np.concatenate([one["output"]] * 2, axis=1)
    found = compare(one, Trace({**one, name: heads, "output": words}))
    assert [row.name for row in found.rows if not row.ok] == [name, "output"]
    rows = {n: np.concatenate([x] * 2) if n != "input.position_ids" else x for n, x in one.items()}
    assert compare(one, Trace(rows)).ok


def test_unseen_tensors_just_before_the_first_difference_are_counted() -> None:
    other = changed(git__encoder__layer__1__output__dense=lambda x: x + 1)
    tensors = dict(other)
    del tensors[f"{LAYER}.intermediate.intermediate_act_fn"]
    del tensors[f"{LAYER}.attention.self.query"]
    found = compare(reference(), Trace(tensors))
    assert found.unseen == 1
    assert found.sentence.endswith(
        "; what could be compared before it agrees; 1 just before has no counterpart."
    )


def test_one_tensor_alone_is_no_plural() -> None:
    found = compare(reference(), Trace({"output": single()["output"]}))
    assert found.sentence.startswith("the one tensor that could be compared agrees: the largest")


@pytest.mark.parametrize("which", ["the reference", "your trace"])
def test_an_empty_trace_is_refused(which: str) -> None:
    pair = (Trace(), single()) if which == "the reference" else (single(), Trace())
    with pytest.raises(TraceError, match=f"{which} holds no tensors"):
        compare(*pair)


# ---- names

SPELLINGS = {
    "with a prefix": lambda n: f"model.{n}",
    "compiled": lambda n: f"_orig_mod.module.{n}",
    "with slashes": lambda n: "/" + n.replace(".", "/"),
    "in capitals": str.upper,
    "flax": lambda n: n.replace("layers.", "layers_").replace("layer.", "layer_"),
    "without git": lambda n: n.replace("git.", ""),
    "ONNX": lambda n: "/" + n.replace("layers.", "layers~").replace("layer.", "layer~")
    .replace(".", "/").replace("~", ".") + "/Add_output_0",
    "another root": lambda n: n.replace("git.encoder", "text.tower")
    .replace("git.image_encoder.vision_model.encoder", "eye.tower"),
}  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_common_spellings_of_names_need_no_map(spelling: str) -> None:
    spell = SPELLINGS[spelling]
    names = [n for n in single() if not n.startswith("step.")]
    if spelling == "another root":  # of a layer alone nobody can tell which tower it is in
        names = [n for n in names if not n[-1].isdigit() or "layers." not in n[-9:]]
    mine = {spell(n) if not is_input(n) else n: single()[n] for n in names}
    # values that agree would match by themselves
    mine = {n: x if "input" in n else x[::-1] * 3 + 1 for n, x in mine.items()}
    found = match(Trace({n: reference()[n] for n in names}), Trace(mine))
    assert {found.matches[n].theirs for n in names if n in found.matches} == set(mine)
    for name, hit in found.matches.items():
        assert hit.theirs == (name if is_input(name) else spell(name))


FAMILIES = {
    "logits": "output",
    "lm_head": "output",
    "pixel_values": "input.pixel_values",
    "inputs/input_ids": "input.input_ids",
    "git.encoder.layer.2": "git.encoder.layer.2.output.LayerNorm",
    "git.encoder.layer.2.attention": "git.encoder.layer.2.attention.output.LayerNorm",
    "git.encoder.layer.0.intermediate": "git.encoder.layer.0.intermediate.intermediate_act_fn",
    "git.embeddings": "git.embeddings.LayerNorm",
    "git.image_encoder.vision_model.encoder.layers.1.mlp": (
        "git.image_encoder.vision_model.encoder.layers.1.mlp.fc2"
    ),
    "git.visual_projection": "git.visual_projection.visual_projection.1",
    "image_encoder.conv1": "git.image_encoder.vision_model.embeddings.patch_embedding",
    "image_encoder.ln_pre": "git.image_encoder.vision_model.pre_layrnorm",
    "image_encoder.transformer.resblocks.1.ln_2": (
        "git.image_encoder.vision_model.encoder.layers.1.layer_norm2"
    ),
    "image_encoder.transformer.resblocks.1.mlp.c_fc": (
        "git.image_encoder.vision_model.encoder.layers.1.mlp.fc1"
    ),
    "image_encoder.transformer.resblocks.0": "git.image_encoder.vision_model.encoder.layers.0",
    "textual.embedding.words": "git.embeddings.word_embeddings",
    "textual.transformer.encoder.layer.1.attention.self.query": (
        "git.encoder.layer.1.attention.self.query"
    ),
    "textual.output": "output",
    "blk.2.attn_q": "git.encoder.layer.2.attention.self.query",
    "blk.2.ffn_down": "git.encoder.layer.2.output.dense",
    "v.blk.0.attn_out": "git.image_encoder.vision_model.encoder.layers.0.self_attn.out_proj",
    "step_1/logits": "step.1.output",
    "/model/step/1/git/encoder/layer/2/output/dense": "step.1.git.encoder.layer.2.output.dense",
    "step.1.model.decoder.layers[2].attention.self.key": (
        "step.1.git.encoder.layer.2.attention.self.key"
    ),
}


@pytest.mark.parametrize("theirs", FAMILIES)
def test_names_of_known_families_are_understood(theirs: str) -> None:
    ours = FAMILIES[theirs]
    found = match(single(), Trace({theirs: single()[ours] + 3}))
    assert [(m.ours, m.theirs) for m in found.matches.values()] == [(ours, theirs)]
    assert found.matches[ours].how == "a naming pattern"


def test_a_name_in_its_simple_form() -> None:
    assert simple("/model/git/encoder/layers_0/LayerNorm") == "encoder.layer.0.layernorm"


def test_of_a_product_and_its_sum_with_the_bias_the_right_one_is_taken() -> None:
    ours = f"{LAYER}.output.dense"
    x = single()[ours]
    base = f"/{ours.replace('.', '/')}"
    right = Trace({f"{base}/MatMul_output_0": x - 1, f"{base}/Add_output_0": x})
    assert match(single(), right).matches[ours].theirs == f"{base}/Add_output_0"
    early = Trace({f"{base}/Add_output_0": x, f"{base}/Mul_output_0": x * 3})
    assert match(single(), early).matches[ours].theirs == f"{base}/Add_output_0"
    wrong = Trace({f"{base}/MatMul_output_0": x - 1, f"{base}/Add_output_0": x + 1})
    assert match(single(), wrong).matches[ours].theirs == f"{base}/Add_output_0"


# ---- by shape, order and values


def numbered(tensors: dict[str, np.ndarray]) -> Trace:
    return Trace({f"t{i}": x for i, x in enumerate(tensors.values())})


def test_nameless_tensors_are_matched_by_shape_order_and_values() -> None:
    found = match(reference(), numbered(dict(single())))
    names = single().order
    large = [n for n in names if single()[n].size >= 8]
    assert {n: m.theirs for n, m in found.matches.items()} == {
        n: f"t{names.index(n)}" for n in large
    }
    hows = {m.how for m in found.matches.values()}
    assert hows == {"shape, order and values"}


def test_nameless_tensors_without_order_are_matched_by_their_values() -> None:
    rng = np.random.default_rng(0)
    names = [n for n in single() if single()[n].size >= 8]
    shuffled = [names[i] for i in rng.permutation(len(names))]
    other = Trace({f"t{i}": single()[n] for i, n in enumerate(shuffled)}, order_known=False)
    found = match(reference(), other)
    assert all(shuffled[int(m.theirs[1:])] == n for n, m in found.matches.items())
    assert len(found.matches) == len(names)


def test_the_outputs_of_layers_alone_find_their_places() -> None:
    ends = [n for n in single() if n.endswith(("output.LayerNorm", "layers.0", "layers.1"))]
    found = match(reference(), numbered({n: single()[n] for n in ends}))
    assert {n: m.theirs for n, m in found.matches.items()} == {
        n: f"t{i}" for i, n in enumerate(ends)
    }


def test_values_of_another_model_are_matched_by_order_alone_and_it_is_said() -> None:
    stranger = record(tiny_model(seed=7), pixels(2), tokens(2))
    nameless = numbered({n: x for n, x in stranger.items() if not is_input(n)})
    part = reference().select(["git.*", "output"])
    found = compare(Trace({n: part[n] for n in part if not n.startswith("step.")}), nameless)
    assert not found.ok
    assert found.first is not None
    assert found.first.how == "shape and order only"
    assert found.first.name == "git.image_encoder.vision_model.embeddings.patch_embedding"
    assert any("a map of names would make sure" in sentence for sentence in found.sentences)


def test_nameless_tensors_that_values_do_not_tell_apart_need_a_map() -> None:
    stranger = record(tiny_model(seed=7), pixels(2), tokens(2))
    few = numbered({n: stranger[n] for n in stranger if n.endswith("output.LayerNorm")})
    with pytest.raises(TraceError, match=r"none of your .* too few .*: give a map"):
        compare(reference(), few)
    some = Trace({"output": single()["output"], **few})  # what has a name is compared
    found = compare(reference(), some)
    assert [row.name for row in found.rows] == ["output"]
    assert any("give a map of names" in note for note in found.notes)


def test_left_over_tensors_are_no_ones_where_the_names_are_known() -> None:
    tensors = dict(single())
    del tensors[f"{LAYER}.output.dense"]
    tensors["scratch"] = np.zeros_like(single()[f"{LAYER}.output.dense"])
    found = match(reference(), Trace(tensors))
    assert (found.missing, found.extra) == ([f"{LAYER}.output.dense"], ["scratch"])


# ---- the map


def test_a_map_goes_before_names(tmp_path: Path) -> None:
    q, k = f"{LAYER}.attention.self.query", f"{LAYER}.attention.self.key"
    found = match(single(), single(), {q: k, k: q})
    assert found.matches[q].theirs == k
    assert found.matches[k].how == "the map"


@pytest.mark.parametrize(
    ("line", "theirs", "ours"),
    [
        ('"blocks.{i}.q" = "git.encoder.layer.{i}.attention.self.query"', "blocks.2.q",
         "git.encoder.layer.2.attention.self.query"),
        ('"t.*.*" = "git.encoder.layer.*.*"', "t.1.output.dense",
         "git.encoder.layer.1.output.dense"),
        ('"s{n}/b{i}/x" = "step.{n}.git.encoder.layer.{i}.output.dense"', "s1/b2/x",
         "step.1.git.encoder.layer.2.output.dense"),
        ("a.b.c = 'output'", "a.b.c", "output"),
        ("[names]\nfinal = 'output'", "final", "output"),
        ('"odd[name]+" = "output"', "odd[name]+", "output"),
    ],
)  # fmt: skip
def test_a_map_has_names_and_patterns(tmp_path: Path, line: str, theirs: str, ours: str) -> None:
    (tmp_path / "names.toml").write_text(line)
    names = read_map(tmp_path / "names.toml")
    found = match(single(), Trace({theirs: single()[ours] + 1}), names)
    assert [(m.ours, m.how) for m in found.matches.values()] == [(ours, "the map")]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a = ", "is not a TOML file"),
        ("a = 3", "a is 3; expected a name in quotes"),
        ("", "is empty"),
        ("\x00", "is not a TOML file"),
    ],
)
def test_a_map_that_is_none_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "names.toml").write_text(text)
    with pytest.raises(TraceError, match=reason) as error:
        read_map(tmp_path / "names.toml")
    assert "names.toml" in str(error.value)
    with pytest.raises(TraceError, match=r"none\.toml cannot be read"):
        read_map(tmp_path / "none.toml")


def test_lines_of_a_map_that_fit_nothing_are_said() -> None:
    names = {"x": "output", "output": "output", "y": "outptu", "input.*": "inptu.*"}
    found = compare(single(), Trace({**single(), "y": single()["output"]}), names=names)
    assert "the map's 'x' fits none of your names." in found.notes
    assert any("sends 'y' to 'outptu'" in n and "mean 'output'" in n for n in found.notes)
    with pytest.raises(TraceError, match="no line of the map names one of your tensors"):
        compare(single(), single(), names={"x": "output"})


# ---- layouts

LAID_OUT: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "": ("output.dense", lambda x: x),
    "the last two axes transposed": ("output.dense", lambda x: x.transpose(0, 2, 1)),
    "tokens before the batch": ("output.dense", lambda x: x.transpose(1, 0, 2)),
    "flattened to (18, 16)": ("output.dense", lambda x: x.reshape(18, 16)),
    "tokens before the batch, flattened to (18, 16)": (
        "output.dense", lambda x: x.transpose(1, 0, 2).reshape(18, 16),
    ),
    "in one row": ("output.dense", lambda x: x.ravel()),
    "as (2, 1, 9, 16), with axes of one added or left out": (
        "output.dense", lambda x: x[:, None],
    ),
    "heads split, (B, H, T, d)": (
        "self.query", lambda x: x.reshape(2, 9, 4, 4).transpose(0, 2, 1, 3),
    ),
    "heads split, (B, T, H, d)": ("self.query", lambda x: x.reshape(2, 9, 4, 4)),
    "heads split and transposed, (B, H, d, T)": (
        "self.query", lambda x: x.reshape(2, 9, 4, 4).transpose(0, 2, 3, 1),
    ),
    "heads split, (B, H, T, d), flattened to (8, 9, 4)": (
        "self.query", lambda x: x.reshape(2, 9, 4, 4).transpose(0, 2, 1, 3).reshape(8, 9, 4),
    ),
    "flattened to (8, 9, 9)": ("self.scores", lambda x: x.reshape(8, 9, 9)),
    "channels last": ("pixel_values", lambda x: x.transpose(0, 2, 3, 1)),
    "as a picture, channels first, (B, D, h, w)": (
        "patch_embedding", lambda x: x.transpose(0, 2, 1).reshape(2, 12, 2, 2),
    ),
    "as a picture, channels last, (B, h, w, D)": (
        "patch_embedding", lambda x: x.reshape(2, 2, 2, 12),
    ),
    "only the last 4 positions of 9": ("output.dense", lambda x: x[:, -4:]),
    "only the first 5 positions of 9": ("output.dense", lambda x: x[:, :5]),
    "only the last position of 9": ("output.dense", lambda x: x[:, -1]),
    "repeated for each row of the batch": ("position_ids", lambda x: np.repeat(x, 2, 0)),
}  # fmt: skip


@pytest.mark.parametrize("said", LAID_OUT)
def test_layouts_are_recognised_and_said(said: str) -> None:
    end, change = LAID_OUT[said]
    name = next(n for n in single() if n.endswith(end) and ("layer." not in n or LAYER in n))
    found = compare(reference(), Trace({**single(), name: change(single()[name])}))
    assert found.ok
    line = row_of(found, name)
    assert line.layout == said
    assert line.other_shape == change(single()[name]).shape
    if "positions" not in said and "position of" not in said:
        ours = found.canonical[name]
        np.testing.assert_array_equal(ours, np.broadcast_to(single()[name], ours.shape))
    else:
        assert name not in found.canonical


def test_a_missing_batch_axis_is_said() -> None:
    one = record(tiny_model(), pixels(1), tokens(1))
    other = Trace({n: x[0] if x.shape[0] == 1 else x for n, x in one.items()})
    found = compare(one, other)
    assert found.ok
    assert {line.layout for line in found.rows} == {"without the batch axis"}


def test_square_tensors_are_transposed_only_where_the_values_say_so() -> None:
    name = f"{LAYER}.attention.self.scores"
    x = single()[name]
    turned = compare(reference(), Trace({**single(), name: x.swapaxes(-1, -2)}))
    assert turned.ok
    assert row_of(turned, name).layout == "the last two axes transposed"
    wrong = compare(reference(), Trace({**single(), name: x * 1.5}))
    assert row_of(wrong, name).layout == ""
    assert not wrong.ok


def test_a_layout_that_neither_shapes_nor_values_settle_is_called_a_guess() -> None:
    name = f"{LAYER}.output.dense"
    noise = np.random.default_rng(0).standard_normal((18, 16)).astype("f4")
    line = row_of(compare(reference(), Trace({**single(), name: noise})), name)
    assert line.layout == "flattened to (18, 16)"
    assert "a guess" in line.note


def test_heads_put_together_wrongly_are_an_error_and_no_layout() -> None:
    name = f"{LAYER}.attention.self.context"

    def mixed(x: np.ndarray) -> np.ndarray:  # (B, T, d, H) for (B, T, H, d)
        return x.reshape(2, 9, 4, 4).swapaxes(2, 3).reshape(2, 9, 16)

    found = compare(reference(), changed(**{name.replace(".", "__"): mixed}))
    assert found.first is not None
    assert (found.first.name, found.first.layout) == (name, "")
    # all heads' tokens in one heap, as a reshape without the transpose leaves them
    heap = single()[name].reshape(2, 9, 4, 4).transpose(0, 2, 1, 3).reshape(2, 9, 16)
    found = compare(reference(), Trace({**single(), name: heap}))
    assert found.first is not None
    assert found.first.name == name


@given(
    ours=st.lists(st.integers(1, 5), min_size=1, max_size=5).map(tuple),
    data=st.data(),
)
def test_every_layout_leads_back_to_the_same_numbers(
    ours: tuple[int, ...], data: st.DataObject
) -> None:
    size = int(np.prod(ours))
    x = np.arange(size).reshape(ours)
    order = data.draw(st.permutations(range(len(ours))))
    theirs = x.transpose(order)
    cut = data.draw(st.integers(0, max(len(ours) - 1, 0)))
    if cut:  # two axes next to each other merged
        shape = theirs.shape
        theirs = theirs.reshape(*shape[: cut - 1], shape[cut - 1] * shape[cut], *shape[cut + 1 :])
    for layout in possible_layouts(theirs.shape, ours):
        back = layout.to_ours(theirs)
        assert back.shape == ours
        assert sorted(back.ravel()) == list(range(size))
        places = np.arange(size)
        np.testing.assert_array_equal(layout.sample_of(theirs, places), back.ravel())
    found = best_layout(theirs, x)
    assert possible_layouts(x.shape, ours)[0].text == ""
    if (
        found is not None
        and possible_layouts(theirs.shape, ours)[0].text == ""
        and theirs.shape == ours
    ):
        assert found[0].to_ours(theirs).shape == ours


# ---- the command


@pytest.fixture
def command() -> Callable[..., int]:
    return lambda *arguments: cli.main([str(argument) for argument in arguments])


@pytest.fixture
def files(tmp_path: Path) -> SimpleNamespace:
    """A reference of a model that is nowhere, and others: equal, different, shuffled in names."""
    paths = SimpleNamespace(
        reference=tmp_path / "ref.safetensors",
        same=tmp_path / "same.safetensors",
        other=tmp_path / "other.npz",
        folder=tmp_path,
    )
    reference().save(paths.reference)
    single().save(paths.same)
    wrong = changed(git__encoder__layer__1__output__dense=lambda x: x * 1.1)
    np.savez(paths.other, **{n: wrong[n] for n in wrong})
    return paths


def test_equal_traces_exit_with_0(
    command: Callable[..., int], files: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("compare", files.reference, files.same) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"all {len(reference())} tensors agree")
    assert "--all lists them" in said.out
    assert said.err == ""


def test_different_traces_exit_with_1_and_show_the_place(
    command: Callable[..., int], files: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("compare", files.reference, files.other) == 1
    said = capsys.readouterr()
    first, *lines = said.out.splitlines()
    assert first.startswith(f"{LAYER}.output.dense is the first tensor that differs: ")
    (marked,) = [line for line in lines if line.startswith("*")]
    assert f"{LAYER}.output.dense (2, 9, 16)" in marked
    assert any(line.endswith("more tensors: --all lists them)") for line in lines)
    assert "for a diagnosis pass the model the reference was made with: --model" in said.err


def test_a_tensor_that_is_there_in_part_alone_exits_with_1(
    command: Callable[..., int], files: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    pooled = up_to(POOLED, git__image_encoder__vision_model__post_layernorm=first_token)
    pooled.save(files.same)
    page = files.folder / "page.html"
    assert command("compare", files.reference, files.same, "--html", page) == 1
    assert "1 could be compared only in part" in capsys.readouterr().out
    assert "Agrees only in part" in page.read_text()


def test_a_narrow_terminal_gets_short_names_and_fewer_columns(
    command: Callable[..., int],
    files: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = {}
    monkeypatch.setattr(compare_table, "is_terminal", lambda stream: True)
    for columns in (200, 140, 80):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert command("compare", files.reference, files.other) == 1
        lines[columns] = capsys.readouterr().out.splitlines()[2:15]
    (wide,), (medium,), (narrow,) = (
        [line for line in lines[columns] if line.startswith("*")] for columns in (200, 140, 80)
    )
    assert f"{LAYER}.output.dense" in wide
    assert medium.startswith("*  text.1.output.dense (2, 9, 16) ")
    assert max(map(len, lines[140][:12])) <= 140
    assert max(map(len, lines[80][:12])) <= 80
    assert "(text. is git.encoder.layer.)" in lines[80]
    assert "max rel" in lines[140][0]
    assert "max rel" not in lines[80][0]
    assert lines[80][0].split() == ["tensor", "x", "floor", "off"]
    assert narrow.split()[-2] == medium.split()[5]


def test_a_wrong_shape_exits_with_1(
    command: Callable[..., int], files: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = changed(git__encoder__layer__1__attention__self__query=lambda x: x[..., :-1])
    np.savez(files.other, **{n: wrong[n] for n in wrong})
    page = files.folder / "page.html"
    assert command("compare", files.reference, files.other, "--html", page) == 1
    said = capsys.readouterr().out
    lines = [line.strip() for line in said.splitlines()]
    assert "shape (2, 9, 15), expected (2, 9, 16)" in lines
    assert page.stat().st_size > 0
    assert command("compare", files.reference, files.other, "--json") == 1
    assert json.loads(capsys.readouterr().out)["first"] == f"{LAYER}.attention.self.query"


@pytest.mark.parametrize(("page", "reason"), [("none/a.html", "there is no directory"),
                                              ("", "which is a directory")])  # fmt: skip
def test_a_report_that_cannot_be_written_is_refused_at_the_start(
    command: Callable[..., int],
    files: SimpleNamespace,
    page: str,
    reason: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command("compare", "absent", "absent", "--html", files.folder / page) == 2
    assert reason in capsys.readouterr().err


def test_a_model_of_another_architecture_is_refused(
    command: Callable[..., int],
    files: SimpleNamespace,
    saved: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    meta = {**reference().meta, "model": str(saved)}
    config = json.loads(meta["config"]) | {"layer_norm_eps": 0.25}
    Trace(dict(reference()), meta={**meta, "config": json.dumps(config)}).save(files.reference)
    assert command("compare", files.reference, files.same, "--model", saved) == 2
    said = capsys.readouterr().err
    assert "is another model than the reference's: its config says layer_norm_eps = " in said
    assert command("compare", files.reference, files.other) == 1
    assert "for a diagnosis pass the right one" in capsys.readouterr().err
    assert command("compare", files.reference, files.same, "--model", "refgit-emoji") == 2
    assert "refgit-emoji is another model than the reference's" in capsys.readouterr().err


def test_other_weights_do_not_make_a_difference_and_unknown_ones_are_no_matter(
    command: Callable[..., int],
    files: SimpleNamespace,
    saved: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(session, "diagnose", lambda *arguments, **options: _Diagnosis())
    meta = {**reference().meta, "sha256": 64 * "0"}
    Trace(dict(reference()), meta=meta).save(files.reference)
    assert command("compare", files.reference, files.same, "--model", saved) == 0
    assert "holds other weights" in capsys.readouterr().err
    monkeypatch.setattr(provenance, "weights_checksum", lambda path: None)
    assert command("compare", files.reference, files.same, "--model", saved) == 1
    assert capsys.readouterr().err == ""


def test_the_diagnosis_is_made_as_soon_as_an_error_is_suspect(
    command: Callable[..., int],
    files: SimpleNamespace,
    saved: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given_: list[Any] = []

    def diagnose(*arguments: Any, precision: str, **options: Any) -> _Diagnosis:
        given_.append(precision)
        return _Diagnosis()

    monkeypatch.setattr(session, "diagnose", diagnose)
    Trace(dict(reference()), meta={**reference().meta, "model": str(saved)}).save(files.reference)
    assert command("compare", files.reference, files.same) == 0
    assert given_ == []
    line = row_of(compare(reference(), single()), "output")

    def nudge(x: np.ndarray) -> np.ndarray:
        x[0, 0, 0] += 5 * line.floor
        return x

    slight = changed(output=nudge)
    assert compare(reference(), slight).ok
    slight.save(files.same)
    assert command("compare", files.reference, files.same) == 1
    assert given_ == ["float32"]


def test_the_whole_list_is_aligned_and_in_the_order_of_execution(
    command: Callable[..., int], files: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("compare", files.reference, files.other, "--all") == 1
    lines = capsys.readouterr().out.splitlines()
    header = next(line for line in lines if line.lstrip().startswith("tensor"))
    start = lines.index(header)
    names = [line[3:].split(" ")[0] for line in lines[start + 1 :]][: len(reference())]
    assert names == reference().order
    edge = header.index("x floor") + len("x floor")
    assert all(line[edge - 1] != " " for line in lines[start + 1 : start + 1 + len(names)])


def test_json_is_one_object_of_plain_values(
    command: Callable[..., int], files: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("compare", files.reference, files.other, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["first"] == f"{LAYER}.output.dense"
    assert found["diagnosis"] is None
    assert len(found["rows"]) == len(reference())
    assert set(found["rows"][0]) >= {
        "name", "matched", "how", "layout", "shape", "dtype", "max_abs", "max_rel", "rms",
        "cosine", "ulp", "mismatching", "worst", "floor", "error", "ok",
    }  # fmt: skip


def test_a_map_of_names_is_read(
    command: Callable[..., int], files: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(files.folder / "foo.npy", single()["output"])
    folder = files.folder / "dumps"
    folder.mkdir()
    (files.folder / "foo.npy").rename(folder / "foo.npy")
    (files.folder / "names.toml").write_text('foo = "output"')
    arguments = ("compare", files.reference, folder, "--map", files.folder / "names.toml")
    assert command(*arguments) == 0
    assert "is your foo, by the map" in capsys.readouterr().out


def test_the_multiple_and_the_precision_can_be_chosen(
    command: Callable[..., int], files: SimpleNamespace
) -> None:
    assert command("compare", files.reference, files.same, "--multiple", "0.01") == 1
    assert command("compare", files.reference, files.other, "--precision", "bfloat16") == 0
    assert command("compare", files.reference, files.other, "--multiple", "1e9") == 0


@pytest.mark.parametrize("option", [["--multiple", "0"], ["--multiple", "x"], ["--precision", "x"]])
def test_options_that_make_no_sense_are_refused(
    command: Callable[..., int], option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        command("compare", "a", "b", *option)
    assert stopped.value.code == 2
    assert option[0] in capsys.readouterr().err


def test_what_cannot_be_read_or_matched_exits_with_2(
    command: Callable[..., int], files: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(files.folder / "alien.npz", x=np.zeros((3, 7), "f4"))
    (files.folder / "broken.npz").write_bytes(b"PK")
    for other, reason in (
        ("alien.npz", "none of your 1 tensors"),
        ("broken.npz", "is not a complete .npz file"),
        ("missing.npz", "does not exist"),
    ):
        assert command("compare", files.reference, files.folder / other) == 2
        assert reason in capsys.readouterr().err
    assert command("compare", files.reference, files.same, "--model", "no/such/dir") == 2


class _Diagnosis:
    """Stands in for the diagnosis, which has tests of its own."""

    sentences = ("layer 1: your activation is tanh-gelu.",)
    ok = False

    def to_dict(self) -> dict[str, Any]:
        return {"located": LAYER}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The tiny model as a checkpoint."""
    tiny_model().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_with_the_model_there_is_a_diagnosis(
    command: Callable[..., int],
    files: SimpleNamespace,
    saved: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given_: list[Any] = []

    def diagnose(*arguments: Any, precision: str, **options: Any) -> _Diagnosis:
        given_.extend(arguments)
        return _Diagnosis()

    monkeypatch.setattr(session, "diagnose", diagnose)
    assert command("compare", files.reference, files.other, "--model", saved) == 1
    said = capsys.readouterr()
    assert "diagnosis: layer 1: your activation is tanh-gelu." in said.out
    assert "--model" not in said.err
    first, second, model = given_
    assert first.order == second.order == reference().order
    assert model.config.replace(extra={}) == CONFIG
    assert command("compare", files.reference, files.other, "--model", saved, "--json") == 1
    assert json.loads(capsys.readouterr().out)["diagnosis"] == {"located": LAYER}
    # what a single operation does wrong may hide in the noise of the run
    assert command("compare", files.reference, files.same, "--model", saved) == 1


def test_a_diagnosis_that_fails_leaves_the_comparison(
    command: Callable[..., int],
    files: SimpleNamespace,
    saved: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def diagnose(*arguments: Any, **options: Any) -> None:
        raise ValueError("no inputs")

    monkeypatch.setattr(session, "diagnose", diagnose)
    assert command("compare", files.reference, files.other, "--model", saved) == 1
    said = capsys.readouterr()
    assert said.out.startswith(LAYER)
    assert "no diagnosis: no inputs" in said.err
    with pytest.raises(ValueError, match="no inputs"):
        command("compare", files.reference, files.other, "--model", saved, "--debug")


def test_the_reference_knows_its_model_and_its_weights(
    command: Callable[..., int],
    files: SimpleNamespace,
    saved: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(session, "diagnose", lambda *arguments, **options: _Diagnosis())
    known = Trace(dict(reference()), meta={**reference().meta, **provenance.origin(str(saved))})
    known.save(files.reference)
    assert command("compare", files.reference, files.other) == 1
    assert "tanh-gelu" in capsys.readouterr().out
    tiny_model(seed=1).save_pretrained(saved)  # others in their place
    assert command("compare", files.reference, files.other) == 1
    said = capsys.readouterr()
    assert "tanh-gelu" not in said.out
    assert "holds other weights than those the reference was made with" in said.err
    assert command("compare", files.reference, files.other, "--model", saved) == 1
    said = capsys.readouterr()
    assert "tanh-gelu" in said.out
    assert "the noise floors and the diagnosis are of these" in said.err


def test_floors_that_the_reference_lacks_are_measured_with_the_model(
    command: Callable[..., int],
    files: SimpleNamespace,
    saved: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    nothing = SimpleNamespace(ok=True, sentences=(), to_dict=dict)
    monkeypatch.setattr(session, "diagnose", lambda *arguments, **options: nothing)
    meta = {k: v for k, v in reference().meta.items() if k != "noise"}
    Trace(dict(reference()), meta=meta).save(files.reference)
    assert command("compare", files.reference, files.same, "--json") == 0
    assert json.loads(capsys.readouterr().out)["noise"] == "estimated"
    assert command("compare", files.reference, files.same, "--json", "--model", saved) == 0
    assert json.loads(capsys.readouterr().out)["noise"] == "measured"


def test_a_report_is_written_on_demand(
    command: Callable[..., int], files: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Any] = []
    monkeypatch.setattr(session, "write_report", lambda *arguments: written.append(arguments))
    page = files.folder / "report.html"
    assert command("compare", files.reference, files.other, "--html", page) == 1
    ((path, comparison, diagnosis, ours, theirs),) = written
    assert path == str(page)
    assert not comparison.ok
    assert diagnosis is None
    assert ours.order == theirs.order == reference().order


@pytest.mark.slow
def test_the_bundled_model_compares_with_its_own_trace(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, half = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    assert command("trace", "--image", STAR, "--out", out, "--tokens", 1) == 0
    assert command("trace", "--image", STAR, "--out", half, "--tokens", 1, "--dtype", "float16",
                   "--noise", "none") == 0  # fmt: skip
    capsys.readouterr()
    assert command("compare", out, half) == 0
    said = capsys.readouterr().out
    assert "x the float16 noise floor" in said
    assert "estimated" not in said
