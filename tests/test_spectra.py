"""Spectra at infinite width: closed forms, integrals, moments, and an independent solver."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from problems import gaussian_mean
from scipy import integrate, special

import meanfield as mf
from meanfield.spectra.contour import BentLaw
from meanfield.spectra.slopes import SlopeLaw, silent_points, slope

NORMAL, ORTHOGONAL = mf.NormalPrior, mf.OrthogonalPrior
SHAPES = [("tanh", 1.8, 0.05), ("hard_tanh", 1.2, 0.05), ("relu", 2.0, 0.1)]
POINTS = 1000


def spectrum(activation, prior, depth, **options):
    return jax.device_get(mf.jacobian_spectrum(activation, prior, depth, **options))


# --- the prior --------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 6), (8, 5), (5, 8)])
def test_orthogonal_kernels_are_orthogonal_with_the_variance_of_independent_weights(x64, shape):
    kernel = np.asarray(ORTHOGONAL(2.5).kernel_init()(jax.random.key(0), shape, jnp.float64))
    assert np.sum(kernel**2) / kernel.size == pytest.approx(2.5 / shape[0], rel=1e-13)
    values = np.linalg.svd(kernel, compute_uv=False)
    np.testing.assert_allclose(values, np.sqrt(2.5 * max(1, shape[1] / shape[0])), rtol=1e-13)


def test_orthogonal_matrices_are_uniform(x64):
    """The trace of a Haar matrix is nearly standard normal: moments 0, 1, 0, 3 (Diaconis & Shahshahani)."""
    init = ORTHOGONAL(1.0).kernel_init()
    keys = jax.random.split(jax.random.key(1), 20_000)
    traces = np.asarray(jax.vmap(lambda k: jnp.trace(init(k, (6, 6), jnp.float64)))(keys))
    for power, moment, error in ((1, 0, 1), (2, 1, 2**0.5), (3, 0, 15**0.5), (4, 3, 96**0.5)):
        assert abs(np.mean(traces**power) - moment) < 5 * error / len(traces) ** 0.5


def test_convolution_kernels_are_delta_orthogonal(x64):
    kernel = np.asarray(ORTHOGONAL(1.7).kernel_init()(jax.random.key(0), (3, 5, 4, 4), jnp.float64))
    np.testing.assert_allclose(kernel[1, 2].T @ kernel[1, 2], 1.7 * np.eye(4), atol=1e-13)
    assert np.count_nonzero(kernel) == 16


def test_signals_cannot_tell_orthogonal_from_independent_weights(x64):
    independent, orthogonal = (mf.fixed_point("relu", law(1.8, 0.05)) for law in (NORMAL, ORTHOGONAL))
    for one, other in zip(jax.tree.leaves(independent), jax.tree.leaves(orthogonal), strict=True):
        assert one == other
    path = mf.propagate("relu", ORTHOGONAL(1.8, 0.05), depth=3)
    np.testing.assert_array_equal(path.c, mf.propagate("relu", NORMAL(1.8, 0.05), depth=3).c)
    doubled = jax.tree.map(lambda x: 2 * x, ORTHOGONAL(1.8, 0.05))
    assert (doubled.weight_var, doubled.bias_var, doubled.anticorrelation) == (3.6, 0.1, 0.0)


# --- the Jacobian -----------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 8, 64, 1000, 10_000])
@pytest.mark.parametrize("law", [NORMAL, ORTHOGONAL])
@pytest.mark.parametrize("activation, weight_var, bias_var", SHAPES)
def test_the_density_integrates_to_one_with_the_moments_of_the_closed_forms(
    x64, activation, weight_var, bias_var, law, depth
):
    found = spectrum(activation, law(weight_var, bias_var), depth)
    assert found.status in (mf.Status.CONVERGED, mf.Status.UNBOUNDED)
    assert np.max(misses(found)) <= 1e-6
    x = found.log_singular_value
    assert np.all(x[1:] >= x[:-1]) and np.all(found.mass >= 0)


@pytest.mark.parametrize("depth", [2, 64])
@pytest.mark.parametrize("law", [NORMAL, ORTHOGONAL])
def test_density_and_distribution_function_are_found_independently_and_agree(x64, law, depth):
    """The density by one formula, integrated by SciPy; the distribution function by another."""
    found = spectrum("tanh", law(1.8, 0.05), depth)
    x, density = found.log_singular_value[100:-20], found.density[100:-20]
    area = integrate.cumulative_simpson(density, x=x, initial=0)
    np.testing.assert_allclose(area, found.cdf[100:-20] - found.cdf[100], atol=2e-6)


def test_one_linear_layer_is_the_quarter_circle(x64):
    found = spectrum("linear", NORMAL(1.7), 1)
    s = found.singular_value
    circle = np.sqrt(np.maximum(4 * 1.7 - s**2, 0)) / (np.pi * 1.7)
    np.testing.assert_allclose(found.singular_value_density, circle, rtol=1e-8, atol=1e-9)
    assert found.log_largest == pytest.approx(np.log(4 * 1.7) / 2, abs=1e-13)


@pytest.mark.parametrize("depth", [1, 3, 50, 10_000])
def test_deep_linear_layers_have_the_edge_and_moments_of_fuss_and_catalan(x64, depth):
    found = spectrum("linear", NORMAL(1.0), depth)
    edge = (depth + 1) * np.log1p(1 / depth) + np.log(depth)
    assert 2 * found.log_largest == pytest.approx(edge, abs=1e-11 * depth)
    third = special.binom(3 * depth + 3, 3) / (3 * depth + 1) if depth < 1000 else None
    if third:
        assert found.relative_moment(3) == pytest.approx(third, rel=1e-9)


def test_two_orthogonal_relu_layers_are_the_arcsine_law(x64):
    """Two random projections of half the dimension: s^2 is distributed by arcsine, and half is zero."""
    found = spectrum("relu", ORTHOGONAL(1.0, 0.1), 2)
    below = found.zero + (1 - found.zero) * 2 / np.pi * np.arcsin(found.singular_value.clip(0, 1))
    assert found.zero == 0.5
    np.testing.assert_allclose(found.cdf, below, atol=1e-7)
    assert abs(found.log_largest) < 1e-8


def test_projections_that_meet_leave_an_atom(x64):
    prior = ORTHOGONAL(1.02, 0.005)
    q = float(mf.fixed_point("hard_tanh", prior).q)
    share = special.erf(1 / np.sqrt(2 * q))
    for depth in (1, 2, 10):
        found = spectrum("hard_tanh", prior, depth)
        assert found.atom == pytest.approx(1 - depth * (1 - share), rel=1e-9)
        assert found.log_atom == found.log_largest == pytest.approx(depth * np.log(1.02) / 2, rel=1e-12)
    assert spectrum("hard_tanh", prior, 1000).atom == 0
    linear = spectrum("linear", ORTHOGONAL(1.3), 7)
    assert linear.atom == 1 and linear.log_atom == pytest.approx(7 * np.log(1.3) / 2)


def test_against_a_solution_in_thirty_digits(x64):
    """tanh, Gaussian, depth 8: the complex equation for m, by mpmath, from SciPy's nodes."""
    prior, depth = NORMAL(1.8, 0.05), 8
    found = spectrum("tanh", prior, depth)
    z, w = np.polynomial.hermite_e.hermegauss(180)
    w = w / w.sum()
    square = 1 / np.cosh(np.sqrt(float(found.q)) * z) ** 4
    nodes = [(mpmath.mpf(d), mpmath.mpf(p)) for d, p in zip(square, w, strict=True) if p > 1e-25]
    for i in (150, 500, 850):
        target = 2 * mpmath.mpf(found.log_singular_value[i])

        def gap(y):
            u = mpmath.fsum(p * d / (1 - y * d) for d, p in nodes)
            m = y * u
            return mpmath.log((1 + m) / m) + depth * mpmath.log(1.8 * u) - target  # noqa: B023

        # from the theory's own density one knows Im m; a start in the right basin is all it gives
        y = _start(gap)
        u = mpmath.fsum(p * d / (1 - y * d) for d, p in nodes)
        assert abs(2 * abs(mpmath.im(y * u)) / mpmath.pi - found.density[i]) < 1e-9


