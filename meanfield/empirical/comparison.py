"""Networks of finite width against the theory, in standard errors."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.asymmetric.density.population import population_dynamics
from meanfield.dead.orthants import log_orthant_probability
from meanfield.empirical.ensembles import is_pair, measure, pair_of
from meanfield.empirical.measurement import Measurement
from meanfield.empirical.tokens import theory_of_tokens
from meanfield.fixed_points.point import FixedPoint, fixed_point
from meanfield.layers import Transformer, as_dense
from meanfield.maps import gradient_growth, propagate
from meanfield.support import validation
from meanfield.support.files import save_npz

# Sizes are compared as logarithms: to their fluctuations in deep networks every layer adds.
LOGARITHMIC = ("q", "one_minus_c", "growth", "gradient")
QUANTITIES = ("q", "one_minus_c", "growth", "inactive", "dead", "gradient")
_RESOLVED = 1e-10  # 1 - c below it is rounding in a network of single precision
_RESAMPLES = 4000
_PARTICLES_PER_NEURON = 16


@dataclass(frozen=True)
class Theory:
    """Values at infinite width, by quantity and layer, and their own standard errors."""

    values: dict[str, np.ndarray]
    errors: dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two ensembles, of one width and of twice that, beside the theory.

    Dictionaries go from a quantity's name to an array over layers, entry 0 the start.
    Quantities are those of ``LayerStatistics``: q, one_minus_c, growth and gradient, compared as
    logarithms, inactive and dead. Entries without a value, or without fluctuations, are NaN.

    narrow, wide: the measurements. theory: values at infinite width.
    limit, limit_error: the networks' values extrapolated to infinite width, assuming a
    deviation proportional to 1/width, and their standard errors (relative ones for logarithms).
    bias, bias_error: that deviation at the smaller width, on the same scale.
    deviation: of the limit from the theory, in standard errors of their difference.
    p_value: how often the deviations would be as large as they are, all layers and
    quantities together, if the theory held; see ``compare``.
    """

    narrow: Measurement
    wide: Measurement
    theory: Theory
    start: dict[str, float]
    limit: dict[str, np.ndarray]
    limit_error: dict[str, np.ndarray]
    bias: dict[str, np.ndarray]
    bias_error: dict[str, np.ndarray]
    deviation: dict[str, np.ndarray]
    p_value: float

    def __repr__(self):
        sizes = f"widths {self.narrow.width} and {self.wide.width}, {self.narrow.networks} networks of each"
        return f"Comparison({self.narrow.name}, {sizes}, p = {self.p_value:.3g})"

    @property
    def quantities(self) -> tuple[str, ...]:
        """Names of what was compared."""
        return tuple(self.deviation)

    @functools.cached_property
    def fixed_point(self) -> FixedPoint:
        """Where the theory's signals end."""
        with jax.enable_x64(True):
            return fixed_point(self.narrow.activation, self.narrow.prior, **self.start)

    def table(self) -> list[dict[str, Any]]:
        """One row a layer and quantity: measured at both widths, limit, theory, deviation."""
        rows = []
        for name in self.quantities:
            means = [getattr(m.mean, name) for m in (self.narrow, self.wide)]
            errors = [getattr(m.standard_error, name) for m in (self.narrow, self.wide)]
            columns = dict(
                narrow=means[0],
                narrow_error=errors[0],
                wide=means[1],
                wide_error=errors[1],
                limit=self.limit[name],
                limit_error=self.limit_error[name],
                theory=self.theory.values[name],
                bias=self.bias[name],
                bias_error=self.bias_error[name],
                deviation=self.deviation[name],
            )
            for layer in range(self.narrow.depth + 1):
                numbers = {key: float(column[layer]) for key, column in columns.items()}
                rows.append({"quantity": name, "layer": layer} | numbers)
        return rows

    def save(self, path) -> None:
        """Write the table's columns to an NPZ file, whole or not at all. Raises OSError."""
        rows = self.table()
        columns: dict[str, Any] = {key: np.array([row[key] for row in rows]) for key in rows[0]}
        settings: dict[str, Any] = dict(
            activation=repr(self.narrow.activation),
            prior=repr(self.narrow.prior),
            widths=[self.narrow.width, self.wide.width],
            networks=self.narrow.networks,
            method=self.narrow.method,
            p_value=self.p_value,
            **self.start,
        )
        save_npz(path, columns | settings)

    def plot(self):
        """Draw it; see ``plotting.plot_comparison``. Returns the figure."""
        from meanfield.plotting import plot_comparison

        return plot_comparison(self)


