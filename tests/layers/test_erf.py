"""erf against 50-digit values: float64 within 4 ulp, float32 within 2 ulp, everywhere."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refgit import to_numpy
from refgit.layers import erf
from refgit_backends import Backend

LIMIT = {np.float32: 2, np.float64: 4}


def true_erf(x: np.ndarray) -> list[mpmath.mpf]:
    mpmath.mp.dps = 50
    return [mpmath.erf(mpmath.mpf(float(v))) for v in x]


def ulps(found: np.ndarray, wanted: list[mpmath.mpf]) -> float:
    """Largest distance from the true values in units of the last place of the dtype."""
    worst = mpmath.mpf(0)
    for f, w in zip(found, wanted, strict=True):
        nearest = found.dtype.type(float(w))
        unit = mpmath.mpf(float(np.spacing(np.abs(nearest))))
        worst = max(worst, abs(mpmath.mpf(float(f)) - w) / unit)
    return float(worst)


def points(dtype: type) -> np.ndarray:
    """Both signs of: a grid, every binary size, the seams at 1 and 6, and the extremes."""
    info = np.finfo(dtype)
    grid = np.linspace(0, 7, 1500)
    powers = 2.0 ** np.arange(-140 if dtype is np.float32 else -1060, 8)
    seams = [edge + k * 2**-22 for edge in (1.0, 6.0) for k in range(-20, 21)]
    extremes = [0.0, float(info.tiny), float(info.max)]
    x = np.concatenate([grid, powers, seams, extremes])
    return np.concatenate([x, -x]).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_erf_is_within_its_ulps_everywhere(dtype: type, backend: Backend) -> None:
    x = points(dtype)
    found = to_numpy(erf(backend.asarray(x)))
    assert found.dtype == dtype
    assert ulps(found, true_erf(x)) <= LIMIT[dtype]


@given(st.floats(-8, 8))
def test_erf_of_any_number_is_within_4_ulp(x: float) -> None:
    value = np.array([x])
    assert ulps(erf(value), true_erf(value)) <= 4


@given(st.floats(width=32, allow_nan=False))
def test_erf_is_odd_and_between_minus_one_and_one(x: float) -> None:
    value = np.array([x], np.float32)
    assert erf(-value) == -erf(value)
    assert abs(erf(value)[0]) <= 1


def test_erf_of_infinities_and_nan(backend: Backend) -> None:
    found = to_numpy(erf(backend.asarray(np.array([np.inf, -np.inf, np.nan]))))
    np.testing.assert_array_equal(found, [1.0, -1.0, np.nan])
