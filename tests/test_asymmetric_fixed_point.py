"""Fixed points, exponents and diagrams under asymmetric priors."""

import jax
import numpy as np
import pytest

import meanfield as mf
from meanfield.asymmetric.density.fixed_point import settled_fixed_point
from meanfield.asymmetric.density.stationary import growth_rate

EXACT = ("q", "chi_1", "chi_perp", "inactive", "noise_var")


@pytest.mark.slow
def test_published_rai_decays_and_is_ordered(x64):
    point = mf.fixed_point("relu", mf.AsymmetricPrior.rai())
    assert point.status == mf.Status.VANISHING and point.phase == mf.Phase.ORDERED
    assert point.chi_q == pytest.approx(0.764556, abs=1e-6)
    assert point.inactive == pytest.approx(0.3084, abs=5e-5)
    assert point.c == 1 and point.c_error == 0


def test_unit_gain_is_marginal(x64):
    prior = mf.AsymmetricPrior.unit_gain(anticorrelation=0.0)
    point, evolution = mf.fixed_point("relu", prior), mf.density_evolution("relu", prior, depth=60)
    assert point.status == mf.Status.MARGINAL
    assert point.q == pytest.approx(float(evolution.q[-1]), rel=1e-9)
    assert point.chi_perp == pytest.approx(float(evolution.growth[-1]), rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("activation", "weight_var", "bias_var"),
    [("relu", 0.6, 0.05), ("hard_tanh", 0.5, 0.3)],
)
def test_the_fixed_law_is_where_density_evolution_ends(x64, activation, weight_var, bias_var):
    prior = mf.AsymmetricPrior(weight_var, bias_var, np.array([0.0, 1.0]))
    point = mf.fixed_point(activation, prior)
    assert np.all(point.status == mf.Status.CONVERGED)
    end = mf.density_evolution(activation, prior, depth=250)
    expected = dict(
        q=end.q, chi_1=end.growth, chi_perp=end.growth, inactive=end.inactive, noise_var=end.noise_var
    )
    for name in EXACT:
        np.testing.assert_allclose(getattr(point, name), expected[name][-1], rtol=1e-7)
    # chi_q is the rate at which the noise settles; read off while digits are left.
    gap = np.asarray(end.noise_var[:80]) - np.asarray(end.noise_var[-1])
    usable = np.all(np.abs(gap[:-1]) > 1e-9 * np.asarray(end.noise_var[-1]), axis=1)
    layer = np.flatnonzero(usable)[-1]
    np.testing.assert_allclose(gap[layer + 1] / gap[layer], point.chi_q, rtol=2e-2)


def test_rounding_at_the_end_of_a_response_does_not_decide_its_growth(x64):
    weight_var, first, ratio = 3.0, 0.1, 0.05
    response = first * ratio ** np.arange(48)
    response[-8:] = 1e-53 * np.array([3.0, 2.0, -1.0, 0.7, 9.0, -4.0, 0.5, -0.24])
    # The sum of a geometric series: weight_var first / (mu - ratio) = 1.
    found = growth_rate(weight_var, jax.numpy.asarray(response))
    assert found == pytest.approx(ratio + weight_var * first, rel=1e-14)


def test_a_growth_rate_has_two_derivatives(x64):
    first, terms = 0.1, np.arange(48)
    growth = lambda weight_var, ratio: growth_rate(
        weight_var, first * ratio**terms
    )  # weight_var first + ratio
    at = (3.0, 0.4)
    np.testing.assert_allclose(jax.grad(growth, (0, 1))(*at), (first, 1.0), rtol=1e-12)
    np.testing.assert_allclose(jax.hessian(growth, (0, 1))(*at), np.zeros((2, 2)), atol=1e-11)


@pytest.mark.slow
def test_an_unbounded_signal_keeps_its_shape(x64):
    prior = mf.AsymmetricPrior(2.5, 0.1, 0.4)
    point, end = mf.fixed_point("gelu", prior), mf.density_evolution("relu", prior, depth=60)
    assert point.status == mf.Status.UNBOUNDED and np.isinf(point.q)
    assert point.chi_q == pytest.approx(float(end.gain[-1]), rel=1e-7)
    assert point.chi_perp == pytest.approx(float(end.growth[-1]), rel=1e-7)
    assert point.inactive == pytest.approx(float(end.inactive[-1]), rel=1e-7)


@pytest.mark.slow
def test_where_signals_part_the_sampled_correlation_is_the_one_pairs_settle_at(x64):
    prior = mf.AsymmetricPrior.unit_gain(anticorrelation=1.0)
    point = mf.asymmetric_fixed_point("relu", prior, particles=1 << 14)
    pairs = mf.population_dynamics("relu", prior, c0=0.35, depth=80, particles=1 << 16)
    assert point.phase == mf.Phase.CHAOTIC
    error = np.hypot(point.c_error, pairs.standard_error.c[-1])
    assert abs(point.c - pairs.c[-1]) <= 4 * error
    assert 0 < point.c_error < 0.03 and 0.8 < point.chi_c < 0.95


