"""Layers other than the dense one: residual, normalised, chained, a reader's own."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import names, relative

import meanfield as mf

P = mf.NormalPrior
RECORDS = json.loads((Path(__file__).parent / "reference" / "layers.json").read_text())
FIELDS = ("q", "c", "chi_q", "chi_1", "chi_c", "chi_perp")


def dense(parameters):
    prior = P(parameters["weight_var"], parameters["bias_var"], parameters["kappa"])
    return mf.Dense(parameters["activation"], prior)


def layer_of(record):
    kind, p = record["kind"], record["parameters"]
    prior = P(p["weight_var"], p["bias_var"], p["kappa"])
    if kind.startswith("residual"):
        parts = [dense(p)] * (2 if "two-layer" in kind else 1)
        return mf.Residual(mf.Chain(*parts), skip=p["a"], scale=p["b"])
    norm = (mf.LayerNorm if kind.startswith("ln") else mf.RMSNorm)(p["gain"])
    parts = (norm, p["activation"]) if "before" in kind else (p["activation"], norm)
    return mf.Chain(*parts, prior)


@pytest.mark.parametrize(
    "record",
    [r for r in RECORDS if "c" in r["values"]],
    ids=lambda r: f"{r['kind']}, {r['parameters']['activation']}",
)
def test_fixed_points_are_those_of_the_reference(x64, record):
    found = mf.fixed_point(layer_of(record))
    assert names(found.status) == ["CONVERGED"]
    for name, value in record["values"].items():
        assert abs(float(getattr(found, name)) - value) <= 1e-10, name


def test_behind_a_norm_without_eps_all_signals_are_of_one_variance(x64):
    """Then q* is in closed form: no variance is looked for, and eps = 0 is no parameter of the layer."""
    blocks = mf.Chain(mf.RMSNorm(1.3), "tanh", P(1.5, 0.1)), mf.Chain("relu", mf.LayerNorm(1.3), P(1.5, 0.1))
    for block in blocks:
        growth, level = mf.Residual(block, skip=0.8, scale=0.5).affine()
        assert growth == 0.8**2 and level == 0.25 * mf.q_map(block, q=7.0)
    assert mf.Chain(mf.RMSNorm(eps=1e-6), "tanh", P(1.5)).affine() is None
    assert mf.Chain("tanh", mf.LayerNorm(), P(1.5)).affine() is None  # before the norm is another scale
    norm = mf.RMSNorm(1.3)
    assert jax.tree.leaves(norm) == [1.3] and norm.eps == 0.0 and repr(norm) == "RMSNorm(gain=1.3, eps=0.0)"
    many = mf.RMSNorm(np.array([1.0, 1.3]), np.zeros(2))
    one_by_one = jax.vmap(lambda norm: norm.variance_map(2.0), (jax.tree.map(lambda _: 0, many),))
    assert np.array_equal(one_by_one(many), many.gain**2)


def test_a_block_whose_variance_overflows_behind_its_norm_is_unbounded(x64):
    glu = mf.GLU("relu", gate=P(1.0), up=P(1.0), down=P(1.0))
    assert names(mf.fixed_point(mf.Chain(mf.RMSNorm(1e90), glu)).status) == ["UNBOUNDED"]


@pytest.mark.parametrize(
    "record",
    [r for r in RECORDS if "q12" in r["values"]],
    ids=lambda r: f"{r['kind']}, {r['parameters']['activation']}",
)
def test_trajectories_are_those_of_the_reference(x64, record):
    p, values = record["parameters"], record["values"]
    q1, q2, q12 = p["start"]
    path = mf.propagate(layer_of(record), q0=q1, q2=q2, c0=q12 / np.sqrt(q1 * q2), depth=p["layers"])
    found = path.q[-1], path.q2[-1], path.c[-1] * np.sqrt(path.q[-1] * path.q2[-1])
    assert relative(found, [values[n] for n in ("q1", "q2", "q12")]) <= 1e-10


@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_a_residual_layer_has_the_fixed_points_of_a_dense_one(x64, activation):
    """Variances times b^2/(1 - a^2); every chi is a^2 + (1 - a^2) that of the dense layer."""
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-0.95, 0.95, 100), rng.uniform(0.1, 1.2, 100)
    w, s, k = rng.uniform(0.2, 4, 100), rng.uniform(0.01, 0.5, 100), rng.uniform(-1, 1, 100)
    ratio = b**2 / (1 - a**2)
    residual = mf.fixed_point(mf.Residual(mf.Dense(activation, P(w, s, k)), skip=a, scale=b))
    plain = mf.fixed_point(activation, P(w * ratio, s * ratio, k))
    assert names(residual.status) == names(plain.status)
    there = np.asarray(plain.status) == mf.Status.CONVERGED
    assert there.sum() > 50
    condition = 1 / np.abs(1 - np.asarray(plain.chi_q)) + 1 / np.abs(1 - np.asarray(plain.chi_c))
    for name in ("q", "one_minus_c"):
        found, expected = (np.asarray(getattr(x, name))[there] for x in (residual, plain))
        assert np.all(
            np.abs(found - expected) <= 1e-12 * np.maximum(1, condition[there]) * np.maximum(expected, 1e-3)
        )
    for name in ("chi_q", "chi_1", "chi_perp", "chi_c"):
        found, expected = (np.asarray(getattr(x, name))[there] for x in (residual, plain))
        expected = (a**2 + (1 - a**2) * getattr(plain, name))[there]
        assert np.max(np.abs(found - expected) / np.maximum(1, condition[there])) <= 1e-12, name


@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_the_rates_of_a_chain_are_the_products_of_its_layers(x64, activation):
    prior = P(1.3, 0.2, 0.4)
    one = mf.fixed_point(activation, prior)
    three = mf.fixed_point(mf.Chain(activation, prior, activation, prior, activation, prior))
    assert names(three.status) == ["CONVERGED"]
    assert relative(three.q, one.q) <= 1e-12 and abs(three.c - one.c) <= 1e-12
    for name in ("chi_q", "chi_1", "chi_perp", "chi_c"):
        assert relative(getattr(three, name), getattr(one, name) ** 3) <= 1e-12, name
    rates = (
        mf.lyapunov_exponents(mf.Chain(activation, prior, activation, prior)),
        mf.lyapunov_exponents(activation, prior),
    )
    assert relative(rates[0].maximal, 2 * rates[1].maximal) <= 1e-12


def test_a_chain_of_an_activation_and_a_prior_is_a_dense_layer(x64):
    assert isinstance(mf.Chain("gelu", P(2.0)), mf.Dense)
    inside = mf.Chain(mf.Chain("tanh", P(2.0), mf.RMSNorm()), "tanh", P(1.0))
    assert [type(layer) for layer in inside.layers] == [mf.Dense, mf.RMSNorm, mf.Dense]


# --- where signals go without bound, or to nothing ------------------------------------------


def test_a_residual_relu_layer_grows_by_its_two_parts(x64):
    """x' = x + b f(x): growth 1 + b^2 g, chi_1 of the limit map (THEORY of layers, section 1)."""
    b, w, kappa = 0.3, 2.0, 0.8
    found = mf.fixed_point(mf.Residual(mf.Dense("relu", P(w, 0.0, kappa)), scale=b))
    growth = 1 + b**2 * w * (1 / 2 - kappa / (2 * np.pi))
    assert names(found.status) == ["UNBOUNDED"]
    assert relative(found.chi_q, growth) <= 1e-12
    assert relative(found.chi_1, (1 + b**2 * w / 2) / growth) <= 1e-12
    far = mf.fixed_point(mf.Residual(mf.Dense("gelu", P(w, 0.1, kappa)), scale=b), q0=100.0)
    assert names(far.status) == ["UNBOUNDED"]
    assert relative([far.chi_q, far.chi_1, far.c], [found.chi_q, found.chi_1, found.c]) <= 1e-9


