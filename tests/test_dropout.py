"""Dropout: independent masks part equal signals, shared ones do not."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import check_slopes, names, relative

import meanfield as mf

P = mf.NormalPrior
RECORDS = json.loads((Path(__file__).parent / "reference" / "kinds_of_layers.json").read_text())["dropout"]


def dropped(activation, keep, prior, **options):
    return mf.Chain(activation, mf.Dropout(keep, **options), prior)


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: r["parameters"]["activation"])
def test_fixed_points_are_those_of_the_reference(x64, record):
    p, expected = record["parameters"], dict(record["values"])
    layer = dropped(p["activation"], p["keep"], P(p["weight_var"], p["bias_var"], p["kappa"]))
    found = mf.fixed_point(layer)
    assert names(found.status) == ["CONVERGED"]
    assert abs(mf.c_map(layer, c=1.0, q=found.q) - expected.pop("C_at_1")) <= 1e-10
    assert abs(found.chi_1 - expected.pop("slope_at_1")) <= 1e-10
    for name, value in expected.items():
        assert abs(getattr(found, name) - value) <= 1e-10, name


def iterated(keep, weight_var, bias_var, steps=4000):
    """(q, 1 - c) of erf networks after many layers, by Williams' closed forms in NumPy."""
    q, c = np.ones_like(keep), np.zeros_like(keep)
    for _ in range(steps):
        f, f12 = (2 / np.pi * np.arcsin(2 * x * q / (1 + 2 * q)) for x in (1.0, c))
        q = weight_var * f / keep + bias_var
        c = (weight_var * f12 + bias_var) / q
    return q, 1 - c


def test_fixed_points_are_where_plain_iteration_ends(x64):
    rng = np.random.default_rng(0)
    keep, w, b = rng.uniform(0.3, 1, 100), rng.uniform(0.2, 4, 100), rng.uniform(0.01, 0.3, 100)
    found = mf.fixed_point(dropped("erf", keep, P(w, b)))
    assert set(names(found.status)) == {"CONVERGED"}
    q, one_minus_c = iterated(keep, w, b)
    assert relative(found.q, q) <= 1e-11 and relative(found.one_minus_c, one_minus_c) <= 1e-10
    assert np.all(found.chi_c < 1)
    chaotic = np.asarray(found.chi_perp) > 1
    assert chaotic.any() and (~chaotic).any()
    assert np.array_equal(np.asarray(found.phase) == mf.Phase.CHAOTIC, chaotic)
    equal = mf.fixed_point(dropped("erf", keep, P(w, b)), c0=1.0)
    assert np.array_equal(equal.c, found.c)


def test_keeping_everything_is_no_dropout(x64):
    w = np.array([0.3, 0.9, 1.5, 3.0])
    plain = mf.fixed_point("erf", P(w, 0.05))
    for shared in (False, True):
        found = mf.fixed_point(dropped("erf", 1.0, P(w, 0.05), shared=shared))
        assert relative(found.q, plain.q) <= 1e-13 and np.max(np.abs(found.c - plain.c)) <= 1e-12
        assert np.array_equal(found.phase, plain.phase)


def test_shared_masks_are_other_weights(x64):
    keep, w, b, kappa = 0.8, np.linspace(0.5, 3, 6), 0.1, 0.7
    for activation in ("erf", "relu"):
        found = mf.fixed_point(dropped(activation, keep, P(w, b, kappa), shared=True))
        plain = mf.fixed_point(activation, P(w / keep, b, kappa * keep))
        assert np.array_equal(found.status, plain.status) and np.array_equal(found.phase, plain.phase)
        for name in ("q", "c", "chi_q", "chi_c", "chi_1", "chi_perp"):
            np.testing.assert_allclose(getattr(found, name), getattr(plain, name), rtol=1e-10, atol=1e-12)


