"""What a fixed point says of a network."""

from dataclasses import dataclass

import jax.numpy as jnp
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
    status: integers of ``Status``. phase: integers of ``Phase``, from chi_1 and status.

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

    def __repr__(self):
        return as_table(self, labels=_LABELS)


def as_table(result, labels=None) -> str:
    """What ``repr`` shows of a result: a row a field, statuses and phases by name."""
    labels = labels or {}
    fields = {name: text.described(values, _NAMES.get(name)) for name, values in vars(result).items()}
    shape = getattr(next(iter(vars(result).values())), "shape", ())
    title = type(result).__name__ + (f", shape {tuple(shape)}" if shape else "")
    return text.table(title, [[labels.get(name, name), *cells] for name, cells in fields.items()])


def masked(result, valid):
    """A fixed point of any kind, NaN and INVALID where not ``valid``."""
    codes = {"status": Status.INVALID, "phase": Phase.UNDEFINED}
    fields = {name: jnp.where(valid, value, codes.get(name, jnp.nan)) for name, value in vars(result).items()}
    fields |= {name: fields[name].astype(jnp.int32) for name in codes}
    return type(result)(**fields)


def phase_of(chi_1, status):
    """``Phase`` from the slope of the c-map at c = 1 and the status of the variance."""
    tolerance = jnp.finfo(chi_1.dtype).eps ** (2 / 3)
    stays = (status == Status.CONVERGED) | (status == Status.MARGINAL)
    phase = jnp.where(chi_1 > 1, Phase.CHAOTIC, Phase.ORDERED)
    at_one = jnp.where(stays, Phase.CRITICAL, Phase.NEUTRAL)
    phase = jnp.where(jnp.abs(chi_1 - 1) <= tolerance, at_one, phase)
    return jnp.where(jnp.isnan(chi_1), Phase.UNDEFINED, phase)
