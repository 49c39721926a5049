"""Networks that change with depth, infinitely deep ones, and signals that drift."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import names, relative

import meanfield as mf

P = mf.NormalPrior
RECORDS = json.loads((Path(__file__).parent / "reference" / "kinds_of_layers.json").read_text())
ERF, NORMED = mf.Dense("erf", P(2.0)), mf.Chain(mf.RMSNorm(), "relu", P(2.0, 0.0, 0.8))


# --- layers of different kinds ------------------------------------------------------------------


def test_layers_of_any_kinds_follow_one_another(x64):
    stem, block, head = mf.Dense("relu", P(1.5)), mf.Residual(NORMED, scale=0.5), mf.Dense("erf", P(1.0, 0.1))
    path = mf.propagate([stem, block, block, block, head, stem], q0=1.3, c0=0.3)
    q, one_minus_c = 1.3, 0.7
    for i, layer in enumerate([stem, block, block, block, head, stem]):
        one_minus_c = 1 - mf.c_map(layer, c=1 - one_minus_c, q=q)
        q = mf.q_map(layer, q=q)
        assert relative([path.q[i + 1], path.one_minus_c[i + 1]], [q, one_minus_c]) <= 1e-12
    assert path.c[0] == 0.3
    apart = mf.propagate([stem, head], q0=1.0, q2=2.0, c0=0.3)
    first = mf.propagate([stem], q0=1.0, q2=2.0, c0=0.3)
    second = mf.propagate([head], q0=first.q[-1], q2=first.q2[-1], c0=first.c[-1])
    assert (
        relative([apart.q[-1], apart.q2[-1], apart.c[-1]], [second.q[-1], second.q2[-1], second.c[-1]])
        <= 1e-12
    )


def test_arrays_of_parameters_broadcast_through_all_kinds(x64):
    stem, wide = mf.Dense("relu", P(1.5)), mf.Dense("erf", P(np.array([1.0, 2.0, 3.0])))
    path = mf.propagate([stem, wide, stem], c0=np.array([[0.1], [0.2]]))
    assert path.q.shape == path.c.shape == (4, 2, 3)
    assert np.array_equal(path.c[0], np.broadcast_to([[0.1], [0.2]], (2, 3)))


def test_a_scale_that_falls_with_depth_is_a_schedule(x64):
    """b_l = 1/l keeps the variance bounded by a product (1 + b_l^2 g)."""
    layers = [mf.Residual(mf.Dense("relu", P(2.0)), scale=1 / n) for n in range(1, 41)]
    path = mf.propagate(layers, q0=1.0, c0=0.5)
    assert relative(path.q[-1], np.prod(1 + 1 / np.arange(1, 41) ** 2.0)) <= 1e-12
    gradient = mf.gradient_growth(layers)
    assert gradient.shape == (41,) and relative(gradient[0], path.q[-1]) <= 1e-12 and gradient[-1] == 1.0


def test_gradients_of_different_kinds_multiply(x64):
    stem, block = mf.Dense("relu", P(1.5)), mf.Residual(NORMED, scale=0.5)
    q1 = mf.q_map(stem, q=1.0)
    found = mf.gradient_growth([stem, block])
    expected = [stem.tangent(jnp.ones(())) * block.tangent(q1), block.tangent(q1), 1.0]
    assert relative(found, expected) <= 1e-12
    same = mf.gradient_growth("erf", P(1.5), depth=3)
    assert same.shape == (4,)


# --- infinitely many layers -----------------------------------------------------------------------


@pytest.mark.parametrize("record", RECORDS["infinite depth"], ids=["relu"])
def test_the_flow_is_that_of_the_reference(x64, record):
    p, expected = record["parameters"], record["values"]
    branch = mf.Dense(p["activation"], P(p["weight_var"], p["bias_var"], p["kappa"]))
    found = mf.infinite_depth(branch, q0=p["start_q"], c0=p["start_q12"] / p["start_q"])
    assert relative([found.q[-1], found.c[-1]], [expected["q"], expected["c"]]) <= 1e-10
    assert relative(found.q[-1] * found.c[-1], expected["q12"]) <= 1e-10
    assert relative(found.growth[-1], np.exp(1.0)) <= 1e-12  # chi_perp = 1 all the way


def test_deep_networks_approach_the_flow_as_one_over_their_depth(x64):
    branch = mf.Dense("relu", P(2.0, 0.1, 0.5))
    flow = mf.infinite_depth(branch, c0=0.3)
    gaps = []
    for depth in (100, 400):
        path = mf.propagate(mf.Residual(branch, scale=depth**-0.5), c0=0.3, depth=depth)
        gaps.append([path.q[-1] - flow.q[-1], path.c[-1] - flow.c[-1]])
    assert abs(gaps[0][1] + flow.c[-1] - 0.40053) <= 5e-6
    assert np.max(np.abs(np.divide(*gaps) / 4 - 1)) <= 0.02


def test_the_flow_has_derivatives(x64):
    branch = lambda w: mf.Dense("erf", P(w, 0.1))
    value = lambda w, s: mf.infinite_depth(branch(w), scale=s, steps=32).c[-1]
    found = jax.grad(value, (0, 1))(2.0, 1.5)
    expected = [
        (value(2 + 1e-5, 1.5) - value(2 - 1e-5, 1.5)) / 2e-5,
        (value(2.0, 1.5 + 1e-5) - value(2.0, 1.5 - 1e-5)) / 2e-5,
    ]
    assert np.max(np.abs(np.subtract(found, expected))) <= 1e-8


# --- signals that drift ----------------------------------------------------------------------------


def test_a_saturating_branch_makes_signals_drift(x64):
    """q ~ (w + b) l; C = (w (2/pi) arcsin c + b)/(w + b); without bias c ~ l^-(1 - 2/pi)."""
    plain = mf.Residual(ERF)
    found, powers = mf.fixed_point(plain), mf.drift(plain)
    assert names(found.status) == ["DRIFTING"] and np.isinf(found.q)
    assert [float(getattr(found, n)) for n in ("chi_q", "chi_c", "chi_1", "chi_perp")] == [1.0] * 4
    assert relative([powers.rate, powers.c_power], [2.0, 1 - 2 / np.pi]) <= 1e-12 and abs(powers.c) <= 1e-12
    assert np.isinf(powers.gradient_power)
    biased = mf.Residual(mf.Dense("erf", P(2.0, 0.3)), scale=0.5)
    c = 0.5
    for _ in range(2000):
        c = (2.0 * 2 / np.pi * np.arcsin(c) + 0.3) / 2.3
    slope = 2 / 2.3 * 2 / np.pi / np.sqrt(1 - c * c)
    powers = mf.drift(biased)
    assert relative([powers.rate, powers.c, powers.c_power], [2.3 / 4, c, 1 - slope]) <= 1e-10
    assert relative(mf.fixed_point(biased).c, c) <= 1e-10


def test_signals_of_a_saturating_branch_fall_by_that_power(x64):
    path = mf.propagate(mf.Residual(ERF), depth=1_000_000)
    power = -np.log10(path.c[1_000_000] / path.c[100_000])
    assert abs(power / mf.drift(mf.Residual(ERF)).c_power - 1) <= 0.01
    assert relative(path.q[-1] / 1_000_000, 2.0) <= 5e-3


def test_a_normalised_branch_makes_signals_drift(x64):
    """Pre-LN: gradients grow like l^chi_1 of the branch, correlations settle like l^-(1 - chi_c)."""
    block = mf.Residual(NORMED)
    powers, branch = mf.drift(block), mf.fixed_point(NORMED)
    assert names(mf.fixed_point(block).status) == ["DRIFTING"]
    assert relative([powers.rate, powers.c], [branch.q, branch.c]) <= 1e-12
    assert relative([powers.c_power, powers.gradient_power], [1 - branch.chi_c, branch.chi_1]) <= 1e-12
    growth = mf.gradient_growth(block, depth=100_000)
    assert abs(np.log10(growth[10_000] / growth[100_000]) - powers.gradient_power) <= 1e-4


NORM_BEHIND = {
    "ReLU": (mf.Chain("relu", mf.LayerNorm(), P(2.0)), np.pi / (np.pi - 1)),
    "ReLU, RMS": (mf.Chain("relu", mf.RMSNorm(1.3), P(2.0)), 1.0),
    "with a bias": (mf.Chain("relu", mf.LayerNorm(1.0, 1e-3), P(2.0, 0.1)), 2 / 2.1 * np.pi / (np.pi - 1)),
    "behind a layer": (mf.Chain("relu", P(0.5), "relu", mf.LayerNorm(), P(2.0)), np.pi / (np.pi - 1)),
    "dropout before it": (mf.Chain("relu", mf.Dropout(0.9), mf.LayerNorm(), P(2.0)),
                          np.pi / (np.pi - 1) * (1 - 1 / np.pi) / (1 - 0.9 / np.pi)),
    "dropout behind it": (mf.Chain("relu", mf.LayerNorm(), mf.Dropout(0.9), P(2.0)), np.pi / (np.pi - 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", NORM_BEHIND)
def test_a_norm_behind_the_activation_makes_signals_drift_too(x64, name):
    """Gradients: sigma_w^2 g^2 E phi'^2 / Var phi over Q, of the branch at infinite variance."""
    branch, power = NORM_BEHIND[name]
    block = mf.Residual(branch)
    powers = mf.drift(block)
    assert relative(powers.gradient_power, power) <= 1e-12
    found = mf.fixed_point(block)
    assert names(found.status) == ["DRIFTING"] and abs(found.c - powers.c) <= 1e-12
    start = powers.c + (1e-3 if powers.c < 0.5 else -1e-3)
    path, growth = mf.propagate(block, c0=start, depth=100_000), mf.gradient_growth(block, depth=100_000)
    assert relative(path.q[-1] / 100_000, powers.rate) <= 1e-3
    assert abs(np.log10(growth[10_000] / growth[100_000]) - power) <= 3e-4
    off = np.abs(np.asarray(path.c)[[10_000, 100_000]] - powers.c)
    if powers.c_power > 0:  # of ReLU behind an RMS norm C'(1) = 1, and no power rules
        assert relative(np.log10(off[0] / off[1]), powers.c_power) <= 0.01


