"""Real networks of every kind of layer: made of stock Flax modules, and beside the theory."""

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import pytest
from flax import nnx
from scipy import stats

import meanfield as mf
from meanfield.empirical import block_of, compare, measure, network, signals_of
from meanfield.empirical.comparison import Extrapolation, _compared, p_value_of, theory_of
from meanfield.layers.base import Layer

P = mf.NormalPrior
MLP = mf.Chain("linear", P(2.0), "relu", P(1.0, 0.0, 1.0))
TRANSFORMER = dict(beta=1.5, tokens=4, attention=(1.0, 0.7))
FEW = dict(width=48, networks=24)

KINDS = {
    "norm": mf.Chain(mf.RMSNorm(), "relu", mf.LayerNorm(), P(1.5, 0.1, 0.5)),
    "residual": mf.Residual(mf.Chain(mf.RMSNorm(), "gelu", P(2.0, 0.1)), skip=0.9, scale=0.7),
    "dropout": mf.Chain("tanh", mf.Dropout(0.8), P(1.8, 0.05)),
    "shared dropout": mf.Chain("tanh", mf.Dropout(0.8, shared=True), P(1.8, 0.05)),
    "batch norm": mf.Chain(mf.BatchNorm(), "tanh", P(1.5, 0.2)),
    "gated": mf.Chain(mf.RMSNorm(), mf.GLU("silu", gate=P(1.5), up=P(1.0), down=P(2.0))),
    "convolution": mf.Conv("tanh", P(1.8, 0.1, 0.3), kernel_size=(3,)),
    "recurrent": mf.Recurrent("tanh", P(2.0, 0.1), input_var=0.5, input_correlation=0.6),
    "minimal": mf.MinimalRNN(P(4.0, 0.1), input_correlation=0.7),
    "post-norm": mf.Transformer(MLP, **TRANSFORMER),
    "pre-norm": mf.Transformer(MLP, **TRANSFORMER, norm="pre"),
    "schedule": [mf.Dense("relu", P(2.0)), mf.Residual(mf.Dense("tanh", P(1.5))), mf.Dense("gelu", P(1.5))],
}


def sized(layer, **others):
    """Without a depth, which a sequence has of itself."""
    return FEW | others | (dict(depth=None) if isinstance(layer, list) else dict(depth=3))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_networks_of_every_kind_agree_with_the_theory(kind):
    layer = KINDS[kind]
    found = compare(layer, seed=4, **sized(layer))
    assert found.quantities == ("q", "one_minus_c", "growth", "gradient")
    assert found.p_value > 1e-3, found.deviation
    if kind == "residual":
        assert float(found.fixed_point.q) == pytest.approx(float(mf.fixed_point(layer).q), rel=1e-4)
        assert isinstance(found.plot(), matplotlib.figure.Figure)


@pytest.mark.slow
def test_p_values_are_uniform_where_what_is_compared_hangs_together():
    """Ensembles drawn from many networks, against what all of them say: gradients and variances of a residual
    network are much the same from layer to layer."""
    layer, random = mf.Residual(mf.Dense("relu", P(2.0, 0.1)), scale=0.7), np.random.default_rng(2)
    pools = [measure(layer, width=n, depth=4, networks=400, gradients=True, seed=n).samples for n in (32, 64)]
    names = ("q", "one_minus_c", "growth", "gradient")
    logs = [np.concatenate([np.log(getattr(pool, n).astype(float)) for n in names], axis=1) for pool in pools]
    varies = np.all([x.std(axis=0) > 1e-5 for x in logs], axis=0)
    logs = [x[:, varies] for x in logs]
    expected = 2 * logs[1].mean(axis=0) - logs[0].mean(axis=0)

    def p_value():
        narrow, wide = (x[random.integers(0, len(x), 32)] for x in logs)
        return p_value_of([Extrapolation(narrow, wide, expected, np.zeros_like(expected))])

    p_values = [p_value() for _ in range(120)]
    assert stats.kstest(p_values, "uniform").pvalue > 1e-2
    assert abs(np.mean(p_values) - 0.5) <= 3 / np.sqrt(12 * 120)


def test_networks_of_a_block_agree_with_the_theory():
    layer = mf.Residual(mf.Dense("tanh", P(2.0, 0.1)), skip=0.9, scale=0.7)
    found = compare(layer, width=32, depth=2, networks=24, seed=1)
    assert found.p_value > 1e-3
    assert repr(found).startswith("Comparison(Residual(Dense), widths 32 and 64, 24 networks of each, p = ")
    assert len(found.table()) == 4 * 3


def test_a_wrong_theory_is_found_out():
    """Networks that keep 80% of their activations against the theory of 95%."""
    claimed = mf.Chain("tanh", mf.Dropout(0.95), P(1.8, 0.05))
    sizes = dict(depth=3, networks=32)
    narrow, wide = (measure(KINDS["dropout"], width=n, seed=n, **sizes) for n in (48, 96))
    right, wrong = (theory_of(layer, depth=3) for layer in (KINDS["dropout"], claimed))
    assert _compared(narrow, wide, wrong, {}).p_value < 1e-3 < _compared(narrow, wide, right, {}).p_value


