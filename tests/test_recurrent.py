"""Recurrent networks: the map of one time, what two times share, and gates."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import check_slopes, names, relative

import meanfield as mf

P = mf.NormalPrior
FILE = Path(__file__).parent / "reference" / "kinds_of_layers.json"
(RECORD,) = json.loads(FILE.read_text())["minimal RNN"]


def minimal(p, **options):
    return mf.MinimalRNN(
        P(p["weight_var"], p["bias_var"]),
        input_weight_var=p["input_weight_var"],
        input_var=p["input_var"],
        **options,
    )


def test_the_minimal_rnn_is_that_of_the_reference(x64):
    p, expected = RECORD["parameters"], dict(RECORD["values"])
    found = mf.fixed_point(minimal(p, input_correlation=p["input_cov"] / p["input_var"]))
    assert names(found.status) == ["CONVERGED"]
    same = expected.pop("chi_1_same_input")
    for name, value in expected.items():
        assert relative(getattr(found, name), value) <= 1e-10, name
    assert relative(found.chi_perp, same) <= 1e-10
    assert relative(mf.fixed_point(minimal(p)).chi_1, same) <= 1e-10


@pytest.mark.slow
def test_same_inputs_keep_equal_states_equal(x64):
    weight_var = np.array([0.5, 3.0, 6.0, 8.0, 17.0, 23.0, 31.0, 40.0])
    found = mf.fixed_point(mf.MinimalRNN(P(weight_var, 0.1), input_var=2.0))
    kept = mf.propagate(mf.MinimalRNN(P(weight_var, 0.1), input_var=2.0), q0=found.q, c0=1.0, depth=5)
    assert np.all(kept.one_minus_c == 0) and set(names(found.status)) == {"CONVERGED"}
    path = mf.propagate(mf.MinimalRNN(P(weight_var, 0.1), input_var=2.0), c0=0.2, depth=1000)
    assert relative(path.q[-1], found.q) <= 1e-11
    assert np.max(np.abs(path.one_minus_c[-1] - found.one_minus_c)) <= 1e-10
    assert set(np.asarray(found.phase)) == {mf.Phase.ORDERED, mf.Phase.CHAOTIC}


def iterated(w, b, r, rho, steps=4000):
    """(q, 1 - c) of erf networks with inputs after many steps, by Williams' closed forms in NumPy."""
    q, p = np.ones_like(w), np.zeros_like(w)
    for _ in range(steps):
        f, f12 = (2 / np.pi * np.arcsin(2 * x / (1 + 2 * q)) for x in (q, p))
        q, p = w * f + r + b, w * f12 + r * rho + b
    return q, 1 - p / q


def test_fixed_points_are_where_plain_iteration_ends(x64):
    rng = np.random.default_rng(0)
    w, b, r, rho = rng.uniform([0.2, 0.01, 0.01, 0], [4, 0.3, 1, 1], (100, 4)).T
    layer = mf.Recurrent("erf", P(w, b), input_var=r, input_correlation=rho)
    found = mf.fixed_point(layer)
    q, one_minus_c = iterated(w, b, r, rho)
    assert set(names(found.status)) == {"CONVERGED"}
    assert relative(found.q, q) <= 1e-11 and relative(found.one_minus_c, one_minus_c) <= 1e-10
    chaotic = np.asarray(found.chi_perp) > 1
    assert np.array_equal(np.asarray(found.phase) == mf.Phase.CHAOTIC, chaotic)


def test_one_input_for_both_is_a_bias(x64):
    for activation in ("relu", "tanh"):
        w, kappa = np.linspace(0.5, 1.8, 5), 0.4
        found = mf.fixed_point(mf.Recurrent(activation, P(w, 0.1, kappa), input_var=0.3))
        plain = mf.fixed_point(activation, P(w, 0.4, kappa))
        apart = mf.fixed_point(
            mf.Recurrent(activation, P(w, 0.1, kappa), input_var=0.3, input_correlation=1.0)
        )
        for name in ("q", "c", "chi_1", "chi_c"):
            np.testing.assert_allclose(getattr(found, name), getattr(plain, name), rtol=1e-12)
            np.testing.assert_allclose(getattr(apart, name), getattr(plain, name), rtol=1e-7, atol=1e-9)


