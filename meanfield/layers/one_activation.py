"""What layers have in common that read the Gaussian moments of one activation."""

from typing import Any

from meanfield.layers.base import Layer
from meanfield.layers.dense_limits import beside
from meanfield.numerics.pytrees import replaced


class OneActivation(Layer):
    """A layer with an ``activation`` and its moments, ``dual``, at one variance for each of its input."""

    activation: Any
    dual: Any

    def _met(self, q):
        """The variance at the activation if q is that of the layer's input."""
        return q

    def error(self, q):
        return self.dual.error(self._met(q))

    def growth_error(self, q):
        return self.dual.line_error(self._met(q))

    def moment_errors(self, q):
        return self.dual.line_errors(self._met(q))

    def slope_error(self, q):
        return self.dual.slope_error(self._met(q))

    @property
    def traced(self):
        return self.activation.traced

    def moments(self):
        return [(self.activation, self.dual)]

    def with_moments(self, duals):
        dual = next(duals)
        return replaced(self, dual=dual, activation=beside(dual, self.activation))

    def variances_met(self, q):
        return [self._met(q)]

    def near(self, q):
        return replaced(self, dual=self.dual.near(self._met(q)))

    def exact(self):
        return replaced(self, dual=self.dual.exact())

    @property
    def points_at_once(self):
        return self.dual.points_at_once
