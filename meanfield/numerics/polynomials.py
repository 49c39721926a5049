"""Polynomials from their coefficients, and the cubic between two nodes."""


def horner(coefficients, x):
    """The polynomial with these coefficients, of powers from 0 up, at x; each may be an array."""
    total = coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        total = total * x + coefficient
    return total


def cubic(start, end, slope, end_slope):
    """Coefficients, of powers from 0 up, of the cubic with these values and derivatives at 0 and at 1."""
    rise = end - start
    return start, slope, 3 * rise - 2 * slope - end_slope, slope + end_slope - 2 * rise
