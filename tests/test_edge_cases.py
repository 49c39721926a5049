"""Everything that can happen to a fixed point, with its status and its value."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import SELU_ALPHA, SELU_SCALE, names, point, relative, solve
from scipy.optimize import brentq

import meanfield as mf
from meanfield import Phase, Status


def hinge_limit(left, right, kappa):
    """c*, chi_1, chi_c of slopes (left, right) where the bias does not count."""
    power, gap = (left**2 + right**2) / 2, (right - left) ** 2 / (2 * np.pi)
    scale = power - kappa * gap

    def c_map(theta):
        psi = (np.sin(theta) + (np.pi - theta) * np.cos(theta)) * gap + left * right * np.cos(theta)
        return (psi - kappa * gap) / scale

    chi_1 = power / scale
    if chi_1 <= 1:
        return 1.0, chi_1, chi_1
    theta = brentq(lambda t: (1 - c_map(t)) / (1 - np.cos(t)) - 1, 1e-3, np.pi / 2 + 1e-9, xtol=1e-14)
    return np.cos(theta), chi_1, (gap * (np.pi - theta) + left * right) / scale


# --- the ReLU family ----------------------------------------------------------------------


def test_relu_in_every_kind_of_end(x64):
    rows = [
        point(1.0, 0.1),
        point(4.0, 0.1, 0.5),
        point(2.0, 0.1),
        point(1.0),
        point(2.0, q0=3.0),
        point(2.0, 0.1, 0.5),
        point(0.0, 0.3),
        point(0.0),
        point(2.0, q0=0.0),
        point(1.0, 0.5, q0=0.0),
    ]
    found = solve("relu", rows)
    assert names(found.status) == [
        "CONVERGED",
        "UNBOUNDED",
        "UNBOUNDED",
        "VANISHING",
        "MARGINAL",
        "CONVERGED",
        "CONVERGED",
        "VANISHING",
        "VANISHING",
        "CONVERGED",
    ]
    finite = 0.1 / (0.5 / np.pi)
    ends = [0.2, np.inf, np.inf, 0, 3, finite, 0.3, 0, 0, 1.0]
    np.testing.assert_allclose(found.q, ends, rtol=1e-13, atol=0)
    growth = 4 * (0.5 - 0.5 / (2 * np.pi))
    np.testing.assert_allclose(found.chi_q[:6], [0.5, growth, 1.0, 0.5, 1.0, 1 - 0.5 / np.pi], rtol=1e-14)
    c, chi_1, chi_c = hinge_limit(0, 1, 0.5)
    assert abs(found.c[1] - c) <= 1e-12
    assert relative([found.chi_1[1], found.chi_c[1], found.chi_perp[1]], [chi_1, chi_c, 2.0]) <= 1e-11
    assert np.all(found.c[[0, 2, 3, 4, 5, 6, 9]] == 1)
    assert found.phase[[2, 4, 5]].tolist() == [Phase.NEUTRAL, Phase.CRITICAL, Phase.CRITICAL]


@pytest.mark.parametrize("kappa", [-0.7, 0.4, 1.0])
def test_without_bias_the_correlation_does_not_feel_the_weight_var(x64, kappa):
    found = solve("relu", [point(w, 0.0, kappa) for w in (0.1, 1.0, 2.5, 40.0)])
    c, chi_1, chi_c = hinge_limit(0, 1, kappa)
    assert set(names(found.status)) <= {"VANISHING", "UNBOUNDED"}
    assert np.max(np.abs(found.c - c)) <= 1e-12
    assert relative(found.chi_1, [chi_1] * 4) <= 1e-13
    assert relative(found.chi_c, [chi_c] * 4) <= 1e-11


def test_a_linear_network_keeps_every_correlation(x64):
    found = solve(
        "linear",
        [point(1.0, q0=2.0, c0=0.3), point(0.5, c0=-0.4), point(2.0, c0=0.9), point(0.5, 0.1, c0=0.3)],
    )
    assert names(found.status) == ["MARGINAL", "VANISHING", "UNBOUNDED", "CONVERGED"]
    np.testing.assert_allclose(found.c, [0.3, -0.4, 0.9, 1.0], rtol=1e-15)
    np.testing.assert_allclose(found.q, [2.0, 0.0, np.inf, 0.2], rtol=1e-15)


# --- limits at infinity and at zero -------------------------------------------------------

AT_INFINITY = {
    "gelu": (0.0, 1.0),
    "silu": (0.0, 1.0),
    "elu": (0.0, 1.0),
    "softplus": (0.0, 1.0),
    "selu": (0.0, SELU_SCALE),
}


@pytest.mark.parametrize("activation", AT_INFINITY)
def test_far_out_an_activation_is_its_two_slopes(x64, activation):
    left, right = AT_INFINITY[activation]
    kappas = (0.5, 1.0, 0.0, -0.8)
    found = solve(activation, [point(5.0, 0.1, kappa, q0=100.0) for kappa in kappas])
    assert names(found.status) == ["UNBOUNDED"] * 4
    assert np.all(np.isinf(found.q))
    for i, kappa in enumerate(kappas):
        c, chi_1, chi_c = hinge_limit(left, right, kappa)
        growth = 5.0 * (left**2 + right**2) / 2 / chi_1
        assert abs(found.c[i] - c) <= 1e-9
        assert relative([found.chi_1[i], found.chi_c[i]], [chi_1, chi_c]) <= 1e-9
        assert relative(found.chi_q[i], growth) <= 1e-9


def test_selu_that_vanishes_is_its_two_slopes_at_zero(x64):
    found = solve("selu", [point(0.45, 0.0, 0.8)])
    c, chi_1, chi_c = hinge_limit(SELU_SCALE * SELU_ALPHA, SELU_SCALE, 0.8)
    assert names(found.status) == ["VANISHING"]
    assert abs(found.c[0] - 0.33138) <= 5e-6
    assert abs(found.c[0] - c) <= 1e-10
    assert relative([found.chi_1[0], found.chi_c[0]], [chi_1, chi_c]) <= 1e-10
    assert found.q[0] == 0


def test_tanh_that_vanishes_has_no_fixed_correlation(x64):
    found = solve("tanh", [point(0.8, c0=0.5)])
    assert names(found.status) == ["VANISHING"]
    assert found.q[0] == 0 and np.isnan(found.c[0])
    assert relative(found.chi_q[0], 0.8) <= 1e-12
    assert relative(found.chi_1[0], 1.0) <= 1e-12


@pytest.mark.parametrize(
    "square", [mf.activations.polynomial(0, 0, 1), lambda x: x**2], ids=["polynomial", "lambda"]
)
def test_a_square_has_its_own_limit(x64, square):
    """C(c) = (1 - kappa + 2 c^2) / (3 - kappa): c* = (1 - kappa) / 2."""
    found = solve(square, [point(0.1), point(0.1, 0.0, 0.6), point(2.0, 0.0, 0.6, q0=5.0)])
    assert names(found.status) == ["VANISHING", "VANISHING", "UNBOUNDED"]
    assert np.max(np.abs(found.c - [0.5, 0.2, 0.2])) <= 1e-10
    assert relative(found.chi_1, [4 / 3, 4 / 2.4, 4 / 2.4]) <= 1e-10
    assert relative(found.chi_c, [2 / 3, 0.8 / 2.4, 0.8 / 2.4]) <= 1e-10


def test_a_cube_that_vanishes_has_its_own_limit(x64):
    """C(c) = (9 c + 6 c^3) / 15."""
    found = solve(mf.activations.polynomial(0, 0, 0, 1), [point(0.01)])
    assert names(found.status) == ["VANISHING"]
    assert found.q[0] == 0
    assert relative(found.chi_1[0], 27 / 15) <= 1e-9
    assert abs(found.c[0]) <= 1e-9


def test_a_superlinear_divergence_has_no_limit_map(x64):
    found = solve(mf.activations.polynomial(0, 1, 0, 0.3), [point(1.5, 0.1, q0=10.0)])
    assert names(found.status) == ["UNBOUNDED"]
    assert np.isinf(found.q[0]) and np.isnan(found.c[0]) and np.isnan(found.chi_1[0])
    assert found.phase[0] == Phase.UNDEFINED


def test_squared_relu_keeps_a_limit_map_at_both_ends(x64):
    def c_map(theta, kappa):
        j2 = 3 * np.sin(theta) * np.cos(theta) + (np.pi - theta) * (1 + 2 * np.cos(theta) ** 2)
        return (j2 / (2 * np.pi) - kappa / 4) / (1.5 - kappa / 4)

    rows = [point(0.1), point(0.1, 0.0, 0.8), point(3.0, 0.1, 0.8, q0=9.0)]
    found = solve("squared_relu", rows)
    assert names(found.status) == ["VANISHING", "VANISHING", "UNBOUNDED"]
    assert found.q.tolist() == [0, 0, np.inf]
    for i, row in enumerate(rows):
        kappa = row["anticorrelation"]
        theta = brentq(lambda t: (1 - c_map(t, kappa)) / (1 - np.cos(t)) - 1, 1e-2, np.pi / 2, xtol=1e-14)  # noqa: B023
        assert abs(found.c[i] - np.cos(theta)) <= 1e-10
        assert relative(found.chi_1[i], 2 / (1.5 - kappa / 4)) <= 1e-12


def test_squared_relu_with_bias_stops_at_the_lower_root(x64):
    found = solve("squared_relu", [point(0.5, 0.1), point(0.5, 0.1, q0=1.2), point(0.5, 0.1, q0=1.25)])
    roots = np.sort(np.roots([0.75, -1, 0.1]))
    assert names(found.status) == ["CONVERGED", "CONVERGED", "UNBOUNDED"]
    assert relative(found.q[:2], [roots[0]] * 2) <= 1e-13
    assert roots[1] > 1.2


# --- instability, criticality, jumps ------------------------------------------------------


def test_cos_under_strong_positive_correlation_oscillates(x64):
    found = solve("cos", [point(0.0148, 0.001, -1000.0)])
    assert names(found.status) == ["UNSTABLE"]
    q = brentq(
        lambda q: 0.0148 * ((1 + np.exp(-2 * q)) / 2 + 1000 * np.exp(-q)) + 0.001 - q, 1e-3, 10, xtol=1e-15
    )
    assert relative(found.q[0], q) <= 1e-12
    assert abs(found.chi_q[0] + 2) <= 0.02
    path = mf.propagate("cos", mf.NormalPrior(0.0148, 0.001, -1000.0), q0=1.0, depth=400)
    assert abs(path.q[-1] - path.q[-2]) > 0.1


def test_at_exact_criticality_the_correlation_is_one(x64):
    found = solve("tanh", [point(1.7609546396, 0.05), point(1.0, 0.0), point(1.4242052904885962, 0.01)])
    assert np.max(np.abs(found.c[[0, 2]] - 1)) <= 1e-6
    assert "MAX_STEPS" not in names(found.status)
    assert names(found.status)[0] == names(found.status)[2] == "CONVERGED"
    assert abs(found.q[0] - 0.5700478816) <= 1e-9
    assert abs(found.chi_1[0] - 1) <= 1e-9


def test_tanh_at_unit_gain_without_bias_decays_to_nothing(x64):
    found = solve("tanh", [point(1.0)])
    assert names(found.status) == ["VANISHING"]
    assert found.q[0] == 0


def test_silence_without_bias_stays_silent(x64):
    found = solve("tanh", [point(2.0, 0.0, q0=0.0)])
    assert names(found.status) == ["VANISHING"]
    assert found.q[0] == 0


def test_a_sign_is_chaotic_to_the_last(x64):
    """C(c) = (2 w arcsin(c) / pi + b) / (w + b): its slope at 1 is infinite."""
    found = solve(jnp.sign, [point(1.5), point(1.0, 0.5)])
    assert np.all(np.isinf(found.chi_1))
    assert found.phase.tolist() == [Phase.CHAOTIC] * 2
    assert relative(found.q, [1.5, 1.5]) <= 1e-12
    c = brentq(lambda c: (2 / np.pi * np.arcsin(c) + 0.5) / 1.5 - c, 0, 0.9, xtol=1e-15)
    assert np.max(np.abs(found.c - [0, c])) <= 1e-8


@pytest.mark.slow
def test_a_step_with_a_jump_off_the_origin_is_chaotic_too(x64):
    found = solve(
        mf.Activation(lambda x: jnp.where(x > 0.5, 1.0, jnp.tanh(x)), kinks=(0.5,)), [point(1.5, 0.1)]
    )
    assert np.isinf(found.chi_1[0]) and found.c[0] < 1


# --- where the correlation starts ---------------------------------------------------------


def test_equal_signals_stay_equal(x64):
    for activation in ("relu", "erf", "cos"):
        found = solve(activation, [point(2.3, 0.1, 0.9, c0=1.0), point(2.3, 0.1, 0.9, c0=0.999)])
        assert found.c[0] == 1 and found.one_minus_c[0] == 0
        assert found.chi_c[0] == found.chi_1[0]
        assert (found.c[1] < 1) == (found.chi_1[1] > 1)


def test_opposite_signals_stay_opposite_only_for_odd_activations_without_bias(x64):
    odd = solve("erf", [point(2.5, c0=-1.0), point(2.5, 0.1, c0=-1.0), point(2.5, c0=-0.999)])
    assert odd.c[0] == -1 and odd.one_minus_c[0] == 2
    assert 0 < odd.c[1] < 1
    assert abs(odd.c[2]) <= 1e-12
    tanh = solve("tanh", [point(2.5, c0=-1.0), point(2.5, 0.1, c0=-1.0)])
    assert tanh.c[0] == -1 and 0 < tanh.c[1] < 1


def test_opposite_signals_are_one_to_an_even_activation(x64):
    found = solve("cos", [point(6.0, 0.1, 0.9, c0=-1.0), point(6.0, 0.1, 0.9, c0=-0.9)])
    assert found.c[0] == 1
    assert found.c[1] == solve("cos", [point(6.0, 0.1, 0.9, c0=0.0)]).c[0] < 1
    assert solve("abs", [point(0.9, 0.1, 0.9, c0=-1.0)]).c[0] == 1


def test_every_other_start_ends_at_the_same_correlation(x64):
    found = solve("relu", [point(2.5, 0.1, 0.9, c0=c0) for c0 in (-0.99, -0.2, 0.0, 0.5, 0.999999)])
    assert len(set(found.c.tolist())) == 1


# --- values seen only inside a trace ------------------------------------------------------


def test_an_invalid_value_inside_a_trace_concerns_one_point_alone(x64):
    @jax.jit
    def traced(weight_var, bias_var, kappa, q0):
        return mf.fixed_point("relu", mf.NormalPrior(weight_var, bias_var, kappa), q0=q0)

    nan, inf = np.nan, np.inf
    bad = np.array(
        [
            [-1, 0.1, 0, 1],
            [1, -0.1, 0, 1],
            [1, 0.1, 1.5, 1],
            [nan, 0.1, 0, 1],
            [1, inf, 0, 1],
            [1, 0.1, 0, -1],
        ]
    )
    rows = np.array([[1, 0.1, 0, 1], *bad, [2.3, 0.1, 0.9, 1]])
    found = traced(*rows.T)
    assert names(found.status) == ["CONVERGED"] + ["INVALID"] * 6 + ["CONVERGED"]
    for name in ("q", "c", "one_minus_c", "chi_q", "chi_c", "chi_1", "chi_perp"):
        value = np.asarray(getattr(found, name))
        assert np.all(np.isnan(value[1:7])), name
        assert np.all(np.isfinite(value[[0, 7]])), name
    assert np.all(found.phase[1:7] == Phase.UNDEFINED)
    clean = mf.fixed_point("relu", mf.NormalPrior(*rows[[0, 7], :3].T))
    assert relative(found.c[np.array([0, 7])], clean.c) <= 1e-14


def test_a_parameter_that_is_not_a_number_is_invalid(x64):
    found = jax.jit(lambda slope: mf.fixed_point(mf.activations.leaky_relu(slope), mf.NormalPrior(1.0, 0.1)))(
        np.nan
    )
    assert names(found.status) == ["INVALID"]
    assert np.isnan(found.q)


@pytest.mark.parametrize("status", list(Status))
def test_every_status_is_a_sentence(status):
    assert status.message.endswith(".")
    assert len(status.message.split()) > 5
