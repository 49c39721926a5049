"""Gated linear units: their map against records, NumPy iteration and networks of stock layers."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from problems import FUNCTIONS, check_slopes, gaussian_mean, names, relative, second_moment

import meanfield as mf
from meanfield.fixed_points import strategies

P = mf.NormalPrior
RECORDS = json.loads((Path(__file__).parent / "reference" / "kinds_of_layers.json").read_text())["gated"]


def swiglu(activation="silu", gate=1.5, up=1.0, down=2.0, gate_bias=0.0, up_bias=0.0, down_bias=0.0):
    return mf.GLU(activation, gate=P(gate, gate_bias), up=P(up, up_bias), down=P(down, down_bias))


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: r["parameters"]["activation"])
def test_fixed_points_are_those_of_the_reference(x64, record):
    p, expected = record["parameters"], dict(record["values"])
    variances = [p[f"{name}_weight_var"] for name in ("gate", "up", "down")]
    layer = swiglu(p["activation"], *variances, p["gate_bias_var"], 0.0, p["down_bias_var"])
    block = mf.Chain(mf.RMSNorm(), layer)
    found = mf.fixed_point(block)
    assert names(found.status) == ["CONVERGED"]
    assert abs(mf.c_map(block, c=0.5, q=found.q) - expected.pop("C_half")) <= 1e-10
    for name, value in expected.items():
        assert abs(getattr(found, name) - value) <= 1e-10, name


def by_quadrature(activation, layer, q, c):
    """(Q, covariance) by SciPy, from the definition of a gated unit."""
    fn, kinks = FUNCTIONS[activation]
    gate_var, up_var = (p.weight_var * q + p.bias_var for p in (layer.gate, layer.up))
    gate_cov, up_cov = (p.weight_var * q * c + p.bias_var for p in (layer.gate, layer.up))
    opening = gaussian_mean(lambda x: fn(x) ** 2, gate_var, kinks)
    together = second_moment(activation, gate_var, gate_cov / gate_var)
    down = layer.down
    return (
        down.weight_var * opening * up_var + down.bias_var,
        down.weight_var * together * up_cov + down.bias_var,
    )


@pytest.mark.parametrize("activation", ["gelu", "relu", "sigmoid"])
def test_the_map_is_that_of_products(x64, activation):
    layer = swiglu(activation, 1.3, 0.7, 1.9, 0.2, 0.3, 0.1)
    q, c = np.array([0.3, 2.0, 0.3, 2.0]), np.array([0.2, 0.9, -0.4, -0.9])
    expected = np.array([by_quadrature(activation, layer, *point) for point in zip(q, c, strict=True)])
    assert relative(mf.q_map(layer, q=q), expected[:, 0]) <= 1e-10
    assert relative(mf.c_map(layer, c=c, q=q), expected[:, 1] / expected[:, 0]) <= 1e-10


def test_behind_a_norm_a_gated_unit_without_biases_is_chaotic(x64):
    """chi_1 = 1 + sigma_1^2 E phi'^2 / E phi^2, 2 for ReLU; c* = 0; chi_c = (E phi)^2 / E phi^2."""
    found = mf.fixed_point(mf.Chain(mf.RMSNorm(), swiglu("relu")))
    assert relative([found.chi_1, found.chi_c], [2.0, 1 / np.pi]) <= 1e-12 and abs(found.c) <= 1e-12
    kappa = mf.GLU("relu", gate=P(1.5, 0, 0.9), up=P(1.0, 0, -2.0), down=P(2.0, 0, 0.9))
    same = mf.fixed_point(mf.Chain(mf.RMSNorm(), kappa))
    assert relative([same.q, same.chi_1], [found.q, found.chi_1]) <= 1e-14


@pytest.mark.parametrize("activation", ["relu", pytest.param("gelu", marks=pytest.mark.slow)])
def test_without_a_norm_signals_vanish_or_explode(x64, activation):
    """Q goes like q^2: the fixed point between repels, and both ends have the map of a straight gate."""
    layer = swiglu(activation)
    (repelling,) = np.flatnonzero(np.asarray(mf.fixed_points(layer).status) == mf.Status.UNSTABLE)
    q = mf.fixed_points(layer).q[repelling]
    found = mf.fixed_point(layer, q0=np.array([0.9 * q, 1.1 * q]))
    assert names(found.status) == ["VANISHING", "UNBOUNDED"]
    assert np.array_equal(found.chi_q, [0.0, np.inf])
    # Far out C(c) = c times that of ReLU; near 0 too, or c^2 for GELU, which is x/2 there.
    near = 0.0 if activation == "gelu" else 1 / np.pi
    assert relative(found.chi_1, [2.0, 2.0]) <= 1e-12 and np.max(np.abs(found.c)) <= 1e-12
    assert np.max(np.abs(found.chi_c - np.array([near, 1 / np.pi]))) <= 1e-12


