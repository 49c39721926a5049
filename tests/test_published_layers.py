"""What papers on layers found, at their numbers; docs/how-to say where each was looked up."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq

import meanfield as mf

P = mf.NormalPrior


def gaussian(f):
    """E f(z)."""
    return quad(lambda z: f(z) * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi), -12, 12, epsabs=1e-14)[0]


def at_the_edge(name, keep, slope=1.0, bias_var=0.1):
    """The layer with dropout whose C'(1) is ``slope``."""
    make = lambda weight_var: mf.Chain(name, mf.Dropout(keep), P(weight_var, bias_var))
    excess = lambda w: float(mf.fixed_point(make(w)).chi_1) - slope
    return make(brentq(excess, 0.8, 4.0, xtol=1e-15, rtol=1e-14))


def field(layer, point):
    """h = 1 - C(1), what masks part equal signals by."""
    return float(1 - mf.c_map(layer, c=1.0, q=point.q))


CLASSES = {"tanh": (1 / 2, 1 / 2), "erf": (1 / 2, 1 / 2), "hard_tanh": (2 / 3, 1 / 3)}


@pytest.mark.parametrize("name", CLASSES)
def test_dropout_has_two_classes_of_activations(x64, name):
    """Fernandez Sarmiento 2026: 1 - c* ~ h^(1/delta), xi ~ h^(-nu) at the edge C'(1) = 1."""
    layers = [at_the_edge(name, 1 - d) for d in (1e-9, 1e-8, 1e-7)]
    points = [mf.fixed_point(layer) for layer in layers]
    h = [field(*pair) for pair in zip(layers, points, strict=True)]
    slope = lambda y: np.polyfit(np.log(h), np.log(np.array(y, float)), 1)[0]
    found = slope([p.one_minus_c for p in points]), -slope([mf.depth_scales(layer).c for layer in layers])
    np.testing.assert_allclose(found, CLASSES[name], rtol=6e-4)


def test_relu_is_of_the_class_with_a_kink(x64):
    """Without bias, at weights that make up for the masks, the variance stays and h = 1/keep - 1."""
    dropped = np.geomspace(1e-7, 1e-5, 3)
    layers = mf.Chain("relu", mf.Dropout(1 - dropped), P(2 * (1 - dropped)))
    slope = lambda y: np.polyfit(np.log(1 / (1 - dropped) - 1), np.log(np.asarray(y)), 1)[0]
    assert abs(slope(mf.fixed_point(layers).one_minus_c) - 2 / 3) <= 1e-3
    assert abs(slope(mf.depth_scales(layers).c) + 1 / 3) <= 2e-3


@pytest.mark.parametrize("scaled", [-1.0, 0.0, 1.0])
def test_dropout_and_detuning_collapse_onto_one_curve(x64, scaled):
    """Over a field h and a detuning t = C'(1) - 1, with g = C''(1), u = t / sqrt(2 g h) and m = 1 - c*:

    m sqrt(g / 2h) = u + sqrt(1 + u^2).
    """
    keep, detuning = 1 - 1e-8, 0.0
    for _ in range(3):  # h and g change little with t
        layer = at_the_edge("tanh", keep, 1 + detuning)
        point = mf.fixed_point(layer)
        root = np.sqrt(float(point.q))
        bend = gaussian(lambda z, root=root: (2 * np.tanh(root * z) / np.cosh(root * z) ** 2) ** 2)
        g, h = float(layer.prior.weight_var) * root**2 * bend, field(layer, point)
        detuning = scaled * np.sqrt(2 * g * h)
    collapsed = float(point.one_minus_c) * np.sqrt(g / (2 * h))
    assert abs(collapsed / (scaled + np.sqrt(1 + scaled**2)) - 1) <= 1e-3


def test_delta_orthogonal_networks_were_drawn_at_the_edge(x64):
    """Xiao et al. 2018: the authors' demonstration has the variances 1.05 and 2.01e-5 for tanh."""
    assert abs(float(mf.critical_weight_var("tanh", 2.01e-5)) - 1.05) <= 5e-5


