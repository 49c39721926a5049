"""Spectra of real networks: their factors, alternating QR, Lanczos, and the theory beside them."""

import dataclasses

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import pytest
from scipy import special, stats

import meanfield as mf
from meanfield.empirical import (
    compare_spectra,
    jacobian_factors,
    leading_singular_values,
    log_singular_values,
    measure_lyapunov_spectrum,
    measure_singular_values,
    network,
    signals,
)
from meanfield.empirical.limit_laws import LimitLaw
from meanfield.empirical.spectra import LEVELS, compared, quantiles, theory_of

NORMAL, ORTHOGONAL = mf.NormalPrior(1.8, 0.05), mf.OrthogonalPrior(1.8, 0.05)
WIDTH = 40


def test_factors_multiply_to_the_derivative_of_the_model(x64):
    factors = jacobian_factors("tanh", NORMAL, width=WIDTH, depth=3, q0=0.6)
    model = network("tanh", NORMAL, width=WIDTH, depth=3)
    start = model.pre_activations(signals(0.6, 0.0)[:1])[0][0, 0]

    def rest(h):
        for kernel, bias in zip(model.hidden.kernel[...], model.hidden.bias[...], strict=True):
            h = jnp.tanh(h) @ kernel + bias
        return h

    product = factors[2] @ factors[1] @ factors[0]
    np.testing.assert_allclose(jax.jacobian(rest)(start), product, atol=1e-13)
    leading = leading_singular_values(rest, start, 5)
    np.testing.assert_allclose(leading, np.linalg.svd(product, compute_uv=False)[:5], rtol=1e-12)


def test_alternating_qr_keeps_every_decade(x64):
    """Graded factors whose product spans 240 decades, against mpmath's arithmetic by logarithms."""
    depth, n = 60, 4
    sizes = 10.0 ** -np.arange(n)
    keys = jax.random.split(jax.random.key(0), depth + 1)
    turns = [jnp.linalg.qr(jax.random.normal(k, (n, n)))[0] for k in keys]
    factors = jnp.stack([turns[i + 1] * sizes @ turns[i].T for i in range(depth)])
    found = log_singular_values(factors, 4)
    np.testing.assert_allclose(found, depth * np.log(sizes), rtol=1e-11, atol=1e-10)


def test_alternating_qr_finds_the_singular_values_of_one_matrix_and_its_zeros(x64):
    left, right = (jnp.linalg.qr(jax.random.normal(jax.random.key(i), (WIDTH, WIDTH)))[0] for i in (1, 2))
    values = np.where(np.arange(WIDTH) < 10, 1.5 ** -np.arange(WIDTH), 0.0)
    matrix = left * values @ jnp.eye(WIDTH)
    found = log_singular_values(jnp.stack([matrix, right]), 60)
    np.testing.assert_allclose(found[:10], np.log(values[:10]), atol=1e-10)
    assert np.all(np.isneginf(found[10:]))


def claimed(measured, prior):
    """The same measurement, said to be of another prior."""
    return dataclasses.replace(measured, prior=prior)


@pytest.mark.slow
@pytest.mark.parametrize(
    "prior, other, depth", [(NORMAL, ORTHOGONAL, 8), (ORTHOGONAL, NORMAL, 1), (ORTHOGONAL, NORMAL, 8)]
)
def test_singular_values_of_networks_follow_the_theory(prior, other, depth):
    """A reduced version of benchmarks/spectra.py: width 200, so five times its deviations."""
    found = measure_singular_values("tanh", prior, width=200, depth=depth, networks=2, sweeps=4)
    # Independent slopes of one orthogonal layer are the worst: 1.63 / sqrt(n) at 1%.
    assert theory_of(found)[1].distance(found.log_values) < 1.63 / 400**0.5
    assert theory_of(claimed(found, other))[1].distance(found.log_values) > 1.63 / 400**0.5


def test_zeros_and_atoms_are_counted(x64):
    relu = measure_singular_values("relu", mf.NormalPrior(2.0, 0.1), width=200, depth=1, networks=8)
    assert abs(np.mean(np.isneginf(relu.log_values)) - 0.5) < 5 * 0.5 / 1600**0.5
    assert theory_of(relu)[1].distance(relu.log_values) < 5 * 0.5 / 1600**0.5


UNIFORM = LimitLaw(np.array([0.0, 1.0]), np.array([0.0, 1.0]), 0.0, np.zeros(0))
# Half of the probability at 0.3, a tenth at -inf, the rest even on (0, 1).
MIXED = LimitLaw(np.array([0.0, 0.3, 0.3, 1.0]), np.array([0.1, 0.22, 0.72, 1.0]), 0.1, np.array([0.3]))