def _start(gap):
    """A root in the upper half plane, found from many starts."""
    for size in (0.1, 0.3, 1, 3, 10, 30):
        for angle in (2.0, 2.6, 2.9, 1.2):
            try:
                y = mpmath.findroot(gap, size * mpmath.expj(angle), tol=1e-20, maxsteps=40)
            except (ValueError, ZeroDivisionError):
                continue
            if mpmath.im(y) > 1e-6:
                return y
    raise AssertionError("no root")


def at_variance(activation, law, q):
    """The prior whose q* is q, half of it from the bias."""
    weight_var = q / (2 * float(mf.q_map(activation, NORMAL(1.0), q)))
    return law(weight_var, q / 2)


def misses(found):
    second = found.relative_moment(2) / (1 + found.relative_variance)
    return np.abs(np.array([found.total, found.relative_moment(1), second]) - 1)


@pytest.mark.parametrize(
    "activation, law, depth, q",
    [
        # Slopes over a hundred decades, whose law a layer of Gaussian weights hardly smooths.
        pytest.param("tanh", NORMAL, 1, 16.0, marks=pytest.mark.slow),
        # A spectrum in two parts, with a gap between them.
        ("leaky_relu", NORMAL, 1, 1.0),
        # The tail of a narrow law, where single slopes are seen.
        ("tanh", ORTHOGONAL, 8, 0.01),
        # Slopes that pass through zero: the smallest of a finite number of nodes is no edge.
        ("gelu", ORTHOGONAL, 64, 0.1),
        # At the origin, and again and again beyond.
        ("cos", NORMAL, 64, 0.1),
        ("cos", ORTHOGONAL, 2, 3.0),
        # Half of them equal, half over tens of decades: an atom, a tail, and nothing beyond.
        ("elu", NORMAL, 1, 20.0),
    ],
)
def test_laws_of_slopes_that_the_curve_comes_near_are_resolved(x64, activation, law, depth, q):
    found = spectrum(activation, at_variance(activation, law, q), depth, q0=q)
    assert found.status == mf.Status.CONVERGED and found.q == pytest.approx(q)
    assert np.max(misses(found)) <= 1e-6