@pytest.mark.parametrize(
    "kind", ["dropout", "shared dropout", "batch norm", "convolution", "recurrent", "post-norm"]
)
def test_the_networks_measured_are_flax_models(kind):
    """Weights, masks and inputs and all."""
    layer = KINDS[kind]
    measured = measure(layer, width=48, depth=2, networks=2, c0=0.3, seed=7).samples
    model = network(layer, width=48, depth=2, seed=7, index=1)
    h = np.asarray(model.pre_activations(signals_of(layer, c0=0.3, width=48)), float)
    about = h - h.mean(1, keepdims=True) if kind == "batch norm" else h
    places = tuple(range(1, h.ndim))
    np.testing.assert_allclose(np.mean(about**2, axis=places), measured.q[1], rtol=1e-5)


def test_gradients_and_tangents_are_those_of_the_model():
    """One straight layer behind a norm, whose Jacobian is known."""
    layer, width = mf.Chain(mf.RMSNorm(), "linear", P(1.3)), 40
    found = measure(layer, width=width, depth=1, networks=1, gradients=True, seed=2).samples
    model = network(layer, width=width, depth=1, seed=2)
    h = model.pre_activations(signals_of(layer, width=width))[0]
    jacobian = np.asarray(jax.jacobian(lambda x: model.blocks[0](x))(h), float).reshape(2 * width, 2 * width)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(2), 0), 0x70726F62)
    tangent, cotangent = (np.asarray(jax.random.normal(k, h.shape)).ravel() for k in jax.random.split(key))
    square = lambda x: x @ x
    np.testing.assert_allclose(found.growth[0, 1], square(jacobian @ tangent) / square(tangent), rtol=1e-4)
    gradient = square(jacobian.T @ cotangent) / square(cotangent)
    np.testing.assert_allclose(found.gradient[0, 0], gradient, rtol=1e-4)


def test_a_network_is_a_module_like_any_other():
    """It can be split, compiled and differentiated."""
    layer = KINDS["gated"]
    model = network(layer, width=16, depth=2)
    x = signals_of(layer)

    @nnx.jit
    def gradient(model, x):
        return nnx.grad(lambda model: jnp.mean(model(x) ** 2))(model)

    sizes = [jnp.linalg.norm(g) for g in jax.tree.leaves(gradient(model, x))]
    assert np.all(np.isfinite(sizes)) and max(sizes) > 0


def test_a_recurrent_network_has_one_matrix_for_all_times():
    cell, *others = network(KINDS["recurrent"], width=16, depth=3).blocks
    assert all(other is cell for other in others)
    first, second = network(KINDS["minimal"], width=16, depth=2).blocks
    assert not np.array_equal(first.recurrent.kernel[...], second.recurrent.kernel[...])


def test_a_plain_dense_layer_is_an_activation_and_a_prior():
    one = measure(mf.Dense("tanh", P(1.5)), width=16, depth=2, networks=2, method="weightless")
    other = measure("tanh", P(1.5), width=16, depth=2, networks=2, method="weightless")
    assert np.array_equal(one.samples.q, other.samples.q) and one.prior.weight_var == 1.5


class Halving(Layer):
    """A layer that has no network yet."""

    keeps_angle = True

    def variance_map(self, q):
        return q / 4

    def pair_gain(self, q, theta):
        return jnp.full_like(theta, 0.25)

    def covariance_map(self, q1, q2, c):
        return c * jnp.sqrt(q1 * q2) / 4


def test_a_layer_of_your_own_is_refused_until_it_has_a_block():
    with pytest.raises(TypeError, match=r"Halving has no network of stock Flax layers.*block_of.register"):
        measure(Halving(), width=8, depth=2, networks=2)

    @block_of.register
    def _(layer: Halving, width, *, rngs, dtype=jnp.float32):
        return lambda h: h / 2

    found = measure(Halving(), width=8, depth=2, networks=2).samples
    np.testing.assert_allclose(found.q[:, 2], found.q[:, 0] / 16, rtol=1e-6)


@pytest.mark.parametrize(
    ("layer", "change", "message"),
    [
        (KINDS["dropout"], dict(method="weightless"), "method must be left out where a layer is given"),
        (KINDS["dropout"], dict(n_inputs=3), "n_inputs must be left out"),
        (KINDS["schedule"], dict(depth=5), "depth must be left out, or be the number of layers: 3, got 5"),
        ([], dict(depth=None), "at least one layer"),
        (KINDS["post-norm"], dict(q0=2.0), "q0 must be 1 where norms stand behind every sum"),
        (KINDS["pre-norm"], dict(c0=-0.1), "c0 must be finite and between 0 and 1"),
        (mf.Chain("tanh", mf.Dropout(np.array([0.5, 0.9])), P(1.0)), {}, "keep must be a scalar"),
        (mf.Residual(mf.Dense("tanh", P(np.ones(2)))), {}, "parameters must be scalars"),
        (mf.Chain(mf.Conv("relu", P(1.0), (3,)), mf.Conv("relu", P(1.0), (3, 3))), {}, "as many axes"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(layer, change, message):
    with pytest.raises(ValueError, match=message):
        measure(layer, **(dict(width=8, depth=2, networks=2) | change))
