"""How wide networks must be, or their variance leaves the fixed point before the last layer."""

import jax
import numpy as np

from meanfield.activations.activation import Activation

GRID = np.geomspace(1e-5, 1e5, 401)  # variances on which a network's may wander
_STEP = float(np.log(GRID[1] / GRID[0]))
_NODES = 200  # of Gauss-Hermite; a kink costs a percent or so
_LOST = 1e-3  # share of networks that may lose their variance


class Wandering:
    """The Gaussian moments of an activation that decide how the variance of a finite network wanders.

    Given the variance q_l, that of the next layer is a mean over N independent neurons. Its logarithm drifts
    by log(Q(q)/q) and has the variance a(q)/N, a = sigma_w^4 Var(phi^2 - 2 kappa m phi)/Q^2. To leave the
    basin of a fixed point it must climb against that drift, which it does once in exp(N W) relaxation times,
    W = sum over log q of 2 |drift|/a up to the next fixed point (Freidlin & Wentzell's quasi-potential).
    """

    def __init__(self, activation: Activation):
        z, weights = np.polynomial.hermite_e.hermegauss(_NODES)
        with jax.enable_x64(True), np.errstate(over="ignore", invalid="ignore"):
            phi = np.asarray(activation(np.sqrt(GRID)[:, None] * z), float)
            powers = [phi**k @ (weights / weights.sum()) for k in range(1, 5)]
        self.mean, self.square, self.cube, self.fourth = powers

    def needed_width(self, prior, q, xi_q, depth: int) -> np.ndarray:
        """Neurons a layer with which at most one network in a thousand loses its variance over the depth.

        prior: of arrays of shape (n,). q: their stable fixed points, xi_q: their depth scales, shape (n,).
        """
        cost = np.array([_cost(*row) for row in zip(*self._wandering(prior), q, strict=True)])
        times = np.maximum(depth / np.maximum(xi_q, 1.0), 1.0)
        with np.errstate(divide="ignore"):
            return np.log(times / _LOST) / cost

    def _wandering(self, prior) -> tuple[np.ndarray, np.ndarray]:
        """Drift of log q and N times its variance, by prior and variance of the grid, shape (n, 401)."""
        names = ("weight_var", "bias_var", "anticorrelation")
        weight_var, bias_var, kappa = (np.asarray(getattr(prior, name), float)[..., None] for name in names)
        m, v = self.mean, self.square
        spread = (
            self.fourth - 4 * kappa * m * self.cube + 4 * (kappa * m) ** 2 * v - (v - 2 * kappa * m**2) ** 2
        )
        with np.errstate(all="ignore"):
            after = weight_var * (v - kappa * m**2) + bias_var
            return np.log(after / GRID), weight_var**2 * spread / after**2


def _cost(drift: np.ndarray, noise: np.ndarray, q: float) -> float:
    """W of the easier way out, up or down; the end of the grid counts as a way out."""
    i = int(np.argmin(np.abs(np.log(GRID / q))))
    with np.errstate(all="ignore"):
        climb = 2 * _STEP * drift / noise
    return min(_way(-climb[i + 1 :]), _way(climb[:i][::-1]))


def _way(climb: np.ndarray) -> float:
    """What it costs to go on while the drift points back; what is not known costs nothing."""
    climb = np.nan_to_num(climb, nan=0.0, posinf=np.inf, neginf=0.0)
    out = np.flatnonzero(climb <= 0)
    return float(np.sum(climb[: out[0]] if out.size else climb))