def test_a_bounded_branch_on_an_open_skip_makes_signals_drift(x64):
    for branch in (mf.Chain(mf.RMSNorm(), "relu", P(2.0)), mf.Dense("erf", P(2.0))):
        found = mf.fixed_point(mf.Residual(branch))
        assert names(found.status) == ["DRIFTING"]
        assert float(found.chi_q) == 1.0


def test_layer_normalised_activations_are_chaotic(x64):
    """Without bias chi_1 = q E phi'^2 / Var phi >= 1 (Poincare), pi / (pi - 1) for ReLU; c* = 0."""
    found = mf.fixed_point(mf.Chain("relu", mf.LayerNorm(), P(1.7)))
    assert relative([found.q, found.chi_1], [1.7, np.pi / (np.pi - 1)]) <= 1e-12
    assert abs(found.c) <= 1e-12
    same = mf.fixed_point(mf.Chain("relu", mf.LayerNorm(), P(1.7, 0.0, -3.0)))
    assert relative(same.chi_1, found.chi_1) <= 1e-12  # the anticorrelation changes nothing


# --- every entrance ---------------------------------------------------------------------------


def pre_norm(weight_var, scale):
    return mf.Residual(mf.Chain(mf.RMSNorm(), "erf", P(weight_var, 0.1)), skip=0.8, scale=scale)