def compare(
    activation,
    prior=None,
    *,
    width=512,
    depth=None,
    networks=32,
    q0=1.0,
    c0=0.5,
    method="weights",
    gradients=None,
    seed=0,
) -> Comparison:
    """Networks of ``width`` and of twice the width beside the theory, layer by layer, in standard errors.

    Arguments as for ``measure``, also a layer, a ``Transformer`` or a sequence of layers in place of an
    activation and a prior; networks: how many of each width, at least 8. gradients:
    default where the method has them and the theory is Gaussian.

    A network of width N deviates from the theory by a bias of order 1/N, which the two
    widths measure and remove. What is left is divided by its standard error. The
    p-value belongs to the mean square of these numbers over all layers and quantities;
    they depend on each other, so its distribution is found by giving each network's
    residuals a random sign, 4000 times, errors and all computed anew.

    The theory is ``propagate``; with an ``AsymmetricPrior`` it is sampled itself, and its
    standard errors are counted. Raises TypeError or ValueError.
    """
    networks = validation.count("networks", networks, low=8)
    width = validation.count("width", width)
    if is_pair(activation, prior):
        activation, prior = pair_of(activation, prior)
        depth = 30 if depth is None else depth
    is_gaussian = prior is None or prior.is_gaussian
    if gradients is None:
        gradients = method == "weights" and is_gaussian
    elif gradients and not is_gaussian:
        raise ValueError("gradients of an AsymmetricPrior can be measured, but have no theory to compare")
    options = dict(depth=depth, networks=networks, q0=q0, c0=c0, method=method, gradients=gradients)
    narrow = measure(activation, prior, width=width, seed=2 * seed, **options)
    wide = measure(activation, prior, width=2 * width, seed=2 * seed + 1, **options)
    particles = int(np.clip(_PARTICLES_PER_NEURON * networks * 2 * width, 1 << 18, 1 << 24))
    theory = theory_of(activation, prior, depth=narrow.depth, q0=q0, c0=c0, particles=particles)
    return _compared(narrow, wide, theory, dict(q0=float(q0), c0=float(c0)))


def theory_of(activation, prior=None, *, depth, q0=1.0, c0=0.5, particles=1 << 20) -> Theory:
    """What ``LayerStatistics`` converge to with the width, for two inputs."""
    with jax.enable_x64(True):
        if prior is None:
            return _theory_of_layers(activation, depth, q0, c0)
        if not prior.is_gaussian:
            known = population_dynamics(
                activation, prior, q0=q0, c0=c0, depth=depth, particles=particles, seed=1
            )
            names = dict(zip(("q", "one_minus_c", "growth", "inactive"), _SAME, strict=True))
            names["dead"] = "both_inactive"
            pick = lambda source: {k: np.asarray(getattr(source, v)) for k, v in names.items()}
            return Theory(pick(known), pick(known.standard_error))
        signal = propagate(activation, prior, q0=q0, c0=c0, depth=depth)
        layer = as_dense(activation, prior)
        slope = jax.jit(jax.vmap(lambda layer, q: layer.tangent(q), (None, 0)))(layer, signal.q[:-1])
        values = dict(
            q=signal.q,
            one_minus_c=signal.one_minus_c,
            growth=jnp.append(1.0, slope),
            inactive=jnp.full_like(signal.q, 0.5),
            dead=jnp.exp(log_orthant_probability(2, signal.c)),
            gradient=jnp.append(jnp.cumprod(slope[::-1])[::-1], 1.0),
        )
        return _exact(values)


def _theory_of_layers(layer, depth, q0, c0) -> Theory:
    if isinstance(layer, Transformer):
        return _exact(theory_of_tokens(layer, depth, c0, q0))
    depth = None if isinstance(layer, list | tuple) else depth
    signal = propagate(layer, q0=q0, c0=c0, depth=depth)
    gradient = gradient_growth(layer, q0=q0, depth=depth)
    growth = jnp.append(1.0, gradient[:-1] / gradient[1:])
    return _exact(dict(q=signal.q, one_minus_c=signal.one_minus_c, growth=growth, gradient=gradient))