def test_correlations_near_the_old_edge_follow_the_power_of_the_kink(x64):
    """1 - c* = (D/k)^(2/3) for ReLU, k = 2 sqrt(2) / (3 pi); sqrt(2 D / C''(1)) for smooth phi."""
    keep = 1 - np.array([1e-3, 1e-5, 1e-8])
    found = mf.fixed_point(dropped("relu", keep, P(2 * keep)))
    assert set(names(found.status)) == {"MARGINAL"}
    law = ((1 - keep) / (2 * np.sqrt(2) / (3 * np.pi))) ** (2 / 3)
    assert np.all(np.abs(found.one_minus_c[:2] - np.array([0.021980, 0.0010348])) <= [5e-7, 5e-8])
    assert np.all(np.abs(found.one_minus_c / law - 1) <= [2e-2, 1e-3, 1e-5])
    depth = -1 / np.log(np.asarray(found.chi_c))  # goes like (1 - p)^(-1/3)
    assert relative(depth[2] / depth[1], 10) <= 1e-2
    assert np.max(np.abs(found.chi_perp - 1)) <= 1e-15
    assert set(np.asarray(found.phase)) == {mf.Phase.CRITICAL}
    smooth = mf.fixed_point(dropped("tanh", 0.9999, P(1.7609546396, 0.05)))
    assert abs(smooth.one_minus_c - 0.023742) <= 5e-7


def test_vanishing_and_unbounded_signals_part_too(x64):
    """Without a scale C(c) = p times the map without dropout: linear at zero, that of ReLU far out."""
    fading, growing = (mf.fixed_point(dropped(a, 0.9, P(w))) for a, w in (("erf", 0.5), ("relu", 3.0)))
    assert names([fading.status, growing.status]) == ["VANISHING", "UNBOUNDED"]
    assert relative([fading.chi_1, growing.chi_1], [0.9, 0.9]) <= 1e-12  # C'(1) = p
    assert abs(fading.c) <= 1e-12  # C(c) = p c
    c = 0.5
    for _ in range(500):
        c = 0.9 * (np.sqrt(1 - c * c) + (np.pi - np.arccos(c)) * c) / np.pi
    assert abs(growing.c - c) <= 1e-12


def test_a_chain_and_a_residual_layer_part_signals(x64):
    one = dropped("erf", 0.9, P(2.0, 0.1))
    two = mf.fixed_point(mf.Chain(one, one))
    single = mf.fixed_point(one)
    assert relative(two.one_minus_c, single.one_minus_c) <= 1e-12
    for name in ("chi_q", "chi_c", "chi_perp"):
        assert relative(getattr(two, name), getattr(single, name) ** 2) <= 1e-12, name
    mixed = mf.Chain("erf", P(2.0, 0.1), mf.RMSNorm(1.1), "erf", mf.Dropout(0.8), mf.RMSNorm(), P(1.5, 0.1))
    block = mf.Residual(mf.Chain(mixed, "erf", P(1.0, 0.2)), skip=0.6, scale=0.9)
    found = mf.fixed_point(block)
    path = mf.propagate(block, q0=2.0, c0=0.2, depth=200)
    assert names(found.status) == ["CONVERGED"]
    assert (
        relative(path.q[-1], found.q) <= 1e-12 and relative(path.one_minus_c[-1], found.one_minus_c) <= 1e-11
    )
    at_one, step = (mf.c_map(block, c=1 - x, q=found.q) for x in (0.0, 1e-6))
    assert relative((at_one - step) / 1e-6, found.chi_1) <= 1e-5


def values(p):
    layer = mf.Residual(dropped("erf", p["keep"], P(p["w"], p["b"], 0.0)), skip=p["skip"], scale=0.9)
    found = mf.fixed_point(layer)
    return jnp.stack([found.q, found.one_minus_c, found.chi_1, found.chi_perp, mf.depth_scales(layer).c])


def test_derivatives_with_respect_to_every_parameter(x64):
    at = dict(keep=0.85, w=2.5, b=0.1, skip=0.6)
    check_slopes(values, at)