def test_a_diagram_over_any_parameter_is_its_fixed_points(x64):
    axes = dict(weight_var=np.linspace(0.5, 4, 25), scale=np.linspace(0.2, 2, 20))
    diagram = mf.phase_diagram(pre_norm, **axes)
    assert diagram.axes == ("weight_var", "scale") and diagram.activation == "pre_norm"
    w, s = np.meshgrid(*axes.values(), indexing="ij")
    expected = mf.fixed_point(pre_norm(w, s))
    for name in FIELDS:
        assert np.nanmax(np.abs(getattr(diagram, name) - getattr(expected, name))) <= 1e-10, name
    assert np.array_equal(diagram.status, expected.status)


def test_a_diagram_of_layers_is_saved_drawn_and_swept(x64, tmp_path):
    axes = dict(scale=np.linspace(0.2, 2, 3), weight_var=np.linspace(0.5, 4, 4))
    diagram = mf.phase_diagram(lambda weight_var, scale: pre_norm(weight_var, scale), **axes)
    again = mf.PhaseDiagram.load(diagram.save(tmp_path / "layers"))
    assert again.axes == diagram.axes == ("weight_var", "scale")
    assert np.array_equal(again.scale, axes["scale"]) and np.array_equal(again.q, diagram.q)
    assert diagram.plot("xi_c").get_ylabel() == "scale"
    swept = mf.sweep(pre_norm, tmp_path / "layers.zarr", **axes).to_xarray()
    assert swept.q.dims == ("weight_var", "scale")
    np.testing.assert_array_equal(swept.q, diagram.q)


def parameters_of(activation):
    def value(p):
        layer = mf.Residual(
            mf.Chain(
                mf.RMSNorm(p["gain"], p["eps"]), activation, mf.LayerNorm(1.2, p["eps"]), P(p["w"], 0.1, 0.3)
            ),
            skip=p["skip"],
            scale=p["scale"],
        )
        found = mf.fixed_point(layer)
        return jnp.stack([found.q, found.c, found.chi_1, mf.depth_scales(layer).c])

    return value


def test_derivatives_with_respect_to_every_parameter(x64):
    at = dict(gain=1.3, eps=0.2, w=2.5, skip=0.7, scale=0.9)
    value = jax.jit(parameters_of("erf"))
    slopes = jax.jit(jax.jacfwd(parameters_of("erf")))(at)
    for name in at:
        step = 1e-5 * at[name]
        up, down = (value(at | {name: at[name] + sign * step}) for sign in (1, -1))
        expected = (up - down) / (2 * step)
        assert np.all(np.abs(slopes[name] - expected) <= 1e-6 * np.maximum(1, np.abs(expected))), name


def test_single_precision_and_transformations():
    layer = pre_norm(jnp.float32(2.0), jnp.float32(0.7))
    found = mf.fixed_point(layer)
    assert found.q.dtype == jnp.float32
    with jax.enable_x64(True):
        exact = mf.fixed_point(pre_norm(2.0, 0.7))
    assert relative([found.q, found.chi_1], [exact.q, exact.chi_1]) <= 1e-5
    mapped = jax.vmap(lambda s: mf.q_map(pre_norm(2.0, s), q=1.0))(jnp.array([0.5, 0.7]))
    assert relative(mapped, [mf.q_map(pre_norm(2.0, s), q=1.0) for s in (0.5, 0.7)]) <= 1e-6


