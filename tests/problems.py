"""Known answers and independent oracles: nothing here comes from the library's own moments.

``reference/`` holds fixed points found by nested quadrature in SciPy, with residuals below
1e-14. Points are solved in batches of one shape, so that each activation compiles once.
"""

import itertools
import json
from pathlib import Path

import jax
import numpy as np
from scipy import integrate, special

import meanfield as mf

BATCH = 16
PRIOR_FIELDS = ("weight_var", "bias_var", "anticorrelation")


def reference(name):
    """The rows of one reference file, by activation."""
    rows = json.loads((Path(__file__).parent / "reference" / f"{name}.json").read_text())
    table = {}
    for row in rows:
        table.setdefault(row["activation"], []).append(row)
    return table


def column(rows, name):
    return np.array([row[name] for row in rows], float)


def point(weight_var, bias_var=0.0, anticorrelation=0.0, q0=1.0, c0=0.0):
    """A row for ``solve``."""
    return dict(weight_var=weight_var, bias_var=bias_var, anticorrelation=anticorrelation, q0=q0, c0=c0)


def padded(values):
    """A batch of ``BATCH`` values: the last is repeated."""
    values = np.asarray(values, float)
    assert len(values) <= BATCH
    return np.pad(values, (0, BATCH - len(values)), mode="edge")


def prior_of(rows):
    return mf.NormalPrior(*(padded(column(rows, name)) for name in PRIOR_FIELDS))


def solve(activation, rows):
    """``fixed_point`` at each row; a FixedPoint of NumPy arrays, one entry a row."""
    q0 = padded([row.get("q0", 1.0) for row in rows])
    c0 = padded([row.get("c0", 0.0) for row in rows])
    found = mf.fixed_point(activation, prior_of(rows), q0=q0, c0=c0)
    return jax.tree.map(lambda x: np.asarray(x)[: len(rows)], found)


def names(status):
    """Status codes as their names, which a failing test can be read from."""
    return [mf.Status(int(code)).name for code in np.ravel(status)]


def relative(value, expected):
    """Largest relative error; exact agreement where the answer is 0."""
    value, expected = np.asarray(value, float), np.asarray(expected, float)
    size = np.where(expected == 0, 1.0, np.abs(expected))
    return np.max(np.abs(value - expected) / size)


# --- activations, written again in NumPy, with their kinks -----------------------------

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772

FUNCTIONS = {
    "tanh": (np.tanh, ()),
    "gelu": (lambda x: x * special.ndtr(x), ()),
    "silu": (lambda x: x * special.expit(x), ()),
    "mish": (lambda x: x * np.tanh(np.logaddexp(0, x)), ()),
    "softplus": (lambda x: np.logaddexp(0, x), ()),
    "sigmoid": (special.expit, ()),
    "arctan": (np.arctan, ()),
    "erf": (special.erf, ()),
    "sin": (np.sin, ()),
    "cos": (np.cos, ()),
    "linear": (lambda x: x, ()),
    "relu": (lambda x: np.maximum(x, 0), (0.0,)),
    "abs": (np.abs, (0.0,)),
    "squared_relu": (lambda x: np.maximum(x, 0) ** 2, (0.0,)),
    "hard_tanh": (lambda x: np.clip(x, -1, 1), (-1.0, 1.0)),
    "relu6": (lambda x: np.clip(x, 0, 6), (0.0, 6.0)),
    "softsign": (lambda x: x / (1 + np.abs(x)), (0.0,)),
    "elu": (lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), (0.0,)),
    "hard_swish": (lambda x: x * np.clip(x + 3, 0, 6) / 6, (-3.0, 3.0)),
    "log_sigmoid": (lambda x: -np.logaddexp(0, -x), ()),
    "squareplus": (lambda x: (x + np.sqrt(x * x + 4)) / 2, ()),
    "snake": (lambda x: x + np.sin(x) ** 2, ()),
    "selu": (
        lambda x: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0))),
        (0.0,),
    ),
}

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(40)
_REACH = 10.0


def panels(breaks):
    """Gauss-Legendre nodes and weights of the standard normal, split at the breaks."""
    edges = np.unique(np.clip([*np.linspace(-_REACH, _REACH, 21), *breaks], -_REACH, _REACH))
    middle, half = (edges[1:] + edges[:-1]) / 2, np.diff(edges) / 2
    z = middle[:, None] + half[:, None] * _NODES
    return z.ravel(), (half[:, None] * _WEIGHTS * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)).ravel()


def gaussian_mean(fn, q, kinks=()):
    """E fn(u) for a centred Gaussian u of variance q."""
    z, w = panels(np.asarray(kinks) / np.sqrt(q))
    return float(w @ fn(np.sqrt(q) * z))


def second_moment(name, q, c):
    """E phi(u1) phi(u2): u2 given u1 inside, u1 outside, both split at the kinks (SciPy)."""
    fn, kinks = FUNCTIONS[name]
    root, rest = np.sqrt(q), np.sqrt(1 - c * c)

    def inner(z):
        breaks = (np.asarray(kinks) / root - c * z) / rest
        t, w = panels(breaks)
        return float(w @ fn(root * (c * z + rest * t)))

    def outer(z):
        return np.exp(-z * z / 2) / np.sqrt(2 * np.pi) * float(fn(root * z)) * inner(z)

    edges = np.unique([-_REACH, *np.asarray(kinks) / root, 0.0, _REACH])
    pieces = [
        integrate.quad(outer, a, b, epsabs=1e-14, epsrel=1e-13, limit=200)[0]
        for a, b in itertools.pairwise(edges)
    ]
    return sum(pieces)


def variance_map(name, row, q):
    """Q(q), from one-dimensional quadrature."""
    fn, kinks = FUNCTIONS[name]
    moment = gaussian_mean(lambda x: fn(x) ** 2, q, kinks)
    mean = gaussian_mean(fn, q, kinks)
    return row["weight_var"] * (moment - row["anticorrelation"] * mean**2) + row["bias_var"]


def correlation_map(name, row, q, c):
    """C(c) at equal variances."""
    fn, kinks = FUNCTIONS[name]
    mean = gaussian_mean(fn, q, kinks)
    shared = second_moment(name, q, c) - row["anticorrelation"] * mean**2
    return (row["weight_var"] * shared + row["bias_var"]) / variance_map(name, row, q)


def check_slopes(values, at):
    """Derivatives of a function of named parameters, jitted, against central differences, to 1e-6."""
    value = jax.jit(values)
    slopes = jax.jit(jax.jacfwd(values))(at)
    for name in at:
        up, down = (value(at | {name: at[name] + step}) for step in (1e-5, -1e-5))
        expected = (up - down) / 2e-5
        assert np.all(np.abs(slopes[name] - expected) <= 1e-6 * np.maximum(1, np.abs(expected))), name