@pytest.mark.parametrize(("alpha", "weight_sd"), [(0.3, 2.0), (0.3, 4.0), (0.7, 3.0)])
def test_angle_and_gradient_exponents_of_tokens(x64, alpha, weight_sd):
    """Cowsik et al. 2024: tokens collapse where the exponent of their angle is negative."""
    skip = np.sqrt(1 - alpha**2)
    mlp = mf.Chain("linear", P(weight_sd**2), "tanh", P(1.0))
    branch = dict(attention=(skip, alpha), feedforward=(skip, alpha))
    found = mf.token_phases(mf.Transformer(mlp, beta=0.6, tokens=8, **branch))
    last = int(np.sum(np.isfinite(found.c))) - 1
    square = gaussian(lambda z: np.tanh(weight_sd * z) ** 2)
    slope = weight_sd**2 * gaussian(lambda z: np.cosh(weight_sd * z) ** -4)
    of_mlp = (skip**2 + alpha**2 * slope) / (skip**2 + alpha**2 * square)
    np.testing.assert_allclose(found.growth[last], [of_mlp, skip**2 * of_mlp], rtol=1e-9)
    assert abs(float(found.chi_c[last]) / (skip**2 * of_mlp) - 1) <= 1e-9
    assert (float(found.reached(0.5)) == 1) == (skip**2 * of_mlp < 1)


def test_tokens_part_beyond_an_edge_of_the_weights(x64):
    """The figure on docs/how-to/attention.md."""
    skip, alpha = np.sqrt(1 - 0.3**2), 0.3

    def exponent(weight_sd):
        mlp = mf.Chain("linear", P(weight_sd**2), "tanh", P(1.0))
        slope, square = mlp.tangent(np.float64(1.0)), mlp.variance_map(np.float64(1.0))
        return float(np.log(skip**2 * (skip**2 + alpha**2 * slope) / (skip**2 + alpha**2 * square)))

    assert abs(brentq(exponent, 1, 8) - 3.54) <= 0.005


def test_sharp_attention_freezes(x64):
    """Giorlandino & Goldt 2025: squares sum up to max(0, 1 - sqrt(2/(1-c))/b) at logits b sqrt(log n)."""
    mlp = mf.Chain("linear", P(1.0), "relu", P(1.0))
    away = []
    for tokens in (32, 1024):
        of = lambda b, n=tokens: mf.Transformer(mlp, beta=float(b * np.sqrt(np.log(n))), tokens=n)
        found = [float(of(b).overlaps(1.0).r0) for b in (0.7, 3.0)]
        away.append(np.abs(np.subtract(found, [0.0, 1 - np.sqrt(2) / 3])))
    assert np.all(away[1] < 0.7 * away[0]) and away[1].max() < 0.1


@pytest.mark.slow
def test_tokens_of_untrained_networks_collapse_as_was_measured(x64):
    """Giorlandino & Goldt 2025, figure 1, read off to 0.01; their limit of many tokens is off by 0.07."""
    value_bias = 4e-4 / 1.2  # of the values, added where the MLP ends, behind the first norm
    mlp = mf.Chain("linear", P(0.2, 4e-4), "relu", P(0.2, 4e-4 + value_bias))
    measured = {0.5: [0.278, 0.703, 0.940], 3.0: [0.143, 0.329, 0.604]}
    for strength, points in measured.items():
        logits = float(strength * np.sqrt(np.log(512)))
        block = mf.Transformer(mlp, beta=logits, tokens=256, value_var=0.2)
        path = mf.propagate_tokens(block, c0=0.026, depth=30)
        assert np.abs(np.asarray(path.c[10::10]) - points).max() <= 0.025


XIONG = mf.Chain("linear", P(1.0), "relu", P(1.0))  # square matrices of variance one over the width


def test_streams_of_transformers_grow_as_was_bounded(x64):
    """Xiong et al. 2020, lemma 2: 3/2 before a post-norm; behind l pre-norm blocks 1 + l/2 to 1 + 3l/2."""
    layer = np.arange(25)
    assert abs(mf.q_map(mf.Residual(XIONG), q=1.0) - 1.5) <= 1e-14
    alone = mf.propagate(mf.Residual(mf.Chain(mf.LayerNorm(), XIONG)), depth=24).q
    np.testing.assert_allclose(alone, 1 + layer / 2, rtol=1e-13)
    block = lambda tokens: mf.Transformer(
        XIONG, beta=1e-6, tokens=tokens, norm="pre"
    )  # attention to all alike
    equal = mf.propagate_tokens(block(2), c0=1.0, depth=24).q
    np.testing.assert_allclose(equal, 1 + 3 * layer / 2, rtol=1e-10)
    apart = np.asarray(mf.propagate_tokens(block(64), c0=0.0, depth=24).q)
    assert np.all((apart[1:] > 1 + layer[1:] / 2) & (apart[1:] < 1 + 3 * layer[1:] / 2))


