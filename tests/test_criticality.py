"""The edge of chaos, explicit in q and as a function of the bias."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import (
    BATCH,
    column,
    gaussian_mean,
    names,
    padded,
    panels,
    point,
    reference,
    relative,
    solve,
)

import meanfield as mf
from meanfield import Status

REFERENCE = reference("critical_line")
QS = np.geomspace(1e-3, 2.0, BATCH)


@pytest.mark.parametrize("activation", REFERENCE)
def test_the_reference_line_is_met(x64, activation):
    rows = REFERENCE[activation]
    line = mf.critical_line(activation, padded(column(rows, "q")))
    n = len(rows)
    assert names(line.status[:n]) == ["CONVERGED"] * n
    assert relative(line.weight_var[:n], column(rows, "weight_var")) <= 1e-10
    assert relative(line.bias_var[:n], column(rows, "bias_var")) <= 1e-9
    found = mf.critical_weight_var(activation, padded(column(rows, "bias_var")))
    assert relative(found[:n], column(rows, "weight_var")) <= 1e-10


def test_tanh_at_a_twentieth(x64):
    assert abs(mf.critical_weight_var("tanh", padded([0.05]))[0] - 1.7609546396) <= 5e-11
    line = mf.critical_line("tanh", padded([0.5700478816]))
    assert abs(line.weight_var[0] - 1.7609546396) <= 1e-9
    assert abs(line.bias_var[0] - 0.05) <= 1e-9


def test_gelu_has_no_stable_critical_point_at_small_variance(x64):
    line = mf.critical_line("gelu", QS)
    assert np.all(line.chi_q > 1)
    assert "CONVERGED" not in names(line.status)
    found = mf.critical_weight_var("gelu", padded([0.01, 0.05, 0.1, 1.0]))
    assert np.all(np.isnan(found[:3]))
    # At large variance GELU bends like ReLU and its line is stable.
    end = solve("gelu", [point(found[3], 1.0, q0=50.0)])
    assert names(end.status) == ["CONVERGED"]
    assert end.q[0] > 4
    assert abs(end.chi_1[0] - 1) <= 1e-9


def test_softplus_would_need_a_negative_bias_variance(x64):
    line = mf.critical_line("softplus", QS)
    assert np.all(line.bias_var < 0)
    assert names(line.status) == ["INVALID"] * BATCH
    assert np.all(np.isnan(mf.critical_weight_var("softplus", padded([0.0, 0.1, 1.0]))))


def test_relu_is_critical_at_a_single_point_or_on_a_whole_line(x64):
    line = mf.critical_line("relu", QS)
    np.testing.assert_allclose(line.weight_var, 2.0, rtol=1e-15)
    assert np.all(line.bias_var == 0)
    assert names(line.status) == ["MARGINAL"] * BATCH
    line = mf.critical_line("relu", QS, 0.7)
    np.testing.assert_allclose(line.weight_var, 2.0, rtol=1e-15)
    np.testing.assert_allclose(line.bias_var, 0.7 * QS / np.pi, rtol=1e-13)
    assert names(line.status) == ["CONVERGED"] * BATCH
    np.testing.assert_allclose(line.chi_q, 1 - 0.7 / np.pi, rtol=1e-14)
    assert names(mf.critical_line("relu", QS, -0.7).status) == ["INVALID"] * BATCH


def test_where_there_is_no_line_there_is_no_number(x64):
    bias_vars, kappas = np.array([0.1, 0.0, 0.1, 0.0, 0.1]), np.array([0.0, 0.0, 0.5, 0.5, -0.5])
    found = mf.critical_weight_var("relu", bias_vars, kappas)
    np.testing.assert_allclose(found, [np.nan, 2, 2, np.nan, np.nan], rtol=1e-15)


@pytest.mark.parametrize(
    "activation, kappa", [("erf", 0.0), ("sin", 0.3), ("leaky_relu(0.2)", 0.8), ("tanh", 0.0)]
)
def test_both_descriptions_of_the_line_are_inverse_to_each_other(x64, activation, kappa):
    line = mf.critical_line(activation, QS, kappa)
    stable = np.asarray(line.status) == Status.CONVERGED
    assert stable.sum() > BATCH / 2
    back = np.asarray(mf.critical_weight_var(activation, padded(np.asarray(line.bias_var)[stable]), kappa))
    assert relative(back[: stable.sum()], np.asarray(line.weight_var)[stable]) <= 1e-9


@pytest.mark.parametrize("activation, kappa", [("erf", 0.0), ("cos", 1.0), ("relu", 0.8), ("gelu", 1.0)])
def test_the_fixed_point_of_a_critical_prior_is_critical(x64, activation, kappa):
    line = mf.critical_line(activation, QS, kappa)
    stable = np.flatnonzero(np.asarray(line.status) == Status.CONVERGED)
    assert stable.size > 0
    rows = [point(line.weight_var[i], line.bias_var[i], kappa, q0=line.q[i]) for i in stable]
    found = solve(activation, rows)
    assert names(found.status) == ["CONVERGED"] * len(rows)
    condition = 1 / (1 - np.asarray(line.chi_q)[stable])
    assert np.max(np.abs(found.q / np.asarray(line.q)[stable] - 1) / condition) <= 1e-11
    assert np.max(np.abs(found.chi_1 - 1) / condition) <= 1e-11
    assert np.max(np.abs(found.c - 1)) <= 1e-6
    np.testing.assert_allclose(found.chi_q, np.asarray(line.chi_q)[stable], rtol=1e-8, atol=1e-9)


def test_the_slope_of_the_line_is_that_of_its_parametrisation(x64):
    q = jnp.array([0.1, 0.5, 1.5])

    def along(q):
        line = mf.critical_line("erf", q)
        return line.weight_var, line.bias_var

    (_, bias_var), (dw, db) = jax.jvp(along, (q,), (jnp.ones_like(q),))
    slopes = jax.grad(lambda b: jnp.sum(mf.critical_weight_var("erf", b)))(bias_var)
    np.testing.assert_allclose(slopes, dw / db, rtol=1e-8)


# --- the product: activations x bias variances x anticorrelations x precisions --------------

BIASES, KAPPAS = (0.0, 1e-12, 1e-8, 1e-4, 0.05, 0.5, 5.0), (0.0, 0.5, 1.0, -1.0)
PRODUCT = np.array([(b, k) for b in BIASES for k in KAPPAS])
SOME = ("elu", "hard_tanh", "silu")
MOST = sorted(set(mf.activations.NAMES) - {*SOME, "polynomial"})
SMOOTH_AT_ZERO = ("tanh", "hard_tanh", "elu", "celu", "softsign", "arctan", "sin")


@functools.cache
def evaluated(activation):
    """phi and phi' of a NumPy array, compiled for one length."""
    fn = mf.activations.as_activation(activation)
    both = jax.jit(lambda u: jax.jvp(fn, (u,), (jnp.ones_like(u),)))

    def at(u):
        with jax.enable_x64(True):
            return [np.asarray(x)[: u.size] for x in both(np.pad(u, (0, 4096 - u.size)))]

    return fn, at