def test_the_two_parts_of_a_spectrum_hold_what_they_must(x64):
    """One Gaussian layer, squared slopes 1 and 1e-4: half of the singular values on each side of a gap."""
    found = spectrum("leaky_relu", NORMAL(1.0, 0.1), 1)
    gaps = np.diff(found.log_singular_value)
    widest = int(np.argmax(gaps))
    assert gaps[widest] > 1
    assert found.cdf[widest] == pytest.approx(0.5, abs=1e-9)
    assert np.sum(found.mass[: widest + 1]) == pytest.approx(0.5, abs=1e-8)
    # To first order in 1e-4 the upper part is Marchenko & Pastur's law of aspect ratio 2.
    edges = np.log((1 + np.array([-1, 1]) * np.sqrt(0.5)) ** 2) / 2
    assert found.log_singular_value[widest + 1] == pytest.approx(edges[0], abs=5e-3)
    assert found.log_largest == pytest.approx(edges[1], abs=5e-4)


@pytest.mark.parametrize("q", [0.1, 4.0])
@pytest.mark.parametrize("activation", ["tanh", "elu", "gelu"])
def test_the_bent_line_gives_the_integrals_of_the_straight_one_near_its_poles(x64, activation, q):
    layer = mf.Dense(activation, NORMAL(1.0))
    q = jnp.asarray(q)
    law = SlopeLaw.of(layer, q)
    bent = BentLaw.of(layer, law, q, 24)
    assert abs(np.sum(bent.weight) - 1) < 1e-12
    marks = [0, *(k / float(q) ** 0.5 for k in silent_points(layer.activation))]
    x, w = np.polynomial.legendre.leggauss(8)
    edges = np.unique(np.concatenate([np.linspace(-9, 9, 40_001), marks]))
    z = (edges[:-1, None] + np.diff(edges)[:, None] * (1 + x) / 2).ravel()
    weight = (np.diff(edges)[:, None] * w / 2).ravel() * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    square = np.asarray(slope(layer.activation, jnp.sqrt(q) * z)) ** 2 / float(law.largest)
    for s in (0.3, 1.0, 3.0):
        y = np.exp(s + 0.05j)
        straight = np.sum(weight / (1 - y * square))
        assert abs(np.sum(bent.weight / (1 - y * bent.value)) - straight) < 1e-7


