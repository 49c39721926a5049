"""Flax models beside the maps of the theory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

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


def test_a_wide_model_follows_the_theory():
    model = FullyConnected(100, 1, width=2000, depth=5, activation="tanh", prior=PRIOR, rngs=nnx.Rngs(1))
    x = jax.random.normal(jax.random.key(0), (1, 100))
    x = x - jnp.mean(x)
    h, _ = model.pre_activations(x * jnp.sqrt(100 / jnp.sum(x**2)))
    q = mf.propagate("tanh", PRIOR, q0=1.8 + 0.2, depth=4).q
    np.testing.assert_allclose(jnp.mean(h**2, axis=(1, 2)), q, rtol=0.12)


@pytest.mark.parametrize("depth", [1, 2, 60])
def test_any_depth(depth):
    model = FullyConnected(2, 1, width=4, depth=depth, prior=PRIOR, rngs=nnx.Rngs(0))
    assert model.pre_activations(jnp.ones((1, 2)))[0].shape == (depth, 1, 4)


def test_a_circular_convolution_treats_signals_as_a_dense_layer_does():
    prior = mf.NormalPrior(2.0, 0.1, 0.0)
    model = Convolutional(3, 2, channels=256, depth=4, prior=prior, kernel_size=(3, 3), rngs=nnx.Rngs(0))
    x = jnp.ones((1, 6, 6, 3))  # alike everywhere, so every place sees one dense layer
    h, outputs = model.pre_activations(x)
    assert (h.shape, outputs.shape) == ((4, 1, 6, 6, 256), (1, 2))
    q = mf.propagate("relu", prior, q0=2.1, depth=3).q
    np.testing.assert_allclose(jnp.mean(h**2, axis=(1, 2, 3, 4)), q, rtol=0.35)


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