# --- a reader's own layer -------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Noise(mf.Layer):
    """Multiplies every neuron by a number of mean 1, the same for both signals: x' = (1 + s g) x."""

    strength: float

    def variance_map(self, q):
        return (1 + self.strength**2) * q

    def pair_gain(self, q, theta):
        return (1 + self.strength**2) * jnp.ones_like(q)

    def covariance_map(self, q1, q2, c):
        return (1 + self.strength**2) * c * jnp.sqrt(q1 * q2)


def test_a_layer_of_a_readers_own(x64):
    noisy = mf.fixed_point(mf.Chain(Noise(0.5), "erf", P(2.0, 0.1)))
    before = mf.fixed_point(mf.Chain("erf", P(2.0, 0.1), Noise(0.5)))
    assert names([noisy.status, before.status]) == ["CONVERGED"] * 2
    assert relative(before.q, 1.25 * noisy.q) <= 1e-12  # the same cycle, seen one step later
    assert relative(before.chi_1, noisy.chi_1) <= 1e-11


class Shrinking(Noise):
    def pair_gain(self, q, theta):
        return -1.0 * jnp.ones_like(q)


class Wide(Noise):
    def variance_map(self, q):
        return jnp.stack([q, q])


class Lying(Noise):
    def covariance_map(self, q1, q2, c):
        return 0.5 * c * jnp.sqrt(q1 * q2)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Shrinking, "pair_gain is negative"),
        (Wide, r"variance_map .*shape \(2,\)"),
        (Lying, "covariance_map gives"),
    ],
)
def test_a_layer_that_breaks_its_contract_is_refused_by_name(kind, reason):
    kind = jax.tree_util.register_dataclass(dataclasses.dataclass(frozen=True)(kind))
    with pytest.raises(ValueError, match=f"{kind.__name__} breaks its contract: .*{reason}"):
        mf.fixed_point(kind(0.5))


# --- wrong input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ((P(2.0), "tanh"), "put the activation before the weights"),
        (("tanh",), "put a prior at its end"),
        (("tanh", "relu", P(2.0)), "put a prior between the two"),
        (("tanh", mf.Dense("tanh", P(1.0)), P(2.0)), "put a prior between the two"),
        ((), "a chain needs parts"),
        (("tahn", P(2.0)), "did you mean 'tanh'"),
    ],
)
def test_parts_that_do_not_fit_are_refused_with_the_mend(parts, reason):
    with pytest.raises(ValueError, match=reason):
        mf.Chain(*parts)


@pytest.mark.parametrize(
    ("make", "error", "reason"),
    [
        (lambda: mf.Residual("tanh"), TypeError, "branch must be a layer"),
        (lambda: mf.Residual(mf.RMSNorm()), ValueError, "branch must end in weights"),
        (lambda: mf.Residual(mf.Dense("tanh", P(1.0)), skip=np.nan), ValueError, "skip must be finite"),
        (lambda: mf.RMSNorm(0.0), ValueError, "gain must be finite and greater than 0"),
        (lambda: mf.LayerNorm(eps=-1.0), ValueError, "eps must be finite and at least 0"),
        (lambda: mf.Chain("tanh", mf.AsymmetricPrior(1.0)), TypeError, "density_evolution"),
        (lambda: mf.fixed_point(mf.Dense("tanh", P(1.0)), P(1.0)), TypeError, "prior must be left out"),
        (
            lambda: mf.phase_diagram("tanh", weight_var=[1, 2.0], scale=[1, 2.0]),
            TypeError,
            "scale: dense layers",
        ),
        (
            lambda: mf.phase_diagram(lambda scale, skip: "tanh", scale=[1, 2.0], skip=[0, 0.5]),
            TypeError,
            "must return a layer",
        ),
    ],
)
def test_wrong_arguments_are_named(make, error, reason):
    with pytest.raises(error, match=reason):
        make()