@pytest.mark.parametrize("activation", ["cos", "sin", "gelu", "silu", "mish", "polynomial(0, 0, 1)"])
def test_slopes_that_only_pass_through_zero_are_never_zero(activation):
    """In single precision too, where they are rounding beside the crossing."""
    layer = mf.Dense(activation, NORMAL(1.0))
    zero = jax.jit(jax.vmap(lambda q: BentLaw.of(layer, SlopeLaw.of(layer, q), q, 24).zero))
    np.testing.assert_array_equal(zero(jnp.array([0.01, 0.1, 0.3, 0.6])), 0)


def test_slopes_that_are_zero_count_as_zero_beside_those_that_pass_through_it(x64):
    """phi' falls from 1 through 0 at 1 to -1 at 2, and is 0 beyond."""
    phi = mf.Activation(lambda x: jnp.where(x < 2, x - x**2 / 2, 0.0), kinks=(2.0,))
    layer = mf.Dense(phi, NORMAL(1.0))
    q = jnp.asarray(1.0)
    assert BentLaw.of(layer, SlopeLaw.of(layer, q), q, 40).zero == pytest.approx(
        special.ndtr(-2.0), rel=1e-12
    )


def test_the_picture_of_a_cosine_tells_of_no_zeros_in_single_precision():
    found = spectrum("cos", at_variance("cos", NORMAL, 0.1), 64, q0=0.1)
    assert found.status == mf.Status.CONVERGED and found.zero == 0 and found.cdf[0] < 1e-3
    assert [text.get_text() for text in found.plot().axes[0].get_legend().get_texts()] == ["theory"]


def test_what_the_nodes_cannot_resolve_is_said(x64):
    found = spectrum("leaky_relu", NORMAL(1.0, 0.1), 2, points=64)
    assert np.max(misses(found)) > 1e-6 and found.status == mf.Status.INACCURATE


# --- Lyapunov -----------------------------------------------------------------------

LEVELS = np.array([0.05, 0.25, 0.5, 0.75, 0.95])


def test_exponents_of_linear_and_relu_networks_are_those_of_the_closed_forms(x64):
    t = np.linspace(0.01, 1, 100)
    assert (
        np.max(np.abs(mf.lyapunov_spectrum("linear", NORMAL(1.7), t).exponent - np.log(1.7 * t) / 2)) <= 1e-8
    )
    t = t[t > 0.5]
    for law, expected in ((NORMAL, 2 * (t - 0.5)), (ORTHOGONAL, 2 * (t - 0.5) / t)):
        found = mf.lyapunov_spectrum("relu", law(2.0, 0.1), t)
        assert np.max(np.abs(found.exponent - np.log(expected) / 2)) <= 1e-8
    silent = mf.lyapunov_spectrum("relu", NORMAL(2.0, 0.1), np.array([0.0, 0.3, 0.5]))
    assert np.all(silent.exponent == -np.inf) and np.all(silent.silent == 0.5)


def test_exponents_of_tanh_networks_are_those_measured_twice(x64):
    found = mf.lyapunov_spectrum("tanh", NORMAL(2.5, 0.05), LEVELS)
    measured = np.array([-2.6899, -1.1860, -0.5351, -0.1767, 0.0210])
    assert np.max(np.abs(found.exponent - measured)) <= 5e-4


@pytest.mark.parametrize("law", [NORMAL, ORTHOGONAL])
def test_the_top_exponent_is_half_the_logarithm_of_chi_perp(x64, law):
    found = mf.lyapunov_spectrum("tanh", law(2.5, 0.05), np.array([1.0, 1 - 1e-13, 1.0, 0.5, 0.5]))
    chi_perp = 2.5 * gaussian_mean(lambda h: 1 / np.cosh(h) ** 4, float(found.q[0]))
    expected = np.log(chi_perp) / 2
    assert abs(found.top[0] - expected) <= 1e-10 and np.max(np.abs(found.exponent[:3] - expected)) <= 1e-10


@pytest.mark.parametrize("law", [NORMAL, ORTHOGONAL])
def test_the_density_of_exponents_is_the_slope_of_their_quantiles(x64, law):
    t, step = 0.37, 1e-5
    low, _, high = mf.lyapunov_spectrum("tanh", law(2.5, 0.05), np.array([t - step, t, t + step])).exponent
    found = mf.lyapunov_spectrum("tanh", law(2.5, 0.05), np.array([t, t, t])).density[0]
    assert found == pytest.approx(2 * step / float(high - low), rel=1e-8)


