"""Which initialisation for which depth."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from meanfield.activations.activation import Activation
from meanfield.activations.names import as_activation
from meanfield.advice.candidates import Proposal, proposals
from meanfield.advice.outcome import Outcome, outcomes
from meanfield.advice.snippets import snippet
from meanfield.layers import Dense, Layer
from meanfield.priors import NormalPrior, OrthogonalPrior
from meanfield.spectra.isometry import isometry
from meanfield.support import text, validation

_WIDE = 64  # neurons a layer; what needs more is worth a word
_SETTLED = 0.01  # relative distance from q* that no longer matters


@dataclass(frozen=True)
class Candidate:
    """One initialisation and what the depth makes of signals under it.

    prior: of the hidden layers. start: the variance q_1 to which the first layer is to bring the inputs.
    outcome: q, 1 - c and the gradient at the end. spread: standard deviation of the squared singular
    values of the Jacobian over their mean (NaN where unknown), which orthogonal weights make smaller.
    notes: what to beware of.
    """

    name: str
    prior: Any
    start: float
    outcome: Outcome
    spread: float = float("nan")
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recommendation:
    """Initialisations for an activation and a depth, the best first.

    reasons: why others are not among them. c0: correlation of two signals at the start.
    """

    activation: Activation | Layer
    depth: int
    c0: float
    candidates: tuple[Candidate, ...]
    reasons: tuple[str, ...] = ()

    @property
    def best(self) -> Candidate:
        """Where gradient, variance and distance of two signals change least over the depth."""
        return self.candidates[0]

    def snippet(self, framework: str = "nnx", candidate: Candidate | None = None) -> str:
        """Code that runs as it is: a network with that initialisation in "nnx", "linen" or "torch".

        candidate: the best one if left out. The code draws the network, sends two inputs through it and
        prints the variance that it promises. Raises ValueError for another framework, for a layer and for an
        activation that has no name there.
        """
        if isinstance(self.activation, Layer):
            raise ValueError("snippets are written for an activation: a layer is in your own code already")
        chosen = candidate or self.best
        return snippet(framework, self.activation, chosen.prior, self.depth, chosen.start, chosen.outcome.q)

    def __repr__(self):
        head = ["", "weight_var", "bias_var", "kappa", "q_1", "q_L", "c_L", "gradient", "spread"]
        rows = [[c.name, *_cells(c)] for c in self.candidates]
        title = f"{self.activation!r}, depth {self.depth}, two signals that start at c = {self.c0:g}"
        notes = [f"  {c.name}: {note}" for c in self.candidates for note in c.notes]
        reasons = [f"  not: {reason}" for reason in self.reasons]
        return "\n".join([text.table(title, [head, *rows]), *notes, *reasons])


def _cells(candidate: Candidate) -> list[str]:
    prior, outcome = candidate.prior, candidate.outcome
    names = ("weight_var", "bias_var", "anticorrelation")
    parameters = ["" if prior is None else f"{float(getattr(prior, name)):.6g}" for name in names]
    numbers = (candidate.start, outcome.q, 1 - outcome.one_minus_c, outcome.gradient, candidate.spread)
    return [*parameters, *("" if np.isnan(number) else f"{number:.4g}" for number in numbers)]


def recommend(activation_or_layer, depth: int, *, q0: float | None = None, c0: float = 0.5) -> Recommendation:
    """Initialisations for a network of ``depth`` layers, the best first, with what each does to signals.

    activation_or_layer: an activation (name, function or ``Activation``) of dense layers, for which priors
        are searched: critical without bias, on the critical line, with rows that sum to zero, orthogonal,
        and that which keeps a variance of 1. Or a ``Layer``, with its weights: what it does at that depth.
    depth: how many layers follow the first. q0: variance that the first layer's pre-activations have, where
        that is given; if left out each prior starts at its own q*, and snippets scale the first layer so.
    c0: correlation of two signals at the start, -1 <= c0 < 1.

    On the critical line the variance nearest to 1 is taken at which two signals keep a part 1/e of
    their distance over the depth, of those that 999 of 1000 networks of width 256 keep over the
    depth: at finite width the variance fluctuates, and may leave for good. Where there is none, that
    which the narrowest networks keep; a note says how wide they must be. The order is that of
    ``Outcome.change``: by how many factors e gradient, variance and distance change together. Computed
    in double precision.

    Raises TypeError or ValueError. Source: THEORY sections 3 to 6; Schoenholz et al. 2017 (critical line),
    Pennington et al. 2017 (orthogonal weights), He et al. 2015 (keeping the variance).
    """
    depth = validation.count("depth", depth)
    c0 = float(validation.real("c0", c0, low=-1.0, high=1.0))
    if c0 == 1:
        raise ValueError("c0 must be below 1, got 1: equal signals stay equal")
    if q0 is not None:
        q0 = float(validation.real("q0", q0, low=0.0, low_open=True))
    with jax.enable_x64(True):
        if isinstance(activation_or_layer, Layer):
            start = 1.0 if q0 is None else q0
            outcome = outcomes(activation_or_layer, start, c0, depth)[0]
            given = Candidate("as given", None, start, outcome, notes=_notes(outcome))
            return Recommendation(activation_or_layer, depth, c0, (given,))
        activation = as_activation(activation_or_layer)
        found, reasons = proposals(activation, c0, depth)
        if not found:
            raise ValueError(f"no prior keeps signals of {activation!r}: {'; '.join(reasons)}")
        candidates = _candidates(activation, found, depth, q0, c0)
    return Recommendation(activation, depth, c0, tuple(candidates), tuple(reasons))


def _candidates(activation, found: list[Proposal], depth, q0, c0) -> list[Candidate]:
    starts = np.array([p.q if q0 is None else q0 for p in found])
    columns = (np.array([float(getattr(p.prior, name)) for p in found]) for name in NormalPrior.parameters)
    layer = Dense(activation, NormalPrior(*columns))
    ends = outcomes(layer, starts, c0, depth)
    candidates = []
    for proposal, start, outcome in zip(found, starts, ends, strict=True):
        spread, stays = _spread(activation, proposal.prior, depth, start)
        leaves = (_LEAVES,) if not stays and abs(start / proposal.q - 1) <= _SETTLED else ()
        notes = (*leaves, *_loosely(proposal), *_transient(proposal, start, depth), *_notes(outcome))
        candidates.append(Candidate(proposal.name, proposal.prior, float(start), outcome, spread, notes))
    candidates.sort(key=lambda c: c.outcome.change)
    return _with_orthogonal(activation, candidates, depth)


def _with_orthogonal(activation, candidates: list[Candidate], depth) -> list[Candidate]:
    """The best of independent weights again with orthogonal ones, behind it."""
    i, best = next((i, c) for i, c in enumerate(candidates) if c.prior.anticorrelation == 0)
    prior = OrthogonalPrior(best.prior.weight_var, best.prior.bias_var)
    spread, _ = _spread(activation, prior, depth, best.start)
    other = Candidate(f"{best.name}, orthogonal", prior, best.start, best.outcome, spread, best.notes)
    return [*candidates[: i + 1], other, *candidates[i + 1 :]]


_LEAVES = "signals do not come back to this variance: at finite width they leave it"


def _spread(activation, prior, depth, start) -> tuple[float, bool]:
    """That of the Jacobian at q*, NaN where signals do not start there; and whether they do."""
    found = isometry(activation, prior, depth, q0=start)
    stays = abs(float(found.q) / start - 1) <= _SETTLED
    return float(found.spread) if stays else float("nan"), stays


def _loosely(proposal: Proposal) -> tuple[str, ...]:
    """Whether the variance is drawn back so weakly that a finite width lets it leave for good."""
    if proposal.scale_free or not proposal.width > _WIDE:
        return ()
    width = float(f"{proposal.width:.2g}")
    return (
        f"networks narrower than about {width:.6g} may lose the variance (xi_q = {proposal.xi_q:.3g} layers)",
    )


def _transient(proposal: Proposal, start: float, depth: int) -> tuple[str, ...]:
    """Whether the depth is too short for the variance to settle."""
    off = abs(start / proposal.q - 1)
    if proposal.scale_free or off <= _SETTLED:
        return ()
    needed = proposal.xi_q * np.log(off / _SETTLED)
    if needed <= depth:
        return ()
    return (f"the variance is still on its way to q* = {proposal.q:.3g}: xi_q = {proposal.xi_q:.3g} layers",)


def _notes(outcome: Outcome) -> tuple[str, ...]:
    notes = []
    if not np.isfinite(outcome.gradient) or not 1e-2 < outcome.gradient < 1e2:
        notes.append(f"the squared gradient changes by a factor {outcome.gradient:.2g} over this depth")
    if not 1e-2 < outcome.q / outcome.q0 < 1e2:
        notes.append(f"the variance changes by a factor {outcome.q / outcome.q0:.2g} over this depth")
    if outcome.kept < 0.1:
        notes.append(f"two signals keep {outcome.kept:.2g} of their distance over this depth")
    return tuple(notes)
