"""Batch normalisation at a large batch: signals counted from the mean of their batch."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import check_slopes, names, relative
from scipy import integrate

import meanfield as mf

P = mf.NormalPrior
FILE = Path(__file__).parent / "reference" / "kinds_of_layers.json"
RECORDS = json.loads(FILE.read_text())["batch norm"]


def normed(activation, prior, gain=1.0, eps=0.0):
    return mf.Chain(mf.BatchNorm(gain, eps), activation, prior)


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: r["parameters"]["activation"])
def test_gradients_grow_as_in_the_reference_whatever_the_weights(x64, record):
    prior = P(np.array([0.3, 1.0, 4.0]), np.array([0.0, 0.2, 1.0]), np.array([1.0, 0.0, -2.0]))
    found = mf.fixed_point(normed(record["parameters"]["activation"], prior))
    assert set(names(found.status)) == {"CONVERGED"}
    for value in (found.chi_perp, found.chi_1):
        assert relative(value, record["values"]["chi_perp"]) <= 1e-10
    assert np.max(np.abs(found.c)) <= 1e-12 and np.max(np.abs(found.chi_q)) <= 1e-12


def gaussian(f, q):
    weight = lambda x: f(np.sqrt(q) * x) * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    return integrate.quad(weight, -12, 12, epsabs=1e-13)[0]


def test_gain_and_eps_are_those_of_the_definition(x64):
    """The fixed point of q -> sigma_w^2 Var tanh at the variance gain^2 q / (q + eps), by plain iteration."""
    q, w, gain, eps = 1.0, 1.7, 1.3, 0.05
    for _ in range(60):
        seen = gain**2 * q / (q + eps)
        q = w * gaussian(lambda x: np.tanh(x) ** 2, seen)
    chi = w * gain**2 / (q + eps) * gaussian(lambda x: np.cosh(x) ** -4, seen)
    found = mf.fixed_point(normed("tanh", P(w, 0.3, 0.5), gain, eps))
    assert relative([found.q, found.chi_perp], [q, chi]) <= 1e-10


def test_only_affine_activations_keep_gradients(x64):
    affine = mf.fixed_point(normed("linear", P(1.5, 0.1)))
    assert abs(affine.chi_1 - 1) <= 1e-13
    for activation in ("gelu", "tanh", "sin", "softplus"):
        assert mf.fixed_point(normed(activation, P(1.5))).chi_1 > 1.01


def test_it_is_layer_norm_behind_the_activation(x64):
    """Whose centring over neurons does what the batch's does: the same growth, at gain 1 and without bias."""
    one = mf.fixed_point(normed("relu", P(2.0, 0.5, 0.3)))
    other = mf.fixed_point(mf.Chain("relu", mf.LayerNorm(), P(2.0)))
    assert relative(one.chi_1, np.pi / (np.pi - 1)) <= 1e-13 and relative(one.chi_1, other.chi_1) <= 1e-12


def test_a_skip_connection_tames_the_gradient(x64):
    """The variance drifts, and gradients go like a power of the depth: chi_1 of the branch."""
    block = mf.Residual(normed("relu", P(2.0)))
    drift = mf.drift(block)
    growth = mf.gradient_growth(block, depth=4000)
    power = np.log(growth[400] / growth[3999]) / np.log(4000 / 401)
    assert names(mf.fixed_point(block).status) == ["DRIFTING"]
    assert abs(power / (np.pi / (np.pi - 1)) - 1) <= 1e-2
    assert abs(drift.gradient_power / (np.pi / (np.pi - 1)) - 1) <= 1e-6


def test_derivatives_with_respect_to_every_parameter(x64):
    def values(p):
        layer = mf.Residual(normed("tanh", P(p["w"], 0.1), p["gain"], p["eps"]), skip=p["skip"])
        found = mf.fixed_point(layer)
        return jnp.stack([found.q, found.chi_1, found.chi_q])

    check_slopes(values, dict(w=1.5, gain=1.2, eps=0.1, skip=0.6))