@pytest.mark.parametrize("law", [NORMAL, ORTHOGONAL])
def test_singular_values_of_deep_jacobians_grow_at_the_exponents(x64, law):
    depth = 10_000
    found = spectrum("tanh", law(2.5, 0.05), depth)
    rates = np.interp(LEVELS, found.cdf, found.log_singular_value / depth)
    exponents = mf.lyapunov_spectrum("tanh", law(2.5, 0.05), LEVELS).exponent
    np.testing.assert_allclose(rates, exponents, atol=2e-3)


# --- isometry --------------------------------------------------------------------


def test_isometry_is_the_moments_of_the_spectrum(x64):
    prior = ORTHOGONAL(1.8, 0.05)
    found, full = mf.isometry("tanh", prior, 8), spectrum("tanh", prior, 8)
    assert found.spread**2 == pytest.approx(float(full.relative_moment(2)) - 1, rel=1e-9)
    square = float(full.mean) ** 2 * float(full.relative_moment(2)) - 2 * float(full.mean) + 1
    assert found.deviation**2 == pytest.approx(square, rel=1e-9)
    assert found.top_exponent == pytest.approx(float(full.log_mean) / 16, rel=1e-12)


@pytest.mark.slow
def test_a_large_grid_is_interpolated_to_the_same_numbers(x64):
    weight_var, bias_var = np.meshgrid(np.linspace(0.7, 3, 64), np.linspace(0.01, 0.5, 64))
    grid = mf.isometry("tanh", ORTHOGONAL(weight_var, bias_var), 20)
    some = (np.array([0, 17, 40, 63]), np.array([2, 60, 31, 63]))
    one_by_one = mf.isometry("tanh", ORTHOGONAL(weight_var[some], bias_var[some]), 20)
    for name in ("top_exponent", "spread", "deviation", "q"):
        np.testing.assert_allclose(
            getattr(grid, name)[some], getattr(one_by_one, name), rtol=1e-9, atol=1e-11
        )


def test_hard_tanh_keeps_isometry_at_any_depth_for_a_small_enough_variance(x64):
    """p = P(|h| < 1) straight: the spread is sqrt(L (1 - p)/p) (Pennington et al. 2017)."""
    depth, bound = 1000, 0.5
    line = mf.dynamical_isometry("hard_tanh", depth, bound)
    share = special.erf(1 / np.sqrt(2 * float(line.largest_q)))
    assert depth * (1 - share) / share == pytest.approx(bound**2, rel=1e-9)
    assert np.all(line.spread <= bound * (1 + 1e-9)) and line.spread[-1] == pytest.approx(bound, rel=1e-9)
    end = ORTHOGONAL(float(line.weight_var[-1]), float(line.bias_var[-1]))
    assert mf.isometry("hard_tanh", end, depth).deviation == pytest.approx(bound, rel=1e-5)


def test_relu_and_gaussian_weights_have_no_isometry(x64):
    for line in (mf.dynamical_isometry("relu", 10), mf.dynamical_isometry("tanh", 10, 1.0, law=NORMAL)):
        assert line.largest_q == 0 and np.all(np.isnan(line.weight_var))
        assert np.all(line.status == mf.Status.INVALID)


# --- transformations, precision, errors --------------------------------------------


def test_it_maps_and_compiles(x64):
    priors = NORMAL(np.array([1.5, 1.8]), 0.05)
    batch = jax.jit(lambda p: mf.jacobian_spectrum("relu", p, 8))(priors)
    assert batch.density.shape == (2, POINTS) and batch.status.shape == (2,)
    one = spectrum("relu", NORMAL(1.8, 0.05), 8)
    # At its edge a density falls to 0 as a root, and the place of the edge is rounded.
    np.testing.assert_allclose(one.density[:-5], batch.density[1, :-5], rtol=1e-9)
    np.testing.assert_allclose(one.density[-5:], batch.density[1, -5:], rtol=1e-7)
    t = np.array([[0.6], [0.9]])
    assert mf.lyapunov_spectrum("relu", priors, t).exponent.shape == (2, 2)


