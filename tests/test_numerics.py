"""Roots, quadrature and polynomials, each against what is known of it in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from meanfield.numerics.legendre import panel_rule, polynomials, rule_on, to_coefficients
from meanfield.numerics.polynomials import cubic, horner
from meanfield.numerics.roots import falling_root, root_between

COUPLINGS = np.array([0.3, 1.0, 4.0, 50.0])


def by_bisection(a):
    """The square root of a, whose derivatives are known."""
    return root_between(lambda x: x * x - a, jnp.zeros_like(a), 1.0 + a)


def by_newton(a):
    return falling_root(lambda x: a - x * x, jnp.ones_like(a), 0.0, 1.0 + 50.0)


@pytest.mark.parametrize("root", [by_bisection, by_newton])
def test_a_root_and_its_two_derivatives_are_those_of_the_equation(x64, root):
    a = jnp.asarray(COUPLINGS)
    first = jax.grad(lambda a: jnp.sum(root(a)))
    np.testing.assert_allclose(root(a), a**0.5, rtol=1e-15)
    np.testing.assert_allclose(first(a), a**-0.5 / 2, rtol=1e-14)
    np.testing.assert_allclose(jax.grad(lambda a: jnp.sum(first(a)))(a), -(a**-1.5) / 4, rtol=1e-14)


def test_a_falling_root_is_found_where_newtons_method_alone_runs_away(x64):
    # From the start the tangents of this gap lead far out of the bracket.
    gap = lambda x: jnp.asarray(COUPLINGS) - jnp.sinh(x) - jnp.arctan(30 * x)
    found = falling_root(gap, jnp.full(4, -25.0), -30.0, 30.0)
    expected = [
        optimize.brentq(lambda x, a=a: a - np.sinh(x) - np.arctan(30 * x), -30, 30, xtol=1e-15)
        for a in COUPLINGS
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_bisection_stays_on_the_side_that_comes_first(x64):
    below = root_between(lambda x: jnp.where(x > 0.3, 1.0, -1.0), 0.0, 1.0)
    above = root_between(lambda x: jnp.where(x > 0.3, -1.0, 1.0), 1.0, 0.0)
    assert below <= 0.3 < above and above - below <= 1e-16


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_panels_integrate_polynomials_of_twice_the_degree_exactly(dtype):
    edges = np.array([-1.0, -0.2, 0.5, 3.0], dtype)
    x, weight = rule_on(edges, 4)
    assert x.shape == weight.shape == (3, 4) and x.dtype == weight.dtype == dtype
    exact = (edges[1:] ** 8 - edges[:-1] ** 8) / 8
    np.testing.assert_allclose(np.sum(weight * x**7, axis=1), exact, rtol=30 * np.finfo(dtype).eps)


@pytest.mark.parametrize("points", [64, 100, 1007])
def test_a_rule_has_the_points_that_are_asked_for(points):
    panel, within, weight = panel_rule(points)
    assert panel.size == within.size == weight.size == points
    per_panel = np.bincount(panel, weight * within**5)
    np.testing.assert_allclose(per_panel, np.full(panel[-1] + 1, 1 / 6), rtol=1e-14)


def test_legendre_coefficients_are_those_of_the_series(x64):
    x, _ = rule_on(np.array([-1.0, 1.0]), 6)
    coefficients = np.array([0.3, -1.0, 0.2, 4.0, 0.0, 0.7])
    values = np.polynomial.legendre.legval(x[0], coefficients)
    np.testing.assert_allclose(to_coefficients(6) @ values, coefficients, atol=1e-14)
    series = sum(c * np.asarray(p) for c, p in zip(coefficients, polynomials(x[0], 6), strict=True))
    np.testing.assert_allclose(series, values, atol=1e-14)


def test_a_cubic_goes_through_values_and_slopes_at_both_ends():
    found = np.polynomial.Polynomial(cubic(2.0, -1.0, 0.5, 3.0))
    slope = found.deriv()
    assert [found(0), found(1), slope(0), slope(1)] == [2.0, -1.0, 0.5, 3.0]
    assert horner(tuple(found.coef), 0.3) == pytest.approx(found(0.3), rel=1e-15)
