"""Density evolution and stationary laws: one signal under an asymmetric prior, without sampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import meanfield as mf
from meanfield.asymmetric.special_weights import Constant

# Known to six digits by densities on two grids that agreed to 1e-9 (theory notes, section 8).
UNIT_GAIN = {0.0: 0.846514, 0.5: 0.951324, 0.9: 1.070571, 1.0: 1.108108}


@pytest.mark.parametrize("kappa", UNIT_GAIN)
def test_unit_gain_of_rai_and_raai(kappa):
    assert np.sqrt(mf.AsymmetricPrior.unit_gain(anticorrelation=kappa).weight_var) == pytest.approx(
        UNIT_GAIN[kappa], abs=1e-6
    )


def test_published_rai_shrinks_signals(x64):
    result = mf.density_evolution(
        "relu", mf.AsymmetricPrior.rai(anticorrelation=np.array([0.0, 1.0])), depth=60
    )
    assert result.gain[-1, 0] == pytest.approx(0.764556, abs=1e-6)
    np.testing.assert_allclose(result.inactive[-1], [0.3084, 0.2814], atol=5e-5)
    assert np.max(result.error) < 1e-6


def test_unit_gain_keeps_the_second_moment_at_every_anticorrelation(x64):
    kappa = np.array(list(UNIT_GAIN))
    result = mf.density_evolution("relu", mf.AsymmetricPrior.unit_gain(anticorrelation=kappa), depth=60)
    np.testing.assert_allclose(result.gain[-1], 1.0, atol=1e-9)
    np.testing.assert_allclose(result.inactive[-1], 0.345468, atol=1e-6)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_halving_the_step_moves_nothing(x64, activation):
    prior = mf.AsymmetricPrior(0.9, 0.05, np.array([0.0, 1.0]))
    coarse, fine = (mf.density_evolution(activation, prior, depth=25, step=step) for step in (2.0, 1.0))
    for name in ("q", "mean", "noise_var", "inactive", "activity", "growth"):
        np.testing.assert_allclose(getattr(coarse, name), getattr(fine, name), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("activation", ["relu", "tanh", "hard_tanh"])
def test_the_law_agrees_with_a_plain_simulation(x64, activation):
    prior = mf.AsymmetricPrior(0.9, 0.05, 0.5)
    result = mf.density_evolution(activation, prior, depth=4, q0=2.0)
    phi = {
        "relu": lambda x: np.maximum(x, 0),
        "tanh": np.tanh,
        "hard_tanh": lambda x: np.clip(x, -1, 1),
    }[activation]
    random, size = np.random.default_rng(5), 1_000_000
    h = np.sqrt(2.0) * random.standard_normal(size)
    for layer in range(1, 5):
        signal = phi(h)
        variance = 0.9 * (np.mean(signal**2) - 0.5 * np.mean(signal) ** 2) + 0.05
        h = random.beta(2, 1, size) * signal + np.sqrt(variance) * random.standard_normal(size)
        for found, sample in [(result.q, h**2), (result.mean, h), (result.inactive, h <= 0)]:
            # Five standard errors, doubled for those handed on through the variance.
            assert abs(found[layer] - sample.mean()) < 10 * sample.std() / np.sqrt(size)
    for function in (np.cos, lambda x: np.exp(-(x**2)), np.arctan):
        from_law = np.sum(result.law.mass * function(np.asarray(result.law.h)))
        assert abs(from_law - function(h).mean()) < 10 * function(h).std() / np.sqrt(size)


def test_a_linear_activation_has_closed_forms(x64):
    # q' = (E B^2 + sigma_w^2) q + sigma_b^2, and the same growth for every perturbation.
    prior = mf.AsymmetricPrior(0.3, 0.2, np.array([-1.0, 0.0, 1.0]))
    point = mf.fixed_point("linear", prior)
    np.testing.assert_allclose(point.q, 0.2 / (1 - 0.8), rtol=1e-9)
    for name in ("chi_q", "chi_1", "chi_perp"):
        np.testing.assert_allclose(getattr(point, name), 0.8, rtol=1e-9)
    evolution = mf.density_evolution("linear", prior, depth=5, q0=3.0)
    q = 3.0
    for layer in range(1, 6):
        q = 0.8 * q + 0.2
        np.testing.assert_allclose(evolution.q[layer], q, rtol=1e-9)
        np.testing.assert_allclose(evolution.growth[layer], 0.8, rtol=1e-9)


def uniform(u):
    return 0.3 * u


def exponential(u):
    return -0.3 * jnp.log1p(-u)


@pytest.mark.parametrize(
    ("law", "tolerance"), [(mf.Beta(2, 3), 1e-8), (0.5, 1e-8), (uniform, 1e-8), (exponential, 1e-5)]
)
def test_other_laws_keep_the_exact_relation_of_second_moments(x64, law, tolerance):
    prior = mf.AsymmetricPrior(0.8, 0.1, 0.5, special_weight=law)
    result = mf.density_evolution("relu", prior, depth=3)
    square = prior.special_weight.moment(2)
    expected = square * result.activity[:-1] + result.noise_var[1:]
    np.testing.assert_allclose(result.q[1:], expected, rtol=tolerance)
    assert np.all(np.abs(result.q[1:] / expected - 1) <= result.error[1:])


def test_without_a_special_weight_laws_are_gaussian(x64):
    prior = mf.AsymmetricPrior(1.3, 0.1, 0.7, special_weight=0)
    normal = mf.NormalPrior(1.3, 0.1, 0.7)
    evolution = mf.density_evolution("relu", prior, depth=8)
    np.testing.assert_allclose(evolution.q, mf.propagate("relu", normal, depth=8).q, rtol=1e-9)
    np.testing.assert_allclose(evolution.inactive, 0.5, atol=1e-10)
    point, expected = mf.fixed_point("relu", prior), mf.fixed_point("relu", normal)
    for name in ("q", "c", "chi_q", "chi_1", "chi_perp"):
        np.testing.assert_allclose(getattr(point, name), getattr(expected, name), rtol=1e-9)
    assert point.status == expected.status and point.phase == expected.phase


def test_heavy_tails_are_said_to_be_inaccurate(x64):
    # At sigma_w^2 = 0.01 the second moment barely exists (tail exponent near 2).
    result = mf.density_evolution("relu", mf.AsymmetricPrior(0.01), depth=25)
    finer = mf.density_evolution("relu", mf.AsymmetricPrior(0.01), depth=25, step=1.0)
    off = np.abs(result.q / finer.q - 1)
    assert np.all(off <= 10 * np.asarray(result.error) + 1e-9)
    assert result.error[-1] > 1e-4


def test_it_works_in_single_precision():
    prior = mf.AsymmetricPrior(0.9, 0.05, 0.5)
    result = mf.density_evolution("relu", prior, depth=10)
    assert result.q.dtype == jnp.float32
    with jax.enable_x64(True):
        exact = mf.density_evolution("relu", prior, depth=10)
        for name in ("q", "inactive"):
            np.testing.assert_allclose(getattr(result, name), getattr(exact, name), rtol=1e-4)


def test_it_is_differentiable(x64):
    def last(weight_var):
        return mf.density_evolution("relu", mf.AsymmetricPrior(weight_var, 0.05, 0.5), depth=10).q[-1]

    step = 1e-5
    expected = float(last(0.9 + step) - last(0.9 - step)) / (2 * step)
    assert jax.grad(last)(0.9) == pytest.approx(expected, rel=1e-6)
    assert jax.jacfwd(last)(0.9) == pytest.approx(expected, rel=1e-6)


def test_unit_gain_is_differentiable_in_the_anticorrelation(x64):
    weight_var = lambda kappa: mf.AsymmetricPrior.unit_gain(anticorrelation=kappa).weight_var
    expected = (weight_var(0.5 + 1e-5) - weight_var(0.5 - 1e-5)) / 2e-5
    assert jax.grad(weight_var)(0.5) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(prior=mf.NormalPrior(1.0)), TypeError, "AsymmetricPrior"),
        (dict(prior=mf.AsymmetricPrior(0.0, 0.0)), ValueError, "both be 0"),
        (dict(depth=-1), ValueError, "depth"),
        (dict(depth=2.5), TypeError, "depth"),
        (dict(q0=0.0), ValueError, "q0"),
        (dict(step=9.0), ValueError, "step"),
        (dict(activation="rellu"), ValueError, "relu"),
    ],
)
def test_bad_input_is_named(change, error, message):
    arguments = dict(activation="relu", prior=mf.AsymmetricPrior(1.0)) | change
    with pytest.raises(error, match=message):
        mf.density_evolution(arguments.pop("activation"), arguments.pop("prior"), **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(activation="tanh"), "piecewise linear"),
        (dict(special_weight=2.0), "amplifies"),
        (dict(anticorrelation=1.5), "anticorrelation"),
        (dict(activation="leaky_relu(1.5)", special_weight=Constant(1.0)), "amplifies"),
    ],
)
def test_unit_gain_that_does_not_exist_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        mf.AsymmetricPrior.unit_gain(**arguments)
