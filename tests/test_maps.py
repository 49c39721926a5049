"""One layer and many: the q-map, the c-map and the propagation of a pair."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import correlation_map, point, relative, variance_map

import meanfield as mf

ROW = point(1.9, 0.2, 0.6)
PRIOR = mf.NormalPrior(1.9, 0.2, 0.6)
Q = np.array([0.02, 0.9, 7.0])
C = np.array([-0.8, 0.0, 0.7])


@pytest.mark.parametrize("name", ["gelu", "relu", "hard_tanh", "cos"])
def test_one_layer_agrees_with_scipy(x64, name):
    q = mf.q_map(name, PRIOR, Q)
    c = mf.c_map(name, PRIOR, c=C, q=Q)
    assert relative(q, [variance_map(name, ROW, x) for x in Q]) <= 1e-12
    expected = np.array([correlation_map(name, ROW, x, y) for x, y in zip(Q, C, strict=True)])
    assert np.max(np.abs(c - expected)) <= 1e-12
    same = mf.c_map(name, PRIOR, c=C, q=Q, q2=Q)
    assert np.max(np.abs(same - expected)) <= 1e-12


def test_the_q_map_of_silence_is_what_the_origin_gives(x64):
    assert mf.q_map("relu", PRIOR, 0.0) == 0.2
    assert relative(mf.q_map("cos", PRIOR, 0.0), 1.9 * 0.4 + 0.2) <= 1e-15
    assert relative(mf.q_map("sigmoid", PRIOR, 0.0), 1.9 * 0.4 / 4 + 0.2) <= 1e-15


@pytest.mark.parametrize("name", ["relu", "erf", "tanh"])
def test_identical_signals_stay_identical(name):
    assert np.all(mf.c_map(name, PRIOR, c=1.0, q=np.array([1e-6, 0.3, 50.0], np.float32)) == 1)


def test_the_c_map_is_symmetric_in_the_two_signals(x64):
    one = mf.c_map("relu", PRIOR, c=C, q=Q, q2=2.0)
    other = mf.c_map("relu", PRIOR, c=C, q=2.0, q2=Q)
    assert np.max(np.abs(one - other)) <= 1e-15


def test_relu_trajectory_of_the_bounded_chaotic_phase(x64):
    path = mf.propagate("relu", mf.NormalPrior(2.3, 0.1, 0.9), q0=1.0, c0=0.5, depth=30)
    assert path.q.shape == path.c.shape == path.q2.shape == (31,)
    assert (path.q[0], path.c[0]) == (1.0, 0.5)
    assert abs(path.q[30] - 0.55843) <= 5e-6
    assert abs(path.c[30] - 0.78783) <= 5e-6


@pytest.mark.parametrize("name", ["relu", "cos"])
def test_propagation_is_the_repeated_map(x64, name):
    path = mf.propagate(name, PRIOR, q0=0.7, c0=-0.2, depth=5)
    other = mf.propagate(name, PRIOR, q0=0.7, c0=-0.2, depth=5, q2=0.7)
    unequal = mf.propagate(name, PRIOR, q0=0.7, c0=-0.2, depth=5, q2=2.0)
    for layer in range(5):
        assert relative(path.q[layer + 1], mf.q_map(name, PRIOR, path.q[layer])) <= 1e-14
        step = mf.c_map(name, PRIOR, c=path.c[layer], q=path.q[layer])
        assert abs(path.c[layer + 1] - step) <= 1e-14
        step = mf.c_map(name, PRIOR, c=unequal.c[layer], q=unequal.q[layer], q2=unequal.q2[layer])
        assert abs(unequal.c[layer + 1] - step) <= 1e-14
        assert relative(unequal.q2[layer + 1], mf.q_map(name, PRIOR, unequal.q2[layer])) <= 1e-14
    assert np.max(np.abs(path.c - other.c)) <= 1e-13


def test_depth_zero_is_the_start():
    path = mf.propagate("relu", PRIOR, q0=0.7, c0=0.1, depth=0)
    assert path.q.shape == (1,)
    assert path.q[0] == np.float32(0.7) and path.c[0] == np.float32(0.1)


def test_the_layer_axis_comes_first():
    prior = mf.NormalPrior(np.ones((3, 1)), np.full(2, 0.1))
    assert mf.propagate("relu", prior, depth=4).c.shape == (5, 3, 2)


def test_tanh_freezes_at_a_correlation_of_its_early_layers(x64):
    path = mf.propagate("tanh", mf.NormalPrior(0.8), q0=1.0, c0=0.5, depth=200)
    assert abs(path.c[-1] - 0.45803) <= 5e-6
    assert abs(path.c[-1] - path.c[-20]) <= 1e-9


def test_correlation_at_the_edge_of_chaos_approaches_algebraically(x64):
    """(1 - c_l) l^2 is on its slow way to 9 pi^2 / 2 = 44.41 (ReLU)."""
    path = mf.propagate("relu", mf.NormalPrior(2.0), c0=0.3, depth=1000)
    gap = 0.7
    for _ in range(1000):
        theta = 2 * np.arcsin(np.sqrt(gap / 2))
        gap = 1 - (np.sin(theta) + (np.pi - theta) * np.cos(theta)) / np.pi
    assert abs((1 - path.c[1000]) * 1000**2 - 43.05) <= 0.01
    assert relative(1 - path.c[1000], gap) <= 1e-8
    leaky = mf.propagate(mf.activations.leaky_relu(0.5), mf.NormalPrior(2 / 1.25), c0=0.0, depth=4000)
    assert abs((1 - leaky.c[4000]) * 4000**2 / (4.5 * np.pi**2 * (1.25 / 0.25) ** 2) - 1) <= 0.1


GRID = np.linspace(0.0, 1.0, 33)


@jax.jit
def curve(layer, q):
    return mf.c_map(layer, c=jnp.asarray(GRID), q=q)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["relu", "erf", "sin", "cos", "squared_relu"]),
    st.floats(0.1, 5.0),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.floats(-2.0, 1.0),
    st.floats(-2.0, 1.0),
)
def test_the_c_map_increases_and_is_convex_from_zero_to_one(activation, weight_var, bias_var, kappa, log_q):
    with jax.enable_x64(True):
        layer = mf.Dense(activation, mf.NormalPrior(weight_var, bias_var, kappa))
        values = np.asarray(curve(layer, 10.0**log_q))
    assert values[0] >= -1e-14
    assert values[-1] == 1
    assert np.all(np.diff(values) >= -1e-13)
    assert np.all(np.diff(values, 2) >= -1e-13)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["relu", "erf", "cos"]), st.floats(0.5, 4.0), st.floats(-1.0, 1.0), st.floats(0.0, 1.0)
)
def test_the_correlation_approaches_its_fixed_point_monotonically(activation, weight_var, kappa, c0):
    with jax.enable_x64(True):
        layer = mf.Dense(activation, mf.NormalPrior(weight_var, 0.1, kappa))
        end = mf.fixed_point(layer)
        if end.status != mf.Status.CONVERGED:
            return
        path = mf.propagate(layer, q0=end.q, c0=c0, depth=25)
    distance = np.asarray(path.c - end.c)
    assert np.all(np.abs(distance[1:]) <= np.abs(distance[:-1]) + 1e-11)
    assert np.all(distance * distance[0] >= -1e-11)


def test_a_variance_that_overflows_does_not_come_back(x64):
    bounded = mf.q_map("erf", mf.NormalPrior(1.0, 0.1), q=np.array([1e300, 1.7e308, np.finfo(float).max]))
    np.testing.assert_allclose(bounded, 1.1, rtol=1e-15)
    prior = mf.NormalPrior(2.0)
    q = mf.propagate(mf.GLU("erf", gate=prior, up=prior, down=prior), depth=1000).q
    assert np.all(np.diff(q[np.isfinite(q)]) > 0) and not np.isfinite(q[-1])