def _exact(values) -> Theory:
    exact = {name: np.asarray(value) for name, value in values.items()}
    return Theory(exact, {name: np.zeros_like(value) for name, value in exact.items()})


_SAME = ("q", "one_minus_c", "growth", "inactive")


def _compared(narrow, wide, theory, start) -> Comparison:
    names = [n for n in theory.values if getattr(narrow.samples, n) is not None]
    results: dict[str, dict[str, Any]] = {
        key: {} for key in ("limit", "limit_error", "bias", "bias_error", "deviation")
    }
    kept = []
    to_scale: Callable
    back: Callable
    for name in names:
        to_scale, back = (np.log, np.exp) if name in LOGARITHMIC else (np.asarray, np.asarray)
        with np.errstate(divide="ignore", invalid="ignore"):
            samples = [_finite(to_scale(getattr(m.samples, name).astype(float))) for m in (narrow, wide)]
            expected = _finite(to_scale(theory.values[name]))
            error = theory.errors[name]
            expected_error = error / theory.values[name] if name in LOGARITHMIC else error
        test = Extrapolation(samples[0], samples[1], expected, expected_error)
        known = np.isfinite(expected) & np.isfinite(test.limit) & (test.limit_error > _ROUNDING)
        if name == "one_minus_c":
            known &= theory.values[name] > _RESOLVED
        blank = functools.partial(np.where, known)
        results["limit"][name] = blank(back(test.limit), np.nan)
        results["limit_error"][name] = blank(test.limit_error, np.nan)
        results["bias"][name] = blank(2 * (test.means[0] - test.means[1]), np.nan)
        results["bias_error"][name] = blank(2 * np.sqrt(sum(test.variances)), np.nan)
        results["deviation"][name] = blank(test.deviation, np.nan)
        kept.append(test.at(known))
    return Comparison(narrow, wide, theory, start, p_value=p_value_of(kept), **results)


_ROUNDING = 1e-6  # of a quantity without fluctuations, such as the growth of a linear network


def _finite(values):
    return np.where(np.isfinite(values), values, np.nan)


class Extrapolation:
    """Samples at widths N and 2 N, shape (networks, layers); the limit 2 wide - narrow."""

    def __init__(self, narrow, wide, expected, expected_error):
        self.samples = narrow, wide
        self.expected, self.expected_error = expected, expected_error
        self.means = [x.mean(axis=0) for x in self.samples]
        self.variances = [x.var(axis=0, ddof=1) / len(x) for x in self.samples]
        self.limit = 2 * self.means[1] - self.means[0]
        self.limit_error = np.sqrt(4 * self.variances[1] + self.variances[0])

    @property
    def deviation(self):
        with np.errstate(divide="ignore", invalid="ignore"):
            return (self.limit - self.expected) / np.hypot(self.limit_error, self.expected_error)

    def at(self, layers) -> "Extrapolation":
        narrow, wide = (x[:, layers] for x in self.samples)
        return Extrapolation(narrow, wide, self.expected[layers], self.expected_error[layers])


def p_value_of(tests: list[Extrapolation]) -> float:
    """Of the mean square deviation, under random signs of each network's residuals."""
    deviations = np.concatenate([t.deviation for t in tests])
    if deviations.size == 0:
        return float("nan")
    expected_error = np.concatenate([t.expected_error for t in tests])
    random = np.random.default_rng(0)
    means, variances = [], []
    for which in (0, 1):
        samples = np.concatenate([t.samples[which] for t in tests], axis=1)
        count = len(samples)
        residuals = (samples - samples.mean(axis=0)) * np.sqrt(count / (count - 1))
        signs = random.choice((-1.0, 1.0), (_RESAMPLES, count))
        mean = signs @ residuals / count
        means.append(mean)
        variances.append((np.mean(residuals**2, axis=0) - mean**2) / (count - 1))
    moved = 2 * means[1] - means[0] + expected_error * random.standard_normal(means[0].shape)
    square = moved**2 / (4 * variances[1] + variances[0] + expected_error**2)
    larger = np.sum(np.mean(square, axis=1) >= np.mean(deviations**2))
    return float((1 + larger) / (1 + _RESAMPLES))
