"""The priors that come into question for an activation and a depth, and why others do not."""

from dataclasses import dataclass

import numpy as np

from meanfield.activations.activation import Activation
from meanfield.advice.escape import Wandering
from meanfield.fixed_points.criticality import CriticalLine, critical_line, critical_point
from meanfield.fixed_points.gains import preserving_weight_var
from meanfield.maps import c_map
from meanfield.priors import NormalPrior
from meanfield.status import Status

_VARIANCES = np.geomspace(1e-3, 1e3, 121)  # of the critical line
_PLACES = np.geomspace(1e-7, 2.0, 48)  # 1 - c at which the c-map is known, interpolated between
_KEPT = np.exp(-1)  # share of their distance that two signals are to keep
_AS_GOOD = 0.99  # of the most: nearer to 1 goes first
_NARROW = 256  # neurons a layer with which the variance is to stay where it is
_TRIED = 24  # variances at which the c-map is followed


@dataclass(frozen=True)
class Proposal:
    """A prior that is critical, or keeps the variance; q: the variance at which it does.

    scale_free: whether it does so at every variance. width: neurons a layer below which the variance
    may leave q before the last layer (``escape.Wandering``).
    """

    name: str
    prior: NormalPrior
    q: float
    xi_q: float = 0.0
    scale_free: bool = False
    width: float = 0.0


def proposals(activation: Activation, c0: float, depth: int) -> tuple[list[Proposal], list[str]]:
    """What comes into question, and a sentence for each kind that does not."""
    found: list[Proposal] = []
    reasons: list[str] = []
    _without_bias(activation, found, reasons)
    wandering = Wandering(activation)
    _on_the_line(activation, wandering, 0.0, "critical, with bias", c0, depth, found, reasons)
    if _has_mean(activation):
        _on_the_line(activation, wandering, 1.0, "critical, rows sum to zero", c0, depth, found, reasons)
    keeping = float(preserving_weight_var(activation))
    if np.isfinite(keeping) and not any(p.scale_free and p.prior.weight_var == keeping for p in found):
        found.append(Proposal("keeps the variance", NormalPrior(keeping), 1.0))
    return found, reasons


def _has_mean(activation) -> bool:
    """Whether the correlation of weights matters: that of odd functions does not."""
    independent, centred = (float(preserving_weight_var(activation, anticorrelation=k)) for k in (0.0, 1.0))
    return abs(centred / independent - 1) > 1e-9


def _without_bias(activation, found, reasons) -> None:
    point = critical_point(activation, 0.0)
    status = Status(int(point.status))
    if status in (Status.CONVERGED, Status.MARGINAL, Status.VANISHING):
        q = float(point.q) if status == Status.CONVERGED else 1.0
        prior = NormalPrior(float(point.weight_var))
        found.append(
            Proposal(
                "critical, no bias", prior, q, _layers(point.chi_q), scale_free=status == Status.MARGINAL
            )
        )
    elif status == Status.UNSTABLE:
        reasons.append(f"without bias chi_1 = 1 at a variance of {float(point.q):.3g} alone, which repels")
    else:
        reasons.append("without bias chi_1 = 1 at no variance")


def _on_the_line(activation, wandering, kappa, name, c0, depth, found, reasons) -> None:
    line = critical_line(activation, _VARIANCES, kappa)
    status = np.asarray(line.status)
    stable = status == Status.CONVERGED
    where = "" if kappa == 0 else " with rows that sum to zero"
    if not stable.any():
        if not (status == Status.MARGINAL).any():
            why = "does not attract" if np.any(status != Status.INVALID) else "takes a negative bias variance"
            reasons.append(f"on the critical line{where} every variance from 0.001 to 1000 {why}")
        return
    lowest = _VARIANCES[stable].min()
    below = status[: np.argmax(stable)]
    if lowest > 1 and (below != Status.MARGINAL).all():
        why = "does not attract" if np.any(below != Status.INVALID) else "takes a negative bias variance"
        reasons.append(f"on the critical line{where} a variance below about {lowest:.2g} {why}")
    width = np.where(stable, _needed_width(wandering, line, kappa, depth), np.inf)
    held = stable & (width <= max(_NARROW, width[stable].min()))
    i = _chosen(activation, line, np.flatnonzero(held), kappa, c0, depth)
    weight_var, bias_var, q, chi_q = (
        float(x[i]) for x in (line.weight_var, line.bias_var, line.q, line.chi_q)
    )
    prior = NormalPrior(weight_var, bias_var, kappa)
    found.append(Proposal(name, prior, q, _layers(chi_q), width=float(width[i])))


def _needed_width(wandering: Wandering, line: CriticalLine, kappa, depth: int) -> np.ndarray:
    weight_var, bias_var = (np.asarray(x, float).clip(0) for x in (line.weight_var, line.bias_var))
    prior = NormalPrior(weight_var, bias_var, np.full(weight_var.shape, kappa))
    xi_q = np.array([_layers(chi) for chi in np.asarray(line.chi_q)])
    return wandering.needed_width(prior, _VARIANCES, xi_q, depth)


def _chosen(activation, line: CriticalLine, stable, kappa, c0, depth) -> int:
    """The point on the line nearest to q = 1 at which two signals keep a part 1/e of their distance.

    Where they keep it nowhere, the point at which they keep most.
    """
    near = stable[np.argsort(np.abs(np.log(_VARIANCES[stable])))]
    tried = near[np.linspace(0, near.size - 1, min(_TRIED, near.size)).astype(int)]
    column = lambda x: np.asarray(x)[tried][:, None]
    prior = NormalPrior(column(line.weight_var), column(line.bias_var), kappa)
    c = c_map(activation, prior, c=1 - _PLACES[None], q=_VARIANCES[tried][:, None])
    logs = np.log(np.maximum(1 - np.asarray(c), 1e-300))
    kept = [_followed(row, 1 - c0, depth) / (1 - c0) for row in logs]
    good = [i for i, share in zip(tried, kept, strict=True) if share >= _KEPT]
    return good[0] if good else tried[int(np.argmax(np.array(kept) > _AS_GOOD * max(kept)))]


def _followed(log_next, distance: float, depth: int) -> float:
    """1 - c after ``depth`` layers, by a c-map known at ``_PLACES``."""
    at, x = np.log(_PLACES), np.log(distance)
    for _ in range(depth):
        x = np.interp(x, at, log_next) if x > at[0] else x + log_next[0] - at[0]
    return float(np.exp(x))


def _layers(chi) -> float:
    """The depth scale of a slope."""
    chi = abs(float(chi))
    return np.inf if chi >= 1 else (-1 / np.log(chi) if chi > 0 else 0.0)
