"""The diagram that `meanfield phase-diagram -a NAME` draws, for every name, beside plain iteration."""

import numpy as np
import pytest
from problems import FUNCTIONS, gaussian_mean
from scipy.interpolate import CubicSpline

import meanfield as mf
from meanfield import Status, activations
from meanfield.cli import main

# More than 400 points, so that a table is made; 0, He's variance 2 and the ends are among them.
GRID = ("--weight-var", "0:4:21", "--anticorrelation", "-1:1:21")
WITHOUT_BIAS = ("--weight-var", "0:4:21", "--bias-var", "0:0.5:21")
PARAMETRISED = {
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "celu": FUNCTIONS["elu"][0],
    "gelu_tanh": lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
}
DEPTH = 3000
LOG_Q = np.linspace(-60, 60, 1201)


def function_of(name):
    return FUNCTIONS[name] if name in FUNCTIONS else (PARAMETRISED[name], (0.0,))


def moments(name):
    """Splines of m/sqrt(q) and v/q over log q."""
    fn, kinks = function_of(name)
    mean = [gaussian_mean(fn, q, kinks) for q in np.exp(LOG_Q)]
    variance = [
        gaussian_mean(lambda x, m=m: (fn(x) - m) ** 2, q, kinks)
        for q, m in zip(np.exp(LOG_Q), mean, strict=True)
    ]
    root = np.exp(LOG_Q / 2)
    return CubicSpline(LOG_Q, np.array(mean) / root), CubicSpline(LOG_Q, np.array(variance) / root**2)


def orbit(name, diagram):
    """The variance after DEPTH layers from q0 = 1 at every point of a diagram, and the map of one layer."""
    mean, variance = moments(name)
    shape = diagram.q.shape
    grids = dict(
        zip(
            diagram.axes,
            np.meshgrid(*(getattr(diagram, a) for a in diagram.axes), indexing="ij"),
            strict=True,
        )
    )
    grids[diagram.fixed[0]] = np.full(shape, diagram.fixed[1])
    w, b, k = (grids[name] for name in ("weight_var", "bias_var", "anticorrelation"))

    def step(q):
        x = np.clip(np.log(np.maximum(q, 1e-300)), LOG_Q[0], LOG_Q[-1])
        return w * q * (variance(x) + (1 - k) * mean(x) ** 2) + b

    q = np.ones(shape)
    for _ in range(DEPTH):
        q = np.clip(step(q), 0, np.exp(LOG_Q[-1]))
    return q, step


def check(name, diagram):
    q, step = orbit(name, diagram)
    after = step(q)
    status = diagram.status
    assert set(np.unique(status)) <= {Status.CONVERGED, Status.UNBOUNDED, Status.VANISHING, Status.MARGINAL}
    near = np.abs(q - diagram.q) <= 1e-5 * np.maximum(diagram.q, 1e-3)
    near |= np.abs(step(np.ones(q.shape)) - 1) < 1e-9  # who starts on a fixed point goes nowhere
    closing = np.abs(after - diagram.q) < np.abs(q - diagram.q)
    # Near growth 1 an orbit still moves after any depth, but towards where it is said to end.
    slow = closing & (np.abs(diagram.chi_q) > 0.99)
    converged = status == Status.CONVERGED
    assert np.all((near | slow)[converged]), (diagram.q[converged & ~(near | slow)], name)
    assert np.all((after > q)[(status == Status.UNBOUNDED) & (q < np.exp(LOG_Q[-1]))]), name
    vanishing = status == Status.VANISHING
    assert np.all((after < q)[vanishing] | (q[vanishing] < 1e-20)), name
    assert np.all(diagram.c[converged & (diagram.phase == mf.Phase.ORDERED)] == 1)
    assert np.all(diagram.c[converged & (diagram.phase == mf.Phase.CHAOTIC)] < 1)
    assert np.all(np.abs(diagram.chi_perp[diagram.phase == mf.Phase.CRITICAL] - 1) < 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*activations.NAMES} - {"polynomial"}))
def test_the_default_diagram_of_every_named_activation_is_where_orbits_end(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for drawn, axes in {"drawn": GRID, "without_bias": WITHOUT_BIAS}.items():
        assert main(["phase-diagram", "-a", name, *axes, "-o", drawn]) == 0
        assert (tmp_path / f"{drawn}.png").stat().st_size > 10_000
        check(name, mf.PhaseDiagram.load(tmp_path / f"{drawn}.npz"))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*activations.NAMES} - {"polynomial"}))
def test_where_it_says_critical_gradients_stay_as_they_are(name):
    rng = np.random.default_rng(0)
    weight_var = np.sort(
        [0.25, 0.5, 1.0, 2.0, 4.0, *rng.uniform(0, 6, 95)]
    )  # critical lines at bias 0 among them
    bias_var = np.sort([0.0, *10 ** rng.uniform(-4, 1, 99)])
    diagram = mf.phase_diagram(name, weight_var=weight_var, bias_var=bias_var)
    critical = diagram.phase == mf.Phase.CRITICAL
    assert np.all(np.abs(diagram.chi_perp[critical] - 1) <= 1e-6)
    assert set(np.unique(diagram.status[critical])) <= {Status.CONVERGED, Status.MARGINAL}