def test_the_distance_is_that_of_scipy():
    samples = np.random.default_rng(0).random(200)
    expected = stats.kstest(samples, "uniform").statistic
    assert UNIFORM.distance(samples) == pytest.approx(expected, abs=1e-12)


def test_the_distance_compares_jumps_with_jumps():
    """Both one-sided limits at an atom: a sample on it must be there in number, and not only near."""
    even = lambda low, high, n: low + (high - low) * (np.arange(n) + 0.5) / n
    parts = np.full(100, -np.inf), even(0, 0.3, 120), np.full(500, 0.3), even(0.3, 1, 280)
    fair = np.concatenate(parts)
    assert MIXED.distance(fair) <= 0.5 / 1000 + 1e-12
    # Rounding leaves a sample of an atom to either side of it.
    noise = 1e-14 * np.random.default_rng(0).standard_normal(500)
    assert MIXED.distance(np.concatenate([*parts[:2], 0.3 + noise, parts[3]])) == MIXED.distance(fair)
    # What lies beside the atom, on whichever side, does not count for it.
    for shift in (-1e-6, 1e-6):
        beside = np.concatenate([*parts[:2], parts[2] + shift, parts[3]])
        assert MIXED.distance(beside) == pytest.approx(0.5, abs=1e-3)
    few = np.concatenate([*parts[:2], parts[2][:400], even(0.3, 1, 380)])
    assert MIXED.distance(few) == pytest.approx(0.1, abs=1e-3)
    silent = np.concatenate([np.full(150, -np.inf), even(0, 0.3, 70), *parts[2:]])
    assert MIXED.distance(silent) == pytest.approx(0.05, abs=1e-3)


def test_atoms_of_the_theory_are_jumps_of_its_distribution_function(x64):
    prior = mf.OrthogonalPrior(1.3, 0.1)
    leaky = LimitLaw.of(mf.jacobian_spectrum("leaky_relu", prior, 1))
    np.testing.assert_allclose(leaky.atoms, np.log(1.3) / 2 + np.log([0.01, 1.0]), atol=1e-12)
    np.testing.assert_allclose(leaky.up_to(leaky.atoms), [0.5, 1.0], atol=1e-9)
    np.testing.assert_allclose(leaky.below(leaky.atoms), [0.0, 0.5], atol=1e-9)
    tops = mf.jacobian_spectrum("hard_tanh", mf.OrthogonalPrior(1.02, 0.005), 2, points=64)
    law = LimitLaw.of(tops)
    assert law.atoms.tolist() == [float(tops.log_atom)]
    assert law.up_to(law.atoms[0]) == 1 and law.below(law.atoms[0]) == pytest.approx(1 - float(tops.atom))
    assert law.up_to(-np.inf) == float(tops.zero) and law.below(-np.inf) == 0
    # Even slopes send two nodes to one place, which is no atom. One orthogonal layer: P(|phi'| <= s).
    smooth = mf.jacobian_spectrum("tanh", mf.OrthogonalPrior(1.8, 0.05), 1)
    law = LimitLaw.of(smooth)
    s = np.linspace(0.1, 0.9999, 200)
    expected = 2 * special.ndtr(-np.arccosh(s**-0.5) / np.sqrt(float(smooth.q)))
    np.testing.assert_allclose(law.up_to(np.log(s) + np.log(1.8) / 2), expected, atol=2e-3)
    assert law.atoms.size == 0


@pytest.mark.parametrize("depth", [1, 3])
def test_rows_that_sum_to_zero_leave_one_null_direction_of_each_network(depth):
    """By the prior alone: a network with other weights, or with kappa = 0.99, has none."""
    for kappa, null in ((1.0, 1), (0.99, 0)):
        found = measure_singular_values(
            "tanh", mf.NormalPrior(1.8, 0.05, kappa), width=WIDTH, depth=depth, networks=2
        )
        assert found.null_directions == null and np.sum(np.isneginf(found.log_values)) == 2 * null
        assert found.bulk.shape == (2, WIDTH - null) and np.all(np.isfinite(found.bulk))
    with jax.enable_x64(True):
        factors = jacobian_factors("tanh", mf.NormalPrior(1.8, 0.05, 1.0), width=WIDTH, depth=depth)
        product = np.linalg.multi_dot([np.eye(WIDTH), *np.asarray(factors[::-1])])
    values = np.linalg.svd(product, compute_uv=False)
    assert values[-1] < 1e-14 * values[0] < 1e-6 * values[-2]