@pytest.mark.parametrize("weight_var", [0.1, 1.0, 10.0])
def test_pre_norm_residual_networks_are_critical_for_any_initialisation(x64, weight_var):
    """Doshi et al. 2021; the squared gradient goes like l^1 for ReLU without biases (labofdoubt, 2.1)."""
    for depth_law in (mf.Chain(mf.LayerNorm(), "relu", P(weight_var)), mf.Chain(mf.LayerNorm(), XIONG)):
        assert abs(mf.drift(mf.Residual(depth_law)).gradient_power - 1) <= 1e-12


def test_gates_let_a_quarter_through_at_small_variances(x64):
    """Gehring et al. 2017, appendix A: E sigma(g)^2 is between 1/4 and 1/4 + Var g / 16."""
    gate_var = np.geomspace(1e-6, 10, 8)
    passed = np.asarray(mf.q_map(mf.GLU("sigmoid", gate=P(gate_var), up=P(1.0), down=P(1.0)), q=1.0))
    assert np.all((passed > 1 / 4) & (passed < 1 / 4 + gate_var / 16))
    assert abs((passed[0] - 1 / 4) / gate_var[0] * 16 - 1) <= 1e-5


def test_gated_units_have_the_size_by_which_they_are_scaled(x64):
    """Blake et al. 2024 divide z sigma(m z) by a model of its standard deviation, good to 0.6%."""
    m = np.array([0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 10.0])
    found = np.sqrt(mf.q_map(mf.GLU("silu", gate=P(m**2), up=P(1.0), down=P(m**-2)), q=1.0))
    exact = [np.sqrt(gaussian(lambda z, m=m: (z / (1 + np.exp(-m * z))) ** 2)) for m in m]
    np.testing.assert_allclose(found, exact, rtol=1e-10)
    alpha = 1 / (1 + m**-2)
    np.testing.assert_allclose(found, 2 ** (-alpha / 2 - (1 - alpha)), rtol=6e-3)


@pytest.mark.parametrize("weight_var", [1.0, 1.5])
def test_gradients_of_residual_networks_of_erf_are_those_of_the_closed_recursion(x64, weight_var):
    """labofdoubt, equation 12: exponentials of the depth's root (Yang & Schoenholz 2017)."""
    q, growth = 1.0, []
    for _ in range(4000):
        growth.append(1 + 4 * weight_var / np.pi / np.sqrt(1 + 4 * q))
        q += 2 * weight_var / np.pi * np.arcsin(2 * q / (1 + 2 * q))
    block = mf.Residual(mf.Dense("erf", P(weight_var)))
    assert abs(mf.propagate(block, depth=4000).q[-1] / q - 1) <= 1e-12
    gradient = np.log(mf.gradient_growth(block, depth=4000))
    np.testing.assert_allclose(gradient[0] - gradient[1:], np.cumsum(np.log(growth)), rtol=1e-11)
    slope = (gradient[1000] - gradient[4000]) / (np.sqrt(4000) - np.sqrt(1000))
    assert abs(slope / (4 * np.sqrt(weight_var) / np.pi) - 1) <= 0.01


def test_relu_with_dropout_is_critical_at_twice_the_share_that_is_kept(x64):
    """Pretorius et al. 2018: sigma_w^2 = 2p keeps every variance; their code has the map of correlations."""
    keep = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
    layer = mf.Chain("relu", mf.Dropout(keep), P(2 * keep))
    found = mf.fixed_point(layer, q0=1.7)
    assert np.all(found.status == mf.Status.MARGINAL) and np.all(found.q == 1.7)
    c = np.asarray(found.c)
    once = keep * ((c * np.arcsin(c) + np.sqrt(1 - c**2)) / np.pi + c / 2)
    np.testing.assert_allclose(once, c, rtol=1e-13)
    np.testing.assert_allclose(
        mf.depth_scales(layer, q0=1.7).c, -1 / np.log(keep * (np.arcsin(c) / np.pi + 0.5))
    )
