"""Ensembles of finite networks: with weights, without, and exactly known cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import meanfield as mf
from meanfield.empirical import measure, network, signals
from meanfield.empirical.ensembles import _PROBE, LayerStatistics

NORMAL = mf.NormalPrior(1.6, 0.1, 0.9)
ASYMMETRIC = mf.AsymmetricPrior(1.2, 0.02, 1.0)


def test_the_networks_measured_are_flax_models():
    sizes = dict(width=48, depth=4, seed=5)
    measured = measure("tanh", NORMAL, networks=3, q0=1.3, c0=0.2, q2=0.6, n_inputs=3, **sizes).samples
    model = network("tanh", NORMAL, n_inputs=3, index=2, **sizes)
    h, _ = model.pre_activations(signals(1.3, 0.2, 3, q2=0.6))
    np.testing.assert_allclose(np.mean(h**2, axis=2)[:, 0], measured.q[2], rtol=1e-5)
    np.testing.assert_allclose(np.mean(h**2, axis=2)[:, 1], measured.q2[2], rtol=1e-5)
    product = np.mean(h[:, 0] * h[:, 1], axis=1) / np.sqrt(measured.q[2] * measured.q2[2])
    np.testing.assert_allclose(product, measured.c[2], rtol=1e-4)
    np.testing.assert_allclose(np.mean(np.all(h <= 0, axis=1), axis=1), measured.dead[2], rtol=1e-6)


def test_gradients_are_those_of_the_model():
    """The direction that was drawn at the end, pulled back by hand through the kernels."""
    width, depth, index = 32, 3, 1
    measured = measure("tanh", NORMAL, width=width, depth=depth, networks=2, gradients=True).samples
    model = network("tanh", NORMAL, width=width, depth=depth, index=index)
    h = np.asarray(model.pre_activations(signals()[:1])[0], float)[:, 0]
    kernels = np.asarray(model.hidden.kernel[...], float)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), index), _PROBE)
    gradient = np.asarray(jax.random.normal(jax.random.split(key)[1], (width,)), float)
    squares = [gradient @ gradient]
    for layer in reversed(range(depth)):
        gradient = (1 - np.tanh(h[layer]) ** 2) * (kernels[layer] @ gradient)
        squares.append(gradient @ gradient)
    np.testing.assert_allclose(measured.gradient[index], squares[::-1] / squares[0], rtol=1e-4)


def test_gradients_through_straight_orthogonal_layers_are_exactly_known():
    """Every layer multiplies the square of a gradient by sigma_w^2."""
    prior = mf.OrthogonalPrior(1.7)
    found = measure("linear", prior, width=32, depth=4, networks=3, gradients=True).samples.gradient
    np.testing.assert_allclose(found, np.broadcast_to(1.7 ** np.arange(4.0, -1, -1), (3, 5)), rtol=1e-4)


@pytest.mark.parametrize("method", ["weights", "weightless"])
def test_the_tangent_is_the_derivative(method):
    """Two inputs a hair apart separate as tangents grow."""
    sizes = dict(width=400, depth=6, networks=40, method=method)
    near = measure("tanh", NORMAL, c0=1 - 1e-6, seed=1, **sizes).samples
    apart = np.log(near.one_minus_c[:, -1] * near.q[:, -1] / (near.one_minus_c[:, 0] * near.q[:, 0]))
    grown = np.sum(np.log(near.growth), axis=1)
    error = np.hypot(*(x.std() / 40**0.5 for x in (apart, grown)))
    assert abs(apart.mean() - grown.mean()) < 4 * error


@pytest.mark.parametrize("prior", [NORMAL, ASYMMETRIC], ids=["normal", "asymmetric"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_with_and_without_weights_the_law_is_the_same(activation, prior):
    """Two samples of small networks, where the width matters; every layer, every statistic."""
    sizes = dict(width=12, depth=8, networks=2000, tangents=2)
    with_weights = measure(activation, prior, seed=1, **sizes).samples
    without = measure(activation, prior, seed=2, method="weightless", **sizes).samples
    p_values = []
    for name in ("q", "q2", "c", "mean", "activity", "inactive", "dead", "growth"):
        pair = (getattr(m, name) for m in (with_weights, without))
        for a, b in zip(*(x.T for x in pair), strict=True):
            if np.ptp(a) > 0:
                p_values.append(stats.ks_2samp(a[np.isfinite(a)], b[np.isfinite(b)]).pvalue)
    for a, b in zip(with_weights.exponents.T, without.exponents.T, strict=True):
        p_values.append(stats.ks_2samp(a, b).pvalue)
    assert min(p_values) * len(p_values) > 1e-3  # Bonferroni, over some seventy tests


@pytest.mark.parametrize("method", ["weights", "weightless"])
def test_the_variance_of_the_variance_is_exactly_known(method):
    """ReLU, sigma_w^2 = 2: E q_L^2 / q_0^2 = (1 + 5/N)^L for the variance given the layer before."""
    width, depth, networks = 25, 5, 20_000
    found = measure(
        "relu", mf.NormalPrior(2.0), width=width, depth=depth, networks=networks, method=method, seed=3
    )
    squares = np.asarray(2 * found.samples.activity, float) ** 2
    exact = (1 + 5 / width) ** np.arange(1, depth + 2)
    error = squares.std(axis=0) / networks**0.5
    assert np.all(np.abs(squares.mean(axis=0) - exact) < 4 * error)
    of_h = np.asarray(found.samples.q, float) ** 2
    exact_h = (1 + 5 / width) ** np.arange(depth + 1) * (1 + 2 / width)
    assert np.all(np.abs(of_h.mean(axis=0) - exact_h) < 4 * of_h.std(axis=0) / networks**0.5)


def test_exponents_of_a_linear_network_are_known():
    """Products of Gaussian matrices (Newman 1986): lambda_i = (log(2/N) + digamma((N - i + 1)/2)) / 2."""
    width, depth = 16, 40
    found = measure("linear", mf.NormalPrior(1.0), width=width, depth=depth, networks=200, tangents=4)
    from scipy.special import digamma

    exact = 0.5 * (np.log(2 / width) + digamma((width - np.arange(4)) / 2))
    deviation = (found.mean.exponents - exact) / found.standard_error.exponents
    assert np.abs(deviation[1:]).max() < 5 and abs(deviation[0]) < 4


def test_repeated_inputs_stay_repeated_without_noise():
    for method in ("weights", "weightless"):
        for prior in (NORMAL, ASYMMETRIC):
            found = measure("tanh", prior, width=64, depth=5, networks=2, c0=1.0, method=method)
            np.testing.assert_array_equal(found.samples.one_minus_c, 0)


def test_a_network_does_not_depend_on_how_many_are_drawn():
    few, many = (measure("relu", NORMAL, width=32, depth=3, networks=n, seed=2).samples for n in (3, 40))
    np.testing.assert_allclose(few.q, many.q[:3], rtol=1e-5)


def test_many_inputs_die_as_the_theory_says(x64):
    prior = mf.NormalPrior(2.0, 0.0, 1.0)
    found = measure(
        "relu", prior, width=2000, depth=6, networks=40, c0=0.3, n_inputs=6, method="weightless", seed=1
    )
    theory = mf.dead_node_probability("relu", prior, 6, c0=0.3, depth=6).probability
    assert np.abs((found.mean.dead - theory) / found.standard_error.dead).max() < 4


def test_means_leave_out_dead_networks():
    found = measure("relu", mf.NormalPrior(2.0), width=2, depth=6, networks=200)
    dead = ~np.isfinite(found.samples.c[:, -1])
    assert 0 < dead.sum() < 200 and (found.samples.q[dead, -1] * found.samples.q2[dead, -1] == 0).all()
    assert np.isfinite(found.mean.c).all() and np.isfinite(found.standard_error.c).all()


def test_widths_of_millions_fit(x64):
    found = measure("tanh", NORMAL, width=2_000_000, depth=2, networks=1, method="weightless").samples
    theory = mf.propagate("tanh", NORMAL, depth=2)
    assert isinstance(found, LayerStatistics)
    np.testing.assert_allclose(found.q[0], theory.q, rtol=5e-3)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"method": "gpu"}, ValueError, "'weights' or 'weightless'"),
        ({"method": "weightless", "gradients": True}, ValueError, "gradients need weights"),
        ({"c0": -0.9, "n_inputs": 3}, ValueError, "c0 must be finite and between -0.5 and 1"),
        ({"n_inputs": 1}, ValueError, "n_inputs must be at least 2"),
        ({"width": 0}, ValueError, "width must be at least 1"),
        ({"tangents": 99}, ValueError, "at most the width"),
        ({"q0": np.ones(2)}, ValueError, "q0 must be a number"),
        ({"prior": mf.NormalPrior(np.ones(2))}, ValueError, "must be scalars"),
        ({"prior": 2.0}, TypeError, "prior must be"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
    ],
)
def test_wrong_arguments_are_named(change, error, message):
    arguments = dict(activation="relu", prior=NORMAL, width=8, depth=2, networks=2) | change
    with pytest.raises(error, match=message):
        measure(**arguments)


def test_the_model_of_a_measured_network_is_refused_without_a_prior():
    with pytest.raises(TypeError, match="prior must be"):
        network("relu", jnp.ones(3))


@pytest.mark.parametrize(
    ("q0", "c0", "n_inputs", "q2"),
    [(1.0, -1.0, 2, 1.0), (1.3, 0.2, 4, 0.6), (2.0, -0.5, 3, 2.0), (1.0, 1.0, 3, 5.0)],
)
def test_signals_have_the_variances_and_correlations_asked_for(x64, q0, c0, n_inputs, q2):
    x = np.asarray(signals(q0, c0, n_inputs, q2=q2))
    size = np.sqrt([q0, *[q2] * (n_inputs - 1)])
    expected = np.outer(size, size) * (c0 + (1 - c0) * np.eye(n_inputs))
    np.testing.assert_allclose(x @ x.T / n_inputs, expected, rtol=1e-13, atol=1e-14)
