"""A few points of any function: the same numbers as by names, tables and traces, whatever the layer."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import relative

import meanfield as mf
from meanfield.activations.survey import survey
from meanfield.dual.adaptive import AdaptiveMoments, moments_of
from meanfield.fixed_points import adaptive

PRIOR = mf.NormalPrior(2.2, 0.1, -0.5)
EPS = np.finfo(float).eps
NUMBERS = ("q", "c", "one_minus_c", "chi_q", "chi_c", "chi_1", "chi_perp")


def tanh(x):
    return 1 * jnp.tanh(x)


LAYERS = {
    "dense": lambda phi: mf.Dense(phi, PRIOR),
    "orthogonal": lambda phi: mf.Dense(phi, mf.OrthogonalPrior(2.2, 0.1)),
    "residual": lambda phi: mf.Residual(mf.Dense(phi, PRIOR), skip=0.6, scale=0.5),
    "normalised stream": lambda phi: mf.Residual(mf.Chain(mf.LayerNorm(), phi, PRIOR), skip=0.6),
    "normalised activations": lambda phi: mf.Chain(phi, mf.RMSNorm(), PRIOR),
    "two layers": lambda phi: mf.Chain(phi, PRIOR, phi, mf.NormalPrior(1.5, 0.2)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_function_gives_what_its_name_gives(name, x64):
    layer = LAYERS[name]
    function, named = mf.fixed_point(layer(tanh)), mf.fixed_point(layer("tanh"))
    for field in NUMBERS:
        np.testing.assert_allclose(getattr(function, field), getattr(named, field), rtol=1e-10, atol=1e-15)
    assert function.status == named.status and function.phase == named.phase


@pytest.mark.parametrize("start", [1.0, -1.0, 0.5])
def test_starts_at_the_ends_stay_what_they_are(start, x64):
    prior = mf.NormalPrior(2.0, 0.0)
    for function, name in ((tanh, "tanh"), (lambda x: 1 * jnp.cos(x), "cos")):
        function, named = (mf.fixed_point(f, prior, c0=start) for f in (function, name))
        assert np.abs(function.c - named.c) <= function.c_error + named.c_error
        assert np.abs(function.one_minus_c - named.one_minus_c) <= function.c_error + named.c_error


def test_few_points_many_points_and_traces_agree(x64):
    weight_var = np.linspace(0.5, 4, 20)
    many = mf.fixed_point(tanh, mf.NormalPrior(weight_var, 0.1))
    few = mf.fixed_point(tanh, mf.NormalPrior(weight_var[:8], 0.1))
    traced = jax.jit(lambda w: mf.fixed_point(tanh, mf.NormalPrior(w, 0.1)).q)(weight_var)
    assert relative(few.q, many.q[:8]) <= 1e-12 and relative(few.q, traced[:8]) <= 1e-12
    assert np.all(np.abs(few.c - many.c[:8]) <= few.c_error + many.c_error[:8])


def test_the_order_of_calls_changes_no_bit(x64):
    first = mf.fixed_point(lambda x: jnp.tanh(1.25 * x), PRIOR)
    mf.fixed_point(lambda x: jnp.tanh(1.25 * x), mf.NormalPrior(3.0, 0.5))
    again = mf.fixed_point(lambda x: jnp.tanh(1.25 * x), PRIOR)
    assert all(np.array_equal(getattr(first, name), getattr(again, name)) for name in NUMBERS)


class Arcsine:
    """The correlation map of erf(x / width) under unit variance; of a sign at width 0."""

    def __init__(self, width):
        self.places, self.share = [], 1 / (1 + width**2 / 2)
        self.rest = width**2 / 2 * self.share
        root = np.sqrt(self.rest * (1 + self.share))
        self.chi_1 = self.share / root if width else np.inf

    def _roots(self, x):
        """sqrt(1 - a^2) of what the arcsines are taken of, at c = 1 and at c."""
        other = self.share * (1 - x)
        return np.sqrt(self.rest * (1 + self.share)), np.sqrt((self.rest + self.share * x) * (1 + other))

    def pair_gain(self, q, theta):
        x, share = 2 * np.sin(theta / 2) ** 2, self.share
        self.places.append(x)
        one, other = self._roots(x)
        rise = share * x * (2 - x) / (other + (1 - x) * one)
        return np.arctan2(rise, one * other + share**2 * (1 - x)) / x

    def slope(self, q, theta):
        return self.share / self._roots(2 * np.sin(theta / 2) ** 2)[1]


@pytest.mark.parametrize("width", [1e2, 1.0, 0.1, 1e-2, 1e-4, 0.0])
@pytest.mark.parametrize("bias", [1e-10, 1e-6, 1e-3, 0.1, 10.0])
def test_an_angle_is_found_in_few_steps(width, bias):
    layer = Arcsine(width)
    scale = 1 / (np.arcsin(layer.share) + bias)
    theta, gain, rate = adaptive._angle(layer, 1.0, scale, layer.chi_1 * scale)
    if layer.chi_1 * scale > 1:
        assert abs(gain * scale - 1) <= 64 * EPS * (1 + 1 / theta)
        assert rate == layer.slope(1.0, theta) and len(layer.places) <= 9
    else:
        assert theta == 0


def test_a_survey_finds_edges_where_a_function_is_not_smooth():
    found = survey(lambda x: np.where(x > 0.3, 1.0, np.clip(x, -2.0, 0.1)))
    inside = found.edges[(np.abs(found.edges) > 1e-3) & (np.abs(found.edges) < 10)]
    for kink in (-2.0, 0.1, 0.3):
        assert np.min(np.abs(inside - kink)) <= 1e-10
    low, high = found.edges[:-1][found.jumps], found.edges[1:][found.jumps]
    assert np.all((low <= 0.3) & (high >= 0.3)) and low.size == 1
    assert not found.rough.any()


def test_adaptive_moments_are_those_of_closed_forms(x64):
    q = np.array([1e-12, 1e-3, 1.0, 50.0, 1e6])
    relu = moments_of(mf.Activation(lambda x: jax.nn.relu(x)))
    shift, variance = relu.lines(q)
    assert relative(shift, np.sqrt(q / (2 * np.pi))) <= 1e-14
    assert relative(variance, q * (0.5 - 0.5 / np.pi)) <= 1e-14
    assert relative(relu.slope_moment(q), np.full(5, 0.5)) <= 1e-14
    angles = np.array([1e-6, 0.01, 1.0, np.pi / 2])
    pairs = [relu.pair(1.0, 2 * np.sin(t / 2) ** 2) for t in angles]
    slope = 0.5 - angles / (2 * np.pi)
    assert relative([p.slope for p in pairs], slope) <= 1e-11
    chord = (0.5 * (1 - np.cos(angles)) - (np.sin(angles) - angles * np.cos(angles)) / (2 * np.pi)) / (
        1 - np.cos(angles)
    )
    assert relative([p.chord for p in pairs[1:]], chord[1:]) <= 1e-11


def test_ten_thousand_oscillations_within_reach_cost_no_digit(x64):
    moments = moments_of(mf.Activation(lambda x: jnp.sin(10 * x) + 0.3 * x))
    q = np.array([1e-3, 1.0, 300.0, 1e5])
    (shift, variance), slope = moments.lines(q), moments.slope_moment(q)
    mixed = np.exp(-50 * q)  # E x sin(10 x) / 10 q
    exact = -np.expm1(-200 * q) / 2 + 6 * q * mixed + 0.09 * q
    assert np.max(np.abs(shift) / np.sqrt(variance)) <= 1e-15 and relative(variance, exact) <= 1e-14
    assert relative(slope, 50 * (1 + np.exp(-200 * q)) + 6 * mixed + 0.09) <= 1e-14
    for variance, x in ((300.0, 1.0), (300.0, 1e-3), (1e5, 0.1)):  # where signals meet far from 0 alone
        chord = -np.expm1(-100 * variance * x) / (2 * variance * x) + 0.09
        pair = moments.pair(variance, x)
        assert relative(pair.chord, chord) <= 1e-13
        assert relative(pair.slope, 50 * np.exp(-100 * variance * x) + 0.09) <= 1e-13


def test_runs_of_panels_do_not_depend_on_what_was_asked_before(x64):
    activation = mf.Activation(lambda x: jnp.sin(7 * x))
    asked = (np.array([1e4]), np.array([10.0]), np.array([300.0]))
    first, second = AdaptiveMoments(activation), AdaptiveMoments(activation)
    forward = [first.lines(q)[1][0] for q in asked]
    backward = [second.lines(q)[1][0] for q in asked[::-1]][::-1]
    assert forward == backward


def test_what_overflows_is_unbounded_or_not_converged(x64):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        point = mf.fixed_point(lambda x: jnp.exp(x**2 / 8), mf.NormalPrior(1.0, 10.0))
    assert mf.Status(int(point.status)) != mf.Status.CONVERGED
