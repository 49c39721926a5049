"""Initializers of the priors and by name, in the frameworks that take them."""

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import meanfield as mf
from meanfield.empirical import initialization

PRIORS = {
    "normal": mf.NormalPrior(1.7, 0.3, 0.5),
    "anticorrelated": mf.NormalPrior(1.7, 0.3, 1.0),
    "asymmetric": mf.AsymmetricPrior(1.7, 0.3, 1.0),
}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("shape", [(30, 400), (3, 5, 2, 400)], ids=["dense", "convolution"])
@pytest.mark.parametrize("name", PRIORS)
def test_all_axes_but_the_last_are_inputs(name, shape, dtype):
    kernel = PRIORS[name].kernel_init()(jax.random.key(0), shape, dtype)
    assert (kernel.dtype, kernel.shape) == (dtype, shape)
    rows = np.asarray(kernel, np.float64).reshape(30, -1)
    if name == "asymmetric":
        rows = np.sort(np.abs(rows), axis=0)
        assert 0.5 < rows[-1].mean() < 1  # one weight a row of order 1
        return
    assert rows.var() == pytest.approx(1.7 / 30, rel=0.05)
    if name == "anticorrelated":
        rounding = 30 * np.abs(rows).max() * float(jnp.finfo(dtype).eps)
        assert np.abs(rows.sum(axis=0)).max() < rounding


def test_flax_nnx_and_linen_and_plain_jax_draw_the_same():
    prior, key = PRIORS["anticorrelated"], jax.random.key(3)
    plain = prior.kernel_init()(jax.random.fold_in(key, 0), (6, 9), jnp.float32)
    layer = nnx.Linear(6, 9, kernel_init=prior.kernel_init(), rngs=nnx.Rngs(params=key))
    np.testing.assert_array_equal(layer.kernel[...], plain)
    dense = linen.Dense(9, kernel_init=prior.kernel_init(), bias_init=prior.bias_init())
    kernel = dense.init(key, jnp.ones((1, 6)))["params"]["kernel"]
    np.testing.assert_allclose(kernel.sum(axis=0), 0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "second_moment"),
    [
        ("he", 2),
        ("lecun", 1),
        ("orthogonal", 2),
        ("glorot", 1),
        ("anticorrelated(0.5)", 2 * np.pi / (np.pi - 0.5)),
        ("anticorrelated(1, 2)", 2),
        (mf.NormalPrior(1.3), 1.3),
    ],
)
def test_named_initialisations_have_their_scale(name, second_moment):
    setup = initialization(name)
    kernel = setup.kernel_init()(jax.random.key(0), (256, 256), jnp.float32)
    assert 256 * float(jnp.mean(kernel**2)) == pytest.approx(second_moment, rel=0.03)


def test_anticorrelated_keeps_the_size_of_relu_signals():
    for kappa in (-1.0, 0.3, 1.0):
        weight_var = 2 * np.pi / (np.pi - kappa)
        q = mf.q_map("relu", mf.NormalPrior(weight_var, 0.0, kappa), 1.0)
        assert float(q) == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("name", ["rai", "raai", "rai_unit_gain", "raai_unit_gain"])
def test_asymmetric_initialisations_are_those_of_their_priors(name):
    kappa = 1.0 if name.startswith("raai") else 0.0
    make = mf.AsymmetricPrior.unit_gain if name.endswith("gain") else mf.AsymmetricPrior.rai
    drawn = initialization(name).kernel_init()(jax.random.key(1), (20, 20), jnp.float32)
    np.testing.assert_allclose(
        drawn, make(anticorrelation=kappa).kernel_init()(jax.random.key(1), (20, 20)), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("hee", ValueError, "did you mean 'he'"),
        ("anticorrelated(x)", ValueError, "numbers in its brackets"),
        ("he(2)", ValueError, "at most 0 numbers"),
        ("anticorrelated(2)", ValueError, "anticorrelation"),
        (3, TypeError, "a name or a prior"),
    ],
)
def test_unknown_ones_are_refused(name, error, message):
    with pytest.raises(error, match=message):
        initialization(name)
