"""Probabilities that Gaussians are all negative, against formulas, mpmath and samples."""

import itertools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from mpmath import mpf
from scipy import integrate, special

from meanfield.dead.orthants import log_orthant_probability

POSITIVE = [
    (2, 0.3),
    (10, 1e-4),
    (10, 0.500001),
    (100, 0.999),
    (10_000, 0.01),
    (10_000, 0.3),
    (10_000, 0.9),
    (10_000, 1 - 1e-12),
]
NEGATIVE = [(4, -0.2), (4, -0.33), (10, -0.05), (10, -0.11), (40, -0.025)]


def log_probability(cases):
    """At each (n, c); always an array of one shape, so that it compiles once."""
    padded = [*cases, *[cases[-1]] * (16 - len(cases))]
    n, c = np.array(padded).T
    return np.asarray(log_orthant_probability(n.astype(int), c))[: len(cases)]


def normal_cdf(x):
    return mpmath.erfc(-x / mpmath.sqrt(2)) / 2


def over_the_shared_gaussian(n, c):
    """log E Phi(k z)^n, panels around the mode and where Phi(k z) bends."""
    with mpmath.workdps(25):
        k = mpmath.sqrt(mpf(c) / (1 - mpf(c)))

        def log_integrand(z):
            return -(z**2) / 2 + n * mpmath.log(normal_cdf(k * z))

        low, high = mpf(0), mpf(300)
        for _ in range(25):
            left, right = (2 * low + high) / 3, (low + 2 * high) / 3
            low, high = (left, high) if log_integrand(left) < log_integrand(right) else (low, right)
        top = log_integrand(low)
        bends = [x / k for x in (0, 1, 2, 3, 4, 5, 6, 8, 10)]
        panels = [low + d for d in (-13, -6, -3, -1.5, -0.5, 0, 0.5, 1.5, 3, 6, 13)]
        panels = sorted(panels + [x for x in bends if panels[0] < x < panels[-1]])
        total = mpmath.quad(lambda z: mpmath.exp(log_integrand(z) - top), panels)
        return top + mpmath.log(total / mpmath.sqrt(2 * mpmath.pi))