def test_zeros_of_slopes_leave_no_null_direction_to_rows_that_sum_to_zero(x64):
    """W D x = 0 asks for D x to be uniform: ReLU's rank is the number of active neurons, at any kappa."""
    prior = mf.NormalPrior(2.0, 0.1, 1.0)
    found = measure_singular_values("relu", prior, width=WIDTH, depth=1, networks=2)
    assert found.null_directions == 0 and found.bulk is not None
    for i, zeros in enumerate(np.sum(np.isneginf(found.log_values), axis=1)):
        factor = jacobian_factors(
            "relu", prior, width=WIDTH, depth=1, index=i, q0=float(mf.fixed_point("relu", prior).q)
        )
        assert zeros == WIDTH - np.linalg.matrix_rank(factor[0]) == np.sum(np.all(factor[0] == 0, axis=0))


def test_quantiles_are_those_of_numpy():
    values, t = np.random.default_rng(1).standard_normal((3, 50)), np.linspace(0.1, 0.9, 9)
    for method in ("hazen", "inverted_cdf"):
        np.testing.assert_allclose(quantiles(values, t, method), np.quantile(values, t, method=method))
    silent = np.append(np.full(50, -np.inf), values)
    assert np.isneginf(quantiles(silent, 0.2)) and np.isneginf(quantiles(silent, 0.2, "inverted_cdf"))
    with pytest.raises(ValueError, match="method must be 'hazen' or 'inverted_cdf', got 'linear'"):
        quantiles(values, t, "linear")


@pytest.mark.parametrize("kappa", [0.0, 1.0])
def test_lyapunov_exponents_of_networks_follow_the_theory(kappa):
    networks, width = 2, 60
    prior = mf.NormalPrior(2.5, 0.05, kappa)
    found = measure_lyapunov_spectrum("tanh", prior, width=width, depth=40, networks=networks)
    assert found.log_values.shape == (networks, width)
    levels = LEVELS[3:]
    law = theory_of(found)[1]
    gap = np.abs(found.quantile(levels) - law.quantile(levels))
    # Neighbouring exponents repel: their places fluctuate by about one of width, 1/width in t, and so
    # large is their bias. In exponents that is the slope of the quantiles, steep where they are few.
    slope = np.gradient(law.quantile(levels), levels)
    assert np.all(gap < 2 * slope / width)


@pytest.mark.slow
def test_two_widths_agree_with_the_theory_and_not_with_another():
    found = compare_spectra("tanh", NORMAL, width=40, depth=4, networks=12, seed=1)
    assert found.p_value > 1e-3 and np.nanmax(np.abs(found.deviation)) < 5
    assert compared(claimed(found.narrow, ORTHOGONAL), claimed(found.wide, ORTHOGONAL)).p_value < 1e-3
    assert isinstance(found.plot(), matplotlib.figure.Figure)


def test_exponents_are_drawn_over_their_quantiles():
    t = np.linspace(0, 1, 51)
    for activation in ("tanh", "relu"):
        figure = mf.lyapunov_spectrum(activation, NORMAL, t).plot(np.linspace(-1, 0, 10))
        assert figure.axes[0].get_xlabel() == "fraction of directions $t$"
    with pytest.raises(ValueError, match=r"over one axis of t.*\(\)"):
        mf.lyapunov_spectrum("tanh", NORMAL, 0.5).plot()


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: compare_spectra("tanh", NORMAL, kind="x"), ValueError, "kind must be.*'x'"),
        (lambda: compare_spectra("tanh", mf.AsymmetricPrior(1.0)), TypeError, "has no theory"),
        (lambda: compare_spectra("tanh", NORMAL, networks=3), ValueError, "networks must be at least 8"),
        (lambda: measure_singular_values("tanh", NORMAL, depth=0), ValueError, "depth must be at least 1"),
        (
            lambda: leading_singular_values(jnp.sin, jnp.ones(3), 4),
            ValueError,
            "count must be at most the size of x, 3, got 4",
        ),
        (
            lambda: mf.empirical.measure("tanh", ORTHOGONAL, width=4, method="weightless"),
            ValueError,
            "'weights' for an OrthogonalPrior",
        ),
    ],
)
def test_wrong_arguments_are_named(call, error, words):
    with pytest.raises(error, match=words):
        call()
