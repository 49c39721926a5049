"""Fixed points: known answers in both precisions, independent oracles, and properties."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import (
    BATCH,
    FUNCTIONS,
    column,
    correlation_map,
    names,
    point,
    reference,
    relative,
    solve,
    variance_map,
)

import meanfield as mf
from meanfield import Phase, Status

FIXED_POINTS = reference("fixed_points")
NEAR_CRITICAL = reference("near_critical")


# --- known answers ----------------------------------------------------------------------


@pytest.mark.parametrize("activation", FIXED_POINTS)
def test_reference_points_are_met_to_ten_digits(x64, activation):
    rows = FIXED_POINTS[activation]
    found = solve(activation, rows)
    assert names(found.status) == ["CONVERGED"] * len(rows)
    for name in ("q", "c", "chi_1", "chi_c"):
        assert relative(getattr(found, name), column(rows, name)) <= 1e-10, name
    assert relative(found.chi_q, column(rows, "chi_q")) <= 1e-9
    assert relative(found.one_minus_c, column(rows, "one_minus_c")) <= 1e-9
    assert relative(found.chi_perp, column(rows, "chi_1")) <= 1e-10  # the signal keeps its size
    assert relative(found.chi_perp, found.chi_1) <= 1e-12


@pytest.mark.parametrize("activation", NEAR_CRITICAL)
def test_one_minus_c_keeps_six_digits_near_criticality(x64, activation):
    rows = NEAR_CRITICAL[activation]
    found = solve(activation, rows)
    assert names(found.status) == ["CONVERGED"] * len(rows)
    assert relative(found.one_minus_c, column(rows, "one_minus_c")) <= 1e-6
    assert relative(found.q, column(rows, "q")) <= 1e-10
    assert relative(found.chi_1, column(rows, "chi_1")) <= 1e-10
    assert relative(found.chi_q, column(rows, "chi_q")) <= 1e-9


# One of each kind of moments, kinks and limits: every further one costs a compilation.
SINGLE = ("relu", "erf", "tanh", "hard_tanh", "softsign")


@pytest.mark.parametrize("activation", SINGLE)
def test_single_precision_is_as_good_as_the_condition_of_the_point(activation):
    rows = FIXED_POINTS[activation] + NEAR_CRITICAL.get(activation, [])
    found = solve(activation, rows)
    assert found.q.dtype == np.float32
    converged = found.status == Status.CONVERGED
    assert converged.sum() >= len(FIXED_POINTS[activation]) - 1
    eps = np.finfo(np.float32).eps
    of_q = 1 / np.abs(1 - column(rows, "chi_q"))
    of_c = np.maximum(1, of_q * column(rows, "one_minus_c") / (1 - column(rows, "chi_c")))
    for name, condition in (("q", of_q), ("chi_1", of_q), ("c", of_c)):
        expected = column(rows, name)
        error = np.abs(getattr(found, name) / expected - 1) / (eps * condition)
        assert np.max(error[converged]) <= 100, (name, error)


# --- oracles that share nothing with the library ----------------------------------------

UNSEEN = {
    "gelu": [point(1.8, 0.3, 0.35), point(2.6, 0.05, 1.0)],
    "tanh": [point(3.3, 0.02), point(1.9, 0.4, -0.6)],
    "hard_tanh": [point(1.7, 0.03), point(3.9, 0.2)],
    "mish": [point(2.1, 0.1, 0.9), point(1.4, 0.5, -0.2)],
    "softsign": [point(4.5, 0.02, 0.5), point(9.0, 0.3)],
    "relu6": [point(2.3, 0.4, 0.7), point(2.9, 1.5, -0.5)],
    "hard_swish": [point(1.8, 0.3, 0.3), point(1.9, 0.4, 0.8)],
    "log_sigmoid": [point(1.2, 0.2, 0.4), point(2.2, 0.1, 1.0)],
    "squareplus": [point(1.2, 0.1, 0.9), point(1.9, 0.2, 1.0)],
    "snake": [point(0.6, 0.2), point(0.85, 0.1, 0.5)],
}


@pytest.mark.parametrize("activation", UNSEEN)
def test_unseen_fixed_points_satisfy_both_maps_by_scipy_quadrature(x64, activation):
    rows = UNSEEN[activation]
    found = solve(activation, rows)
    assert names(found.status) == ["CONVERGED"] * len(rows)
    for i, row in enumerate(rows):
        q, c = float(found.q[i]), float(found.c[i])
        residual = variance_map(activation, row, q) / q - 1
        assert abs(residual / (1 - found.chi_q[i])) <= 1e-10
        if found.chi_1[i] <= 1:
            assert c == 1
            assert correlation_map(activation, row, q, 0.5) > 0.5
        else:
            gap = correlation_map(activation, row, q, c) - c
            assert abs(gap / (1 - found.chi_c[i])) <= 1e-10
            assert 0 <= c < 1 and found.chi_c[i] < 1


# --- where the variance goes ------------------------------------------------------------


def followed(activation, rows, steps):
    """q after many steps of the map itself, in one compiled loop; NaN where it has not settled."""
    prior = mf.NormalPrior(*(column(rows, k) for k in ("weight_var", "bias_var", "anticorrelation")))

    @jax.jit
    def iterate(prior, q):
        return jax.lax.fori_loop(0, steps, lambda _, q: mf.q_map(activation, prior, q), q)

    q = np.asarray(iterate(prior, column(rows, "q0")))
    finite = np.where(np.isfinite(q) & (q < 1e12), q, 1.0)
    settled = np.abs(np.asarray(mf.q_map(activation, prior, finite)) / finite - 1) <= 1e-13
    return np.where(settled & (finite == q), q, np.where(finite == q, np.nan, np.inf))


BASINS = ("silu", "cos", "mish", "squared_relu")


@pytest.mark.parametrize("activation", BASINS)
def test_the_fixed_point_is_the_one_that_plain_iteration_reaches(x64, activation):
    random = np.random.default_rng(7)
    rows = [
        point(
            weight_var=random.uniform(0.3, 20 if activation in ("cos", "sin") else 3),
            bias_var=random.choice([0.001, 0.03, 0.1, 0.5]),
            anticorrelation=random.choice([-2.0, -0.5, 0.0, 0.5, 0.9, 1.0]),
            q0=10 ** random.uniform(-3, 2),
        )
        for _ in range(BATCH - 4)
    ]
    if activation == "silu":
        rows += [point(2.5, 0.1, 0.5, q0) for q0 in (2.0, 3.42, 3.4, 0.01)]
    if activation == "cos":
        rows += [point(20, 0.01, 1.0, q0) for q0 in (1e-3, 0.05, 0.5, 50.0)]
    end = followed(activation, rows, 3000)
    found = solve(activation, rows)
    finite = np.isfinite(end)
    assert finite.sum() >= 3
    assert names(found.status[finite]) == ["CONVERGED"] * finite.sum()
    condition = 1 / np.abs(1 - found.chi_q[finite])
    assert np.max(np.abs(found.q[finite] / end[finite] - 1) / condition) <= 1e-10
    assert set(names(found.status[np.isinf(end)])) <= {"UNBOUNDED"}


def test_silu_starts_at_two_and_ends_at_the_lower_fixed_point(x64):
    found = solve("silu", [point(2.5, 0.1, 0.5, q0) for q0 in (0.0, 1e-8, 1.0, 2.0, 3.4229, 3.423, 5.0, 1e4)])
    assert names(found.status) == ["CONVERGED"] * 5 + ["UNBOUNDED"] * 3
    assert relative(found.q[:5], [0.3793648] * 5) <= 1e-6
    assert relative(found.q[:5], found.q[2]) <= 1e-12


def test_silu_has_a_stable_and_an_unstable_fixed_point(x64):
    found = mf.fixed_points("silu", mf.NormalPrior(2.5, 0.1, 0.5))
    assert names(found.status)[:3] == ["CONVERGED", "UNSTABLE", "INVALID"]
    assert relative(found.q[:2], [0.3793648, 3.42293]) <= 1e-6
    assert abs(found.chi_q[1] - 1.0598) <= 5e-5
    assert abs(found.chi_q[0]) < 1
    assert np.all(np.isnan(found.q[2:]))
    assert found.q.shape == (8,)


def test_cos_has_three_fixed_points_in_ascending_order(x64):
    found = mf.fixed_points("cos", mf.NormalPrior(20.0, 0.01, 1.0), most=4)
    q = np.asarray(found.q[:3])
    assert names(found.status) == ["CONVERGED", "UNSTABLE", "CONVERGED", "INVALID"]
    assert np.all(np.diff(q) > 0)
    row = point(20.0, 0.01, 1.0)
    for value, chi_q in zip(q, found.chi_q, strict=False):
        assert abs(variance_map("cos", row, value) / value - 1) <= 1e-12
        step = 1e-5 * value
        slope = (variance_map("cos", row, value + step) - variance_map("cos", row, value - step)) / (2 * step)
        assert abs(slope - chi_q) <= 1e-7
    # No others: Q(q) - q changes sign three times on a fine grid.
    grid = np.geomspace(1e-6, 1e3, 4000)
    m, v = np.exp(-grid / 2), np.expm1(-grid) ** 2 / 2 + np.exp(-grid)
    gap = 20 * (v - m**2) + 0.01 - grid
    assert np.sum(np.diff(np.sign(gap)) != 0) == 3


def test_basins_of_cos_are_split_at_the_unstable_fixed_point(x64):
    low, middle, high = np.asarray(mf.fixed_points("cos", mf.NormalPrior(20.0, 0.01, 1.0), most=4).q)[:3]
    found = solve("cos", [point(20, 0.01, 1.0, q0) for q0 in (low / 9, middle * 0.999, middle * 1.001, 90.0)])
    assert relative(found.q, [low, low, high, high]) <= 1e-10


# --- the law of the ReLU family ---------------------------------------------------------


def bend(theta):
    return (np.sin(theta) - theta * np.cos(theta)) / (1 - np.cos(theta))


@pytest.mark.parametrize("slope", [0.0, 0.2, -0.5])
def test_relu_family_obeys_its_closed_law_in_every_phase(x64, slope):
    rows = [
        point(w, b, k) for w, b, k in [(2.3, 0.1, 0.9), (1.2, 0.1, 0.5), (2.2, 0.1, 1.0), (5.0, 0.1, 0.7)]
    ]
    rows += [point(w, 0.0, k) for w, k in [(0.5, 0.9), (4.0, 0.4), (4.0, -0.7), (0.3, 1.0)]]
    found = solve(mf.activations.leaky_relu(slope), rows)
    power, hinge = (1 + slope**2) / 2, (1 - slope) ** 2 / (2 * np.pi)
    for i, row in enumerate(rows):
        growth = row["weight_var"] * (power - row["anticorrelation"] * hinge)
        bounded = growth < 1 and row["bias_var"] > 0
        chi_1 = row["weight_var"] * power if bounded else power * row["weight_var"] / growth
        assert abs(found.chi_1[i] / chi_1 - 1) <= 1e-13
        if bounded:
            assert abs(found.q[i] * (1 - growth) / row["bias_var"] - 1) <= 1e-13
        if chi_1 <= 1:
            assert found.c[i] == 1
        else:
            theta = 2 * np.arcsin(np.sqrt(found.one_minus_c[i] / 2))
            law = np.pi * 2 * power / (1 - slope) ** 2 * (1 - 1 / chi_1)
            assert abs(bend(theta) / law - 1) <= 1e-12


def test_relu_numbers_of_the_bounded_chaotic_phase(x64):
    found = solve(
        "relu", [point(2.3, 0.1, 0.9), point(2.3, 3.0, 0.7), point(2.5, 0.1, 1.0), point(0.5, 0.0, 1.0)]
    )
    assert abs(found.q[0] - 0.557256) <= 5e-7
    assert np.max(np.abs(found.c[:2] - 0.814656)) <= 5e-7  # depends on weight_var alone
    assert found.phase.tolist() == [Phase.CHAOTIC] * 4
    assert abs(found.c[3]) <= 1e-12  # orthogonal signals


# --- what critical means ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("activation", "weight_var", "bias_var", "phase"),
    [
        ("relu", 2.0, 0.0, Phase.CRITICAL),
        ("relu", 1.0, 0.0, Phase.NEUTRAL),
        ("relu", 3.0, 0.1, Phase.NEUTRAL),
        ("gelu", 4.0, 0.1, Phase.NEUTRAL),
        ("tanh", 0.8, 0.0, Phase.NEUTRAL),
        ("linear", 0.5, 0.1, Phase.ORDERED),
    ],
)
def test_critical_is_where_gradients_keep_their_norm(x64, activation, weight_var, bias_var, phase):
    found = mf.fixed_point(activation, mf.NormalPrior(weight_var, bias_var))
    assert found.phase == phase
    if phase != Phase.ORDERED:
        assert abs(found.chi_1 - 1) < 1e-12
        assert (abs(found.chi_perp - 1) < 1e-12) == (phase == Phase.CRITICAL)


# --- properties -------------------------------------------------------------------------

weight_vars = st.floats(0.05, 6.0)
bias_vars = st.sampled_from([0.0, 1e-3, 0.1, 1.0])
kappas = st.floats(-1.0, 1.0)
closed_forms = st.sampled_from(["relu", "erf", "sin", "cos", "squared_relu"])
few = settings(max_examples=40, deadline=None)


@few
@given(closed_forms, st.lists(st.tuples(weight_vars, bias_vars, kappas), min_size=BATCH, max_size=BATCH))
def test_correlation_lies_between_zero_and_one_and_phase_follows_chi_1(activation, priors):
    with jax.enable_x64(True):
        found = solve(activation, [point(*prior) for prior in priors])
    known = ~np.isnan(found.c)
    assert np.all((found.c[known] >= 0) & (found.c[known] <= 1))
    assert np.all(known[found.status == Status.CONVERGED])
    for chi_1, phase, c in zip(found.chi_1, found.phase, found.c, strict=True):
        if np.isnan(chi_1):
            assert phase == Phase.UNDEFINED
        elif abs(chi_1 - 1) > 1e-9:
            assert phase == (Phase.CHAOTIC if chi_1 > 1 else Phase.ORDERED)
            if chi_1 < 1 and not np.isnan(c):
                assert c == 1
    chaotic = (found.status == Status.CONVERGED) & (found.chi_1 > 1 + 1e-9)
    assert np.all(found.c[chaotic] < 1)
    assert np.all((found.chi_c[chaotic] > 0) & (found.chi_c[chaotic] < 1))


@few
@given(st.sampled_from(["erf", "sin"]), weight_vars, bias_vars, st.floats(-3.0, 1.0))
def test_odd_activations_do_not_feel_the_anticorrelation(activation, weight_var, bias_var, kappa):
    with jax.enable_x64(True):
        found = solve(activation, [point(weight_var, bias_var), point(weight_var, bias_var, kappa)])
    for value in vars(found).values():
        assert value[0] == value[1] or (np.isnan(value[0]) and np.isnan(value[1]))


def test_every_function_of_the_oracle_is_the_one_of_the_library(x64):
    x = np.linspace(-7, 7, 113)
    for name, (fn, _) in FUNCTIONS.items():
        activation = getattr(mf.activations, name)
        activation = activation if isinstance(activation, mf.Activation) else activation()
        assert np.allclose(activation(x), fn(x), rtol=1e-12, atol=1e-14), name