def over_the_imaginary_axis(n, c):
    """log E Re Phi(i k z)^n, with digits enough for what cancels; the integrand is entire."""
    with mpmath.workdps(60 + 3 * n // 2):
        k = mpmath.sqrt(-mpf(c) / (1 - mpf(c)))
        step, total = mpf(1) / 8, mpf(2) ** -(n + 1)
        for i in itertools.count(1):
            z = i * step
            term = mpmath.exp(-(z**2) / 2) * normal_cdf(mpmath.mpc(0, k * z)) ** n
            total += term.real
            if abs(term) < mpf(10) ** (10 - mpmath.mp.dps):
                return mpmath.log(2 * step * total / mpmath.sqrt(2 * mpmath.pi))


def test_positive_correlations_up_to_one_agree_with_mpmath(x64):
    expected = [over_the_shared_gaussian(*case) for case in POSITIVE]
    error = [abs(mpf(float(x)) - y) for x, y in zip(log_probability(POSITIVE), expected, strict=True)]
    assert max(error) <= 3e-12


def test_negative_correlations_agree_with_mpmath(x64):
    expected = [over_the_imaginary_axis(*case) for case in NEGATIVE]
    found = log_probability(NEGATIVE)
    for (n, c), x, y in zip(NEGATIVE, found, expected, strict=True):
        # What the rounding of c may do, n eps / (1 + (n-1) c), and no more.
        assert abs(mpf(float(x)) - y) <= 1e-14 + 2 * n * 2.2e-16 / (1 + (n - 1) * c)


def test_two_and_three_gaussians_have_their_arcsine_formulas(x64):
    middle, high = np.linspace(-0.47, 0.95, 11), 1 - np.logspace(-12, -3, 5)
    c2 = np.concatenate([-1 + np.logspace(-12, -1, 7), [-0.7, -0.5], middle, high])
    c3 = np.concatenate([-0.5 + np.logspace(-12, -2, 7), [-0.48, -0.475], middle, high])
    with mpmath.workdps(30):
        angles2, angles3 = ([mpmath.asin(mpf(x)) / mpmath.pi for x in c] for c in (c2, c3))
        exact2 = [float(mpmath.log(mpf(1) / 4 + x / 2)) for x in angles2]
        exact3 = [float(mpmath.log(mpf(1) / 8 + 3 * x / 4)) for x in angles3]
    found = log_orthant_probability(np.array([[2], [3]]), np.stack([c2, c3]))
    np.testing.assert_allclose(found, [exact2, exact3], atol=1e-13)


def test_known_probabilities(x64):
    n = [1, 2, 100, 10_000, 10**6]
    cases = [(k, 0.0) for k in n] + [(k, 1.0) for k in n] + [(1, c) for c in (-3.0, -0.4, 0.2)]
    found = log_probability([*cases, (10, 0.999)])
    np.testing.assert_allclose(found[:5], n * np.log([0.5]), rtol=1e-15)
    np.testing.assert_allclose(found[5:-1], np.log(0.5), rtol=1e-15, atol=1e-9)
    assert abs(np.exp(found[-1]) - 0.480589) <= 5e-7


def test_c_near_one_is_governed_by_the_largest_of_n_normals(x64):
    def density_times_t(t):
        return t * 10 * special.ndtr(t) ** 9 * np.exp(-(t**2) / 2) / np.sqrt(2 * np.pi)

    largest = integrate.quad(density_times_t, -8, 9, epsabs=1e-13)[0]
    c = 1 - 1e-8
    shortfall = 0.5 - np.exp(log_probability([(10, c)])[0])
    assert abs(shortfall / (np.sqrt((1 - c) / (2 * np.pi)) * largest) - 1) <= 1e-7


@pytest.mark.parametrize("c", [-0.15, 0.0, 0.4, 0.95])
def test_a_million_samples_are_negative_as_often(x64, c):
    n, samples = 5, 1_000_000
    rng = np.random.default_rng(0)
    root = np.linalg.cholesky((1 - c) * np.eye(n) + c)
    found = np.mean(np.all(rng.standard_normal((samples, n)) @ root.T <= 0, axis=1))
    expected = np.exp(log_probability([(n, c)])[0])
    assert abs(found - expected) <= 4 * np.sqrt(expected * (1 - expected) / samples)


def test_the_ends_of_the_range(x64):
    n = (2, 3, 50)
    low = [-1 / (k - 1) for k in n]
    ends = [low, [x - 1e-9 for x in low], [x + 1e-15 for x in low], [1 + 1e-15] * 3, [np.nan] * 3]
    cases = [(k, c) for row in ends for k, c in zip(n, row, strict=True)]
    at_low, below, inside, above, undefined = log_probability(cases).reshape(5, 3)
    assert np.all(at_low == -np.inf)
    assert np.all(np.isfinite(inside))
    assert np.all(np.isnan([below, above, undefined]))


def test_single_precision_errs_by_n_roundings():
    cases = [*POSITIVE, *NEGATIVE, (2, -0.99), (1000, -5e-4), (10_000, 0.0), (7, 1.0)]
    n, c = np.array(cases, np.float32).T
    found = log_orthant_probability(n, c)
    assert found.dtype == jnp.float32
    with jax.enable_x64(True):
        expected = np.asarray(log_orthant_probability(n.astype(float), c.astype(float)))
    room = np.where(c < 0, 1 + (n - 1.0) * c, 1)
    assert np.all(np.abs(found - expected) <= 3.6e-7 * (1 + n / room))


def test_derivatives_agree_with_differences(x64):
    n = np.array([1, 2, 3, 4, 9, 50, 10_000] * 3)
    c = np.repeat([-0.6, 0.0, 0.6], 7) * np.where(np.repeat([1, 0, 0], 7), 1 / np.maximum(n - 1, 1), 1)
    step = 1e-4 / n

    def value(c):
        return log_orthant_probability(n, c)

    def slope(c):
        return jax.jvp(value, (c,), (jnp.ones_like(c),))[1]

    for fn in (value, slope):
        exact = jax.jvp(fn, (jnp.asarray(c),), (jnp.ones(c.shape),))[1]
        differences = (fn(c + step) - fn(c - step)) / (2 * step)
        size = np.maximum(np.abs(exact), 1)
        assert np.max(np.abs(differences - exact) / size) <= 1e-5


def test_derivatives_at_zero_and_at_the_ends(x64):
    slope = jax.jit(jax.vmap(jax.grad(log_orthant_probability, argnums=1)))
    n = np.array([1.0, 2.0, 3.0, 100.0])
    np.testing.assert_allclose(slope(n, np.zeros(4)), n * (n - 1) / np.pi, rtol=1e-12)
    assert np.all(np.asarray(slope(n, np.ones(4))) == [0, np.inf, np.inf, np.inf])
    n = np.array([2.0, 3.0, 4.0, 100.0])
    assert np.all(np.asarray(slope(n, -1 / (n - 1))) == np.inf)


def test_arguments_broadcast_and_many_points_go_in_batches(x64):
    n, c = np.array([[2], [5]]), np.linspace(-0.2, 1, 8200)
    found = log_orthant_probability(n, c)
    assert found.shape == (2, 8200)
    few = log_probability([(k, x) for k in (2, 5) for x in c[::2000]])
    np.testing.assert_allclose(found[:, ::2000].ravel(), few, rtol=1e-14)
    assert np.all(np.diff(found, axis=1) > 0)