def test_an_activation_that_a_norm_need_not_bound_drifts_by_its_levels(x64):
    """tanh saturates, and the norm only sets the size: gradients go like the exponential of a root."""
    powers = mf.drift(mf.Residual(mf.Chain("tanh", mf.LayerNorm(), P(2.0))))
    assert relative([powers.rate, powers.c_power], [2.0, 1 - 2 / np.pi]) <= 1e-12
    assert np.isinf(powers.gradient_power)


def test_blocks_of_two_residual_layers_add_what_they_drift(x64):
    one, two = mf.Residual(NORMED, scale=0.5), mf.Residual(mf.Chain(mf.LayerNorm(2.0), "erf", P(1.0, 0.1)))
    block = mf.Chain(one, two)
    powers = mf.drift(block)
    assert relative(powers.rate, mf.drift(one).rate + mf.drift(two).rate) <= 1e-12
    path = mf.propagate(block, depth=20_000)
    assert relative(path.q[-1] / 20_000, powers.rate) <= 1e-3
    assert names(mf.fixed_point(block).status) == ["DRIFTING"]
    assert abs(path.c[-1] - powers.c) < abs(path.c[2_000] - powers.c) < 0.1


def test_what_does_not_drift_has_no_powers(x64):
    layers = (
        ERF,
        mf.Residual(ERF, skip=0.9),
        mf.Residual(mf.Dense("relu", P(2.0))),
        mf.Residual(mf.Dense("sin", P(2.0))),
    )
    for layer in layers:
        assert np.isnan(mf.drift(layer).rate)
        assert names(mf.fixed_point(layer).status) != ["DRIFTING"]


