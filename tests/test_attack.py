"""No wrong number says CONVERGED: problems made to mislead, each against an oracle of its own."""

import warnings

import attack
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from problems import gaussian_mean, relative

import meanfield as mf

# What misled once: (activation, prior, q0, q*, chi_1), by mpmath or the panels of the oracle.
MISLEADING = {
    "two fixed points in one cell of a scan": (
        lambda x: jnp.cos(x), (20, 0.026366352931598572, 1.0), 1e-3, 0.0540542647048434, 1.0246981727650261
    ),
    "a steep slope is no jump": (
        lambda x: 1000 * jnp.tanh(x), (3e-6, 0.05), 1.0, 1.4280084621965, 1.2089344240611
    ),
    "tails that matter": (lambda x: jnp.exp(x), (1e-9, 8), 1.0, 8.00904838429308, 0.00904838429308014),
    "variances far from 1": (
        lambda x: jnp.cos(x / 1e5), (20e10, 0.0256e10, 1.0), 1e7, 447649143.63714, 0.8563900950723
    ),
    "a steep step that is no kink": (
        lambda x: jnp.tanh(1e5 * x), (2, 1), 1.0, 2.9999907868085, 61421.276442310
    ),
    "a narrow bump far out": (
        lambda x: x + 100 * jnp.exp(-(((x - 30) / 0.1) ** 2)), (0.5, 50), 1.0,
        101.07133274978, 29.485450086705
    ),
    "where the tail of a bump underflows there is no jump": (
        lambda x: -6.7256269304647684 * jnp.exp(-(((x - 4.137296977776978) / 0.042985638414908676) ** 2)),
        (21524.660495721637, 0.5572688149188926), 99.29111003205252, 754.0344337525702, 407777.3250314984
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISLEADING)
def test_what_misled_once_is_right(name, x64):
    activation, prior, q0, q, chi_1 = MISLEADING[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mf.QuadratureWarning)
        point = mf.fixed_point(activation, mf.NormalPrior(*prior), q0=q0)
    assert mf.Status(int(point.status)) == mf.Status.CONVERGED
    assert relative(point.q, q) <= 1e-12
    assert relative(point.chi_1, chi_1) <= 1e-12


@pytest.mark.parametrize("name", ["a steep step that is no kink", "a narrow bump far out"])
@pytest.mark.slow
def test_a_diagram_of_what_tables_cannot_hold_says_so(name, x64):
    activation, prior, *_ = MISLEADING[name]
    weight_var, bias_var = (np.linspace(0.8, 1.2, 21) * value for value in prior)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mf.QuadratureWarning)
        diagram = mf.phase_diagram(activation, weight_var=weight_var, bias_var=bias_var)
        for i, j in ((0, 0), (10, 10), (20, 5)):
            right = mf.fixed_point(activation, mf.NormalPrior(weight_var[i], bias_var[j]))
            if diagram.status[i, j] == mf.Status.CONVERGED:
                assert relative(diagram.q[i, j], right.q) <= 1e-10
                assert relative(diagram.chi_1[i, j], right.chi_1) <= 1e-9
            else:
                assert diagram.status[i, j] == mf.Status.INACCURATE


def test_a_quadrature_that_does_not_see_a_step_is_not_believed(x64):
    activation, (weight_var, bias_var), *_ = MISLEADING["a steep step that is no kink"]
    weight_vars = np.linspace(1, 2, 5) * weight_var
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mf.QuadratureWarning)
        array = mf.fixed_point(activation, mf.NormalPrior(np.repeat(weight_vars, 4), bias_var))
        diagram = mf.phase_diagram(
            activation, weight_var=weight_vars, bias_var=bias_var * np.array([1.0, 2.0, 3.0, 4.0])
        )
    assert np.all(array.status == mf.Status.INACCURATE)
    assert np.all(diagram.status == mf.Status.INACCURATE)


# (name, weight_var, kappa, q0, bias_var at which the fixed point next to q0 merges with another)
FOLDS = [("silu", 2.5, 0.0, 1e-3, 0.115193979002507), ("cos", 20.0, 1.0, 1e-3, 0.026366616597752)]


@pytest.mark.parametrize(("name", "weight_var", "kappa", "q0", "fold"), FOLDS)
def test_beside_a_fold_the_status_is_true(name, weight_var, kappa, q0, fold, x64):
    beside = fold * (1 + np.array([-1e-3, -1e-5, -1e-8, 1e-8, 1e-5, 1e-3]))
    point = mf.fixed_point(name, mf.NormalPrior(weight_var, beside, kappa), q0=q0)
    before, after = slice(0, 3), slice(3, 6)
    assert np.all(point.status[before] == mf.Status.CONVERGED)
    assert np.all(np.diff(point.q[before]) > 0)
    beyond = mf.Status.UNBOUNDED if name == "silu" else mf.Status.CONVERGED
    assert np.all(point.status[after] == beyond)
    assert np.all(point.q[after] > 5 * np.max(point.q[before]))


