"""The colours of phases, statuses and lines: one set for every picture, whatever draws it."""

from meanfield.status import Phase, Status

# Light against dark as well as blue against orange: told apart by every kind of
# colour vision and in a black-and-white print, with black hatches readable on all.
PHASE_COLOURS = {
    Phase.ORDERED: "#B8D7EC",
    Phase.CRITICAL: "#F3E37C",
    Phase.CHAOTIC: "#E08B55",
    Phase.UNDEFINED: "#F7F7F7",
    Phase.NEUTRAL: "#CDCDCD",
}
# Okabe and Ito's colours, with a quiet one for what is the rule.
STATUS_COLOURS = {
    Status.CONVERGED: "#EDEDED",
    Status.UNBOUNDED: "#E69F00",
    Status.VANISHING: "#56B4E9",
    Status.MARGINAL: "#F0E442",
    Status.UNSTABLE: "#CC79A7",
    Status.MAX_STEPS: "#D55E00",
    Status.INVALID: "#333333",
    Status.INACCURATE: "#009E73",
    Status.DRIFTING: "#F5CE86",
}
# Okabe and Ito's, told apart by every kind of colour vision; the yellow is too light for a line.
LINE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A6D3B")
