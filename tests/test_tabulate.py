"""Tabulated activations: the same fixed points, faster, and differentiable."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import meanfield as mf
from meanfield.status import Status

RANGE = (0.05, 4.0)


@pytest.fixture(scope="module")
def elu():
    return mf.tabulate(mf.activations.elu(0.7), q=RANGE)


def test_fixed_points_are_those_of_the_activation_in_the_table_and_beyond(x64, elu):
    weight_var = np.array([0.5, 1.3, 1.9, 2.05, 2.4, 3.5])
    prior = mf.NormalPrior(weight_var, np.array([0.1, 0.3, 0.2, 0.1, 1e-6, 0.1]), 0.9)
    found, expected = (mf.fixed_point(a, prior) for a in (elu, mf.activations.elu(0.7)))
    np.testing.assert_array_equal(found.status, expected.status)
    assert {Status.CONVERGED, Status.UNBOUNDED} <= set(np.asarray(found.status).tolist())
    for name in ("q", "one_minus_c", "chi_q", "chi_c", "chi_1"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-10, atol=1e-14)


def test_inside_a_trace_points_beyond_the_table_are_marked(x64, elu):
    prior = mf.NormalPrior(0.5, np.array([0.2, 1e-9]))
    point = jax.jit(lambda p: mf.fixed_point(elu, p))(prior)
    assert point.status.tolist() == [Status.CONVERGED, Status.INACCURATE]
    assert np.isnan(point.q[1]) and point.q[0] > 0


@pytest.mark.slow
def test_derivatives_are_those_of_central_differences(x64, elu):
    """With respect to the prior and the activation's own parameter."""

    def loss(weight_var, alpha):
        point = mf.fixed_point(elu.with_params(alpha), mf.NormalPrior(weight_var, 0.1, 0.9))
        return point.one_minus_c + jnp.log(point.q) + point.chi_c

    def plain(weight_var, alpha):
        point = mf.fixed_point(mf.activations.elu(alpha), mf.NormalPrior(weight_var, 0.1, 0.9))
        return point.one_minus_c + jnp.log(point.q) + point.chi_c

    found = jax.jit(jax.grad(loss, (0, 1)))(2.1, 0.7)
    step = 1e-4
    points = plain(jnp.array([2.1 + step, 2.1 - step, 2.1, 2.1]), 0.7)
    assert found[0] == pytest.approx(float(points[0] - points[1]) / (2 * step), rel=1e-6)
    up, down = plain(2.1, 0.7 + step), plain(2.1, 0.7 - step)
    assert found[1] == pytest.approx(float(up - down) / (2 * step), rel=1e-6)
    with pytest.raises(NotImplementedError, match="first derivatives"):
        jax.hessian(loss, 1)(2.1, 0.7)


def test_single_precision_is_as_good_as_single_precision_is(elu):
    """In float32, within a few rounding errors."""
    prior = mf.NormalPrior(np.float32([1.3, 2.1]), np.float32(0.25), np.float32(0.5))
    found = mf.fixed_point(elu, prior)
    with jax.enable_x64(True):
        exact = mf.fixed_point(mf.activations.elu(0.7), jax.tree.map(np.float64, prior))
    assert found.q.dtype == np.float32
    np.testing.assert_allclose(found.q, exact.q, rtol=1e-5)
    np.testing.assert_allclose(found.chi_1, exact.chi_1, rtol=1e-5)


def test_wrong_arguments_are_named(elu):
    with pytest.raises(ValueError, match="closed form"):
        mf.tabulate("relu")
    for q in ((1.0, 0.5), 3.0, (0.0, 1.0)):
        with pytest.raises(ValueError, match="q must be"):
            mf.tabulate("tanh", q=q)
    with pytest.raises(ValueError, match="tolerance"):
        mf.tabulate("tanh", tolerance=0.0)
    with pytest.raises(ValueError, match=r"for 0\.7, got 0\.8"):
        elu.with_params(0.8)
    with pytest.raises(TypeError, match="traced"):
        jax.jit(lambda a: mf.tabulate(mf.activations.elu(a)).scale)(1.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "layer",
    [
        lambda p: mf.Residual(mf.Chain(mf.RMSNorm(), "tanh", p), skip=0.6),
        lambda p: mf.Chain("tanh", p, mf.Dense("erf", mf.NormalPrior(1.5, 0.1))),
    ],
    ids=["of one activation", "of two"],
)
def test_a_layer_looks_up_the_moments_of_all_its_activations(x64, layer):
    layer = layer(mf.NormalPrior(np.array([0.8, 1.4, 2.2, 3.0]), 0.1))
    table = mf.tabulate(layer, q=(1e-2, 10.0))
    assert table.is_tabulated and not layer.is_tabulated
    found, inside, expected = mf.fixed_point(table), jax.jit(mf.fixed_point)(table), mf.fixed_point(layer)
    np.testing.assert_array_equal(found.status, expected.status)
    np.testing.assert_array_equal(inside.status, expected.status)
    for name in ("q", "one_minus_c", "chi_q", "chi_c", "chi_1"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(getattr(inside, name), getattr(expected, name), rtol=1e-10, atol=1e-14)


def test_a_layer_in_closed_form_needs_no_table():
    with pytest.raises(ValueError, match="closed form"):
        mf.tabulate(mf.Dense("relu", mf.NormalPrior(2.0)))