def test_a_fixed_point_where_the_scan_has_a_node_is_found(x64):
    variance = gaussian_mean(lambda u: np.tanh(u) ** 2, 1.0)
    slope = gaussian_mean(lambda u: np.cosh(u) ** -4, 1.0)
    for q0 in (1e-3, 1e3, 1.0):
        prior = mf.NormalPrior(0.7 / variance, 0.3)  # q* = 1, an end of a panel
        point = mf.fixed_point(lambda x: 1 * jnp.tanh(x), prior, q0=q0)
        assert mf.Status(int(point.status)) == mf.Status.CONVERGED
        assert relative(point.q, 1.0) <= 1e-13
        assert relative(point.chi_1, 0.7 / variance * slope) <= 1e-12


@pytest.mark.parametrize(
    ("prior", "q0"),
    [
        (mf.NormalPrior(0.007658992614785856, 0.001883390649683096, -2.0), 0.06019627226416835),
        (mf.NormalPrior(182.49696080252497, 0.14463148344429697, 0.0), 0.042851104041632795),
    ],
)
def test_what_is_next_to_nothing_at_small_variances_makes_no_other_doubtful(prior, q0, x64):
    # A jump out of reach: its variance is lost in rounding there, and only there.
    jump = lambda x: jnp.where(x > -0.95, 3.5, 0.0)
    point = mf.fixed_point(jump, prior, q0=q0)
    assert point.status == mf.Status.CONVERGED
    share = scipy.special.ndtr(0.95 / np.sqrt(point.q))
    variance, mean = 3.5**2 * share * (1 - share), 3.5 * share
    own = variance + (1 - prior.anticorrelation) * mean**2
    assert relative(point.q, prior.weight_var * own + prior.bias_var) < 1e-13


def test_a_point_that_rounding_decides_is_not_converged(x64):
    growth = 1 - np.array([1e-3, 1e-5, 1e-7, 1e-9, 1e-12, 1e-15])
    point = mf.fixed_point("relu", mf.NormalPrior(2 * growth, 0.1))
    exact = 0.1 / (1 - growth)  # of the growth as it is in floating point
    assert np.all(np.abs(point.q - exact) <= point.q_error)
    converged = point.status == mf.Status.CONVERGED
    assert np.all(point.q_error[converged] <= 2e-6 * point.q[converged])
    assert list(converged) == [True, True, True, False, False, False]
    assert np.all(point.status[~converged] == mf.Status.INACCURATE)


def test_errors_are_told_in_single_precision_too():
    point = mf.fixed_point("relu", mf.NormalPrior(2 * (1 - 1e-6), 0.1))
    assert point.q_error.dtype == np.float32
    assert mf.Status(int(point.status)) == mf.Status.INACCURATE


@pytest.mark.parametrize("name", ["tanh", "gelu", "hard_tanh"])
def test_tables_and_adaptive_moments_agree_within_their_estimates(name, x64):
    rng = np.random.default_rng(5)
    weight_var, bias_var = rng.uniform(0.5, 1.9, 12), rng.uniform(0.01, 1.0, 12)
    named = mf.fixed_point(name, mf.NormalPrior(weight_var, bias_var))
    phi = {
        "tanh": jnp.tanh,
        "gelu": lambda x: jax.nn.gelu(x, approximate=False),
        "hard_tanh": jax.nn.hard_tanh,
    }[name]
    adaptive = mf.fixed_point(lambda x: 1 * phi(x), mf.NormalPrior(weight_var, bias_var))
    assert np.all(named.status == adaptive.status)
    assert np.all(np.abs(named.q - adaptive.q) <= named.q_error + adaptive.q_error)
    assert np.all(np.abs(named.c - adaptive.c) <= named.c_error + adaptive.c_error)


def test_where_only_a_logarithm_or_a_line_is_left(x64):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mf.QuadratureWarning)
        point = mf.fixed_point(lambda x: jnp.log(jnp.abs(x)), mf.NormalPrior(1.0, 0.1))
    # E log^2|u| = pi^2/8 + (log q/2 - (gamma + log 2)/2)^2
    q = float(point.q)
    mean = np.log(q) / 2 - (np.euler_gamma + np.log(2)) / 2
    assert relative(q, np.pi**2 / 8 + mean**2 + 0.1) <= 1e-12
    assert mf.Status(int(point.status)) == mf.Status.CONVERGED
    steep = mf.fixed_point(lambda x: 600 * x, mf.NormalPrior(1.0, 0.1))
    assert mf.Status(int(steep.status)) == mf.Status.UNBOUNDED


@pytest.mark.slow
def test_no_attack_succeeds(x64):
    found = attack.attacked(seed=18, activations=15, each=20, pairs_every=10)
    assert not found.wrong
    points = found.counts.total()
    converged = sum(n for (_, status), n in found.counts.items() if status == "CONVERGED")
    assert points >= 250 and converged >= 0.7 * points
    assert len(found.needless) <= 0.01 * points


def test_maps_warn_where_a_function_is_not_resolved(x64):
    activation = mf.Activation(lambda x: x + 1e3 * jnp.exp(-((x - 300) ** 2)))
    prior = mf.NormalPrior(1.0, 1e4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mf.q_map(activation, prior, q=1.0)  # does not get there
    with pytest.warns(mf.QuadratureWarning, match="at variance 20000"):
        mf.q_map(activation, prior, q=np.array([1.0, 20000.0]))
    with pytest.warns(mf.QuadratureWarning):
        mf.propagate(activation, prior, q0=1.0, depth=5)