@functools.cache
def moments(activation, q):
    """m, v, E phi'^2, E u phi phi' / q and E u phi' / q, by panels of NumPy."""
    fn, at = evaluated(activation)
    breaks = (*fn.kinks, *(s * 10.0**k for k in range(-3, 2) for s in (1, -1)), 0.0)
    z, w = panels(np.asarray(breaks) / np.sqrt(q))
    u = np.sqrt(q) * z
    value, slope = at(u)
    mean = w @ value
    return mean, w @ (value - mean) ** 2, w @ slope**2, w @ (u * value * slope) / q, w @ (u * slope) / q


def the_line(activation, q, kappa):
    """(weight_var, bias_var, Q') that make q critical."""
    mean, variance, square, rise, mean_rise = moments(activation, float(q))
    moment = variance + (1 - kappa) * mean**2
    return 1 / square, q - moment / square, (rise - kappa * mean * mean_rise) / square


def assert_every_row_is_true(activation, found, tolerance):
    """Each point is on the line by panels, and where there is none a scan finds no stable one either."""
    qs = np.geomspace(1e-6, 1e6, 73)
    scans = {k: np.array([the_line(activation, q, k) for q in qs]) for k in KAPPAS}
    for i, (bias_var, kappa) in enumerate(PRODUCT):
        weight_var, q, chi_q = (float(x[i]) for x in (found.weight_var, found.q, found.chi_q))
        status = mf.Status(int(found.status[i]))
        where = f"{activation} at {bias_var}, {kappa}: {status.name} {weight_var} q {q}"
        if q > 0:
            expected, bias, slope = the_line(activation, q, kappa)
            assert abs(weight_var / expected - 1) <= tolerance, where
            # Beside phi(0) the panels' values are rounded; the bias variance is q less a moment.
            origin = abs(float(evaluated(activation)[0](jnp.zeros(()))))
            if moments(activation, q)[1] ** 0.5 > 1e-6 * origin:
                assert abs(bias - bias_var) <= tolerance * (bias_var + 0.1 * q), where
                assert abs(chi_q - slope) <= 100 * tolerance * max(1, abs(slope)), where
        if status == Status.CONVERGED:
            assert abs(chi_q) < 1, where
        elif status in (Status.VANISHING, Status.MARGINAL):
            assert bias_var == 0, where
        else:
            assert status in (Status.UNSTABLE, Status.INVALID), where
            weight, excess, slope = scans[kappa].T
            excess = excess - bias_var
            sure = np.abs(excess) > 1e-12 * qs
            stable = (np.abs(slope) < 1) & sure & (weight > 0)
            crosses = stable[1:] & stable[:-1] & (excess[1:] * excess[:-1] < 0)
            assert not crosses.any(), f"{where}, but the line is crossed at {qs[1:][crosses]}"
        if activation in SMOOTH_AT_ZERO and bias_var == 0:
            assert status == Status.VANISHING and abs(weight_var - 1) <= tolerance, where


