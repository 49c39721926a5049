"""One layer of an asymmetric network at one noise level: what it does to a law, and to a tangent."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.activations.activation import Activation
from meanfield.asymmetric.density.grid import NODES, Grid, Kernel, integration_rule, series
from meanfield.numerics.roots import nonzero


@dataclass(frozen=True, eq=False)
class Signals:
    """phi and phi' on the nodes of an integration rule for the law of h = noise * x.

    ``expect(f, law)`` integrates values on the nodes against a law on the grid.
    """

    grid: Grid
    x: jax.Array
    weights: jax.Array
    interpolate: Callable
    phi: jax.Array
    slope: jax.Array

    @classmethod
    def of(cls, grid: Grid, activation: Activation, noise) -> "Signals":
        x, weights, interpolate = integration_rule(grid, activation, noise)
        h = noise * x
        phi, slope = jax.jvp(activation, (h,), (jnp.ones_like(h),))
        return cls(grid, x, weights, interpolate, phi, slope)

    def masses(self, law):
        """A law's mass at every node."""
        return self.weights * self.interpolate(self.grid, law)

    def expect(self, values, law):
        return jnp.sum(values * self.masses(law))

    def unresolved(self, law):
        """Relative error of E phi^2 that its integrand's Legendre coefficients on every panel betray.

        Gauss's rule is exact to twice the degree of the last of them, hence the square.
        """
        integrand = (self.phi**2 * self.interpolate(self.grid, law)).reshape(-1, NODES)
        size = jnp.abs(series(integrand))
        largest = jnp.max(size, axis=1)
        lost = jnp.max(size[:, -2:], axis=1) ** 2 / nonzero(largest)
        widths = jnp.sum(self.weights.reshape(-1, NODES), axis=1)
        activity = jnp.sum(self.phi**2 * self.masses(law))
        return jnp.sum(lost * widths) / nonzero(activity)


def transported(kernel: Kernel, signals: Signals, noise, law):
    """Density of x' = B phi(h)/noise + z on the grid, ``law`` being that of h."""
    return _spread(kernel, kernel.plain, signals, noise, signals.masses(law))


def transported_tangent(kernel: Kernel, signals: Signals, noise, tangent):
    """Of E[delta^2; x], the part that the special weight carries: delta' = B phi'(h) delta."""
    masses = signals.masses(tangent) * signals.slope**2
    return _spread(kernel, kernel.squared, signals, noise, masses)


def bent(kernel: Kernel, signals: Signals, noise, law):
    """Half the second derivative of x' density: its response to the noise's relative variance."""
    return _spread(kernel, kernel.bent, signals, noise, signals.masses(law))


def _spread(kernel, table, signals, noise, masses):
    panel, polynomials = kernel.grid.locate(kernel.scale * signals.phi / noise)
    projected = jnp.zeros((kernel.grid.panels, NODES), masses.dtype)
    projected = projected.at[panel].add(polynomials * masses[:, None])
    return jnp.asarray(table, masses.dtype) @ projected.ravel()


def unresolved(grid: Grid, law):
    """How much of a law its panels do not hold: the mass of the last two coefficients."""
    tail = jnp.abs(grid.coefficients(law)[:, -2:]).sum(axis=1)
    return jnp.sum(tail * jnp.asarray(np.diff(grid.edges), tail.dtype))