@pytest.mark.slow
def test_derivatives_are_differences(x64):
    """With q* and all roots inside. A node moves with the prior: what counts is the law at one place."""

    def observed(w):
        p = NORMAL(w, 0.05)
        jacobian = mf.jacobian_spectrum("tanh", p, 8)
        return jnp.stack(
            [
                jacobian.log_largest,
                jacobian.relative_moment(1) * jacobian.mean,
                jacobian.cdf[500],
                jacobian.log_singular_value[500],
                mf.lyapunov_spectrum("tanh", p, 0.3).exponent,
                mf.isometry("tanh", p, 8).spread,
            ]
        )

    step = 1e-4
    slope = np.array(jax.jacfwd(observed)(1.8))
    expected = np.array(observed(1.8 + step) - observed(1.8 - step)) / (2 * step)
    density = float(mf.jacobian_spectrum("tanh", NORMAL(1.8, 0.05), 8).density[500])
    for derivative in (slope, expected):
        derivative[2] -= density * derivative[3]
        derivative[3] = 0
    np.testing.assert_allclose(slope, expected, rtol=2e-5, atol=1e-7)


def test_reverse_mode_gives_the_derivative_of_the_closed_form(x64):
    exponent = lambda w, t: mf.lyapunov_spectrum("relu", NORMAL(w, 0.05), t).exponent
    by_weight, by_t = jax.grad(exponent, (0, 1))(1.8, 0.8)
    assert by_weight == pytest.approx(1 / 3.6, rel=1e-12) and by_t == pytest.approx(1 / 0.6, rel=1e-12)


@pytest.mark.parametrize("law", [NORMAL, ORTHOGONAL])
def test_single_precision_is_single_precision(law):
    found = mf.jacobian_spectrum("tanh", law(1.8, 0.05), 8)
    assert found.density.dtype == jnp.float32 and found.status == mf.Status.CONVERGED
    assert abs(float(found.total) - 1) < 1e-4
    assert abs(float(found.relative_moment(1)) - 1) < 1e-4
    exponent = mf.lyapunov_spectrum("tanh", law(2.5, 0.05), LEVELS).exponent
    assert exponent.dtype == jnp.float32
    with jax.enable_x64(True):
        assert np.max(np.abs(mf.lyapunov_spectrum("tanh", law(2.5, 0.05), LEVELS).exponent - exponent)) < 2e-5


def test_invalid_values_inside_a_trace_are_reported_at_their_point(x64):
    make = lambda w: mf.lyapunov_spectrum("relu", NORMAL(w, 0.05), 0.75)
    found = jax.vmap(make)(jnp.array([-1.0, 1.8]))
    assert found.status.tolist() == [mf.Status.INVALID, mf.Status.CONVERGED]
    assert np.isnan(found.exponent[0]) and np.isfinite(found.exponent[1])


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: ORTHOGONAL(-1.0), ValueError, "weight_var.*-1"),
        (lambda: ORTHOGONAL(1.0, "a"), TypeError, "bias_var.*'a'"),
        (lambda: mf.jacobian_spectrum("tanh", NORMAL(1.0), 0), ValueError, "depth must be at least 1, got 0"),
        (
            lambda: mf.jacobian_spectrum("tanh", NORMAL(1.0), 2.5),
            TypeError,
            "depth must be an integer, got 2.5",
        ),
        (lambda: mf.jacobian_spectrum("tanh", NORMAL(1.0), 2, points=3), ValueError, "points.*at least 64"),
        (lambda: mf.jacobian_spectrum("tanh", mf.AsymmetricPrior(1.0), 2), TypeError, "OrthogonalPrior"),
        (
            lambda: mf.lyapunov_spectrum("tanh", NORMAL(1.0), 1.5),
            ValueError,
            "t must be.*between 0 and 1, got 1.5",
        ),
        (lambda: mf.dynamical_isometry("tanh", 10, -1.0), ValueError, "bound must be.*-1"),
        (lambda: mf.dynamical_isometry("tanh", 10, law="gaussian"), TypeError, "law must be.*'gaussian'"),
    ],
)
def test_a_wrong_argument_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "gelu_tanh"])
def test_slopes_that_saturate_keep_their_digits(x64, activation):
    """Against mpmath, where 1 - tanh^2 has none left."""
    function = {
        "tanh": mpmath.tanh,
        "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
        "gelu_tanh": lambda x: (
            x / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3)))
        ),
    }[activation]
    places = np.array([-9.0, -2.5, -0.3, 0.0, 0.7, 4.0, 30.0])
    found = slope(mf.Dense(activation, NORMAL(1.0)).activation, jnp.asarray(places))
    with mpmath.workdps(60):
        expected = [float(mpmath.diff(function, mpmath.mpf(x))) for x in places]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
