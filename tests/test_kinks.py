"""Kinks are found where they are not declared."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import names, point, prior_of, relative, solve

import meanfield as mf
from meanfield.activations.kinks import find_kinks
from meanfield.activations.names import FIXED


@pytest.mark.parametrize(
    "fn, kinks",
    [
        (np.abs, (0.0,)),
        (lambda x: np.clip(x, -0.7, 1.3), (-0.7, 1.3)),
        (lambda x: np.clip(x, 0, 6), (0.0, 6.0)),
        (lambda x: np.maximum(x, 0) ** 2, (0.0,)),
        (lambda x: np.where(x > np.pi, np.sin(x), 0.1 * x), (np.pi,)),
        (lambda x: np.where(x > -12.345678, x, -12.345678), (-12.345678,)),
        (np.sign, (0.0,)),
        (lambda x: np.floor(np.clip(x, -2, 2)), (-1.0, 0.0, 1.0, 2.0)),
        (lambda x: x / (1 + np.abs(x)), (0.0,)),
    ],
)
def test_kinks_and_jumps_are_found(fn, kinks):
    found = find_kinks(fn)
    assert len(found) == len(kinks)
    np.testing.assert_allclose(found, kinks, atol=3e-6)


@pytest.mark.parametrize(
    "fn",
    [
        np.tanh,
        np.sin,
        np.exp,
        lambda x: x**3,
        lambda x: 0 * x,
        lambda x: np.tanh(20 * x),
        lambda x: 1 / (1 + x**2),
    ],
)
def test_smooth_functions_have_none(fn):
    assert find_kinks(fn) == ()


@pytest.mark.parametrize("name", sorted(FIXED))
def test_declared_kinks_are_those_that_a_search_finds(x64, name):
    activation = FIXED[name]
    assert find_kinks(lambda x: np.asarray(activation(jnp.asarray(x)))) == activation.kinks


def test_a_kink_is_found_wherever_it_lies():
    places = np.random.default_rng(0).uniform(-3, 3, 100)
    missed = [k for k in places if len(find_kinks(lambda x: np.abs(x - k))) != 1]  # noqa: B023
    assert missed == []


def clip(x):
    return jnp.clip(x, -0.7, 1.3)


ROWS = [point(1.5, 0.1), point(3.0, 0.05, 0.5), point(2.5, 0.3, -1.0)]


@pytest.mark.slow
def test_an_undeclared_kink_costs_no_accuracy(x64):
    searched = solve(clip, ROWS)
    declared = solve(mf.Activation(clip, kinks=(-0.7, 1.3)), ROWS)
    assert names(searched.status) == names(declared.status) == ["CONVERGED"] * 3
    for name in ("q", "c", "chi_1", "chi_c", "chi_q"):
        assert relative(getattr(searched, name), getattr(declared, name)) <= 1e-12


def test_a_search_works_in_single_precision_too():
    assert mf.Activation(clip).kinks == (-0.7, 1.3)


@pytest.mark.slow
def test_a_kink_denied_is_found_all_the_same_and_told_inside_a_trace(x64):
    with pytest.warns(mf.QuadratureWarning, match=r"clip.*kinks="):
        denied = mf.Activation(clip, kinks=())
        found = solve(denied, ROWS)
    right = solve(mf.Activation(clip, kinks=(-0.7, 1.3)), ROWS)
    assert np.all(found.status == right.status)
    assert np.all(np.abs(found.q - right.q) <= found.q_error + right.q_error)
    assert np.all(np.abs(found.c - right.c) <= found.c_error + right.c_error)
    traced = jax.jit(lambda: mf.fixed_point(denied, prior_of(ROWS)))()  # where nobody can look
    accurate = traced.status[: len(ROWS)] == mf.Status.CONVERGED
    assert not np.any(accurate & (np.abs(traced.q[: len(ROWS)] / right.q - 1) > 1e-10))
    assert "INACCURATE" in names(traced.status)


def test_an_undeclared_kink_in_a_closure_over_a_traced_value_is_reported(x64):
    @jax.jit
    def of_height(height):
        return mf.fixed_point(lambda x: jnp.clip(x, -0.7, height), mf.NormalPrior(2.0, 0.1))

    assert names(of_height(1.3).status) == ["INACCURATE"]


def test_a_declared_kink_in_a_closure_over_a_traced_value_converges(x64):
    @jax.jit
    def of_slope(slope):
        return mf.fixed_point(
            mf.Activation(lambda x: jnp.where(x > 0, x, slope * x), kinks=(0.0,)), mf.NormalPrior(1.5, 0.1)
        )

    found = of_slope(0.2)
    assert names(found.status) == ["CONVERGED"]
    assert relative(found.q, 0.1 / (1 - 1.5 * (1 + 0.2**2) / 2)) <= 1e-12
