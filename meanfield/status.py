"""Result codes: what became of a fixed point, and which phase it lies in."""

from enum import Enum, IntEnum


class _Code(IntEnum):
    """An integer that prints as its name."""

    __format__ = Enum.__format__  # of the name, not of the integer

    def __str__(self) -> str:
        return self.name


class Status(_Code):
    """What the iteration ``q -> Q(q)``, and then ``c -> C(c)``, ends at.

    Arrays of these integers come back from every solver; ``Status(code).message``
    is the sentence that belongs to a code. Failure is data here, not an exception:
    it survives ``jit`` and ``vmap`` and concerns one point alone.
    """

    CONVERGED = 0
    UNBOUNDED = 1
    VANISHING = 2
    MARGINAL = 3
    UNSTABLE = 4
    MAX_STEPS = 5
    INVALID = 6
    INACCURATE = 7
    DRIFTING = 8

    @property
    def message(self) -> str:
        """One sentence saying what the code means."""
        return _MESSAGES[self]


_MESSAGES = {
    Status.CONVERGED: "The variance converges to a finite, non-zero, stable fixed point.",
    Status.UNBOUNDED: "The variance grows without bound; c and the chi's are those of the limit map.",
    Status.DRIFTING: "The variance grows linearly with depth; c is approached by a power of the depth.",
    Status.VANISHING: "The variance decays to zero; c and the chi's are those of the limit map.",
    Status.MARGINAL: "Every variance is a fixed point; q is the starting value.",
    Status.UNSTABLE: "The fixed point repels (|chi_q| > 1): the variance leaves it, or oscillates about it.",
    Status.MAX_STEPS: "The solver ran out of steps before its residual was small.",
    Status.INVALID: "A parameter is outside its domain (see NormalPrior) or not a number.",
    Status.INACCURATE: (
        "The quadrature cannot resolve the activation at this variance; "
        "declare its kinks: Activation(fn, kinks=(...))."
    ),
}


class Phase(_Code):
    """Whether nearby signals merge or part with depth, from chi_1 = C'(1); of noisy layers, gradients alone.

    CRITICAL: chi_1 = 1 at a variance that stays (CONVERGED, MARGINAL), so that gradients keep their norm.
    NEUTRAL: chi_1 = 1 where it does not: the limit map neither merges nor parts signals, and gradients grow
    or vanish with the variance, by chi_perp a layer.
    """

    ORDERED = 0
    CRITICAL = 1
    CHAOTIC = 2
    UNDEFINED = 3
    NEUTRAL = 4
