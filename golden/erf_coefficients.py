"""Make the polynomial coefficients of refgit/layers/erf.py, in 50 digits with mpmath.

    python golden/erf_coefficients.py

prints them; paste into refgit/layers/erf.py, and the last into
backends/refgit_backends/numpy/activation.py. Two Chebyshev interpolants, rewritten in powers:
    |x| <= 1      erf(x) = x * CENTRE(x^2)                      on x^2 in [0, 1]
    1 < |x| <= 6  erf(x) = sign(x) * (1 - exp(-x^2) * TAIL(s))  with s = (|x| - 5/2) / (|x| + 5/2)
and one for float32 alone, for the tail of the normal distribution:
    u >= 0        1 - Phi(u) = exp(-u^2 / 2) * NORMAL_TAIL(s)   with s = (u - 3) / (u + 3)
"""

from __future__ import annotations

from collections.abc import Callable

import mpmath as mp

mp.mp.dps = 50


def power_coefficients(f: Callable[[mp.mpf], mp.mpf], low: float, high: float, degree: int) -> list:
    """Coefficients, constant first, of the Chebyshev interpolant of f on [low, high]."""
    n = degree + 1
    nodes = [mp.cos(mp.pi * (k + mp.mpf(1) / 2) / n) for k in range(n)]
    points = [(mp.mpf(high) - low) / 2 * t + (mp.mpf(high) + low) / 2 for t in nodes]
    matrix = mp.matrix(n, n)
    for i, point in enumerate(points):
        for j in range(n):
            matrix[i, j] = point**j
    return list(mp.lu_solve(matrix, mp.matrix([f(p) for p in points])))


def centre(z: mp.mpf) -> mp.mpf:
    return mp.erf(mp.sqrt(z)) / mp.sqrt(z) if z > 0 else 2 / mp.sqrt(mp.pi)


def tail(s: mp.mpf) -> mp.mpf:
    x = mp.mpf(5) / 2 * (1 + s) / (1 - s)
    return mp.exp(x * x) * mp.erfc(x)


def normal_tail(s: mp.mpf) -> mp.mpf:
    u = 3 * (1 + s) / (1 - s)
    return mp.exp(u * u / 2) * mp.erfc(u / mp.sqrt(2)) / 2


def main() -> None:
    low, high = (mp.mpf(1) - 2.5) / 3.5, mp.mpf(3.5) / 8.5
    for name, f, a, b, degree in (
        ("_CENTRE", centre, 0, 1, 11),
        ("_TAIL", tail, low, high, 15),
        ("_NORMAL_TAIL", normal_tail, -1, mp.mpf(11) / 17, 9),
    ):
        c = power_coefficients(f, a, b, degree)
        grid = [a + (b - a) * mp.mpf(i) / 500 for i in range(501)]
        worst = max(abs(mp.polyval(c[::-1], g) / f(g) - 1) for g in grid)
        print(f"# largest relative error {mp.nstr(worst, 2)}")
        print(f"{name} = (")
        for value in c:
            print(f"    {float(value)!r},")
        print(")")


if __name__ == "__main__":
    main()
