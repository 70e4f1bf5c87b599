"""Which golden cases are small or have generated ids, and the error of a tensor."""

from __future__ import annotations

import numpy as np

from helpers import golden_cases as golden

SMALL = [case for case in golden.FORWARD_CASES if case != "git_base"]


def relative_error(found: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference, relative to the tensor's largest magnitude."""
    assert found.shape == wanted.shape
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


WRITING = [case for case in SMALL if golden.group(case, "ids")]
