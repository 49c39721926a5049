"""Laws of the special weight: quantiles, moments, Gauss rules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import meanfield as mf
from meanfield.asymmetric.special_weights import Constant, FromQuantile, as_special_weight, gauss_rule

BETAS = [(2, 1), (1, 1), (1, 4), (2, 3), (0.5, 0.5), (30, 0.3)]


@pytest.mark.parametrize(("a", "b"), BETAS)
def test_quantiles_of_beta_agree_with_scipy(x64, a, b):
    u = np.concatenate([np.linspace(0.001, 0.999, 301), [1e-12, 1e-6, 1 - 1e-6]])
    found = np.asarray(mf.Beta(a, b).quantile(jnp.asarray(u)))
    np.testing.assert_allclose(found, stats.beta(a, b).ppf(u), rtol=2e-8)


@pytest.mark.parametrize(("a", "b"), BETAS)
def test_moments_of_beta_are_products(a, b):
    for order in (1, 2, 5, 20):
        exact = np.prod([(a + k) / (a + b + k) for k in range(order)])
        assert mf.Beta(a, b).moment(order) == pytest.approx(exact, rel=2e-9)


def test_the_moments_of_rai_are_exact():
    assert mf.Beta().moment(1) == pytest.approx(2 / 3, rel=1e-14)
    assert mf.Beta().moment(2) == pytest.approx(1 / 2, rel=1e-14)


def test_any_law_comes_from_its_quantile_function():
    exponential = FromQuantile(lambda u: -jnp.log1p(-u))
    for order, moment in enumerate([1, 2, 6, 24], start=1):
        assert exponential.moment(order) == pytest.approx(moment, rel=1e-9)


def test_a_gauss_rule_has_positive_weights_inside_the_support():
    nodes, weights = gauss_rule(mf.Beta(2, 3))
    assert np.all(weights > 0) and np.all((nodes > 0) & (nodes < 1))
    assert weights.sum() == pytest.approx(1, rel=1e-14)


def test_a_number_is_the_same_weight_in_every_row():
    law = as_special_weight(0.25)
    assert law == Constant(0.25)
    assert [law.moment(k) for k in (1, 2)] == [0.25, 0.0625]
    assert np.all(law.sample(jax.random.key(0), (5,)) == 0.25)


def test_draws_follow_the_law():
    draws = np.asarray(mf.Beta(2, 3).sample(jax.random.key(1), (20_000,)))
    assert stats.kstest(draws, stats.beta(2, 3).cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    ("law", "error", "message"),
    [
        ("beta", TypeError, "special_weight"),
        (mf.Beta, TypeError, "special_weight"),
        (True, TypeError, "special_weight"),
        (-1.0, ValueError, "at least 0"),
        (float("nan"), ValueError, "finite"),
        (lambda u: u - 0.5, ValueError, "at least 0"),
        (lambda u: 1 - u, ValueError, "decrease"),
        (lambda u: jnp.sum(u), TypeError, "elementwise"),
        (lambda u: u.no_such_thing, TypeError, "evaluated"),
    ],
)
def test_what_is_no_law_is_refused(law, error, message):
    with pytest.raises(error, match=message):
        mf.AsymmetricPrior(1.0, special_weight=law)


@pytest.mark.parametrize("parameters", [(0, 1), (1, -2), (np.nan, 1)])
def test_beta_needs_positive_parameters(parameters):
    with pytest.raises(ValueError, match="greater than 0"):
        mf.Beta(*parameters)