def test_a_gate_half_open_lets_vanishing_signals_through(x64):
    found = mf.fixed_point(swiglu(lambda x: jax.scipy.special.erf(x) + 0.5, down=3.0), q0=1e-9, c0=0.3)
    assert names(found.status) == ["VANISHING"]
    assert relative([found.chi_q, found.chi_1], [0.75, 1.0]) <= 1e-12


def test_a_transformer_block_is_where_its_iteration_ends(x64):
    rng = np.random.default_rng(1)
    scale, w = rng.uniform(0.3, 1.5, 20), rng.uniform(0.5, 2, 20)
    glu = mf.GLU("relu", gate=P(w, 0.1), up=P(1.0), down=P(2.0, 0.1))
    block = mf.Residual(mf.Chain(mf.RMSNorm(), glu), skip=0.8, scale=scale)
    found, path = mf.fixed_point(block), mf.propagate(block, c0=0.3, depth=400)
    assert set(names(found.status)) == {"CONVERGED"}
    assert relative(found.q, path.q[-1]) <= 1e-12 and relative(found.c, path.c[-1]) <= 1e-10


def test_signals_stay_apart_by_their_share_down_to_the_smallest_number(x64):
    layer = mf.Chain(mf.RMSNorm(), mf.GLU("relu", gate=P(0.5, 0.1), up=P(0.5, 0.2), down=P(0.8, 0.2)))
    found = mf.fixed_point(layer)
    path = mf.propagate(layer, depth=3000)
    assert found.chi_1 < 1 and path.one_minus_c[-1] == 0.0
    assert relative(path.one_minus_c[200] / path.one_minus_c[199], found.chi_1) <= 1e-10


def values(p):
    glu = mf.GLU("erf", gate=P(p["g"], p["gb"]), up=P(p["u"], p["ub"]), down=P(p["d"], p["db"]))
    found = mf.fixed_point(mf.Residual(mf.Chain(mf.RMSNorm(p["gain"]), glu), skip=p["skip"], scale=1.1))
    return jnp.stack([found.q, found.c, found.chi_1, found.chi_c])


def test_derivatives_with_respect_to_every_parameter(x64):
    at = dict(g=1.5, gb=0.1, u=1.1, ub=0.2, d=2.0, db=0.1, gain=1.2, skip=0.6)
    check_slopes(values, at)


@pytest.mark.parametrize(("skip", "status"), [(0.8, "CONVERGED"), (1.0, "DRIFTING")])
def test_every_point_of_a_diagram_is_solved_by_tables_of_the_gate(x64, monkeypatch, skip, status):
    def block(weight_var, scale):
        glu = mf.GLU("silu", gate=P(weight_var, 0.1), up=P(1.0), down=P(2.0, 0.1))
        return mf.Residual(mf.Chain(mf.RMSNorm(), glu), skip=skip, scale=scale)

    for job in ("_variance", "_correlation", "limit_job"):  # that know every case, and take their time
        monkeypatch.setattr(strategies, job, None)
    w, s = np.linspace(0.5, 2, 24), np.linspace(0.3, 1.5, 20)
    diagram = mf.phase_diagram(block, weight_var=w, scale=s)
    assert set(names(diagram.status.ravel())) == {status}
    some = mf.fixed_point(block(w[::6, None], s[::5]))
    for name in ("q", "c", "chi_1", "chi_c"):
        found = getattr(diagram, name)[::6, ::5]
        assert np.array_equal(found, getattr(some, name)) or relative(found, getattr(some, name)) <= 1e-10


