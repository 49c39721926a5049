"""Gaussian moments: each closed form against the quadrature, both against SciPy."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from problems import FUNCTIONS, gaussian_mean, second_moment
from scipy import special

import meanfield as mf
from meanfield.activations.names import as_activation
from meanfield.dual import QuadratureDual, closed_form, dual_of

CLOSED = [
    "linear",
    "relu",
    "abs",
    "leaky_relu(0.2)",
    "squared_relu",
    "erf",
    "sin",
    "cos",
    "polynomial(0.3, -1, 0, 0.5)",
    "hard_tanh",
    "relu6",
    "snake(0.5)",
]
VARIANCES = np.geomspace(1e-6, 60, 9)
ANGLES = np.array([1e-4, 1e-2, 0.3, 1.0, 1.5, np.pi / 2])
CORRELATIONS = np.array([-1.0, -0.9, -0.3, 0.0, 0.4, 0.99, 1.0])


@jax.jit
def at_variances(dual, q):
    def one(q):
        both = lambda x: jnp.stack([dual.mean(x), dual.variance(x)])
        values, slopes = jax.jvp(both, (q,), (jnp.ones_like(q),))
        return values[0], values[1], dual.slope_moment(q), slopes[0], slopes[1], dual.reflected_covariance(q)

    return jax.vmap(one)(q)


@jax.jit
def at_pairs(dual, q, theta):
    return jax.vmap(lambda q, t: (dual.chord(q, t), dual.slope_covariance(q, t)))(q, theta)


@jax.jit
def covariances(dual, q1, q2, c):
    return jax.vmap(dual.covariance)(q1, q2, c)


def variances_for(name):
    # Quadrature on the activation's own scale follows a wave over few periods only.
    if name == "cos":
        # 1 - cos(u) of a small u is lost in rounding, in the activation itself.
        return np.geomspace(1e-2, 5, 5)
    return VARIANCES[VARIANCES <= 5] if name in ("sin", "snake(0.5)") else VARIANCES


def close(value, expected, size, tolerance=1e-10):
    assert np.max(np.abs(np.asarray(value) - np.asarray(expected)) / size) <= tolerance


@pytest.mark.parametrize("name", CLOSED)
def test_closed_form_moments_equal_the_quadrature(x64, name):
    activation = as_activation(name)
    q = jnp.asarray(variances_for(name))
    exact = [np.asarray(x) for x in at_variances(closed_form(activation), q)]
    found = [np.asarray(x) for x in at_variances(QuadratureDual(activation), q)]
    mean, variance, slope, mean_slope, variance_slope, reflected = exact
    spread = np.sqrt(variance)
    close(found[0], mean, np.abs(mean) + spread)
    close(found[1], variance, variance)
    close(found[2], slope, slope)
    close(found[3], mean_slope, np.abs(mean_slope) + spread / q)
    close(found[4], variance_slope, np.abs(variance_slope) + variance / q)
    close(found[5], reflected, variance)


@pytest.mark.parametrize("name", CLOSED)
def test_closed_form_chords_equal_the_quadrature(x64, name):
    activation = as_activation(name)
    q, theta = (jnp.asarray(x.ravel()) for x in np.meshgrid(variances_for(name), ANGLES))
    chord, slope = (np.asarray(x) for x in at_pairs(closed_form(activation), q, theta))
    found_chord, found_slope = at_pairs(QuadratureDual(activation), q, theta)
    size = np.asarray(at_variances(closed_form(activation), q)[2])
    close(found_chord, chord, chord)
    close(found_slope, slope, np.abs(slope) + 1e-4 * size)
    assert np.all(chord <= size * (1 + 1e-14))


@pytest.mark.parametrize("name", CLOSED)
def test_closed_form_covariances_equal_the_quadrature_at_unequal_variances(x64, name):
    activation = as_activation(name)
    grid = np.meshgrid(variances_for(name)[::2], [0.04, 2.5], CORRELATIONS)
    q1, q2, c = (jnp.asarray(x.ravel()) for x in grid)
    exact, rule = closed_form(activation), QuadratureDual(activation)
    size = np.sqrt(np.asarray(at_variances(exact, q1)[1]) * np.asarray(at_variances(exact, q2)[1]))
    # Angles near 0 and pi lose half the digits of a correlation, in closed form or not.
    close(covariances(rule, q1, q2, c), covariances(exact, q1, q2, c), size)


@pytest.mark.parametrize("name", ["hard_tanh", "relu6"])
def test_bounded_moments_are_exact_at_every_variance_and_increase(x64, name):
    """Against the textbook integrals in 40 digits; a diagram's fast solver counts on the order."""
    q = np.geomspace(1e-3, 1e28, 32)
    mean, variance, *_ = (
        np.asarray(x) for x in at_variances(closed_form(as_activation(name)), jnp.asarray(q))
    )
    with mpmath.workdps(40):
        expected = [clipped_moments(name, mpmath.mpf(float(x))) for x in q]
    close(mean, [m for m, _ in expected], 1e-4 + np.abs(mean), 1e-14)
    close(variance, [v for _, v in expected], variance, 3e-14)
    assert np.all(np.diff(variance + mean**2) > -1e-13 * variance[1:])


