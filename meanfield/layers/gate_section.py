"""The gain of a gated unit as a function of the angle, about the angle where it takes a value."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from meanfield.numerics.pytrees import register_dataclass, replaced

_STEPS = 3


@register_dataclass
@dataclass(frozen=True, eq=False)
class GateSection:
    r"""offset + factor chord (up + spread cos theta), in one cell of the gates' angle.

    gate: the chord of the gate's pre-activations (``dual.tables.lookup.AngleSection``), whose angle is
    that with sin(angle/2) = shrink sin(theta/2): smaller than theta where they have a bias.
    up + spread cos theta: covariance of the factor that is not gated.
    """

    gate: Any
    up: Any
    spread: Any
    shrink: Any
    offset: Any = 0.0
    factor: Any = 1.0

    @classmethod
    def near(cls, section, value, up, spread, shrink) -> "GateSection":
        """Near the angle where chord (up + spread cos theta) is the value. section: the gate's chord."""
        guess = _guess(*jax.lax.stop_gradient((section, value, up, spread, shrink)))
        return cls(section.about(guess), up, spread, shrink)

    @property
    def start(self):
        return self.gate.start

    def scaled(self, offset, factor) -> "GateSection":
        """offset + factor times this."""
        return replaced(self, offset=offset + factor * self.offset, factor=factor * self.factor)

    def lowest(self):
        """Position below which there is no angle in this cell."""
        return self.gate.lowest()

    def gain_of_place(self, place):
        """(value, derivative) at a position in the cell."""
        chord, chord_rate = self.gate.gain_of_place(place)
        angle = self.gate.angle_of_place(place)
        sine = jnp.sin(angle / 2)
        slope = -2 * self.spread / self.shrink**2 * sine
        up = self.up + self.spread + slope * sine
        up_rate = slope * jnp.sqrt(1 - sine**2) * self.gate.angle_rate(angle)
        return self._gain(chord, chord_rate, up, up_rate)

    def _gain(self, chord, chord_rate, up, up_rate):
        return self.offset + self.factor * chord * up, self.factor * (chord_rate * up + chord * up_rate)

    def angle_of_place(self, place):
        sine = jnp.sin(self.gate.angle_of_place(place) / 2) / self.shrink
        return 2 * jnp.arcsin(jnp.clip(sine, -1.0, 1.0))

    def gain_and_slope(self, theta):
        """(value, derivative) at an angle."""
        sine = self.shrink * jnp.sin(theta / 2)
        chord, chord_rate = self.gate.gain_and_slope(2 * jnp.arcsin(sine))
        angle_rate = self.shrink * jnp.cos(theta / 2) / jnp.sqrt(1 - sine**2)
        up, up_rate = self.up + self.spread * jnp.cos(theta), -self.spread * jnp.sin(theta)
        return self._gain(chord, chord_rate * angle_rate, up, up_rate)


def _guess(section, value, up, spread, shrink):
    """Where, in cells of the angle, chord (up + spread cos theta) takes a value: within tenths of a cell.

    By Newton's method in the root of the share of its way that the chord has fallen, on the table of
    angles for these shares.
    """
    angle_of = lambda w: section.angle(section.fallen(w) / section.columns())
    top, bottom = section.end(0), section.end(1)
    fall, of_angle = top - bottom, 2 * spread / shrink**2
    # First as if the covariance fell with the chord: a quadratic equation for the share.
    both = up + spread
    a, b, c = fall * of_angle / 2, fall * both + top * of_angle / 2, top * both - value
    share = 2 * c / (b + jnp.sqrt(jnp.maximum(b * b - 4 * a * c, 0.0)))
    w = jnp.sqrt(jnp.clip(share, 0.0, 1.0))

    def step(_, w):
        angle, rate = jax.jvp(angle_of, (w,), (jnp.ones_like(w),))
        chord, sine = top - fall * w * w, jnp.sin(angle / 2)
        rest = both - of_angle * sine**2
        slope = -2 * fall * w * rest - chord * of_angle * sine * jnp.cos(angle / 2) * rate
        return jnp.clip(w - (chord * rest - value) / jnp.where(slope == 0, -jnp.inf, slope), 0.0, 1.0)

    return section.fallen(jax.lax.fori_loop(0, _STEPS, step, w))
