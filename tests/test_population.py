"""Population dynamics against the deterministic law, against the Gaussian theory, against real networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import meanfield as mf

DEPTH = 25
PARTICLES = 200_000


def prior_for(activation, kappa):
    return (
        mf.AsymmetricPrior.unit_gain(anticorrelation=kappa)
        if activation == "relu"
        else mf.AsymmetricPrior(1.5, 0.02, kappa)
    )


def deviations(found, expected, error):
    """In standard errors; exact agreement counts as none."""
    gap, error = np.abs(np.asarray(found) - np.asarray(expected)), np.asarray(error)
    return np.where(gap <= 1e-9, 0.0, gap / np.where(error > 0, error, 1e-300))


@pytest.mark.parametrize("kappa", [0.0, 1.0])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_sampled_and_deterministic_laws_agree(x64, activation, kappa):
    prior = prior_for(activation, kappa)
    sampled = mf.population_dynamics(activation, prior, depth=DEPTH, particles=PARTICLES)
    exact = mf.density_evolution(activation, prior, depth=DEPTH)
    for name in ("q", "mean", "inactive", "activity", "growth"):
        off = deviations(getattr(sampled, name), getattr(exact, name), getattr(sampled.standard_error, name))
        assert np.max(off) <= 4, name


def real_networks(activation, prior, c0, width, count, key):
    """Correlation and inactive fraction of pairs of signals, (networks, DEPTH + 1, 2)."""
    kernel, bias = prior.kernel_init(), prior.bias_init()

    def layer(h, key):
        norms = jnp.sqrt(jnp.sum(h[0] ** 2) * jnp.sum(h[1] ** 2))
        seen = jnp.stack([jnp.sum(h[0] * h[1]) / norms, jnp.mean(h[0] <= 0)])
        kernel_key, bias_key = jax.random.split(key)
        return activation(h) @ kernel(kernel_key, (width, width)) + bias(bias_key, (width,)), seen

    @jax.jit
    def network(key):
        start_key, key = jax.random.split(key)
        z = jax.random.normal(start_key, (2, width))
        h = jnp.stack([z[0], c0 * z[0] + np.sqrt(1 - c0**2) * z[1]])
        return jax.lax.scan(layer, h, jax.random.split(key, DEPTH + 1))[1]

    return np.stack([np.asarray(network(k)) for k in jax.random.split(key, count)])


@pytest.mark.slow
@pytest.mark.parametrize(("activation", "kappa"), [("relu", 1.0), ("tanh", 0.0)])
def test_real_networks_of_width_1000_agree(activation, kappa):
    prior, c0, count = prior_for(activation, kappa), 0.5, 20
    phi = getattr(mf.activations, activation)
    networks = real_networks(phi, prior, c0, 1000, count, jax.random.key(7))
    with jax.enable_x64(True):
        theory = mf.population_dynamics(activation, prior, depth=DEPTH, c0=c0, particles=PARTICLES)
    means, errors = networks.mean(axis=0), networks.std(axis=0, ddof=1) / count**0.5
    for index, name in enumerate(["c", "inactive"]):
        error = np.hypot(errors[:, index], np.asarray(getattr(theory.standard_error, name)))
        assert np.max(deviations(means[1:, index], getattr(theory, name)[1:], error[1:])) <= 4, name


@pytest.mark.parametrize("kappa", [0.0, 1.0])
def test_without_a_special_weight_pairs_follow_the_gaussian_theory(x64, kappa):
    sampled = mf.propagate("relu", mf.AsymmetricPrior(1.8, 0.1, kappa, special_weight=0), depth=12, c0=0.3)
    exact = mf.propagate("relu", mf.NormalPrior(1.8, 0.1, kappa), depth=12, c0=0.3)
    for name in ("q", "q2", "c"):
        off = deviations(getattr(sampled, name), getattr(exact, name), getattr(sampled.standard_error, name))
        assert np.max(off) <= 4, name
    assert isinstance(sampled, mf.Trajectory)


def test_two_signals_of_different_size_follow_the_gaussian_theory(x64):
    start = dict(q0=2.0, q2=0.5, c0=-0.4, depth=6)
    sampled = mf.propagate("tanh", mf.AsymmetricPrior(1.8, 0.1, 0.5, special_weight=0), **start)
    exact = mf.propagate("tanh", mf.NormalPrior(1.8, 0.1, 0.5), **start)
    for name in ("q", "q2", "c"):
        off = deviations(getattr(sampled, name), getattr(exact, name), getattr(sampled.standard_error, name))
        assert np.max(off) <= 4, name


def test_error_bars_are_as_wide_as_the_scatter_between_seeds(x64):
    prior = mf.AsymmetricPrior(1.2, 0.1, 1.0)
    runs = [mf.population_dynamics("relu", prior, depth=6, particles=20_000, seed=seed) for seed in range(24)]
    for name in ("q", "c", "inactive", "growth"):
        scatter = np.std([getattr(run, name)[-1] for run in runs], ddof=1)
        claimed = np.mean([getattr(run.standard_error, name)[-1] for run in runs])
        assert 0.6 < claimed / scatter < 1.6, name


@pytest.mark.slow
def test_heavy_tails_widen_the_error_bars(x64):
    # Tail exponent near 2: the spread of groups alone would claim far too much.
    prior = mf.AsymmetricPrior(0.02)
    exact = mf.density_evolution("relu", prior, depth=20, step=1.0).activity
    for seed in range(4):
        run = mf.population_dynamics("relu", prior, depth=20, particles=20_000, seed=seed)
        assert np.max(deviations(run.activity[1:], exact[1:], run.standard_error.activity[1:])) <= 5


def test_equal_signals_stay_equal_and_nearly_equal_ones_keep_their_digits(x64):
    prior = mf.AsymmetricPrior(0.5, 0.1, 0.0)
    equal = mf.population_dynamics("relu", prior, c0=1.0, depth=5, particles=2000)
    assert np.all(equal.one_minus_c == 0)
    near = mf.population_dynamics("tanh", prior, c0=1 - 1e-12, depth=3, particles=100_000)
    growth = mf.density_evolution("tanh", prior, depth=3).growth
    ratio = near.one_minus_c[1:] * near.q[1:] / (near.one_minus_c[:-1] * near.q[:-1])
    np.testing.assert_allclose(ratio, growth[1:], rtol=0.02)


def test_the_seed_decides_and_priors_share_its_numbers(x64):
    def run(w, seed):
        return mf.population_dynamics(
            "relu", mf.AsymmetricPrior(w, 0.1), depth=3, particles=2000, seed=seed
        ).c

    both = run(np.array([0.7, 0.9]), 1)
    assert both.shape == (4, 2)
    np.testing.assert_allclose(both[:, 0], run(0.7, 1), rtol=1e-9)
    assert not np.allclose(run(0.7, 1), run(0.7, 2))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(particles=10), ValueError, "particles"),
        (dict(particles=1e6), TypeError, "particles"),
        (dict(seed=-1), ValueError, "seed"),
        (dict(c0=1.5), ValueError, "c0"),
        (dict(q2=0.0), ValueError, "q2"),
        (dict(depth=True), TypeError, "depth"),
    ],
)
def test_bad_input_is_named(change, error, message):
    with pytest.raises(error, match=message):
        mf.population_dynamics("relu", mf.AsymmetricPrior(1.0), **change)
