"""The prior's two faces: the map of the theory and the weights of the experiment."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import meanfield as mf


@pytest.mark.parametrize("kappa", [0.0, 0.5, 1.0, -3.0])
def test_sampled_rows_have_the_covariance_of_the_definition(x64, kappa):
    fan_in, rows, weight_var = 6, 200_000, 1.7
    prior = mf.NormalPrior(weight_var, 0.0, kappa)
    kernel = np.asarray(prior.kernel_init()(jax.random.key(3), (fan_in, rows), jnp.float64))
    found = kernel @ kernel.T / rows
    expected = weight_var / fan_in * (np.eye(fan_in) - kappa / fan_in)
    # Standard error of a covariance of Gaussians; 36 entries, so five of them.
    diagonal = np.diag(expected)
    error = np.sqrt((np.outer(diagonal, diagonal) + expected**2) / rows)
    assert np.max(np.abs(found - expected) / error) <= 5
    assert np.max(np.abs(kernel.mean(axis=1)) / np.sqrt(diagonal / rows)) <= 5


def test_rows_sum_to_zero_at_kappa_one(x64):
    kernel = mf.NormalPrior(2.0, 0.0, 1.0).kernel_init()(jax.random.key(0), (300, 50), jnp.float64)
    assert np.max(np.abs(np.sum(kernel, axis=0))) <= 1e-13
    assert np.std(kernel) > 0.05


def test_a_convolution_kernel_counts_all_its_inputs(x64):
    kernel = mf.NormalPrior(2.0, 0.0, 1.0).kernel_init()(jax.random.key(1), (3, 3, 16, 2000), jnp.float64)
    assert kernel.shape == (3, 3, 16, 2000)
    assert np.max(np.abs(np.sum(kernel, axis=(0, 1, 2)))) <= 1e-13
    variance = 2.0 / 144 * (1 - 1 / 144)
    assert abs(np.var(kernel) / variance - 1) <= 5 * np.sqrt(2 / kernel.size)


def test_fan_in_one_without_correlation_is_silent_at_kappa_one():
    assert np.all(mf.NormalPrior(2.0, 0.0, 1.0).kernel_init()(jax.random.key(1), (1, 5)) == 0)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_weights_come_in_the_precision_asked_for(dtype):
    prior = mf.NormalPrior(2.0, 0.1, 0.5)
    assert prior.kernel_init()(jax.random.key(1), (8, 4), dtype).dtype == dtype
    assert prior.bias_init()(jax.random.key(1), (4,), dtype).dtype == dtype


def test_biases_have_their_variance_and_no_bias_is_zero():
    bias = mf.NormalPrior(2.0, 0.3).bias_init()(jax.random.key(1), (100_000,))
    assert abs(np.var(bias) / 0.3 - 1) <= 5 * np.sqrt(2 / bias.size)
    assert np.all(mf.NormalPrior(2.0).bias_init()(jax.random.key(1), (10,)) == 0)


def test_the_initializer_works_under_jit_and_is_a_function_of_its_key():
    init = mf.NormalPrior(2.0, 0.1, 0.5).kernel_init()
    compiled = jax.jit(lambda key: init(key, (8, 4)))
    np.testing.assert_allclose(compiled(jax.random.key(1)), init(jax.random.key(1), (8, 4)), rtol=1e-6)
    assert not np.allclose(init(jax.random.key(1), (8, 4)), init(jax.random.key(2), (8, 4)))


def layers_of_networks(activation, prior, q0, c0, width, depth, networks):
    """Empirical q and c by network and layer, of two inputs with exact statistics."""
    kernel_init, bias_init = prior.kernel_init(), prior.bias_init()
    weight_var, kappa = prior.weight_var, prior.anticorrelation
    # Two zero-sum inputs, so that the first layer's variance is sigma_w^2 |x|^2 / n + sigma_b^2.
    first, second = np.zeros((2, width))
    first[0::2], first[1::2] = 1, -1
    second[0::4], second[1::4], second[2::4], second[3::4] = 1, 1, -1, -1
    size = np.sqrt((q0 - prior.bias_var) / weight_var)
    mix = (c0 * q0 - prior.bias_var) / (q0 - prior.bias_var)
    inputs = size * np.stack([first, mix * first + np.sqrt(1 - mix**2) * second])
    assert abs(kappa * inputs.mean()) < 1e-12

    @jax.jit
    def one(key):
        def layer(x, key):
            key_w, key_b = jax.random.split(key)
            h = x @ kernel_init(key_w, (width, width)) + bias_init(key_b, (width,))
            q = jnp.mean(h**2, axis=1)
            return activation(h), (q[0], jnp.mean(h[0] * h[1]) / jnp.sqrt(q[0] * q[1]))

        return jax.lax.scan(layer, jnp.asarray(inputs, jnp.float32), jax.random.split(key, depth))[1]

    return [np.asarray(x) for x in jax.lax.map(one, jax.random.split(jax.random.key(11), networks))]


@pytest.mark.parametrize("name, kappa", [("relu", 0.9), ("relu", -1.0), ("squared_relu", 1.0), ("cos", 0.7)])
def test_real_random_networks_follow_the_maps(name, kappa):
    activation = getattr(mf.activations, name)
    prior = mf.NormalPrior(1.3, 0.2, kappa)
    width, depth, networks = 200, 4, 150
    q, c = layers_of_networks(activation, prior, 1.0, 0.5, width, depth, networks)
    q_map, c_map = np.ones(depth), np.full(depth, 0.5)
    for layer in range(1, depth):
        c_map[layer] = mf.c_map(activation, prior, c=c_map[layer - 1], q=q_map[layer - 1])
        q_map[layer] = mf.q_map(activation, prior, q_map[layer - 1])
    for found, theory in ((q, q_map), (c, c_map)):
        error = found.std(axis=0) / np.sqrt(networks)
        # Five standard errors, and a bias of order depth / width.
        assert np.all(np.abs(found.mean(axis=0) - theory) <= 5 * error + 2 * depth / width * theory)
    # The test has the power to tell kappa from none.
    independent = mf.q_map(activation, mf.NormalPrior(1.3, 0.2), 1.0)
    assert abs(independent - q_map[1]) > 5 * q[:, 1].std() / np.sqrt(networks)


def test_asymmetric_rows_hold_one_special_weight_each_at_a_random_place(x64):
    fan_in, rows, weight_var = 8, 40_000, 1e-6
    prior = mf.AsymmetricPrior(weight_var, 0.0, 0.5, special_weight=mf.Beta(2, 1))
    kernel = np.asarray(prior.kernel_init()(jax.random.key(2), (fan_in, rows), jnp.float64))
    special = np.sort(kernel, axis=0)[-1]
    # Beta(2, 1) has the distribution function b^2; the others are a thousand times smaller.
    assert stats.kstest(special, lambda b: np.clip(b, 0, 1) ** 2).pvalue > 1e-3
    assert np.max(np.abs(np.sort(kernel, axis=0)[-2])) < 0.01
    places = np.bincount(np.argmax(kernel, axis=0), minlength=fan_in)
    assert stats.chisquare(places).pvalue > 1e-3


def test_the_other_weights_of_asymmetric_rows_are_those_of_the_normal_prior(x64):
    fan_in, rows = 6, 200_000
    prior = mf.AsymmetricPrior(1.7, 0.0, 0.5, special_weight=100.0)
    kernel = np.asarray(prior.kernel_init()(jax.random.key(3), (fan_in, rows), jnp.float64))
    ordinary = np.where(kernel < 50, kernel, np.nan)
    assert np.all(np.isnan(ordinary).sum(axis=0) == 1)
    variance = 1.7 / fan_in * (1 - 0.5 / fan_in)
    assert abs(np.nanvar(ordinary) / variance - 1) < 5 * np.sqrt(2 / np.isfinite(ordinary).sum())
    both = ordinary[0] * ordinary[1]
    expected, error = -1.7 * 0.5 / fan_in**2, variance / np.sqrt(np.isfinite(both).sum())
    assert abs(np.nanmean(both) - expected) < 5 * error


def test_an_asymmetric_convolution_kernel_has_one_special_weight_a_filter():
    prior = mf.AsymmetricPrior(1e-8, special_weight=1.0)
    kernel = prior.kernel_init()(jax.random.key(1), (3, 3, 4, 50), jnp.bfloat16)
    assert kernel.shape == (3, 3, 4, 50) and kernel.dtype == jnp.bfloat16
    assert np.all(np.sum(np.asarray(kernel, np.float32) > 0.5, axis=(0, 1, 2)) == 1)


def test_asymmetric_priors_are_pytrees_with_a_static_law():
    prior = mf.AsymmetricPrior(1.2, 0.1, 0.5, special_weight=0.3)
    doubled = jax.tree.map(lambda x: 2 * x, prior)
    assert (doubled.weight_var, doubled.bias_var, doubled.anticorrelation) == (2.4, 0.2, 1.0)
    assert doubled.special_weight == prior.special_weight
    raai = mf.AsymmetricPrior.raai()
    assert raai.weight_var == pytest.approx(0.6007**2) and raai.anticorrelation == 1
    assert mf.AsymmetricPrior.rai().anticorrelation == 0
    assert mf.AsymmetricPrior.rai(anticorrelation=0.4).anticorrelation == 0.4