@pytest.mark.parametrize(
    ("prior", "radial_wins"),
    [((0.3, 0.05, 0.5), False), ((0.6, 0.05, 0.0), True)],
    ids=["transverse", "radial"],
)
def test_exponents_and_depth_scales_are_the_rates_at_which_a_signal_settles(x64, prior, radial_wins):
    prior = mf.AsymmetricPrior(*prior)
    exponents, scales = mf.lyapunov_exponents("relu", prior), mf.depth_scales("relu", prior)
    path = mf.density_evolution("relu", prior, depth=60)
    steps = np.diff(np.asarray(path.noise_var))
    radial = np.log(steps[45] / steps[44])
    a, b, c = np.asarray(path.growth)[[30, 45, 60]]
    growth = np.log(c - (c - b) ** 2 / (c - 2 * b + a))  # what it tends to
    assert exponents.q == pytest.approx(radial, rel=1e-4)
    assert scales.q == pytest.approx(-1 / radial, rel=1e-4)
    assert exponents.c == pytest.approx(growth, rel=1e-6)
    assert scales.c == pytest.approx(-1 / growth, rel=1e-6)
    assert (radial > growth / 2) == radial_wins
    assert exponents.maximal == pytest.approx(max(radial, growth / 2), rel=1e-4)


@pytest.mark.slow
def test_derivatives_go_through_the_fixed_law(x64):
    def value(weight_var, bias_var, kappa):
        point = mf.fixed_point("relu", mf.AsymmetricPrior(weight_var, bias_var, kappa))
        return point.q + point.chi_1

    at, step = (0.6, 0.05, 0.5), 1e-5
    found = jax.grad(value, (0, 1, 2))(*at)
    for index, derivative in enumerate(found):
        up, down = ([x + sign * step * (i == index) for i, x in enumerate(at)] for sign in (1, -1))
        expected = float(value(*up) - value(*down)) / (2 * step)
        assert float(derivative) == pytest.approx(expected, rel=1e-6, abs=1e-8)


def test_a_diagram_has_what_fixed_point_finds(x64):
    axes = dict(weight_var=np.linspace(0.2, 1.6, 8), anticorrelation=np.array([0.0, 0.6, 1.0]))
    diagram = mf.phase_diagram("relu", bias_var=0.1, special_weight=mf.Beta(2, 1), **axes)
    assert diagram.special_weight == "Beta(2, 1)"
    ordered = diagram.phase == mf.Phase.ORDERED
    assert np.all(diagram.c[ordered] == 1) and np.all(np.isnan(diagram.c[~ordered])) and np.any(~ordered)
    prior = mf.AsymmetricPrior(axes["weight_var"][:3, None], 0.1, axes["anticorrelation"][:2])
    point = mf.fixed_point("relu", prior)
    for name in ("q", "c", "chi_q", "chi_c", "chi_1", "chi_perp", "status", "phase"):
        np.testing.assert_allclose(getattr(diagram, name)[:3, :2], getattr(point, name), rtol=1e-9)


def test_a_diagram_with_a_special_weight_is_saved_and_loaded(tmp_path):
    axes = dict(weight_var=np.array([0.5, 1.0]), anticorrelation=np.array([0.0, 1.0]))
    diagram = mf.phase_diagram("relu", bias_var=0.1, special_weight=0.5, **axes)
    loaded = mf.PhaseDiagram.load(diagram.save(tmp_path / "diagram"))
    assert loaded.special_weight == "Constant(0.5)"
    np.testing.assert_array_equal(loaded.q, diagram.q)


def test_invalid_points_are_marked_and_others_kept():
    point = jax.jit(lambda w: settled_fixed_point("relu", _traced(w), q0=1.0, c0=0.0))(
        np.array([0.5, -1.0, np.nan])
    )
    np.testing.assert_array_equal(point.status, [mf.Status.CONVERGED, mf.Status.INVALID, mf.Status.INVALID])
    assert np.isfinite(point.q[0]) and np.all(np.isnan(point.q[1:]))


def _traced(weight_var):
    return mf.AsymmetricPrior(weight_var, 0.1, 0.0)


def gaussian_only(prior):
    return {
        "q_map": lambda: mf.q_map("relu", prior, 1.0),
        "c_map": lambda: mf.c_map("relu", prior, c=0.5, q=1.0),
        "fixed_points": lambda: mf.fixed_points("relu", prior),
        "Dense": lambda: mf.Dense("relu", prior),
    }


@pytest.mark.parametrize("name", gaussian_only(None))
def test_what_needs_gaussian_signals_says_what_to_use(name):
    with pytest.raises(TypeError, match="density_evolution"):
        gaussian_only(mf.AsymmetricPrior(1.0))[name]()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(q0=0.0), ValueError, "q0"),
        (dict(c0=2.0), ValueError, "c0"),
    ],
)
def test_bad_starts_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        mf.fixed_point("relu", mf.AsymmetricPrior(1.0), **arguments)


@pytest.mark.parametrize("special_weight", ["beta", -1.0])
def test_a_diagram_names_a_bad_special_weight(special_weight):
    with pytest.raises((TypeError, ValueError), match="special_weight"):
        mf.phase_diagram("relu", weight_var=[1.0], bias_var=[0.1], special_weight=special_weight)
