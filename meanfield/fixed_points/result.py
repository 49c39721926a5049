"""What a fixed point says of a network."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from meanfield.numerics.pytrees import register_dataclass
from meanfield.status import Phase, Status
from meanfield.support import text

_LABELS = {"q": "q*", "c": "c*", "one_minus_c": "1 - c*"}
_NAMES = {"status": Status, "phase": Phase}


@register_dataclass
@dataclass(frozen=True, eq=False)
class FixedPoint:
    r"""Where two signals end up in an infinitely deep network; all leaves of one shape.

    q: variance q*. Infinite if unbounded, 0 if vanishing, the start if marginal.
    c: correlation c*; one_minus_c: 1 - c*, to full relative accuracy.
    chi_q: Q'(q*), or the growth Q(q)/q of an unbounded or vanishing variance.
    chi_c: C'(c*). chi_1: C'(1). chi_perp: growth per layer of the squared norm of a
        transverse perturbation, sigma_w^2 E phi'^2.
    status: integers of ``Status``. phase: integers of ``Phase``, from chi_1 and status; where equal signals
        part (``Dropout``), from chi_perp: it is then the gradient's.
    q_error, c_error: estimated errors of q and c (and of one_minus_c): those of the Gaussian moments,
        rounding included, times the condition of the fixed point. CONVERGED promises at most 1e-6 relative of
        q and 1e-5 of c (in single precision 2e-3 and 2e-2): elsewhere the status is INACCURATE.

    Source: THEORY sections 4 and 5; Poole et al. 2016; Schoenholz et al. 2017.
    """

    q: Float[Array, "..."]
    c: Float[Array, "..."]
    one_minus_c: Float[Array, "..."]
    chi_q: Float[Array, "..."]
    chi_c: Float[Array, "..."]
    chi_1: Float[Array, "..."]
    chi_perp: Float[Array, "..."]
    status: Int[Array, "..."]
    phase: Int[Array, "..."]
    q_error: Float[Array, "..."]
    c_error: Float[Array, "..."]

    def __repr__(self):
        return as_table(self, labels=_LABELS)


def errors_of(q, one_minus_c, chi_q, chi_c, error, of_map=None):
    """(q_error, c_error) from the relative error of the moments; 0 where q is 0 or infinite, where c is 1.

    of_map: error of Q(q) alone, if that is known.
    """
    error, of_map = (None if e is None else _with_rounding(e) for e in (error, of_map))
    return jax.lax.stop_gradient(_errors(jnp, q, one_minus_c, chi_q, chi_c, error, of_map))


def _errors(xp, q, one_minus_c, chi_q, chi_c, error, of_map=None):
    finite = xp.isfinite(q) & (q > 0)
    of_q = xp.where(finite, (error if of_map is None else of_map) / xp.abs(1 - chi_q), 0.0)
    # 1 - c = (1 - c) gain(q, c), whose slope at c* is chi_c: told to rounding over the angle.
    apart = xp.where(one_minus_c > 0, one_minus_c, 1.0)
    distance = xp.maximum(xp.abs(1 - chi_c), _ANGULAR * jnp.finfo(apart.dtype).eps / xp.sqrt(2 * apart))
    of_c = xp.where(one_minus_c > 0, apart * (error + of_q) / distance, 0.0)
    return xp.where(finite, q, 0.0) * of_q, of_c


def raise_errors(values: dict[str, np.ndarray], error: np.ndarray) -> None:
    """Make the fields of points on the host tell a relative error of the moments that was found elsewhere.

    Those which are no longer what CONVERGED promises become INACCURATE.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        q, one_minus_c, chi_q, chi_c = (values[name] for name in ("q", "one_minus_c", "chi_q", "chi_c"))
        found = _errors(np, q, one_minus_c, chi_q, chi_c, _CAUTION * error)
    for name, new in zip(("q_error", "c_error"), found, strict=True):
        values[name] = np.fmax(values[name], new)
    tolerance = _tolerance(np.float64)
    poor = (values["q_error"] > tolerance * values["q"]) | (values["c_error"] > 10 * tolerance)
    values["status"][(values["status"] == Status.CONVERGED) & poor] = Status.INACCURATE


def _tolerance(dtype):
    return jnp.finfo(dtype).eps ** (3 / 8)


def is_well_conditioned(q, errors):
    """Whether q and c are as accurate as CONVERGED promises."""
    tolerance = _tolerance(q.dtype)
    q_error, c_error = errors
    return (q_error <= tolerance * jax.lax.stop_gradient(q)) & (c_error <= 10 * tolerance)


def may_be_a_fold(q, chi_q, error):
    """Whether moments that differ by their error may have no fixed point here: two merge where chi_q = 1."""
    error = _with_rounding(error)
    return jax.lax.stop_gradient((1 - chi_q) ** 2 <= 2 * error)


def _with_rounding(error):
    """An estimate may be too small by chance, and knows nothing of the last digits."""
    return _ROUNDING * jnp.finfo(error.dtype).eps + _CAUTION * error


_ROUNDING, _CAUTION, _ANGULAR = 16, 8, 64


def as_table(result, labels=None) -> str:
    """What ``repr`` shows of a result: a row a field, statuses and phases by name."""
    labels = labels or {}
    fields = {name: text.described(values, _NAMES.get(name)) for name, values in vars(result).items()}
    shape = getattr(next(iter(vars(result).values())), "shape", ())
    title = type(result).__name__ + (f", shape {tuple(shape)}" if shape else "")
    return text.table(title, [[labels.get(name, name), *cells] for name, cells in fields.items()])


def masked(result, valid):
    """A result of any kind, a dataclass with a status, NaN and INVALID where not ``valid``."""
    codes = {"status": Status.INVALID, "phase": Phase.UNDEFINED}
    fields = {name: jnp.where(valid, value, codes.get(name, jnp.nan)) for name, value in vars(result).items()}
    fields |= {name: fields[name].astype(jnp.int32) for name in codes if name in fields}
    return type(result)(**fields)


def phase_of(chi_1, status):
    """``Phase`` from chi_1 (or the growth of gradients, where that is another) and the variance's status."""
    tolerance = jnp.finfo(chi_1.dtype).eps ** (2 / 3)
    stays = (status == Status.CONVERGED) | (status == Status.MARGINAL)
    phase = jnp.where(chi_1 > 1, Phase.CHAOTIC, Phase.ORDERED)
    at_one = jnp.where(stays, Phase.CRITICAL, Phase.NEUTRAL)
    phase = jnp.where(jnp.abs(chi_1 - 1) <= tolerance, at_one, phase)
    return jnp.where(jnp.isnan(chi_1), Phase.UNDEFINED, phase)
