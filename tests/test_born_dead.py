"""Networks that are born dead: exact probabilities, and drawn networks against independent ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special

from meanfield.asymmetric.prior import AsymmetricPrior
from meanfield.dead import networks as born_dead
from meanfield.dead.networks import born_dead_probability
from meanfield.dead.orthants import log_orthant_probability
from meanfield.priors import NormalPrior

POSITIVE_INPUT = np.array([[0.9, 0.4, 1.3]])


def gaussian_rows(rng, prior, networks, width, fan_in):
    g = rng.standard_normal((networks, width, fan_in))
    g -= (1 - np.sqrt(1 - prior.anticorrelation)) * g.mean(axis=2, keepdims=True)
    return np.sqrt(prior.weight_var / fan_in) * g


def fraction_dead(prior, inputs, width, depth, networks, special_weights=None):
    """Of networks drawn in NumPy, those with a layer that is inactive on all inputs; its standard error."""
    rng = np.random.default_rng(5)
    x, dead = np.broadcast_to(inputs, (networks, *inputs.shape)), np.zeros(networks, bool)
    for _ in range(depth):
        weights = gaussian_rows(rng, prior, networks, width, x.shape[2])
        if special_weights is not None:
            places = rng.integers(0, x.shape[2], (networks, width, 1))
            np.put_along_axis(weights, places, special_weights(rng, places.shape), axis=2)
        bias = np.sqrt(prior.bias_var) * rng.standard_normal((networks, 1, width))
        h = np.einsum("npi,nwi->npw", x, weights) + bias
        dead |= np.all(h <= 0, axis=(1, 2))
        x = np.maximum(h, 0)
    p = dead.mean()
    return p, np.sqrt(p * (1 - p) / networks)


def beta_2_1(rng, shape):
    return np.sqrt(rng.random(shape))


def assert_agree(result, expected, error=0.0):
    """Within four standard errors."""
    total = np.hypot(float(result.standard_error), error)
    assert abs(float(result.probability) - expected) <= 4 * total


def test_symmetric_weights_have_the_exact_probability(x64):
    result = born_dead_probability(NormalPrior(2.0), 4, 12)
    assert abs(float(result.probability) - 0.539048) <= 5e-7
    assert float(result.standard_error) == 0
    width, depth = np.array([1, 4, 30, 300]), np.array([[1], [100]])
    found = born_dead_probability(NormalPrior(2.0, 0.1, np.full(4, 0.9)), width, depth)
    assert found.probability.shape == found.standard_error.shape == (2, 4)
    expected = -np.expm1(depth * np.log1p(-(0.5**width)))
    np.testing.assert_allclose(found.probability, expected, rtol=1e-14)
    np.testing.assert_allclose(found.probability[:, 3], [0.5**300, 100 * 0.5**300], rtol=1e-14)


@pytest.mark.parametrize("bias_var, kappa", [(0.0, 0.5), (0.3, 1.0), (0.1, -2.0)])
def test_networks_in_numpy_die_as_often_as_the_formula_says(bias_var, kappa):
    prior = NormalPrior(1.5, bias_var, kappa)
    found, error = fraction_dead(prior, POSITIVE_INPUT, 3, 6, 50_000)
    assert abs(found - float(born_dead_probability(prior, 3, 6).probability)) <= 4 * error


@pytest.mark.parametrize(
    "prior, width, inputs, expected",
    [
        (NormalPrior(2.0, 0.0, 1.0), 1, None, [1, 1, 1]),  # rows of one weight that sum to zero
        (NormalPrior(2.0, 0.0, 1.0), 1, [[1.0, 2.0]], [1 / 2, 1, 1]),
        (NormalPrior(2.0, 0.1, 1.0), 1, None, [1 / 2, 3 / 4, 7 / 8]),
        (NormalPrior(2.0, 0.0, 0.9), 1, None, [1 / 2, 3 / 4, 7 / 8]),
        (NormalPrior(2.0, 0.0, 1.0), 2, [[0.1, 0.1, 0.1]], [1, 1, 1]),
        (NormalPrior(2.0, 0.0, 1.0), 2, [[0.1, 0.1, 0.2]], [1 / 4, 7 / 16, 37 / 64]),
        (NormalPrior(2.0), 2, [[0.0, 0.0]], [1, 1, 1]),
        (NormalPrior(0.0), 2, None, [1, 1, 1]),
        (NormalPrior(0.0, 0.1), 2, None, [1 / 4, 7 / 16, 37 / 64]),
    ],
)
def test_pre_activations_that_are_zero_are_inactive(prior, width, inputs, expected):
    found = born_dead_probability(prior, width, np.array([1, 2, 3]), inputs=inputs)
    np.testing.assert_allclose(found.probability, expected, rtol=1e-6)


def test_drawn_networks_on_two_equal_inputs_die_as_on_one():
    inputs = np.repeat(POSITIVE_INPUT, 2, axis=0)
    prior = NormalPrior(2.0, 0.1, 0.5)
    assert_agree(born_dead_probability(prior, 4, 12, inputs=inputs), 0.539048)
    # Rows that sum to zero see nothing of inputs without contrast, whatever the rounding.
    constant = np.full((2, 3), 0.1)
    assert float(born_dead_probability(NormalPrior(2.0, 0.0, 1.0), 4, 12, inputs=constant).probability) == 1


@pytest.mark.parametrize("n_inputs, c0", [(2, 0.9), (3, 0.5)])
def test_one_layer_on_given_inputs_is_an_orthant_probability(n_inputs, c0):
    inputs = np.linalg.cholesky((1 - c0) * np.eye(n_inputs) + c0)
    expected = float(np.exp(3 * log_orthant_probability(n_inputs, c0)))
    assert_agree(born_dead_probability(NormalPrior(2.0), 3, 1, inputs=inputs, networks=100_000), expected)


def test_drawn_inputs_are_as_correlated_as_asked():
    prior, far = NormalPrior(2.0), 400  # wide enough for the correlation to be sharp
    rows = born_dead._gaussian_inputs(jax.random.key(0), (jnp.float32(0.7), jnp.float32(0.3)), far, far)[0]
    rows /= np.sqrt(np.mean(rows**2, axis=1, keepdims=True))
    products = np.asarray(rows @ rows.T / far)[np.triu_indices(far, 1)]
    assert abs(products.mean() - 0.7) <= 5 * np.sqrt(2 / far)
    probabilities = [
        born_dead_probability(prior, 4, 6, n_inputs=2, c0=c).probability for c in (0.0, 0.8, 1.0)
    ]
    assert probabilities[0] < probabilities[1] < probabilities[2]
    assert abs(probabilities[2] - (1 - (15 / 16) ** 6)) <= 0.02


@pytest.mark.parametrize(
    "prior, sign",
    [
        (AsymmetricPrior(0.36), 1),
        (AsymmetricPrior(0.36, 0.1, 1.0), 1),
        (AsymmetricPrior(0.36), -1),
    ],
)
def test_one_input_under_asymmetric_weights_agrees_with_numpy(prior, sign):
    found = born_dead_probability(prior, 3, 6, inputs=sign * POSITIVE_INPUT)
    expected, error = fraction_dead(prior, sign * POSITIVE_INPUT, 3, 6, 50_000, beta_2_1)
    assert_agree(found, expected, error)
    if sign > 0:
        symmetric = float(born_dead_probability(NormalPrior(0.36), 3, 6).probability)
        assert float(found.probability) < symmetric - 10 * float(found.standard_error)


def test_replacing_deaths_agrees_with_counting_them():
    # No special weight, but one that is missing; and two equal inputs, on which deaths are counted.
    prior = AsymmetricPrior(0.36, 0.0, 1.0, 0)
    averaged = born_dead_probability(prior, 3, 6, inputs=POSITIVE_INPUT)
    counted = born_dead_probability(prior, 3, 6, inputs=np.repeat(POSITIVE_INPUT, 2, axis=0), seed=1)
    assert_agree(averaged, float(counted.probability), float(counted.standard_error))
    assert averaged.standard_error < counted.standard_error


def test_the_first_layer_on_one_input_is_integrated():
    prior, (x,) = AsymmetricPrior(0.36, 0.1, 0.5), POSITIVE_INPUT
    found = born_dead_probability(prior, 20, 1, inputs=POSITIVE_INPUT, networks=10)

    def inactive(place):
        others = np.delete(x, place)
        spread = np.sqrt(0.12 * (np.sum(others**2) - 0.5 / 3 * np.sum(others) ** 2) + 0.1)
        return integrate.quad(lambda b: 2 * b * special.ndtr(-b * x[place] / spread), 0, 1)[0]

    expected = np.mean([inactive(j) for j in range(3)]) ** 20
    assert abs(float(found.probability) / expected - 1) <= 1e-4
    assert 0 < found.standard_error <= 0.5**20


def test_rare_deaths_need_few_networks():
    found = born_dead_probability(AsymmetricPrior.rai(), 8, 6, inputs=POSITIVE_INPUT, networks=3000)
    assert 1e-4 < found.probability < 1e-3 < 6 * 0.5**8
    counting = np.sqrt(found.probability / 3000)
    assert 0 < found.standard_error < min(0.04 * found.probability, 0.05 * counting)


def test_no_event_still_has_an_error():
    found = born_dead_probability(NormalPrior(2.0), 60, 2, n_inputs=3, networks=50)
    assert float(found.probability) == 0
    assert abs(float(found.standard_error) - np.sqrt(51 / (52**2 * 53))) <= 1e-8
    none = jnp.zeros(1)
    averaged = born_dead._averaged(none, none, none, networks=50, width=400, depth=2)
    assert averaged.probability == 0 < averaged.standard_error


def test_signals_neither_vanish_nor_overflow():
    def probability(weight_var):
        prior = NormalPrior(weight_var)
        return float(born_dead_probability(prior, 7, 150, n_inputs=2, networks=500).probability)

    assert probability(2.0**-40) == probability(2.0) == probability(2.0**40) < 0.9


def test_the_result_is_a_function_of_the_seed_and_not_of_the_batches(monkeypatch):
    def found(seed):
        return born_dead_probability(NormalPrior(2.0), 3, 4, n_inputs=2, seed=seed, networks=3001).probability

    whole = found(0)
    assert found(0) == whole != found(1)
    monkeypatch.setattr(born_dead, "_NUMBERS_AT_ONCE", 9 * 1000)
    assert found(0) == whole


def test_the_prior_may_be_traced():
    compiled = jax.jit(lambda prior: born_dead_probability(prior, 4, 12).probability)
    assert abs(compiled(NormalPrior(2.0)) - 0.539048) <= 1e-6
    invalid = jax.tree.map(lambda x: -x - 1, NormalPrior(2.0))
    assert np.isnan(compiled(invalid))


@pytest.mark.parametrize(
    "error, match, arguments",
    [
        (TypeError, "prior must be", dict(prior=2.0)),
        (TypeError, "width must be an integer", dict(width=4.0)),
        (ValueError, "width must be .* at least 1, got 0", dict(width=0)),
        (ValueError, "depth must be .* at least 1, got 0", dict(depth=np.array([3, 0]))),
        (TypeError, "width must be an integer", dict(width=np.array([3, 4]), n_inputs=2)),
        (ValueError, "depth must be at least 1, got -1", dict(depth=-1, n_inputs=2)),
        (TypeError, "n_inputs must be an integer", dict(n_inputs=2.5)),
        (ValueError, "n_inputs must be at least 1", dict(n_inputs=0)),
        (ValueError, "n_inputs must be left out or 1", dict(n_inputs=2, inputs=POSITIVE_INPUT)),
        (ValueError, "inputs must have the shape", dict(inputs=POSITIVE_INPUT[0])),
        (ValueError, "inputs must be finite", dict(inputs=[[np.nan, 1.0]])),
        (ValueError, "c0 must be finite and between 0 and 1, got 1.5", dict(c0=1.5)),
        (ValueError, "c0 must be a number", dict(c0=np.array([0.1, 0.2]), n_inputs=2)),
        (ValueError, "networks must be at least 1, got 0", dict(networks=0)),
        (ValueError, "seed must be at least 0, got -1", dict(seed=-1)),
        (ValueError, "must be scalars", dict(prior=NormalPrior(np.ones(2)), n_inputs=2)),
        (ValueError, "at most 2\\^28 weights", dict(width=20_000, n_inputs=2)),
        (ValueError, "shapes do not broadcast", dict(width=np.array([1, 2]), depth=np.array([1, 2, 3]))),
    ],
)
def test_wrong_arguments_are_named(error, match, arguments):
    arguments = dict(prior=NormalPrior(2.0), width=3, depth=2) | arguments
    with pytest.raises(error, match=match):
        born_dead_probability(**arguments)
