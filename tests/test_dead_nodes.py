"""Dead nodes at infinite width."""

import numpy as np
import pytest

import meanfield as mf


def test_one_input_leaves_half_of_the_nodes_dead(x64):
    result = mf.dead_node_probability("relu", mf.NormalPrior(2.0, 0.1, 0.5), 1, depth=3)
    np.testing.assert_allclose(result.probability, 0.5, rtol=1e-14)


def test_two_inputs_have_the_arcsine_law(x64):
    prior = mf.NormalPrior(2.0, 0.1, 0.5)
    c = mf.propagate("relu", prior, c0=-0.6, depth=6).c
    result = mf.dead_node_probability("relu", prior, 2, c0=-0.6, depth=6)
    np.testing.assert_allclose(result.probability, 0.25 + np.arcsin(c) / (2 * np.pi), rtol=1e-12)


def test_the_gaussian_formula_agrees_with_a_million_samples(x64):
    count, size = 5, 1_000_000
    prior = mf.NormalPrior(2.2, 0.1, 0.8)
    result = mf.dead_node_probability("relu", prior, count, c0=0.2, depth=4)
    c = np.asarray(mf.propagate("relu", prior, c0=0.2, depth=4).c)
    random = np.random.default_rng(3)
    for layer in (0, 2, 4):
        shared, own = random.standard_normal((size, 1)), random.standard_normal((size, count))
        dead = np.all(np.sqrt(c[layer]) * shared + np.sqrt(1 - c[layer]) * own <= 0, axis=1)
        p = float(result.probability[layer])
        assert abs(dead.mean() - p) <= 4 * np.sqrt(p * (1 - p) / size)


def test_ten_thousand_inputs_do_not_underflow(x64):
    result = mf.dead_node_probability("relu", mf.NormalPrior(2.0, 0.0, 1.0), 10_000, c0=0.0, depth=2)
    np.testing.assert_allclose(result.log_probability, -10_000 * np.log(2), rtol=1e-12)
    assert np.all(result.probability == 0)


def test_numbers_of_inputs_broadcast_with_priors(x64):
    prior = mf.NormalPrior(2.0, 0.1, np.array([0.0, 1.0]))
    result = mf.dead_node_probability("relu", prior, np.array([1, 2, 10])[:, None], c0=0.3, depth=4)
    assert result.probability.shape == (5, 3, 2)
    one = mf.dead_node_probability("relu", mf.NormalPrior(2.0, 0.1, 1.0), 10, c0=0.3, depth=4)
    np.testing.assert_allclose(result.probability[:, 2, 1], one.probability, rtol=1e-12)
    assert one.probability.shape == (5,)


def test_without_a_special_weight_sampling_finds_the_gaussian_formula(x64):
    prior, start = (2.0, 0.1, 0.9), dict(c0=0.3, depth=6)
    sampled = mf.dead_node_probability("relu", mf.AsymmetricPrior(*prior, special_weight=0), 6, **start)
    exact = mf.dead_node_probability("relu", mf.NormalPrior(*prior), 6, **start)
    gap = np.abs(np.asarray(sampled.probability - exact.probability))
    assert np.all(gap <= 4 * np.asarray(sampled.standard_error) + 1e-9)


def test_one_input_of_an_asymmetric_prior_is_its_inactive_fraction(x64):
    prior = mf.AsymmetricPrior.unit_gain(anticorrelation=1.0)
    sampled = mf.dead_node_probability("relu", prior, 1, depth=6, particles=100_000)
    exact = mf.density_evolution("relu", prior, depth=6).inactive
    gap = np.abs(np.asarray(sampled.probability - exact))
    assert np.all(gap <= 4 * np.asarray(sampled.standard_error) + 1e-9)


@pytest.mark.slow
def test_on_ten_inputs_symmetric_anticorrelated_weights_do_better_deep_down(x64):
    # Theory notes, section 9: at layer 40, RAAI 0.0036, symmetric 0.00094.
    prior = mf.AsymmetricPrior.unit_gain(anticorrelation=1.0)
    raai = mf.dead_node_probability("relu", prior, 10, depth=40, particles=1 << 15)
    weight_var = 2 * np.pi / (np.pi - 1)
    symmetric = mf.dead_node_probability("relu", mf.NormalPrior(weight_var, 0.0, 1.0), 10, depth=40)
    assert abs(raai.probability[40] - 0.0036) < 5e-4
    assert abs(symmetric.probability[40] - 0.00094) < 5e-5


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(activation="tanh"), ValueError, "no dead nodes"),
        (dict(n_inputs=0), ValueError, "n_inputs"),
        (dict(n_inputs=2.5), TypeError, "n_inputs"),
        (dict(c0=-0.5), ValueError, "c0"),
        (dict(prior=3), TypeError, "prior"),
        (dict(prior=mf.AsymmetricPrior(np.array([1.0, 2.0]))), ValueError, "weight_var"),
        (dict(prior=mf.AsymmetricPrior(1.0), c0=-0.1), ValueError, "c0"),
        (dict(prior=mf.AsymmetricPrior(1.0), particles=10), ValueError, "particles"),
        (dict(depth=-1), ValueError, "depth"),
    ],
)
def test_bad_input_is_named(change, error, message):
    arguments = dict(activation="relu", prior=mf.NormalPrior(2.0), n_inputs=10) | change
    fixed = [arguments.pop(name) for name in ("activation", "prior", "n_inputs")]
    with pytest.raises(error, match=message):
        mf.dead_node_probability(*fixed, **arguments)