def test_a_diagram_over_keep_has_the_phase_of_the_gradient(x64):
    diagram = mf.phase_diagram(
        lambda keep, weight_var: dropped("tanh", keep, P(weight_var, 0.05)),
        keep=np.linspace(0.5, 1, 24),
        weight_var=np.linspace(0.5, 3, 20),
    )
    assert np.all(diagram.status == mf.Status.CONVERGED)
    apart = diagram.phase != mf.Phase.CRITICAL
    assert np.array_equal((diagram.phase == mf.Phase.CHAOTIC)[apart], (diagram.chi_perp > 1)[apart])
    labels = [text.get_text() for text in diagram.plot().get_legend().get_texts()]
    assert r"$\chi_\perp = 1$" in labels  # the line between the phases is theirs
    few = mf.fixed_point(dropped("tanh", np.linspace(0.5, 1, 24)[:, None][:3], P(diagram.weight_var, 0.05)))
    assert np.max(np.abs(few.c.T - diagram.c[:3].T)) <= 1e-10


def networks(keep, weight_var, bias_var, layers, signals, width=1000, count=40):
    """NumPy networks with masks, one row each: q, delta of two signals, growth of a tangent of the first."""
    rng, rows = np.random.default_rng(3), []
    for _ in range(count):
        h, tangent = signals @ rng.standard_normal((2, width)), rng.standard_normal(width)
        for _ in range(layers):
            mask = (rng.random(h.shape) < keep) / keep
            weights = rng.standard_normal((width, width)) * np.sqrt(weight_var / width)
            bias = np.sqrt(bias_var) * rng.standard_normal(width)
            tangent = (tangent * mask[0] / np.cosh(h[0]) ** 2) @ weights
            h = (np.tanh(h) * mask) @ weights + bias
        rows.append([np.mean(h[0] ** 2), np.mean((h[0] - h[1]) ** 2) / 2, np.mean(tangent**2)])
    return np.array(rows)


@pytest.mark.slow
def test_networks_with_masks_do_as_the_theory_says(x64):
    layer = dropped("tanh", 0.8, P(1.8, 0.1))
    path = mf.propagate(layer, q0=1.0, c0=1.0, depth=6)
    found = networks(0.8, 1.8, 0.1, 6, np.array([[1.0, 0.0], [1.0, 0.0]]))
    growth = mf.gradient_growth(layer, q0=1.0, depth=6)[0]
    expected = [path.q[-1], path.q[-1] * path.one_minus_c[-1], growth]
    deviation = (found.mean(0) - expected) / (found.std(0) / np.sqrt(len(found)))
    assert np.all(np.abs(deviation) <= 3.5), deviation


@pytest.mark.parametrize(
    ("make", "error", "reason"),
    [
        (lambda: mf.Dropout(0.0), ValueError, "keep must be finite and between 0 and 1, got 0"),
        (lambda: mf.Dropout(1.2), ValueError, "keep must be finite and between 0 and 1, got 1.2"),
        (lambda: mf.Dropout(0.5, shared=1), TypeError, "shared must be True or False"),
        (lambda: mf.Chain(mf.Dropout(0.5), "tanh", P(1.0)), ValueError, "put it between an activation"),
        (lambda: mf.Chain("tanh", P(1.0), mf.Dropout(0.5)), ValueError, "put it between an activation"),
        (lambda: mf.Chain("tanh", mf.Dropout(0.5)), ValueError, "put a prior at its end"),
        (lambda: mf.fixed_point(mf.Dropout(0.5)), TypeError, "is a part, not a layer"),
        (lambda: mf.Residual(mf.Dropout(0.5)), TypeError, "branch must be a layer"),
    ],
)
def test_wrong_arguments_are_named(make, error, reason):
    with pytest.raises(error, match=reason):
        make()


def test_a_keep_out_of_range_inside_a_trace_is_invalid(x64):
    found = jax.vmap(lambda keep: mf.fixed_point(dropped("erf", keep, P(1.0, 0.1))))(
        jnp.array([0.5, 0.0, 1.5])
    )
    assert names(found.status) == ["CONVERGED", "INVALID", "INVALID"]
