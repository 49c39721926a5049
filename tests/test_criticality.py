"""The edge of chaos, explicit in q and as a function of the bias."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import BATCH, column, names, padded, point, reference, relative, solve

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


def test_odd_activations_begin_their_line_at_unit_slope(x64):
    assert relative(mf.critical_weight_var("erf", 0.0), np.pi / 4) <= 1e-9
    assert relative(mf.critical_weight_var("sin", 0.0), 1.0) <= 1e-9


def test_the_line_keeps_single_precision():
    line = mf.critical_line("erf", np.float32(0.5))
    assert line.weight_var.dtype == np.float32
    assert mf.critical_weight_var("erf", np.float32(0.1)).dtype == np.float32
