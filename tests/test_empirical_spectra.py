"""Spectra of real networks: their factors, alternating QR, Lanczos, and the theory beside them."""

import dataclasses

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import pytest
from scipy import stats

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
from meanfield.empirical.spectra import LEVELS, compared, kolmogorov_distance, theory_of

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
    cumulative = theory_of(found)[1]
    # Independent slopes of one orthogonal layer are the worst: 1.63 / sqrt(n) at 1%.
    assert kolmogorov_distance(found.log_values, cumulative) < 1.63 / 400**0.5
    wrong = theory_of(claimed(found, other))[1]
    assert kolmogorov_distance(found.log_values, wrong) > 1.63 / 400**0.5


def test_zeros_and_atoms_are_counted(x64):
    relu = measure_singular_values("relu", mf.NormalPrior(2.0, 0.1), width=200, depth=1, networks=8)
    assert abs(np.mean(np.isneginf(relu.log_values)) - 0.5) < 5 * 0.5 / 1600**0.5
    assert kolmogorov_distance(relu.log_values, theory_of(relu)[1]) < 5 * 0.5 / 1600**0.5


def test_the_distance_is_that_of_scipy_and_knows_atoms():
    samples = np.random.default_rng(0).random(200)
    uniform = lambda x: np.clip(x, 0, 1)  # noqa: E731
    found = kolmogorov_distance(samples, uniform)
    assert found == pytest.approx(stats.kstest(samples, "uniform").statistic, abs=1e-8)
    rounded = 0.3 + 1e-15 * np.arange(100)
    assert kolmogorov_distance(rounded, lambda x: np.where(x < 0.3, 0.0, 1.0)) == 0
    assert kolmogorov_distance(rounded, lambda x: np.where(x < 0.3, 0.25, 1.0)) == 0.25


@pytest.mark.parametrize("kappa", [0.0, 1.0])
def test_lyapunov_exponents_of_networks_follow_the_theory(kappa):
    prior = mf.NormalPrior(2.5, 0.05, kappa)
    found = measure_lyapunov_spectrum("tanh", prior, width=100, depth=60, networks=2)
    assert found.log_values.shape == (2, 100)
    gap = found.quantile(LEVELS[3:]) - theory_of(found)[2](LEVELS[3:])
    assert np.max(np.abs(gap)) < 0.1


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