def test_unbounded_states_forget_their_inputs(x64):
    found = mf.fixed_point(mf.Recurrent("relu", P(3.0, 0.1), input_var=0.5, input_correlation=0.2))
    plain = mf.fixed_point("relu", P(3.0, 0.1))
    assert names([found.status, plain.status]) == ["UNBOUNDED"] * 2
    assert relative(found.chi_perp, plain.chi_perp) <= 1e-12


def test_two_times_share_what_the_recursion_says(x64):
    """Of erf, whose moments are closed, in NumPy: every lag by itself."""
    w, b, r, steps, memory = 2.5, 0.1, 0.4, 9, 0.5
    lags = memory ** np.arange(steps + 1)
    found = mf.Recurrent("erf", P(w, b), input_var=r).two_time(steps, q0=0.7, lags=lags)
    k = np.zeros((steps + 1, steps + 1))
    k[0, 0] = 0.7
    for t in range(1, steps + 1):
        for s in range(1, t + 1):
            root = np.sqrt((1 + 2 * k[t - 1, t - 1]) * (1 + 2 * k[s - 1, s - 1]))
            k[t, s] = k[s, t] = w * 2 / np.pi * np.arcsin(2 * k[t - 1, s - 1] / root) + r * lags[t - s] + b
    assert relative(found, k) <= 1e-12


def states(w, b, kappa, r, steps, width=800, count=30):
    """Covariances of two signals of tied NumPy networks at all times, one row a network."""
    rng, rows = np.random.default_rng(5), []
    for _ in range(count):
        g = rng.standard_normal((width, width))
        weights = np.sqrt(w / width) * (g - (1 - np.sqrt(1 - kappa)) * g.mean(1, keepdims=True))
        bias = np.sqrt(b) * rng.standard_normal(width)
        h, seen = rng.standard_normal((2, width)), []
        for _ in range(steps):
            common, own = rng.standard_normal(width), rng.standard_normal((2, width))
            inputs = np.sqrt(r) * (np.sqrt(0.5) * common + np.sqrt(0.5) * own)
            h = np.maximum(h, 0) @ weights.T + inputs + bias
            seen.append(h)
        seen = np.array(seen)
        two_time = np.einsum("tai,sai->ts", seen, seen) / (2 * width)
        rows.append([*two_time[-1], *np.mean(seen[:, 0] * seen[:, 1], 1)[-2:]])
    return np.array(rows)


@pytest.mark.slow
def test_tied_networks_do_as_the_theory_says(x64):
    layer = mf.Recurrent("relu", P(1.6, 0.1, 0.5), input_var=0.3, input_correlation=0.5)
    found = states(1.6, 0.1, 0.5, 0.3, 6)
    path = mf.propagate(layer, c0=0.0, depth=6)
    expected = [*layer.two_time(6)[-1, 1:], *(path.q * path.c)[-2:]]
    deviation = (found.mean(0) - expected) / (found.std(0) / np.sqrt(len(found)))
    assert np.all(np.abs(deviation) <= 3.5), deviation


def gated(tied, steps=12, width=800, count=24):
    rng, rows = np.random.default_rng(7), []
    sigmoid = lambda x: 1 / (1 + np.exp(-x))
    draw = lambda: (np.sqrt(6 / width) * rng.standard_normal((width, width)),
                    np.sqrt(1 / width) * rng.standard_normal((width, width)),
                    np.sqrt(0.1) * rng.standard_normal((width, 1)))  # fmt: skip
    for _ in range(count):
        h = rng.standard_normal((width, 2))
        parameters = draw()
        for _ in range(steps):
            w, v, b = parameters = parameters if tied else draw()
            z = rng.standard_normal((width, 2))
            z[:, 1] = 0.3 * z[:, 0] + np.sqrt(1 - 0.09) * z[:, 1]
            u = sigmoid(w @ h + v @ z + b)
            h = u * h + (1 - u) * z
        rows.append([np.mean(h**2), np.mean(h[:, 0] * h[:, 1])])
    return np.array(rows)


@pytest.mark.slow
def test_untied_gates_do_as_the_theory_says_and_tied_ones_do_not(x64):
    path = mf.propagate(minimal(RECORD["parameters"], input_correlation=0.3), c0=0.0, depth=12)
    expected = [path.q[-1], path.q[-1] * path.c[-1]]
    deviation = lambda found: (found.mean(0) - expected) / (found.std(0) / np.sqrt(len(found)))
    assert np.all(np.abs(deviation(gated(tied=False))) <= 3.5)
    assert deviation(gated(tied=True))[0] <= -5


