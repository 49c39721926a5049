"""Derivatives through fixed points, against central differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import meanfield as mf
from meanfield import activations


def observed(activation, theta):
    """q*, c* and xi_c as a vector; theta holds weight_var, bias_var, anticorrelation and a parameter."""
    phi = activation(theta[3]) if len(theta) > 3 else activation
    layer = phi, mf.NormalPrior(theta[0], theta[1], theta[2])
    found = mf.fixed_point(*layer)
    return jnp.stack([found.q, found.c, -1 / jnp.log(found.chi_c)])


def richardson(fn, theta, step=1e-3):
    """(fn, d fn_i / d theta_j) by central differences of fourth order, in one batch."""
    theta = np.asarray(theta, float)
    moves = [theta + s * h * row for row in np.eye(len(theta)) for h in (step, step / 2) for s in (1, -1)]
    values = np.asarray(jax.jit(jax.vmap(fn))(jnp.asarray([theta, *moves])))
    pairs = values[1:].reshape(len(theta), 2, 2, -1)
    slopes = (pairs[:, :, 0] - pairs[:, :, 1]) / (2 * np.array([step, step / 2])[:, None])
    return values[0], ((4 * slopes[:, 1] - slopes[:, 0]) / 3).T


CASES = {
    "relu": (activations.relu, [2.4, 0.2, 0.9]),
    "erf": (activations.erf, [2.5, 0.1, 0.3]),
    "cos": (activations.cos, [6.0, 0.1, 0.9]),
    "leaky_relu": (activations.leaky_relu, [2.1, 0.2, 0.8, 0.15]),
    "elu": (activations.elu, [1.9, 0.2, 0.9, 0.6]),
}


@pytest.mark.parametrize("name", CASES)
def test_forward_derivatives_agree_with_central_differences(x64, name):
    activation, theta = CASES[name]
    fn = functools.partial(observed, activation)
    found = np.asarray(jax.jit(jax.jacfwd(fn))(jnp.asarray(theta)))
    value, expected = richardson(fn, theta)
    assert 0 < value[1] < 1
    assert np.all(np.abs(found - expected) <= 1e-6 * np.maximum(1, np.abs(expected))), (found, expected)


@pytest.mark.parametrize("name", ["relu", "cos", "leaky_relu"])
def test_reverse_derivatives_equal_forward_ones(x64, name):
    activation, theta = CASES[name]
    fn = functools.partial(observed, activation)
    theta = jnp.asarray(theta)
    forward = np.asarray(jax.jit(jax.jacfwd(fn))(theta))
    reverse = np.asarray(jax.jit(jax.jacrev(fn))(theta))
    np.testing.assert_allclose(reverse, forward, rtol=1e-9, atol=1e-11)
    gradient = jax.jit(jax.grad(lambda t: fn(t)[1]))(theta)
    np.testing.assert_allclose(gradient, forward[1], rtol=1e-9, atol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["leaky_relu"])
def test_second_derivatives_agree_with_differences_of_first_ones(x64, name):
    activation, theta = CASES[name]

    def fn(theta):
        return observed(activation, theta)[:2]

    hessian = np.asarray(jax.jit(jax.jacfwd(jax.jacrev(fn)))(jnp.asarray(theta)))
    _, expected = richardson(lambda t: jax.jacfwd(fn)(t).ravel(), theta)
    expected = expected.reshape(hessian.shape)
    assert np.all(np.abs(hessian - expected) <= 2e-6 * np.maximum(1, np.abs(expected)))
    np.testing.assert_allclose(hessian, hessian.swapaxes(1, 2), rtol=1e-8, atol=1e-8)


def test_variance_of_relu_has_its_exact_derivatives(x64):
    """q* = b / (1 - w (1/2 - kappa / 2 pi))."""
    gradient = jax.jit(jax.grad(lambda t: mf.fixed_point("relu", mf.NormalPrior(*t)).q))((1.5, 0.3, 0.4))
    inner = 0.5 - 0.4 / (2 * np.pi)
    rest = 1 - 1.5 * inner
    expected = (0.3 * inner / rest**2, 1 / rest, -0.3 * 1.5 / (2 * np.pi) / rest**2)
    np.testing.assert_allclose(gradient, expected, rtol=1e-13)


@pytest.mark.slow
def test_a_closure_over_a_traced_slope_can_be_differentiated(x64):
    prior = mf.NormalPrior(2.1, 0.2, 0.8)

    def of_slope(slope, by_name):
        if by_name:
            phi = mf.activations.leaky_relu(slope)
        else:
            phi = mf.Activation(lambda x: jnp.where(x > 0, x, slope * x), kinks=(0.0,))
        found = mf.fixed_point(phi, prior)
        return found.q + 10 * found.c

    by_hand = jax.jit(jax.value_and_grad(functools.partial(of_slope, by_name=False)))(0.15)
    by_name = jax.jit(jax.value_and_grad(functools.partial(of_slope, by_name=True)))(0.15)
    np.testing.assert_allclose(by_hand, by_name, rtol=1e-9)


def test_parameters_of_the_users_activation_are_differentiable(x64):
    def of_width(width):
        phi = mf.Activation(lambda x, a: jax.scipy.special.erf(a * x), kinks=(), params=(width,))
        return mf.fixed_point(phi, mf.NormalPrior(1.7, 0.1)).q

    # erf(a x) with weight_var w is erf with a^2 w and a^2 b, in units of a^2.
    def scaled(width):
        return mf.fixed_point("erf", mf.NormalPrior(width**2 * 1.7, width**2 * 0.1)).q / width**2

    found, expected = jax.jit(jax.value_and_grad(of_width))(1.3), jax.jit(jax.value_and_grad(scaled))(1.3)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


# one point each: converged, unbounded, vanishing, marginal, converged
PRIORS = np.array([[1.5, 0.1], [4.0, 0.1], [1.0, 0.0], [2.0, 0.0], [1.0, 0.1]]).T


@pytest.mark.parametrize(
    "activation, quantity",
    [
        ("relu", "q"),
        ("relu", "c"),
        ("squared_relu", "c"),
        ("squared_relu", "chi_c"),
        pytest.param("silu", "c", marks=pytest.mark.slow),
    ],
)
def test_a_point_without_a_value_leaves_its_neighbours_alone(x64, activation, quantity):
    weight_vars, bias_vars = jnp.asarray(PRIORS)

    def total(shared):
        prior = mf.NormalPrior(weight_vars, bias_vars * shared, 0.0)
        found = mf.fixed_point(activation, prior, q0=0.1)
        good = found.status == mf.Status.CONVERGED
        return jnp.sum(jnp.where(good, found.q + getattr(found, quantity), 0.0)), good

    solved = jax.jit(jax.value_and_grad(total, has_aux=True))
    (_, good), slope = solved(1.0)
    assert 0 < np.sum(good) < len(good)
    assert np.isfinite(slope) and slope != 0
    step = 1e-5
    expected = (solved(1 + step)[0][0] - solved(1 - step)[0][0]) / (2 * step)
    np.testing.assert_allclose(slope, expected, rtol=1e-6)


def test_an_invalid_point_leaves_its_neighbours_alone(x64):
    def total(weight_vars):
        found = mf.fixed_point("erf", mf.NormalPrior(weight_vars, 0.1))
        return jnp.sum(jnp.where(found.status == mf.Status.CONVERGED, found.c, 0.0))

    gradient = jax.jit(jax.grad(total))(jnp.array([2.5, -1.0, jnp.nan, 3.0]))
    alone = jax.jit(jax.grad(total))(jnp.array([2.5, 2.5, 2.5, 3.0]))
    assert gradient[1] == gradient[2] == 0
    np.testing.assert_allclose(gradient[np.array([0, 3])], alone[np.array([0, 3])], rtol=1e-12)


def test_depth_scales_are_differentiable_beside_critical_points(x64):
    def total(weight_vars):
        xi = mf.depth_scales("relu", mf.NormalPrior(weight_vars, 0.1, 0.9)).c
        return jnp.sum(jnp.where(jnp.isfinite(xi) & (xi > 0), xi, 0.0))

    gradient = jax.jit(jax.grad(total))(jnp.array([1.5, 2.0, 2.4, 5.0]))
    assert np.all(np.isfinite(gradient))
    # xi_c = -1 / log(w / 2) in the ordered phase
    assert abs(gradient[0] - 1 / (1.5 * np.log(0.75) ** 2)) <= 1e-10
