"""Flax models beside the maps of the theory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import stats

import meanfield as mf
from meanfield.empirical import Convolutional, FullyConnected

PRIOR = mf.NormalPrior(1.8, 0.2, 0.7)


def test_one_call_gives_the_pre_activations_of_all_layers():
    model = FullyConnected(5, 3, width=16, depth=4, activation="tanh", prior=PRIOR, rngs=nnx.Rngs(0))
    x = jnp.ones((7, 5))
    h, outputs = model.pre_activations(x)
    assert (h.shape, outputs.shape) == ((4, 7, 16), (7, 3))
    np.testing.assert_array_equal(model(x), outputs)
    kernel = model.hidden.kernel[...][1]
    by_hand = jnp.tanh(h[1]) @ kernel + model.hidden.bias[...][1]
    np.testing.assert_allclose(h[2], by_hand, rtol=1e-5, atol=1e-6)


def in_units_of_the_theory(prior, h, phi):
    """Pre-activations after the first layer over the size that the map gives the layer before them."""
    mean, square = np.mean(phi, axis=-1), np.mean(phi**2, axis=-1)
    size = prior.weight_var * (square - prior.anticorrelation * mean**2) + prior.bias_var
    return h[:, 1:] / np.sqrt(size[:, :-1, None])


def assert_standard_normal(z):
    """As independent draws are: their law, and their mean square within four standard errors."""
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-3
    assert abs(np.mean(z**2) - 1) <= 4 * np.sqrt(2 / z.size)


def test_models_follow_the_theory():
    """A hundred of them: every layer is Gaussian given the one before, with the variance of the map."""

    @jax.jit
    @jax.vmap
    def pre_activations(key):
        rngs = nnx.Rngs(params=key)
        model = FullyConnected(100, 1, width=400, depth=4, activation="tanh", prior=PRIOR, rngs=rngs)
        return model.pre_activations(x[None])[0][:, 0]

    x = jax.random.normal(jax.random.key(0), (100,))
    x = x - jnp.mean(x)
    x = x * jnp.sqrt(100 / jnp.sum(x**2))
    h = np.asarray(pre_activations(jax.random.split(jax.random.key(1), 100)), float)
    assert_standard_normal(in_units_of_the_theory(PRIOR, h, np.tanh(h)))
    q = np.mean(h**2, axis=2)
    error = np.std(q, axis=0, ddof=1) / 10
    assert np.all(error / np.mean(q, axis=0) < 0.015)
    assert np.all(
        np.abs(np.mean(q, axis=0) - mf.propagate("tanh", PRIOR, q0=1.8 + 0.2, depth=3).q) < 4 * error
    )


@pytest.mark.parametrize("depth", [1, 2, 60])
def test_any_depth(depth):
    model = FullyConnected(2, 1, width=4, depth=depth, prior=PRIOR, rngs=nnx.Rngs(0))
    assert model.pre_activations(jnp.ones((1, 2)))[0].shape == (depth, 1, 4)


def test_a_circular_convolution_treats_signals_as_a_dense_layer_does():
    """Thirty networks under an image alike everywhere: every place sees one and the same dense layer."""
    prior = mf.NormalPrior(2.0, 0.1, 0.6)

    @jax.jit
    @jax.vmap
    def pre_activations(key):
        rngs = nnx.Rngs(params=key)
        model = Convolutional(3, 2, channels=128, depth=4, prior=prior, kernel_size=(3, 3), rngs=rngs)
        return model.pre_activations(jnp.ones((1, 3, 3, 3)))

    h, outputs = pre_activations(jax.random.split(jax.random.key(0), 30))
    assert (h.shape, outputs.shape) == ((30, 4, 1, 3, 3, 128), (30, 1, 2))
    h = np.asarray(h, float).reshape(30, 4, 9, 128)
    np.testing.assert_allclose(h, np.broadcast_to(h[:, :, :1], h.shape), rtol=1e-5, atol=2e-5)
    h = h[:, :, 0]
    assert_standard_normal(in_units_of_the_theory(prior, h, np.maximum(h, 0)))


def test_parameters_may_be_bfloat16():
    model = FullyConnected(
        4, 1, width=8, depth=3, prior=PRIOR, param_dtype=jnp.bfloat16, dtype=jnp.bfloat16, rngs=nnx.Rngs(0)
    )
    assert model(jnp.ones((1, 4))).dtype == jnp.bfloat16


def test_an_activation_with_parameters_can_be_trained_beside():
    model = FullyConnected(2, 1, width=4, depth=2, activation="elu(0.5)", prior=PRIOR, rngs=nnx.Rngs(0))
    gradient = nnx.grad(lambda m: jnp.sum(m(jnp.ones((1, 2)))))(model)
    assert np.isfinite(jax.tree.leaves(gradient)[0]).all()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"width": 0}, ValueError, "width must be at least 1"),
        ({"depth": 2.5}, TypeError, "depth must be an integer"),
        ({"prior": "he"}, TypeError, "kernel_init"),
        ({"activation": "rulu"}, ValueError, "relu"),
    ],
)
def test_wrong_arguments_are_named(change, error, message):
    arguments = dict(width=4, depth=2, prior=PRIOR, rngs=nnx.Rngs(0)) | change
    with pytest.raises(error, match=message):
        FullyConnected(2, 1, **arguments)
