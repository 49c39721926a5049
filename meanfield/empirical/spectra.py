r"""Spectra of real networks: singular values of Jacobians and Lyapunov exponents, beside the theory.

A deep Jacobian spreads over hundreds of decades, of which a singular value decomposition in
floating point keeps sixteen. Its factors keep them all: the product is turned into a product of
triangular factors, and that transposed and turned again, until what is left is diagonal to
working accuracy (alternating QR: unshifted QR iteration on J^T J, never formed).
Source: Stewart, "On graded QR decompositions of products of matrices", ETNA 3 (1995).
"""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from meanfield.activations.activation import Activation
from meanfield.activations.names import as_activation
from meanfield.empirical.comparison import Extrapolation, p_value_of
from meanfield.empirical.ensembles import measure, network, signals
from meanfield.empirical.limit_laws import LimitLaw
from meanfield.fixed_points.point import fixed_point
from meanfield.layers import as_dense
from meanfield.numerics.roots import nonzero
from meanfield.priors import NormalPrior, is_prior
from meanfield.spectra.jacobian import JacobianSpectrum, jacobian_spectrum
from meanfield.spectra.lyapunov import LyapunovSpectrum, lyapunov_spectrum
from meanfield.spectra.slopes import SlopeLaw, slope
from meanfield.support import validation
from meanfield.support.progress import progress_bar

LEVELS = np.linspace(0.05, 0.95, 19)
_KEPT = 1e-8  # of the largest singular value
_SILENT = 1e-12  # of a factor's largest diagonal entry: rounding, not a singular value


def jacobian_factors(
    activation, prior, *, width=512, depth=8, q0=1.0, seed=0, index=0
) -> Float[Array, "depth width width"]:
    """Factors (first layer first) of one Flax network's Jacobian of h^(depth + 1) with respect to h^1.

    Their product, the last to the left, is J: each is W diag(phi'(h)). q0: variance of h^1.
    """
    model = network(activation, prior, width=width, depth=depth, seed=seed, index=index)
    h, _ = model.pre_activations(signals(q0, 0.0)[:1])
    slopes = slope(as_activation(activation), h[:-1, 0])
    kernel = model.hidden.kernel[...]
    return jnp.swapaxes(kernel, 1, 2) * slopes[:, None, :]


@functools.partial(jax.jit, static_argnums=1)
def log_singular_values(factors: Float[Array, "depth n n"], sweeps: int = 8) -> Float[Array, " n"]:
    """log of the singular values of a product (last factor to the left), descending; -inf for zero.

    sweeps: how often the product is turned. Two neighbours apart by a factor g in value
    are told apart to g^(-2 sweeps); nearer ones come out between each other.
    """
    n = factors.shape[-1]
    order = jnp.argsort(-jnp.linalg.norm(factors[0], axis=0))
    factors = factors.at[0].set(factors[0][:, order])

    def turn(factors):
        def through(q, factor):
            q, r = jnp.linalg.qr(jnp.matmul(factor, q, precision="highest"))
            return q, r

        _, triangles = jax.lax.scan(through, jnp.eye(n, dtype=factors.dtype), factors)
        return jnp.swapaxes(triangles[::-1], 1, 2)

    factors = jax.lax.fori_loop(0, sweeps, lambda _, f: turn(f), factors)
    diagonal = jnp.abs(jnp.diagonal(factors, axis1=1, axis2=2))
    gone = jnp.any(diagonal <= _SILENT * jnp.max(diagonal, axis=1, keepdims=True), axis=0)
    logs = jnp.sum(jnp.log(jnp.where(gone, 1.0, diagonal)), axis=0)
    return -jnp.sort(-jnp.where(gone, -jnp.inf, logs))


def leading_singular_values(
    function, x: Float[Array, " n"], count: int = 10, *, steps: int | None = None, seed: int = 0
) -> Float[Array, " count"]:
    """The largest singular values of the Jacobian of ``function`` at x, which is never formed.

    function: from an array of one axis to another. steps: of Lanczos' method (Golub & Kahan's
    bidiagonalisation, every vector held orthogonal to all before), default 4 count + 20; each is
    one Jacobian-vector and one vector-Jacobian product. Works under jit and vmap.
    """
    count = validation.count("count", count)
    steps = min(x.size, 4 * count + 20 if steps is None else validation.count("steps", steps, low=count))
    if count > x.size:
        raise ValueError(f"count must be at most the size of x, {x.size}, got {count}")
    y, forward = jax.linearize(function, x)
    backward = jax.linear_transpose(forward, x)
    apart = lambda v, basis: v - basis.T @ (basis @ v)
    twice = lambda v, basis: apart(apart(v, basis), basis)
    unit = lambda v, size: v / nonzero(size)
    first = jax.random.normal(jax.random.key(seed), x.shape, x.dtype)
    right = jnp.zeros((steps + 1, x.size), x.dtype).at[0].set(first / jnp.linalg.norm(first))
    left = jnp.zeros((steps, y.size), y.dtype)

    def step(i, state):
        right, left, alpha, beta = state
        u = twice(forward(right[i]), left)
        a = jnp.linalg.norm(u)
        left = left.at[i].set(unit(u, a))
        v = twice(backward(left[i])[0], right)
        b = jnp.linalg.norm(v)
        return right.at[i + 1].set(unit(v, b)), left, alpha.at[i].set(a), beta.at[i].set(b)

    zeros = jnp.zeros(steps, x.dtype)
    _, _, alpha, beta = jax.lax.fori_loop(0, steps, step, (right, left, zeros, zeros))
    bidiagonal = jnp.diag(alpha) + jnp.diag(beta[:-1], 1)
    return jnp.linalg.svd(bidiagonal, compute_uv=False)[:count]