@pytest.mark.parametrize("activation", [*SOME, *(pytest.param(a, marks=pytest.mark.slow) for a in MOST)])
def test_every_point_is_on_the_line_and_every_nan_has_its_reason(x64, activation):
    found = jax.device_get(mf.critical_point(activation, *PRODUCT.T))
    assert_every_row_is_true(activation, found, 1e-10)


@pytest.mark.parametrize("activation", ["elu", "tanh", "softsign", "erf", "relu"])
def test_single_precision_has_the_same_points(activation):
    found = jax.device_get(mf.critical_point(activation, *PRODUCT.T.astype(np.float32)))
    assert found.weight_var.dtype == np.float32
    assert_every_row_is_true(activation, found, 3e-5)


def test_without_bias_the_line_ends_where_signals_see_the_slope_at_zero(x64):
    assert relative(mf.critical_weight_var("erf", 0.0), np.pi / 4) <= 1e-14
    # At kappa = 1 the mean drops out: 1 / phi'(0)^2 of the sigmoid. Weights that see the mean keep q above 0.
    end = mf.critical_point("sigmoid", np.zeros(2), np.array([1.0, 0.0]))
    assert names(end.status) == ["VANISHING", "CONVERGED"]
    assert relative(end.weight_var[0], 16.0) <= 1e-14 and end.q[0] == 0
    assert end.weight_var[1] > 16 and end.q[1] > 1


def test_a_bias_without_a_critical_point_is_kept_beside_its_status(x64):
    found = mf.critical_point("relu", np.array([0.1, 0.0]))
    assert names(found.status) == ["INVALID", "MARGINAL"]
    np.testing.assert_array_equal(found.bias_var, [0.1, 0.0])
    np.testing.assert_array_equal(found.weight_var, [np.nan, 2.0])


def test_silu_is_critical_where_its_variance_repels(x64):
    found = mf.critical_point("silu", 0.04)
    assert mf.Status(int(found.status)) == Status.UNSTABLE
    assert (round(float(found.weight_var), 6), round(float(found.q), 6)) == (2.820826, 0.689453)
    assert round(float(found.chi_q), 4) == 1.0987
    reason = r"weight_var 2\.820826, q = 0\.689453, but that q repels \(Q' = 1\.0987\)"
    with pytest.warns(mf.NoCriticalPointWarning, match=reason):
        assert np.isnan(mf.critical_weight_var("silu", 0.04))


