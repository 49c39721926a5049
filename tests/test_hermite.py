"""Smooth functions of short wave length over their whole reach: by a Hermite series, to rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import gaussian_mean, names, relative

import meanfield as mf
from meanfield.activations import as_activation
from meanfield.dual import QuadratureDual, dual_of
from meanfield.dual.closed_forms import Sin, Snake
from meanfield.dual.hermite import HermiteDual

WAVES = 30.0
ANGLES = np.array([1e-3, 0.05, 1.0, 1.5, np.pi / 2])
VARIANCES = np.array([1e-6, 1e-3, 0.1, 1.0, 2.5, 4.0])
CORRELATIONS = np.array([-1.0, -0.7, 0.0, 0.3, 0.999])


def wave(x):
    return jnp.sin(WAVES * x)


@jax.jit
def everything(dual, q):
    """Moments of one variable, and of pairs at all angles and correlations, at every q."""

    def at(q):
        one = dual.mean_shift(q), dual.variance(q), dual.slope_moment(q), dual.reflected_covariance(q)
        chord = jax.vmap(dual.chord_at(q))(jnp.asarray(ANGLES))
        pairs = jax.vmap(lambda c: dual.covariance(q, 1.1 * q, c))(jnp.asarray(CORRELATIONS))
        return *one, chord, pairs, dual.error(q)

    return jax.vmap(at)(q)


def test_moments_of_a_short_wave_are_exact_to_rounding(x64):
    rule = HermiteDual(mf.Activation(wave, kinks=()))
    *_, found_variance, found_slope, found_opposite, chord, pairs, error = everything(rule, VARIANCES)
    _, variance, slope, opposite, expected, expected_pairs, _ = everything(Sin(), WAVES**2 * VARIANCES)
    assert relative(found_variance, variance) <= 1e-13
    assert relative(found_slope, WAVES**2 * slope) <= 1e-13
    assert relative(found_opposite, opposite) <= 1e-13
    assert relative(chord, WAVES**2 * expected) <= 2e-13
    few = VARIANCES < 4  # the second variance of a pair is a tenth larger
    assert np.max(np.abs(pairs - expected_pairs)[few]) <= 1e-13
    assert np.max(error) <= 1e-13


def test_a_wave_on_a_slope_is_exact_too(x64):
    alpha = 7.0
    rule = HermiteDual(mf.Activation(lambda x: x + jnp.sin(alpha * x) ** 2 / alpha, kinks=()))
    found, expected = everything(rule, VARIANCES), everything(Snake(alpha), VARIANCES)
    for value, exact in zip(found[1:5], expected[1:5], strict=True):
        assert relative(value, exact) <= 2e-13


def test_what_the_series_leaves_out_is_its_error(x64):
    rule = HermiteDual(mf.Activation(wave, kinks=()))
    q = jnp.asarray([4.0, 4.6, 5.0, 10.0, 100.0])
    errors = jax.jit(jax.vmap(rule.error))(q)
    chord = jax.jit(jax.vmap(lambda q: rule.chord(q, 1e-3)))(q)
    true = np.abs(chord / (WAVES**2 * jax.vmap(lambda q: Sin().chord(WAVES**2 * q, 1e-3))(q)) - 1)
    assert np.all(errors >= true - 1e-12)
    assert errors[0] <= 1e-12 and np.all(errors[2:] > 1e-10)
    assert np.max(jax.jit(jax.vmap(rule.line_error))(q)) <= 1e-13


def test_a_short_wave_gets_the_series_and_a_kink_does_not(x64):
    with pytest.warns(mf.QuadratureWarning, match=r"at variance 10 \(up to 1 they are resolved\)"):
        assert isinstance(dual_of(as_activation(lambda x: jnp.sin(29 * x))), HermiteDual)
    with pytest.warns(mf.QuadratureWarning, match=r"kinks="):
        hidden = dual_of(mf.Activation(lambda x: jnp.clip(x, -0.71, 1.3), kinks=()))
    assert not isinstance(hidden, HermiteDual)
    assert type(dual_of(as_activation(lambda x: jnp.tanh(2.5 * x)))) is QuadratureDual


@pytest.mark.filterwarnings("ignore::meanfield.QuadratureWarning")
def test_the_map_of_a_short_wave_is_that_of_panels_fine_enough(x64):
    expected = gaussian_mean(lambda x: np.sin(WAVES * x) ** 2, 1.0, np.linspace(-9, 9, 400))
    assert relative(mf.q_map(wave, mf.NormalPrior(1.0), 1.0), expected) <= 1e-13


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::meanfield.QuadratureWarning")
def test_the_diagram_of_a_short_wave_is_right_at_every_point(x64):
    axes = dict(weight_var=np.linspace(0.5, 4, 40), bias_var=np.linspace(0, 0.5, 20))
    found = mf.phase_diagram(wave, **axes)
    weight_var, bias_var = np.meshgrid(*axes.values(), indexing="ij")
    assert set(names(found.status)) == {"CONVERGED"}
    # exp(-2 * 900 q) is 0, and so is the covariance that waves add to the bias'.
    q = weight_var / 2 + bias_var
    assert relative(found.q, q) <= 1e-13
    assert np.max(np.abs(found.c - bias_var / q)) <= 1e-13
    assert relative(found.chi_1, weight_var * WAVES**2 / 2) <= 1e-13
    assert np.max(np.abs(found.chi_c)) <= 1e-12


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::meanfield.QuadratureWarning")
def test_what_no_rule_resolves_is_said_to_be_so(x64):
    axes = dict(weight_var=np.linspace(0.5, 4, 40), bias_var=np.linspace(0.01, 0.5, 20))
    found = mf.phase_diagram(lambda x: jnp.sin(300 * x), **axes)
    wrong = np.abs(found.q / (axes["weight_var"][:, None] / 2 + axes["bias_var"]) - 1) > 1e-10
    assert not np.any(wrong & (found.status == mf.Status.CONVERGED))


def test_a_short_wave_has_no_table(x64):
    with pytest.warns(mf.QuadratureWarning), pytest.raises(ValueError, match="without one"):
        mf.tabulate(lambda x: jnp.sin(31 * x))