def clipped_moments(name, q):
    """Mean and variance of u cut off at -1 and 1, or at 0 and 6."""
    root, at = mpmath.sqrt(q), mpmath.mpf(1 if name == "hard_tanh" else 6)
    inside, beyond = mpmath.ncdf(at / root) - mpmath.mpf(1) / 2, mpmath.ncdf(-at / root)
    second = q * (inside - at / root * mpmath.npdf(at / root)) + at**2 * beyond
    if name == "hard_tanh":
        return 0.0, float(2 * second)
    mean = root * (mpmath.npdf(0) - mpmath.npdf(at / root)) + at * beyond
    return float(mean), float(second - mean**2)


SLOPES = {
    "tanh": lambda x: 1 / np.cosh(x) ** 2,
    "gelu": lambda x: special.ndtr(x) + x * np.exp(-x * x / 2) / np.sqrt(2 * np.pi),
    "hard_tanh": lambda x: (np.abs(x) < 1) * 1.0,
    "softsign": lambda x: 1 / (1 + np.abs(x)) ** 2,
    "relu": lambda x: (x > 0) * 1.0,
    "sin": np.cos,
}


@pytest.mark.parametrize("name", SLOPES)
def test_moments_and_their_derivatives_obey_gaussian_integration_by_parts(x64, name):
    """v' = E[u phi phi'] / q and m' = E[u phi'] / (2 q), without a second derivative."""
    fn, kinks = FUNCTIONS[name]
    slope = SLOPES[name]
    q = np.array([1e-3, 0.3, 1.7, 20.0])
    mean, variance, slope_moment, mean_slope, variance_slope, _ = (
        np.asarray(x) for x in at_variances(dual_of(as_activation(name)), jnp.asarray(q))
    )
    for i, x in enumerate(q):
        m = gaussian_mean(fn, x, kinks)
        v = gaussian_mean(lambda u: fn(u) ** 2, x, kinks)
        dm = gaussian_mean(lambda u: u * slope(u), x, kinks) / (2 * x)
        dv = gaussian_mean(lambda u: u * fn(u) * slope(u), x, kinks) / x
        spread = np.sqrt(v)
        assert abs(mean[i] - m) <= 1e-12 * spread
        assert abs(variance[i] - (v - m * m)) <= 1e-12 * v
        assert abs(slope_moment[i] / gaussian_mean(lambda u: slope(u) ** 2, x, kinks) - 1) <= 1e-11
        assert abs(mean_slope[i] - dm) <= 1e-11 * spread / x
        assert abs(variance_slope[i] - (dv - 2 * m * dm)) <= 1e-11 * v / x


@pytest.mark.parametrize("name", ["tanh", "gelu", "hard_tanh", "softsign", "relu6"])
def test_quadrature_in_two_variables_agrees_with_scipy(x64, name):
    dual = QuadratureDual(as_activation(name))
    q = np.array([0.05, 1.3, 12.0])
    theta = np.array([0.2, 0.9, np.pi / 2])
    chord, _ = at_pairs(dual, jnp.asarray(q), jnp.asarray(theta))
    fn, kinks = FUNCTIONS[name]
    for x, t, value in zip(q, theta, np.asarray(chord), strict=True):
        gap = gaussian_mean(lambda u: fn(u) ** 2, x, kinks) - second_moment(name, x, np.cos(t))
        assert abs(value / (gap / (2 * x * np.sin(t / 2) ** 2)) - 1) <= 1e-10


def test_a_jump_has_no_slope_moment(x64):
    dual = dual_of(mf.Activation(jnp.sign, kinks=(0.0,)))
    assert np.isinf(dual.slope_moment(jnp.asarray(1.0)))


def test_closed_forms_know_no_error_and_quadrature_estimates_its_own(x64):
    q = jnp.asarray(1.0)
    assert dual_of(as_activation("relu")).error(q) == 0
    assert dual_of(as_activation("tanh")).error(q) <= 1e-12
    poor = QuadratureDual(mf.Activation(lambda x: jnp.clip(x, -0.3, 0.8), kinks=()))
    true = gaussian_mean(lambda x: np.clip(x, -0.3, 0.8) ** 2, 1.0, (-0.3, 0.8))
    true -= gaussian_mean(lambda x: np.clip(x, -0.3, 0.8), 1.0, (-0.3, 0.8)) ** 2
    assert poor.error(q) >= abs(poor.variance(q) / true - 1) / 10
    assert poor.error(q) > 1e-10