@dataclass(frozen=True, eq=False)
class MeasuredSpectrum:
    """Spectra of several networks: ``log_values`` of shape (networks, width), descending.

    kind: "jacobian", logarithms of singular values at ``depth``, or "lyapunov", exponents.

    null_directions: of each network, 1 where the prior makes weight matrices singular. At
    ``anticorrelation`` 1 all rows sum to zero and annihilate the uniform vector: unless phi' has zeros that
    already annihilate more, exactly one singular value of each network is zero and one exponent -inf,
    at any depth. That share, 1/width, is known beforehand and vanishes in the limit of infinite
    width, where the theory speaks: comparisons are of the others.
    """

    activation: Activation
    prior: Any
    width: int
    depth: int
    kind: str
    log_values: np.ndarray
    null_directions: int = 0

    def __repr__(self):
        sizes = f"{len(self.log_values)} networks of width {self.width}, depth {self.depth}"
        return f"MeasuredSpectrum({self.activation!r}, {self.prior!r}, {sizes}, {self.kind!r})"

    @property
    def bulk(self) -> np.ndarray:
        """``log_values`` but for the null directions, shape (networks, width - null_directions)."""
        return self.log_values[:, : self.width - self.null_directions]

    def quantile(self, t, method="hazen") -> np.ndarray:
        """Quantiles of the bulk of all networks together.

        method: "hazen", halfway between steps of the distribution function (half a step would be a
        bias of order 1/width), or "inverted_cdf", the steps themselves; as for ``numpy.quantile``.
        """
        return quantiles(self.bulk, t, method)


def null_directions(activation, prior, q0) -> int:
    """Rank that the product of any number of layers lacks by the prior, which decides alone: no result does.

    1 where rows sum to zero and P(phi' = 0) = 0: W D x = 0 asks for D x to be uniform, and no zero of D is.
    """
    if float(prior.anticorrelation) != 1:
        return 0
    layer = as_dense(activation, NormalPrior(1.0))
    return int(SlopeLaw.of(layer, jnp.asarray(q0, float)).zero == 0)


def quantiles(values, t, method="hazen") -> np.ndarray:
    """``numpy.quantile`` over all values, of which some may be -inf."""
    values = np.sort(values, axis=None)
    if method == "inverted_cdf":
        return np.quantile(values, t, method=method)
    if method != "hazen":
        raise ValueError(f"method must be 'hazen' or 'inverted_cdf', got {method!r}")
    place = (np.arange(values.size) + 0.5) / values.size
    loud = np.isfinite(values)
    inside = np.asarray(t) >= np.mean(~loud)
    return np.where(inside, np.interp(t, place[loud], values[loud]), -np.inf)


def _without_null(values, null) -> np.ndarray:
    """Values (networks, width), descending; the last is -inf where a null direction leaves it to rounding."""
    values = -np.sort(-values, axis=1)
    values[:, values.shape[1] - null :] = -np.inf
    return values


def measure_singular_values(
    activation, prior, *, width=512, depth=8, networks=4, q0=None, sweeps=8, seed=0
) -> MeasuredSpectrum:
    """Singular values of the Jacobians of Flax networks whose signals start at q*.

    activation, prior: as for ``measure``. q0: variance of the first layer, default q*. sweeps: see
    ``log_singular_values``. Computes in double precision. Raises TypeError or ValueError.
    """
    activation = as_activation(activation)
    counts = dict(width=width, depth=depth, networks=networks, sweeps=sweeps)
    width, depth, networks, sweeps = (validation.count(*item) for item in counts.items())
    parts = []
    with jax.enable_x64(True), progress_bar(networks, f"networks of width {width}") as advance:
        q0 = stationary_variance(activation, prior) if q0 is None else q0
        sizes = dict(width=width, depth=depth, q0=q0, seed=seed)
        for i in range(networks):
            factors = jacobian_factors(activation, prior, index=i, **sizes)
            parts.append(_log_singular_values(factors, sweeps))
            advance(1)
        null = null_directions(activation, prior, q0)
    values = _without_null(np.stack(parts), null)
    return MeasuredSpectrum(activation, prior, width, depth, "jacobian", values, null)