def test_derivatives_with_respect_to_every_parameter(x64):
    def gates(p):
        layer = mf.MinimalRNN(
            P(p["w"], p["b"]), input_weight_var=p["v"], input_var=p["z"], input_correlation=p["r"]
        )
        found = mf.fixed_point(layer)
        return jnp.stack([found.q, found.one_minus_c, found.chi_1, found.chi_perp, found.chi_c])

    def plain(p):
        layer = mf.Recurrent("erf", P(p["w"], p["b"], 0.0), input_var=p["z"], input_correlation=p["r"])
        found = mf.fixed_point(layer)
        return jnp.stack([found.q, found.one_minus_c, found.chi_1, layer.two_time(4)[4, 2]])

    check_slopes(gates, dict(w=6.0, b=0.1, v=1.0, z=1.0, r=0.3))
    check_slopes(plain, dict(w=2.0, b=0.1, z=0.5, r=0.3))


def test_a_leaky_network_is_a_residual_layer(x64):
    cell = mf.Recurrent("erf", P(2.0, 0.1), input_var=0.5, input_correlation=0.3)
    leaky = mf.Residual(cell, skip=0.8, scale=0.6)
    one, other = mf.fixed_point(leaky), mf.fixed_point(cell)  # 0.36 = 1 - 0.64
    assert relative([one.q, one.c], [other.q, other.c]) <= 1e-12
    assert relative(one.chi_perp, 0.64 + 0.36 * other.chi_perp) <= 1e-12


def test_single_precision_and_bad_values_inside_a_trace(x64):
    def point(w, rho):
        return mf.fixed_point(mf.MinimalRNN(P(w, 0.1), input_var=1.0, input_correlation=rho))

    found = jax.jit(jax.vmap(point))(jnp.array([6.0, -1.0, 6.0]), jnp.array([0.3, 0.3, 1.5]))
    assert names(found.status) == ["CONVERGED", "INVALID", "INVALID"]
    with jax.enable_x64(False):
        single = point(np.float32(6.0), 0.3)
    assert single.q.dtype == np.float32
    assert relative([single.q, single.c], [found.q[0], found.c[0]]) <= 1e-4


U = dict(input_var=1.0)


@pytest.mark.parametrize(
    ("make", "error", "reason"),
    [
        (lambda: mf.MinimalRNN(P(1.0), tied=True), ValueError, "tied gates have no closed map"),
        (lambda: mf.MinimalRNN(P(0.0)), ValueError, "weight_var must be finite and greater than 0"),
        (lambda: mf.MinimalRNN("tanh"), TypeError, "prior must be"),
        (lambda: mf.MinimalRNN(P(1.0), input_var=0.0), ValueError, "input_var must be finite and greater"),
        (lambda: mf.MinimalRNN(P(1.0), input_correlation=2), ValueError, "input_correlation must be finite"),
        (lambda: mf.Recurrent("tanh", P(1.0), input_var=-1), ValueError, "input_var must be finite and at l"),
        (lambda: mf.Recurrent("tanh", P(1.0), input_correlation=-0.1), ValueError, "between 0 and 1"),
        (lambda: mf.Chain(mf.MinimalRNN(P(1.0)), "relu", P(1.0)), ValueError, "MinimalRNN stands alone"),
        (lambda: mf.Residual(mf.MinimalRNN(P(1.0))), ValueError, "MinimalRNN stands alone"),
        (lambda: mf.propagate([mf.MinimalRNN(P(1.0)), mf.Dense("relu", P(1.0))]), ValueError, "stands alone"),
        (lambda: mf.Recurrent("tanh", P(1.0), **U).two_time(3, lags=[1.0]), ValueError, "steps . 1 = 4"),
        (lambda: mf.Recurrent("tanh", P([1.0, 2.0]), **U).two_time(3), ValueError, "use vmap"),
        (lambda: mf.Chain(mf.BatchNorm(), mf.Recurrent("tanh", P(1.0))), ValueError, "cannot stand behind"),
    ],
)
def test_wrong_arguments_are_named(make, error, reason):
    with pytest.raises(error, match=reason):
        make()