def test_a_diagram_tells_drift_from_fixed_points(x64):
    def block(skip, weight_var):
        return mf.Residual(mf.Dense("tanh", P(weight_var, 0.1)), skip=skip, scale=0.5)

    diagram = mf.phase_diagram(block, skip=np.array([0.5, 0.9, 1.0]), weight_var=np.linspace(1, 3, 8))
    assert set(names(diagram.status[:2])) == {"CONVERGED"} and set(names(diagram.status[2])) == {"DRIFTING"}
    powers = mf.drift(block(1.0, np.linspace(1, 3, 8)))
    assert np.max(np.abs(powers.c - diagram.c[2])) <= 1e-10
    labels = [text.get_text() for text in diagram.plot("status").get_legend().get_texts()]
    assert "drifting" in labels


def test_derivatives_of_the_powers(x64):
    def power(gain, w):
        return mf.drift(mf.Residual(mf.Chain(mf.RMSNorm(gain), "erf", P(w, 0.1)))).c_power

    found = jax.grad(power, (0, 1))(1.2, 3.0)
    expected = [
        (power(1.2 + 1e-5, 3.0) - power(1.2 - 1e-5, 3.0)) / 2e-5,
        (power(1.2, 3 + 1e-5) - power(1.2, 3 - 1e-5)) / 2e-5,
    ]
    assert np.max(np.abs(np.subtract(found, expected))) <= 1e-6
