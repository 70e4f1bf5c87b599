"""Rounding, noise floors and the runs that measure them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refgit.parity.numerics.floor import Floor, measured_floor
from refgit.parity.numerics.noise import NoiseFloor
from refgit.parity.numerics.precision import UNIT_ROUNDOFF, precision_of, rounded
from refgit.parity.numerics.rerun import replay, summed_backwards
from refgit.testing import pixels, tiny_model, tokens
from refgit.traces.container import Trace
from refgit.traces.names import is_input
from refgit.traces.recorder import record, trace


def recorded(**options: Any) -> Trace:
    return record(tiny_model(), pixels(2), tokens(2), **options)


@given(x=hnp.arrays(np.float32, 8, elements=st.floats(-(2.0**100), 2.0**100, width=32)))
def test_bfloat16_is_rounded_to_the_nearest_number_ties_to_even(x: np.ndarray) -> None:
    bits = x.view(np.uint32)
    below = (bits & 0xFFFF0000).view(np.float32).astype(np.float64)
    above = ((bits & 0xFFFF0000) + np.uint32(0x10000)).view(np.float32).astype(np.float64)
    exact = x.astype(np.float64)
    even = (bits >> 16) & 1 == 0
    down = np.abs(exact - below) < np.abs(above - exact)
    tie = np.abs(exact - below) == np.abs(above - exact)
    wanted = np.where(down | (tie & even), below, above)
    np.testing.assert_array_equal(rounded(x, "bfloat16"), wanted.astype(np.float32))


def test_rounding_keeps_what_is_no_number_and_changes_no_dtype() -> None:
    x = np.array([np.nan, np.inf, -np.inf, 0.0, 1e6])
    for precision in ("bfloat16", "float16", "float32"):
        y = rounded(x, precision)
        assert y.dtype == np.float64
        np.testing.assert_array_equal(y[:4], x[:4])
        np.testing.assert_array_equal(rounded(y, precision), y)
    assert np.isinf(rounded(x, "float16")[4])


@pytest.mark.parametrize(("precision", "bits"), [("bfloat16", 8), ("tfloat32", 11)])
def test_rounding_keeps_the_significant_bits(precision: str, bits: int) -> None:
    step = 2.0 ** (1 - bits)
    x = np.array([1 + step, 1 + 1.5 * step, 1 + 0.5 * step, -1 - 0.75 * step, 0.0, np.inf])
    expected = [1 + step, 1 + 2 * step, 1.0, -1 - step, 0.0, np.inf]
    np.testing.assert_array_equal(rounded(x, precision), np.array(expected, np.float32))


@pytest.mark.parametrize("precision", ["float64", "float32", "float16", "bfloat16"])
def test_a_replay_repeats_a_trace_with_its_steps(precision: str) -> None:
    found = recorded(tokens=2, dtype=precision if precision.startswith("float") else None)
    again = replay(tiny_model(), found, precision)
    assert again.order == found.order
    error = max(np.abs(again[n].astype(float) - found[n]).max() for n in found)
    assert error <= {"float64": 0.0, "float32": 0.0, "float16": 0.5, "bfloat16": 4.0}[precision]
    if precision in ("float16", "bfloat16"):
        for name in again:
            if again[name].dtype.kind == "f":
                np.testing.assert_array_equal(rounded(again[name], precision), again[name])


def test_a_replay_reads_the_words_of_the_trace_and_not_its_own() -> None:
    found = recorded(tokens=1)
    other = dict(found)
    other["step.1.input.input_ids"] = np.array([[7], [8]])
    again = replay(tiny_model(), Trace(other), "float32")
    np.testing.assert_array_equal(again["step.1.input.input_ids"], [[7], [8]])
    assert (again["step.1.output"] != found["step.1.output"]).any()


def test_a_replay_reads_an_image_by_itself_too() -> None:
    model = tiny_model()
    with trace(model) as found:
        cache = model.encode_image(pixels(1))
        model(tokens(1), past_key_values=cache)
    again = replay(model, found, "float32")
    assert again.order == found.order
    np.testing.assert_array_equal(again["step.1.output"], found["step.1.output"])


def test_a_trace_without_inputs_has_no_floor_to_measure() -> None:
    with pytest.raises(ValueError, match="holds no inputs"):
        NoiseFloor.measure(tiny_model(), Trace({"output": np.zeros(3)}))


def test_a_floor_is_the_distance_to_float64_and_at_least_half_a_unit() -> None:
    exact = np.array([1.0, -4.0, 2.0])
    floor = measured_floor(np.array([1.0, -4.0, 2.5], np.float32), exact, "float32")
    assert floor == Floor(0.5, pytest.approx(0.5 / np.sqrt(3)))
    least = measured_floor(exact.astype(np.float32), exact, "float32")
    assert least.max == 4.0 * UNIT_ROUNDOFF["float32"]
    assert least.rms == pytest.approx(np.sqrt(7.0) * UNIT_ROUNDOFF["float32"])
    overflow = measured_floor(np.array([1.0, -np.inf, 2.0], np.float32), exact, "float16")
    assert overflow.max == np.inf


def test_the_floors_of_a_model_are_those_of_its_runs() -> None:
    truth, single = recorded(dtype="float64"), recorded()
    floors = NoiseFloor.measure(tiny_model(), truth, ("float32",))
    assert set(floors.floors["float32"]) == {n for n in truth if not is_input(n)}
    for name in ("git.encoder.layer.1.output.dense", "output"):
        error = float(np.abs(single[name] - truth[name]).max())
        unit = UNIT_ROUNDOFF["float32"] * np.abs(truth[name]).max()
        assert max(error, unit) <= floors.of(name, truth[name]).max < 100 * unit
    # a float32 reference finds its truth by itself
    same = NoiseFloor.measure(tiny_model(), single, ("float32",))
    assert same.floors == floors.floors


def test_float32_counts_the_worse_of_two_orders_of_summation() -> None:
    truth, kernels = recorded(dtype="float64"), recorded()
    other = replay(summed_backwards(tiny_model()), truth, "float32")
    floors = NoiseFloor.measure(tiny_model(), truth, ("float32",))
    worse = set()
    for name in floors.floors["float32"]:
        errors = [float(np.abs(run[name] - truth[name]).max()) for run in (kernels, other)]
        assert floors.of(name, truth[name]).max >= max(errors)
        worse.add(errors[1] > errors[0])
    assert worse == {False, True}


def test_narrower_precisions_have_higher_floors() -> None:
    truth = recorded(dtype="float64")
    floors = NoiseFloor.measure(tiny_model(), truth)
    levels = [
        floors.of("output", truth["output"], precision).max
        for precision in ("float64", "float32", "float16", "bfloat16")
    ]
    assert levels == sorted(levels)
    assert levels[3] > 2 * levels[2] > 1000 * levels[1] > 1e6 * levels[0]


def test_what_was_not_measured_is_scaled_or_estimated() -> None:
    x = np.full(9, 3.0)
    floors = NoiseFloor({"float32": {"a": Floor(1e-6, 1e-7)}})
    assert floors.of("a", x, "float64") == Floor(1e-6 * 2.0**-29, 1e-7 * 2.0**-29)
    assert floors.of("a", x, "bfloat16") == Floor(1e-6 * 2.0**16, 1e-7 * 2.0**16)
    guess = floors.of("b", x)
    assert not guess.measured
    assert guess.max > 3.0 * UNIT_ROUNDOFF["float32"]
    assert floors.of("input.pixel_values", x).max == 3.0 * UNIT_ROUNDOFF["float32"]
    assert floors.of("b", np.zeros(3)).max > 0


def test_floors_travel_in_the_metadata() -> None:
    floors = NoiseFloor(
        {"float32": {"a": Floor(1.5e-6, 1.25e-7)}, "float16": {"a": Floor(np.inf, np.inf)}}
    )
    stored = Trace({"a": np.zeros(2)}, meta={"noise": floors.to_json()})
    again = NoiseFloor.of_trace(stored)
    assert again is not None
    assert again.floors == floors.floors
    assert again.has("float16")
    assert not again.has("bfloat16")


@pytest.mark.parametrize("noise", [None, "x", "[]", '{"float32": 3}', '{"float32": {"a": [1]}}'])
def test_metadata_that_holds_no_floors_gives_none(noise: str | None) -> None:
    meta = {} if noise is None else {"noise": noise}
    assert NoiseFloor.of_trace(Trace({"a": np.zeros(2)}, meta=meta)) is None


@pytest.mark.parametrize("precision", ["float64", "float32", "float16", "bfloat16"])
def test_numbers_tell_what_they_were_computed_in(precision: str) -> None:
    wide = replay(tiny_model(), recorded(), precision)
    stored = {n: x.astype(np.float64) if x.dtype.kind == "f" else x for n, x in wide.items()}
    assert precision_of(Trace(stored)) == precision


def test_one_narrow_tensor_makes_no_narrow_model() -> None:
    found = dict(recorded())
    name = "git.encoder.layer.1.output.dense"
    found[name] = rounded(found[name], "bfloat16")
    assert precision_of(Trace(found)) == "float32"
    assert precision_of(Trace({"ids": np.arange(9)})) == "float32"
