"""A comparison that fails, and an HTML report taken apart."""

from __future__ import annotations

import math

import numpy as np
import pytest

from refgit.parity import Comparison, compare
from refgit.parity.diagnosis.procedure import Cause, Diagnosis, Finding
from refgit.parity.report.write import html_report
from refgit.testing import pixels, tiny_model, tokens
from refgit.traces.container import Trace
from refgit.traces.recorder import record

EVIL = "<img src=x onerror='hacked=1'>\"&amp;</script><script>hacked=1</script>"
VALUE = "git.image_encoder.vision_model.encoder.layers.1.self_attn.v_proj"
PROBABILITIES = "git.image_encoder.vision_model.encoder.layers.1.self_attn.probabilities"
WRONG = ("git.encoder.layer.0.intermediate.dense", "step.1.output")


@pytest.fixture(scope="module")
def reference() -> Trace:
    return record(tiny_model(dtype="float64"), pixels(2), tokens(2), tokens=1)


@pytest.fixture(scope="module")
def other(reference: Trace) -> Trace:
    """The same, but for a patch of one tensor, one number, one NaN, a head, and hostile names."""
    arrays = {name: np.array(x) for name, x in reference.items()}
    arrays[VALUE][1, 2, :6] += 1e-3
    arrays[PROBABILITIES][:, 2] = arrays[PROBABILITIES][:, 1]
    arrays[WRONG[0]][0, 7, 3] += 1.0
    arrays[WRONG[1]][1, 0, 4] = np.nan
    arrays = {EVIL if name == WRONG[0] else name: x for name, x in arrays.items()}
    arrays["nobody's <i>"] = np.zeros((3, 7, 7, 7))
    del arrays["git.encoder.layer.2.output.dense"]
    return Trace(arrays, meta={"producer": f"port {EVIL}"})


@pytest.fixture(scope="module")
def comparison(reference: Trace, other: Trace) -> Comparison:
    return compare(reference, other, names={EVIL: WRONG[0]})


@pytest.fixture(scope="module")
def diagnosis() -> Diagnosis:
    causes = [Cause(f"your bias is missing {EVIL}", "bias", 1.2, WRONG[0])]
    return Diagnosis([Finding(VALUE, 5e4, causes), Finding(WRONG[0], math.inf)], 90)


@pytest.fixture(scope="module")
def page(reference: Trace, other: Trace, comparison: Comparison, diagnosis: Diagnosis) -> str:
    return html_report(comparison, diagnosis, reference, other)