def test_nan_among_numbers_is_told_once_with_the_first_of_them(x64):
    with pytest.warns(mf.NoCriticalPointWarning) as told:
        mf.critical_weight_var("relu", np.array([0.1, 0.0, 0.2]))
    assert len(told) == 1
    assert "2 of 3 points, the first at bias_var 0.1" in str(told[0].message)
    assert "chi_1 = 1 holds at no weight_var" in str(told[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mf.critical_weight_var("relu", 0.0)
        assert np.isnan(jax.jit(lambda b: mf.critical_weight_var("relu", b))(0.1))


def test_two_crossings_next_to_each_other_are_both_seen(x64):
    # elu's line at kappa = -1 leaves bias variance 0 and comes back at q = 0.69; in between it has a top.
    q = np.geomspace(1e-2, 0.6, BATCH)
    tops = mf.critical_line("elu", q, -1.0)
    best = int(np.argmax(tops.bias_var))
    line = mf.critical_line("elu", np.linspace(q[best - 1], q[best + 1], 2001), -1.0)
    top = float(np.max(line.bias_var))
    found = mf.critical_point("elu", top * (1 - np.array([1e-3, 1e-6, -1e-3])), np.full(3, -1.0))
    assert names(found.status) == ["CONVERGED", "CONVERGED", "INVALID"]


def test_the_critical_point_has_the_derivatives_of_the_line(x64):
    point_at = lambda b: mf.critical_point("erf", b).weight_var
    first, second = jax.grad(point_at)(0.05), jax.hessian(point_at)(0.05)
    step = 1e-4
    low, middle, high = (float(point_at(0.05 + d)) for d in (-step, 0.0, step))
    assert abs(first - (high - low) / (2 * step)) <= 1e-6 * abs(first)
    assert abs(second - (high - 2 * middle + low) / step**2) <= 1e-5 * abs(second)


# --- the gain of an activation ----------------------------------------------------------------


@pytest.mark.parametrize("activation", ["tanh", "gelu", "hard_tanh", "relu", "cos"])
def test_the_preserving_weights_keep_the_variance(x64, activation):
    q, bias_var, kappa = np.array([0.3, 1.0, 40.0]), np.array([0.1, 0.0, 2.0]), np.array([0.0, 1.0, -0.5])
    found = mf.preserving_weight_var(activation, q, bias_var, kappa)
    assert relative(mf.q_map(activation, mf.NormalPrior(found, bias_var, kappa), q), q) <= 1e-14
    fn = mf.activations.as_activation(activation)
    for w, v, b, k in zip(found, q, bias_var, kappa, strict=True):
        mean, square = (gaussian_mean(lambda u, p=p: np.asarray(fn(u)) ** p, v, fn.kinks) for p in (1, 2))
        assert relative(w, (v - b) / (square - k * mean**2)) <= 1e-12


def test_gains_are_those_that_others_publish(x64):
    gain = lambda name, kappa=0.0: float(mf.preserving_weight_var(name, anticorrelation=kappa)) ** 0.5
    # torch.nn.init.calculate_gain, where it is exact; its tanh, 5/3, is not.
    assert relative(gain("relu"), 2**0.5) <= 1e-15
    assert relative(gain("leaky_relu(0.2)"), (2 / (1 + 0.2**2)) ** 0.5) <= 1e-15
    assert relative(gain("linear"), 1.0) <= 1e-15
    assert relative(gain("selu"), 1.0) <= 1e-14  # Klambauer et al. 2017
    assert 1.592 < gain("tanh") < 1.593 < 5 / 3
    # Gammas of the NFNets (Brock et al. 2021), from random numbers.
    published = {
        "relu": 1.7139588594436646,
        "silu": 1.7881293296813965,
        "gelu": 1.7015043497085571,
        "log_sigmoid": 1.9193484783172607,
    }
    for name, gamma in published.items():
        assert relative(gain(name, 1.0), gamma) <= 1e-3


def test_no_weights_take_variance_away(x64):
    with pytest.raises(ValueError, match="bias_var must be at most q, got 0"):
        mf.preserving_weight_var("tanh", 0.3, 0.5)
    with pytest.raises(ValueError, match="q must be finite and greater than 0"):
        mf.preserving_weight_var("tanh", 0.0)
    inside = jax.jit(lambda q, b: mf.preserving_weight_var("tanh", q, b))
    assert np.isnan(inside(0.3, 0.5)) and np.isnan(inside(-1.0, 0.0))
    assert np.isfinite(jax.grad(lambda q: mf.preserving_weight_var("tanh", q, 0.1))(0.7))


def test_the_line_keeps_single_precision():
    line = mf.critical_line("erf", np.float32(0.5))
    assert line.weight_var.dtype == np.float32
    assert mf.critical_weight_var("erf", np.float32(0.1)).dtype == np.float32