def test_single_precision_and_mapped_points_agree(x64):
    w = np.linspace(0.5, 3, 5)
    double = mf.fixed_point(normed("gelu", P(w, 0.1), 1.2, 0.01))
    mapped = jax.vmap(lambda w: mf.fixed_point(normed("gelu", P(w, 0.1), 1.2, 0.01)).q)(w)
    assert relative(mapped, double.q) <= 1e-12
    with jax.enable_x64(False):
        single = mf.fixed_point(normed("gelu", P(w.astype(np.float32), 0.1), 1.2, 0.01))
    assert single.q.dtype == np.float32 and relative(single.chi_1, double.chi_1) <= 1e-5


def batch(activation, weight_var, bias_var, size, layers=5, width=400, count=12):
    """Networks in NumPy: what the batch shares and what not, and the growth of a tangent."""

    def norm(h):
        return (h - h.mean(0)) / h.std(0)

    @jax.jit
    def grown(h, tangent, weights, bias):
        return jax.jvp(lambda h: activation(norm(h)) @ weights + bias, (h,), (tangent,))

    rng, rows = np.random.default_rng(size), []
    for _ in range(count):
        h, tangent = rng.standard_normal((2, size, width))
        for layer in range(layers):
            weights = rng.standard_normal((width, width)) * np.sqrt(weight_var / width)
            h, tangent = grown(h, tangent, weights, np.sqrt(bias_var) * rng.standard_normal(width))
            if layer == 0:
                first = np.mean(tangent**2)
        shared = np.mean(np.mean(h, 0) ** 2)
        rows.append([np.var(h, 0).mean(), shared, np.log(np.mean(tangent**2) / first) / (layers - 1)])
    rows = np.array(rows)
    return rows.mean(0), rows.std(0) / np.sqrt(count)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_batches_do_as_the_theory_says(x64, name):
    """Two batches, so that what goes like 1/B is taken out."""
    activation = {"relu": jax.nn.relu, "tanh": jnp.tanh}[name]
    (small, e1), (large, e2) = (batch(activation, 1.5, 0.2, size) for size in (64, 128))
    layer, prior = normed(name, P(1.5, 0.2)), P(1.5, 0.2)
    found = mf.fixed_point(layer)
    q = mf.q_map(name, prior)
    shared = q * mf.c_map(name, prior, c=0.0, q=1.0)
    expected = np.array([found.q, shared, np.log(found.chi_1)])
    deviation = (2 * large - small - expected) / np.hypot(2 * e2, e1)
    assert np.all(np.abs(deviation) <= 3.5), deviation


@pytest.mark.parametrize(
    ("make", "error", "reason"),
    [
        (lambda: mf.BatchNorm(gain=0.0), ValueError, "gain must be finite and greater than 0"),
        (lambda: mf.BatchNorm(eps=-1.0), ValueError, "eps must be finite and at least 0"),
        (lambda: mf.Chain("relu", mf.BatchNorm(), P(1.0)), ValueError, "put a prior between the two"),
        (lambda: normed("relu", P(1.0, 0.1, 0.0)) and mf.Chain(normed("relu", P(1.0)), "relu", P(1.0)),
         ValueError, "put a BatchNorm before every activation"),
        (lambda: mf.Chain("relu", P(1.0), mf.BatchNorm(), "relu", P(1.0)), ValueError, "before every act"),
        (lambda: mf.Chain(mf.BatchNorm(), mf.GLU("silu", gate=P(1.0), up=P(1.0), down=P(1.0))),
         ValueError, "GLU cannot stand behind BatchNorm"),
        (lambda: mf.Chain(mf.BatchNorm(), mf.Conv("relu", P(1.0))), ValueError, "Conv cannot stand behind"),
        (lambda: mf.propagate([mf.Dense("relu", P(1.0)), normed("relu", P(1.0))]), ValueError, "BatchNorm"),
        (lambda: mf.Residual(mf.BatchNorm()), ValueError, "branch must end in weights"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(make, error, reason):
    with pytest.raises(error, match=reason):
        make()


def test_a_bad_value_inside_a_trace_is_invalid(x64):
    def status(w, bias):
        return mf.fixed_point(normed("relu", P(w, bias))).status

    found = jax.jit(jax.vmap(status))(jnp.array([1.0, -1.0, 1.0]), jnp.array([0.1, 0.1, -1.0]))
    assert names(found) == ["CONVERGED", "INVALID", "INVALID"]