@pytest.mark.parametrize("activation", ["sigmoid", "hard_tanh"])
@pytest.mark.parametrize(("gate_bias", "up_bias"), [(0.0, 0.0), (0.4, 0.0), (0.0, 0.3), (0.4, 0.3)])
def test_the_angle_is_found_in_the_tables_of_any_gate(x64, activation, gate_bias, up_bias):
    """Where c comes back as it went in, with biases or without; 0 where a factor is uncorrelated there."""

    def block(gate, up):
        biases = P(gate, gate_bias), P(up, up_bias)
        return mf.Chain(mf.RMSNorm(1.3), mf.GLU(activation, gate=biases[0], up=biases[1], down=P(1.5)))

    g, u = np.geomspace(0.05, 20, 21), np.linspace(0.2, 3, 20)
    diagram = mf.phase_diagram(block, gate=g, up=u)
    assert np.all(diagram.status == mf.Status.CONVERGED)
    layer = block(g[::5, None], u[::4])
    once = mf.c_map(layer, c=np.maximum(diagram.c, 0.0)[::5, ::4], q=diagram.q[::5, ::4])
    assert np.max(np.abs(once - diagram.c[::5, ::4])) <= 1e-10
    odd = activation == "hard_tanh"
    assert (np.max(np.abs(diagram.c)) <= 1e-12) == (up_bias == 0 or (odd and gate_bias == 0))


class SwiGLU(nnx.Module):
    """A block of stock layers: x + W3 [silu(W1 norm x) * W2 norm x]."""

    def __init__(self, width, glu, rngs):
        self.norm = nnx.RMSNorm(width, epsilon=0.0, rngs=rngs)
        linear = lambda prior: nnx.Linear(
            width, width, kernel_init=prior.kernel_init(), bias_init=prior.bias_init(), rngs=rngs
        )
        self.gate, self.up, self.down = linear(glu.gate), linear(glu.up), linear(glu.down)

    def __call__(self, x):
        y = self.norm(x)
        return x + self.down(nnx.silu(self.gate(y)) * self.up(y))


@pytest.mark.slow
def test_stock_layers_of_flax_do_as_the_theory_says():
    glu = mf.GLU("silu", gate=P(1.5, 0.1, 0.9), up=P(1.0, 0.0, 0.9), down=P(2.0, 0.1, 0.9))
    block = mf.Residual(mf.Chain(mf.RMSNorm(), glu))
    width, depth = 512, 4
    start = np.sqrt(2) * np.array([[1.0, 0.0], [0.5, np.sqrt(0.75)]])

    @jax.jit
    @jax.vmap
    def network(key):
        h = jnp.asarray(start, jnp.float32) @ jax.random.normal(key, (2, width))
        tangent = jax.random.normal(jax.random.fold_in(key, 1), (width,))
        for layer in range(depth):
            module = SwiGLU(width, glu, nnx.Rngs(params=jax.random.fold_in(key, layer + 2)))
            _, tangent = jax.jvp(module, (h[:1],), (tangent[None],))
            h, tangent = module(h), tangent[0]
        return jnp.mean(h[0] ** 2), jnp.mean(h[0] * h[1]), jnp.mean(tangent**2)

    found = np.array(network(jax.random.split(jax.random.key(0), 48)))
    path = mf.propagate(block, q0=2.0, c0=0.5, depth=depth)
    growth = np.prod([block.tangent(jnp.asarray(q)) for q in path.q[:-1]])
    expected = [path.q[-1], path.q[-1] * path.c[-1], growth]
    deviation = (found.mean(1) - expected) / (found.std(1) / np.sqrt(found.shape[1]))
    assert np.all(np.abs(deviation) <= 3.5), deviation


@pytest.mark.parametrize(
    ("make", "error", "reason"),
    [
        (lambda: mf.GLU("silu", gate=1.0, up=P(1.0), down=P(1.0)), TypeError, "gate must be a meanfield"),
        (
            lambda: mf.GLU("silu", gate=P(1.0), up=P(1.0), down=mf.AsymmetricPrior(1.0)),
            TypeError,
            "down must be .*density_evolution",
        ),
        (lambda: swiglu(gate=0.0), ValueError, "weight_var of gate must be finite and greater than 0"),
        (lambda: swiglu("slu"), ValueError, "did you mean"),
        (lambda: mf.Chain("tanh", swiglu(), P(1.0)), ValueError, "put a prior between the two"),
    ],
)
def test_wrong_arguments_are_named(make, error, reason):
    with pytest.raises(error, match=reason):
        make()
