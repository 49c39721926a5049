"""What stands between an activation and the weights behind it: the part of a layer, not a layer."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array


@dataclass(frozen=True, eq=False)
class Sent:
    """What weights multiply: statistics of one signal over the neurons, and what became of differences.

    mean, variance: over the neurons. share, gap: of two signals of equal variance, half the squared
    difference is share times that of their activations, plus gap. tangent: the same factor for a
    perturbation of one signal, which meets the noise that the signal meets.
    """

    mean: Any
    variance: Any
    share: Any = 1.0
    gap: Any = 0.0
    tangent: Any = 1.0

    def times(self, factor) -> "Sent":
        """All signals times the square root of a number."""
        mean = jnp.sqrt(factor) * self.mean
        return Sent(
            mean, factor * self.variance, factor * self.share, factor * self.gap, factor * self.tangent
        )

    def centred(self) -> "Sent":
        """All signals less their mean over the neurons."""
        return replace(self, mean=jnp.zeros_like(self.mean))


class Part:
    """Parameters that are leaves of a pytree, as parts and layers have them.

    A part that may stand between an activation and its weights has two methods.
    ``on_activations(sent)`` takes a ``Sent`` to the next one. ``on_pair(first, second, covariance)`` takes
    the centred covariance of two signals, and the ``Sent`` of both, to that behind the part.
    """

    keeps_one: ClassVar[Any] = True
    """Whether equal signals stay equal: C(1) = 1."""

    bounds: ClassVar[Any] = False
    """Whether signals of any size come out of one size, as behind a norm."""
    no_layer: ClassVar[Any] = ""
    """What to use instead where a layer is asked for, if this can be put into none."""
    no_positions: ClassVar[Any] = ""
    """What to use instead where a map of covariances between positions is asked for, if there is none."""
    about_batch: ClassVar[Any] = False
    """Whether signals are counted from the mean of their batch, as ``BatchNorm`` leaves them."""

    def affine(self) -> tuple[Any, Any] | None:
        """(growth, offset) if the variance goes to growth q + offset, for want of any scale; else None.

        A growth that is 0 whatever the parameters, as of a norm without eps, is the number 0.0 itself.
        """
        return None

    def asymptote(self, at_zero) -> Any:
        """(part, known, smooth) as vanishing signals see it where ``at_zero``, else unbounded ones."""
        return None

    def is_valid(self) -> Array:
        """Whether all parameters are inside their domain."""
        return jnp.all(jnp.array([True, *(jnp.all(jnp.isfinite(x)) for x in _numbers(self))]))

    def guarded(self, valid) -> Self:
        """This part where ``valid``, and elsewhere one on which every solver is safe."""
        return jax.tree.map(lambda x: jnp.where(valid, x, 0.5) if _is_number(x) else x, self)

    def dtype(self):
        """Floating-point type of the parameters."""
        return jnp.result_type(float, *_numbers(self))


def is_nothing(growth) -> bool:
    """Whether the growth of an ``affine`` part is 0 whatever the parameters."""
    return isinstance(growth, float) and growth == 0


def _is_number(leaf) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def _numbers(part) -> list:
    return [x for x in jax.tree.leaves(part) if _is_number(x)]
