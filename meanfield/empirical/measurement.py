"""What is measured in an ensemble of networks, and how it is averaged."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from meanfield.numerics.pytrees import register_dataclass


@register_dataclass
@dataclass(frozen=True, eq=False)
class LayerStatistics:
    """Averages over the neurons of each layer; shape (..., depth + 1), entry 0 the start.

    q, q2: mean square pre-activation under the first and the second input. c: their
    uncentred correlation; one_minus_c: 1 - c, to full relative accuracy. mean: mean
    pre-activation. activity: mean phi(h)^2. inactive: fraction of neurons with
    h <= 0; dead: with h <= 0 on every input. growth: of the squared norm of a
    transverse tangent, from the layer before (1 in entry 0). gradient: squared norm of
    the gradient with respect to the layer's pre-activations over that of the last
    layer's, for a random direction there; None where it was not asked for.
    exponents, shape (..., tangents): Lyapunov exponents, rates per layer, by QR.

    Of a layer (in place of an activation and a prior) q, one_minus_c, growth and gradient are measured, the
    others are None. They are averages over what its signals have: the positions of an image, a batch about
    its mean, all tokens and all pairs of them; tangents and gradients are those of all signals together.
    """

    q: Float[Array, "... layers"]
    one_minus_c: Float[Array, "... layers"]
    growth: Float[Array, "... layers"]
    q2: Any = None
    c: Any = None
    mean: Any = None
    activity: Any = None
    inactive: Any = None
    dead: Any = None
    exponents: Any = None
    gradient: Any = None


@dataclass(frozen=True, eq=False)
class Measurement:
    """An ensemble's statistics: ``samples`` by network, shape (networks, depth + 1).

    activation, prior: what was drawn; or a layer, or a sequence of some, and None.
    """

    activation: Any
    prior: Any
    width: int
    method: str
    samples: LayerStatistics

    def __repr__(self):
        sizes = f"{self.networks} networks of width {self.width}, depth {self.depth}"
        return f"Measurement({self.name}, {sizes}, {self.method!r})"

    @property
    def name(self) -> str:
        """What was drawn, in a few words."""
        if self.prior is not None:
            return f"{self.activation!r}, {self.prior!r}"
        return kinds_of(self.activation)

    @property
    def networks(self) -> int:
        """How many networks were measured."""
        return self.samples.q.shape[0]

    @property
    def depth(self) -> int:
        """Number of layers after the first."""
        return self.samples.q.shape[1] - 1

    @property
    def mean(self) -> LayerStatistics:
        """Averages over the networks in which a statistic is defined."""
        return jax.tree.map(lambda x: _moments(x)[0], self.samples)

    @property
    def standard_error(self) -> LayerStatistics:
        """Their standard errors, from the spread between networks."""
        return jax.tree.map(lambda x: _moments(x)[1], self.samples)


def _moments(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    known = np.isfinite(samples)
    count = known.sum(axis=0)
    total = np.where(known, samples, 0).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / count
        square = np.where(known, (samples - mean) ** 2, 0).sum(axis=0)
        return mean, np.where(count > 1, np.sqrt(square / (count - 1) / count), np.nan)


def kinds_of(layer) -> str:
    """The kinds of layers that a layer consists of, as in ``Residual(Chain(RMSNorm, Dense))``."""
    kind = type(layer).__name__
    if isinstance(layer, list | tuple):
        return f"[{', '.join(map(kinds_of, layer))}]"
    held = [getattr(layer, name, None) for name in ("branch", "mlp")]
    inner = [*getattr(layer, "layers", ()), *(x for x in held if x is not None)]
    return f"{kind}({', '.join(map(kinds_of, inner))})" if inner else kind