def _log_singular_values(factors, sweeps) -> np.ndarray:
    """By decomposition where double precision keeps eight digits, by alternating QR below."""
    product = functools.reduce(lambda total, factor: factor @ total, np.asarray(factors))
    values = np.linalg.svd(product, compute_uv=False)
    largest = values.max(initial=0.0)
    with np.errstate(divide="ignore"):
        logs = np.log(np.where(values > _SILENT * largest, values, 0.0))
    kept = values > _KEPT * largest
    if len(factors) == 1 or np.all(kept):
        return logs
    return np.where(kept, logs, np.asarray(log_singular_values(factors, sweeps)))


def measure_lyapunov_spectrum(
    activation, prior, *, width=512, depth=200, networks=1, q0=None, seed=0
) -> MeasuredSpectrum:
    """All Lyapunov exponents of networks of finite width, by QR over ``depth`` layers.

    Arguments as for ``measure_singular_values``. Computes in double precision.
    """
    activation = as_activation(activation)
    with jax.enable_x64(True):
        q0 = stationary_variance(activation, prior) if q0 is None else q0
        sizes = dict(width=width, depth=depth, networks=networks, seed=seed)
        found = measure(activation, prior, q0=q0, c0=0.0, tangents=width, **sizes)
        null = null_directions(activation, prior, q0)
    exponents = _without_null(np.asarray(found.samples.exponents), null)
    return MeasuredSpectrum(activation, prior, width, depth, "lyapunov", exponents, null)


def stationary_variance(activation, prior) -> float:
    """q*, or 1 where no finite, positive variance is stationary."""
    q = float(fixed_point(activation, prior).q)
    return q if np.isfinite(q) and q > 0 else 1.0


@dataclass(frozen=True, eq=False)
class SpectrumComparison:
    """Spectra of networks of one width and of twice that, beside the theory.

    The fraction of each network's values (``bulk``) up to the theory's quantiles at ``levels`` is compared.
    theory: the infinite network's spectrum. limit, limit_error: the fractions extrapolated to
    infinite width, a deviation proportional to 1/width taken out, and their standard errors.
    deviation: of the limit from the levels, in standard errors. p_value: how often deviations would
    be as large, all levels together, if the theory held (see ``compare``).
    distance: Kolmogorov distance of the wide networks' spectra, taken together, from the theory.
    """

    narrow: MeasuredSpectrum
    wide: MeasuredSpectrum
    theory: JacobianSpectrum | LyapunovSpectrum
    levels: np.ndarray
    limit: np.ndarray
    limit_error: np.ndarray
    deviation: np.ndarray
    p_value: float
    distance: float

    def plot(self):
        """Draw the wide networks' spectra under the theory."""
        return self.theory.plot(self.wide)


def compare_spectra(
    activation, prior, *, kind="jacobian", width=200, depth=8, networks=16, seed=0, sweeps=8
) -> SpectrumComparison:
    """Spectra of networks of ``width`` and of twice the width beside the theory, in standard errors.

    kind: "jacobian" or "lyapunov". networks: how many of each width, at least 8. Other arguments as
    for ``measure_singular_values``. Raises TypeError or ValueError.
    """
    if kind not in ("jacobian", "lyapunov"):
        raise ValueError(f"kind must be 'jacobian' or 'lyapunov', got {kind!r}")
    if is_prior(prior) and not prior.is_gaussian:
        raise TypeError("prior must be a NormalPrior or an OrthogonalPrior: an AsymmetricPrior has no theory")
    networks = validation.count("networks", networks, low=8)
    sizes = dict(depth=depth, networks=networks)
    if kind == "jacobian":
        take = functools.partial(measure_singular_values, activation, prior, sweeps=sweeps, **sizes)
    else:
        take = functools.partial(measure_lyapunov_spectrum, activation, prior, **sizes)
    narrow, wide = take(width=width, seed=2 * seed), take(width=2 * width, seed=2 * seed + 1)
    return compared(narrow, wide)


def compared(narrow: MeasuredSpectrum, wide: MeasuredSpectrum) -> SpectrumComparison:
    """Two measurements of one kind against their theory."""
    theory, law = theory_of(wide)
    levels = LEVELS[law.silent + 0.02 < LEVELS]
    at = law.quantile(levels)
    samples = [np.mean(m.bulk[:, :, None] <= at, axis=1) for m in (narrow, wide)]
    test = Extrapolation(samples[0], samples[1], levels, np.zeros_like(levels))
    known = test.limit_error > 1e-6
    return SpectrumComparison(
        narrow=narrow,
        wide=wide,
        theory=theory,
        levels=levels,
        limit=test.limit,
        limit_error=test.limit_error,
        deviation=np.where(known, test.deviation, np.nan),
        p_value=p_value_of([test.at(known)]),
        distance=law.distance(wide.bulk),
    )


def theory_of(measured: MeasuredSpectrum):
    """(spectrum, its ``LimitLaw``) at infinite width."""
    with jax.enable_x64(True):
        found: JacobianSpectrum | LyapunovSpectrum
        if measured.kind == "lyapunov":
            found = lyapunov_spectrum(measured.activation, measured.prior, np.linspace(0.0, 1.0, 2001))
        else:
            found = jacobian_spectrum(measured.activation, measured.prior, measured.depth)
        return found, LimitLaw.of(found)
