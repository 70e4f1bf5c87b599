"""The error function, which neither NumPy nor the array API standard has.

GIT's text decoder uses the exact GELU, and that is made of erf. Two polynomials, computed to 50
digits by golden/erf_coefficients.py, keep float64 within 4 ulp (units in the last place, the steps
between neighbouring numbers) and float32 within 2 ulp of the true value everywhere
(tests/layers/test_erf.py).
"""

from __future__ import annotations

from refgit.layers._array_api import Array, array_namespace

# erf(x) / x as a polynomial in x^2 on [0, 1], constant first
_CENTRE = (
    1.1283791670955126,
    -0.37612638903183543,
    0.11283791670945006,
    -0.02686617064323777,
    0.0052239776071164225,
    -0.0008548325975389692,
    0.00012055294904839707,
    -1.492473690741966e-05,
    1.6447424703317362e-06,
    -1.6208483801871705e-07,
    1.3720064546777686e-08,
    -7.795898827002142e-10,
)
# exp(x^2) erfc(x) as a polynomial in s = (x - 5/2) / (x + 5/2) for x on [1, 6]
_TAIL = (
    0.21080636406114356,
    -0.3717367339489732,
    0.251713193217456,
    -0.12503305237885554,
    0.0399225390747838,
    -0.0039937011641469865,
    -0.002642365927759658,
    0.0008759154019168855,
    0.00022837955896605415,
    -0.00012887649615317198,
    -3.4172229273553035e-05,
    1.8609712314617464e-05,
    7.48480117852628e-06,
    -2.2842173094341345e-06,
    -1.5625258507743158e-06,
    8.134380709229634e-08,
)


def erf(x: Array) -> Array:
    r"""Return the error function of every element.

    .. math:: \operatorname{erf}(x) = \frac{2}{\sqrt{\pi}} \int_0^x e^{-t^2} \, dt

    Parameters
    ----------
    x : array, any shape, floating point
        NaN gives NaN; infinities give -1 and 1.

    Returns
    -------
    array, same shape and dtype
        Computed in float64 whatever the dtype, then rounded once.

    Notes
    -----
    Source: the definition, Abramowitz and Stegun 7.1.1; the polynomials are refgit's own.
    """
    xp = array_namespace(x)
    y = xp.astype(x, xp.float64)
    size = xp.minimum(xp.abs(y), xp.ones_like(y) * 6.0)  # erf(6) rounds to 1
    square = xp.minimum(size * size, xp.ones_like(y))
    centre = y * _polynomial(_CENTRE, square)
    tail = 1.0 - xp.exp(-size * size) * _polynomial(_TAIL, (size - 2.5) / (size + 2.5))
    result = xp.where(size > 1.0, xp.sign(y) * tail, centre)
    return xp.astype(result, x.dtype)


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    """Evaluate c[0] + c[1] x + c[2] x^2 + ... by Horner's rule."""
    total = coefficients[-1] + 0.0 * x
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total
