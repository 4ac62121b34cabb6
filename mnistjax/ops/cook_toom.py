"""The matrices of Winograd's convolution in one dimension, from exact fractions."""

import math
from fractions import Fraction
from functools import cache

import numpy as np

# Evaluation points in the order they are used; F(4,3) is most exact with 1/2 beside -2.
POINTS = (0, 1, -1, 2, -2, Fraction(1, 2), Fraction(-1, 2))
POINTS_4 = (0, 1, -1, Fraction(1, 2), -2)


@cache
def matrices(m: int, r: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A^T [m, n], G [n, r], B^T [n, n] of F(m, r), n = m + r - 1, in float64, from exact fractions.

    The Cook-Toom construction: polynomials are evaluated at n - 1 points and at infinity.

    >>> at, g, bt = matrices(2, 3)
    >>> at.tolist()
    [[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, -1.0, 1.0]]
    """
    n = m + r - 1
    points = [Fraction(p) for p in (POINTS_4 if n == 6 else POINTS)[: n - 1]]

    def powers(point: Fraction | None, count: int) -> list[Fraction]:
        if point is None:  # infinity: the highest coefficient
            return [Fraction(i == count - 1) for i in range(count)]
        return [point**i for i in range(count)]

    def others(point: Fraction | None) -> list[Fraction]:
        """Coefficients, lowest first, of the product of (x - q) over the other points q."""
        poly = [Fraction(1)]
        for q in points:
            if q != point:
                longer = [Fraction(0), *poly]
                poly = [a - q * b for a, b in zip(longer, [*poly, Fraction(0)], strict=True)]
        return poly + [Fraction(0)] * (n - len(poly))

    def scale(point: Fraction | None) -> Fraction:
        differences = [point - q for q in points if q != point] if point is not None else []
        return math.prod(differences, start=Fraction(1))

    at_points: list[Fraction | None] = [*points, None]
    a = np.array([powers(p, m) for p in at_points], float).T
    g = np.array([[c / scale(p) for c in powers(p, r)] for p in at_points], float)
    b = np.array([others(p) for p in at_points], float)
    return a, g, b
