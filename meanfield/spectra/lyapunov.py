r"""The whole Lyapunov spectrum of an infinitely deep and wide network, as a formula.

With y < 0 solving psi(y) = t - 1, u and v as in ``spectra.resolvent``,

    lambda(t) = 1/2 log[sigma_w^2 u / t^(1-e)],    v = E 1/(1 - y d^2) = t,

e = 1 for Gaussian and 0 for orthogonal weights: the exponent below which a fraction t of
all directions lies. At t = 1 it is 1/2 log chi_perp. Source: THEORY section 11.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from meanfield.fixed_points.result import masked
from meanfield.layers import as_dense
from meanfield.numerics.broadcasting import pointwise
from meanfield.numerics.pytrees import register_dataclass
from meanfield.numerics.roots import falling_root, nonzero
from meanfield.spectra.slopes import like_gaussian, slopes_at, stationary_points
from meanfield.status import Status
from meanfield.support import validation


@register_dataclass
@dataclass(frozen=True, eq=False)
class LyapunovSpectrum:
    """Quantiles of the Lyapunov exponents, rates per layer; all leaves of one shape.

    exponent: lambda(t); -inf for t up to ``silent``. density: of exponents at lambda(t), infinite
        where all are equal. silent: fraction of exponents that are -inf, P(phi' = 0).
    top: the largest one, log(chi_perp)/2, exactly. t: the fraction of exponents below.
    q: variance q* at which slopes are taken. status: integers of ``Status``; at an
        unbounded or vanishing variance the numbers are those of its limit.
    """

    exponent: Float[Array, "..."]
    density: Float[Array, "..."]
    silent: Float[Array, "..."]
    top: Float[Array, "..."]
    t: Float[Array, "..."]
    q: Float[Array, "..."]
    status: Int[Array, "..."]

    def plot(self, measured=None):
        """Draw it, over measured exponents if given; see ``plotting.plot_lyapunov_spectrum``."""
        from meanfield.plotting import plot_lyapunov_spectrum

        return plot_lyapunov_spectrum(self, measured)


def lyapunov_spectrum(activation, prior=None, t=1.0, *, q0=1.0) -> LyapunovSpectrum:
    """All Lyapunov exponents of the random network at q*, by their quantile t in [0, 1].

    activation, prior: as for ``fixed_point``; a ``NormalPrior`` or an ``OrthogonalPrior``. t and q0, the
        variance to start from, broadcast with its leaves.

    Depth after width: in networks of finite width directions that meet phi' = 0 add up with
    depth, and more exponents than ``silent`` are -inf. Works under jit, vmap and grad, in
    float32 and float64. Raises TypeError or ValueError. Source: THEORY section 11.
    """
    layer = as_dense(activation, prior)
    t = validation.real("t", t, low=0.0, high=1.0)
    q0 = validation.real("q0", q0, low=0.0)
    spectral_exponent = layer.prior.spectral_exponent
    layer = like_gaussian(layer)
    return pointwise(_spectrum, layer, *stationary_points(layer, q0), t, spectral_exponent, optimization=2)


def _spectrum(layer, q, at, status, t, spectral_exponent) -> LyapunovSpectrum:
    valid = layer.is_valid() & (status != Status.INVALID) & (t >= 0) & (t <= 1)
    layer = layer.guarded(valid)
    law, status = slopes_at(layer, at, status)
    log_scale = jnp.log(layer.prior.weight_var) + law.log_scale
    silent = jnp.where(jnp.isneginf(log_scale), 1.0, law.zero)
    loud = t > silent
    s = _solve(law, jnp.where(loud & (t < 1), t, (1 + law.zero) / 2))
    k = jnp.where(t == 1, 1.0, 1 / (1 + jnp.exp(s) * law.square))
    v, u = jnp.sum(law.weight * k), jnp.sum(law.weight * law.square * k)
    first, second = (jnp.sum(law.weight * law.square**n * k**2) for n in (1, 2))
    total = jnp.sum(law.weight * k**2)
    deviation = jnp.sum(law.weight * (law.square - first / total) ** 2 * k**2)
    orthogonal = spectral_exponent == 0
    slope = jnp.where(orthogonal, total * deviation / v, second) / (u * first) / 2
    ratio = u / jnp.where(orthogonal, v, 1.0)
    exponent = (log_scale + jnp.log(ratio)) / 2
    density = jnp.where(slope > 0, 1 / nonzero(slope), jnp.inf)
    spectrum = LyapunovSpectrum(
        exponent=jnp.where(loud, exponent, -jnp.inf),
        density=jnp.where(loud, density, 0.0),
        silent=silent,
        top=(jnp.log(layer.prior.weight_var) + law.log_mean) / 2,
        t=t,
        q=q,
        status=status,
    )
    return masked(spectrum, valid)


def _solve(law, t):
    """log(-y) with E 1/(1 - y d^2) = t, for P(d = 0) < t < 1.

    As odds: (1 - v)/(v - P(d = 0)) is -y itself for a linear network, and its logarithm a
    nearly straight function of log(-y) for every other.
    """
    longest = 600.0 if jnp.finfo(t.dtype).bits >= 64 else 80.0
    some = law.square > 0
    start = jnp.log((1 - t) / (t - law.zero))

    def gap(s):
        a = jnp.exp(s) * law.square
        gone = jnp.sum(law.weight * a / (1 + a))
        kept = jnp.sum(jnp.where(some, law.weight / (1 + a), 0.0))
        return start - jnp.log(gone / kept)

    return falling_root(gap, jax.lax.stop_gradient(start), -longest, longest)
