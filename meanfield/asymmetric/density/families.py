"""Tables of stationary laws, each a function of one number, which serve all priors.

A law at a finite fixed point depends on the noise level s; one that grows or decays
for ever, where phi is piecewise linear, on its growth per layer.
"""

import itertools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.activations.activation import Activation
from meanfield.asymmetric.density.gain import largest_carried
from meanfield.asymmetric.density.grid import Kernel
from meanfield.asymmetric.density.stationary import StationaryLaw, stationary_law
from meanfield.numerics.pytrees import register_dataclass
from meanfield.numerics.roots import nonzero

_NODES = 12
_LAWS_AT_ONCE = 64
_HEAVIEST = 0.97  # share of the special weight's largest growth at which its tail is still resolved


@register_dataclass
@dataclass(frozen=True, eq=False)
class Family:
    """Stationary laws on Chebyshev panels of t, the binary logarithm of the family's parameter.

    nodes: values of t, ascending, shape (panels, NODES). laws: ``StationaryLaw`` with
    leaves (panels, NODES, ...); log_activity: its logarithm, and mean_share =
    E phi / sqrt(E phi^2).
    """

    nodes: jax.Array
    laws: StationaryLaw
    log_activity: jax.Array
    mean_share: jax.Array

    @classmethod
    def of(cls, nodes, laws: StationaryLaw) -> "Family":
        tiny = jnp.finfo(laws.activity.dtype).tiny
        activity = jnp.maximum(laws.activity, tiny)
        return cls(nodes, laws, jnp.log(activity), laws.mean / jnp.sqrt(activity))

    def at(self, t) -> tuple[StationaryLaw, jax.Array, jax.Array]:
        """(law, log activity, mean share) at t, continued by straight lines beyond the panels."""
        inside, panel, weights, slopes = self._weights(t)
        beyond = t - inside
        pick = lambda values, w: jnp.tensordot(w, values[panel], 1)
        law = jax.tree.map(lambda values: pick(values, weights), self.laws)
        log_activity = pick(self.log_activity, weights) + beyond * pick(self.log_activity, slopes)
        return law, log_activity, pick(self.mean_share, weights)

    def spend(self, t, kappa):
        """log of E phi^2 - kappa (E phi)^2 at t, in units of the noise squared."""
        _, log_activity, share = self.at(t)
        return log_activity + jnp.log1p(-kappa * share**2)

    def spend_at_nodes(self, kappa):
        return self.log_activity + jnp.log1p(-kappa * self.mean_share**2)

    def _weights(self, t):
        nodes = self.nodes
        if nodes.shape == (1, 1):
            return jax.lax.stop_gradient(t), 0, jnp.ones(1, t.dtype), jnp.zeros(1, t.dtype)
        edges = _edges_from(nodes)
        inside = jnp.clip(t, edges[0], edges[-1])
        panel = jnp.clip(jnp.searchsorted(edges, inside, side="right") - 1, 0, nodes.shape[0] - 1)
        low, high = edges[panel], edges[panel + 1]

        def weights_at(x):
            return _chebyshev_weights((2 * x - low - high) / (high - low))

        weights, slopes = jax.jvp(weights_at, (inside,), (jnp.ones_like(inside),))
        return inside, panel, weights, slopes


def _edges_from(nodes):
    """Panels' edges, from Chebyshev nodes of the second kind: their ends."""
    return jnp.concatenate([nodes[:, 0], nodes[-1:, -1]])


def _chebyshev_weights(x):
    """Lagrange weights at x of the Chebyshev nodes of the second kind, ascending, by their expansion."""
    k = np.arange(_NODES)
    cosines = np.cos(np.pi * np.outer(k, k) / (_NODES - 1))[:, ::-1]
    ends = np.where((k == 0) | (k == _NODES - 1), 0.5, 1.0)
    matrix = 2 / (_NODES - 1) * ends[:, None] * cosines * ends
    rows = [jnp.ones_like(x), x]
    for _ in range(2, _NODES):
        rows.append(2 * x * rows[-1] - rows[-2])
    return jnp.stack(rows) @ jnp.asarray(matrix, x.dtype)


def _panel_nodes(edges):
    unit = -np.cos(np.pi * np.arange(_NODES) / (_NODES - 1))
    return jnp.stack([(a + b) / 2 + (b - a) / 2 * unit for a, b in itertools.pairwise(edges)])


def family_by_noise(kernel: Kernel, activation: Activation) -> Family:
    """Laws of h' = B phi(h) + s z against log2 s."""
    dtype = jnp.result_type(float, *activation.params)
    wide, fine = np.arange(3, 15, 3.0), np.arange(-5, 5.0)
    edges = np.log2(activation.scale) + np.concatenate([-5 - wide[::-1], fine, 4 + wide])
    nodes = _panel_nodes([jnp.asarray(e, dtype) for e in edges])
    noise = 2.0**nodes
    return Family.of(nodes, _laws(kernel, activation, noise, noise))


def family_of_pieces(kernel: Kernel, left, right) -> Family:
    """The same for phi piecewise linear with one kink at 0: one law serves every noise level."""
    one = jnp.ones((1, 1), jnp.result_type(float, left, right))
    return Family.of(0 * one, _laws(kernel, pieces_activation(left, right), one, one))


def family_by_growth(kernel: Kernel, left, right) -> Family:
    """Laws of signals that shrink by g per layer (s' = s/g), against log2 g, for piecewise linear phi."""
    size = jnp.maximum(jnp.abs(left), jnp.abs(right))
    size = nonzero(size)
    carried = largest_carried(kernel.square, left, right)
    largest = jnp.where(carried > 0, _HEAVIEST / jnp.sqrt(nonzero(carried)), 64 / size)
    largest = jnp.minimum(largest, 64 / size)
    nodes = _panel_nodes(jnp.log2(largest) + jnp.asarray([-10, -5, -2.5, -1.5, -0.8, -0.4, -0.2, -0.1, 0.0]))
    ones = jnp.ones_like(nodes)
    return Family.of(nodes, _laws(kernel, pieces_activation(left, right), ones, 1 / 2.0**nodes))


def _laws(kernel, activation, noise, next_noise) -> StationaryLaw:
    one = lambda pair: stationary_law(kernel, activation, *pair)
    flat = jax.lax.map(one, (noise.ravel(), next_noise.ravel()), batch_size=_LAWS_AT_ONCE)
    return jax.tree.map(lambda x: x.reshape(noise.shape + x.shape[1:]), flat)


def pieces_activation(left, right) -> Activation:
    """The piecewise linear activation with these slopes."""
    return Activation._built_in("pieces", _pieces, (0.0,), (left, right))


def _pieces(x, left, right):
    return jnp.where(x < 0, left * x, right * x)
