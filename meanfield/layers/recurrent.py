"""Recurrent layers: one step of time (THEORY of layers, section 6)."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from meanfield.layers.dense import Dense
from meanfield.numerics.pytrees import register_dataclass, replaced
from meanfield.support import validation


@register_dataclass
@dataclass(frozen=True, eq=False, init=False)
class Recurrent(Dense):
    r"""One step of a recurrent network: h_t = W phi(h_(t-1)) + U x_t + b.

    activation: as for ``Dense``. prior: of W and b. input_var: variance of U x_t, at least 0.
        input_correlation: of U x_t between the two signals of a pair, from 0 to 1; None, the default, gives
        both the same input. Numbers or arrays; derivatives may be taken with respect to all.

    The maps are those of one time, of weights drawn once for all times (tied) as of fresh ones (untied).
    Inside a ``Residual``, which makes a leaky network of it, they hold of untied weights alone: a skip
    connection adds what the same W has made. Of the bias variance of ``prior`` the layer shows that with
    input_var. With inputs that differ equal states part: C(1) < 1, and the phase is the gradient's.

    Raises TypeError or ValueError for what is out of range.

    Source: Poole et al. 2016, arXiv:1606.05340; Chen, Pennington & Schoenholz 2018, arXiv:1806.05394.
    """

    input_var: Any
    input_correlation: Any

    no_positions = (
        "a recurrent layer reads an input of its own at every position, whose covariances it does not know: "
        "use Conv or Dense"
    )

    def __init__(self, activation, prior, *, input_var=0.0, input_correlation=None):
        super().__init__(activation, prior)
        check_input(self, input_var, input_correlation)
        validation.same_shape(bias_var=prior.bias_var, input_var=self.input_var)
        object.__setattr__(self, "prior", replaced(prior, bias_var=prior.bias_var + self.input_var))

    @property
    def keeps_one(self):
        return self.input_correlation is None

    def within_batch(self):
        return super(Dense, self).within_batch()

    def gap(self, q):
        return jnp.zeros_like(q) + apart(self)

    def _covariance(self, q1, q2, covariance):
        return super()._covariance(q1, q2, covariance) - apart(self)

    def asymptote(self, at_zero):
        layer, known, smooth = super().asymptote(at_zero)
        return replaced(layer, input_var=jnp.zeros_like(layer.input_var)), known, smooth

    def two_time(self, steps: int, *, q0=1.0, lags=None) -> Float[Array, "times times"]:
        r"""Covariance K(t, s) of one signal's states at two times, for weights drawn once (tied).

        steps: of time. q0: variance of the state at time 0, which is independent of all that follows. lags:
        correlation of U x_t and U x_(t - l) for l = 0, ..., steps, the first of them 1; by default inputs of
        different times are independent. Shape (steps + 1, steps + 1), in units of a squared state.
        Differentiable. The parameters must be scalars (``vmap`` for more). Raises TypeError or ValueError.

        With untied weights it is the input's and the bias' covariance alone off the diagonal.
        Source: THEORY section 12.
        """
        steps = validation.count("steps", steps)
        if any(jnp.ndim(x) for x in (self.prior.weight_var, self.prior.bias_var, self.input_var)):
            raise ValueError("two_time takes a layer of scalar parameters: use vmap for arrays of them")
        lags = [1.0] + [0.0] * steps if lags is None else validation.real("lags", lags, low=-1.0, high=1.0)
        lags = jnp.asarray(lags, self.dtype())
        if lags.shape != (steps + 1,):
            raise ValueError(
                f"lags must hold steps + 1 = {steps + 1} correlations, of lag 0 first, got {lags.shape}"
            )
        return _two_time(self, jnp.asarray(q0, self.dtype()), lags)

    def is_valid(self):
        return super().is_valid() & input_is_valid(self)

    def guarded(self, valid):
        return replaced(super().guarded(valid), **guarded_input(self, valid))

    def dtype(self):
        return jnp.result_type(super().dtype(), *jax.tree.leaves((self.input_var, self.input_correlation)))


def _two_time(layer, q0, lags):
    steps = lags.size - 1
    apart_in_time = layer.input_var * (1 - lags)

    def later(q1, q2, covariance, gap):
        c = jnp.clip(covariance / jnp.sqrt(q1 * q2), -1, 1)
        return Dense.covariance_map(layer, q1, q2, c) + apart(layer) - gap

    def step(state, t):
        # K(t, s) comes from K(t - 1, s - 1): the row is moved on by one, and begins with what is independent.
        row, variances = state
        q = variances[t - 1]
        gaps = apart_in_time[jnp.abs(t - 1 - jnp.arange(steps))]
        moved = jax.vmap(lambda other, k, gap: later(q, other, k, gap))(variances[:-1], row[:-1], gaps)
        new = layer.variance_map(q)
        times = jnp.arange(steps + 1)
        row = jnp.where(times < t, jnp.concatenate([jnp.zeros(1, q.dtype), moved]), 0.0).at[t].set(new)
        return (row, variances.at[t].set(new)), row

    start = jnp.zeros(steps + 1, q0.dtype).at[0].set(q0)
    variances = jnp.ones(steps + 1, q0.dtype).at[0].set(q0)
    _, rows = jax.lax.scan(step, (start, variances), jnp.arange(1, steps + 1))
    lower = jnp.concatenate([start[None], rows])
    return lower + lower.T - jnp.diag(jnp.diagonal(lower))


# --- what layers with an input have in common ----------------------------------------------


def check_input(layer, input_var, input_correlation, *, low_open=False) -> None:
    """Set and check both fields. Raises TypeError or ValueError."""
    input_var = validation.real("input_var", input_var, low=0.0, low_open=low_open)
    if input_correlation is not None:
        input_correlation = validation.real("input_correlation", input_correlation, low=0.0, high=1.0)
        validation.same_shape(input_var=input_var, input_correlation=input_correlation)
    object.__setattr__(layer, "input_var", input_var)
    object.__setattr__(layer, "input_correlation", input_correlation)


def apart(layer):
    """Half the mean squared difference of a pair's inputs."""
    return 0.0 if layer.input_correlation is None else layer.input_var * (1 - layer.input_correlation)


def input_is_valid(layer):
    """Whether variance and correlation of the inputs are some of numbers."""
    valid = jnp.isfinite(layer.input_var) & (layer.input_var >= 0)
    rho = layer.input_correlation
    return valid if rho is None else valid & (rho >= 0) & (rho <= 1)


def guarded_input(layer, valid):
    """Both fields where ``valid``, and safe ones elsewhere."""
    fields = dict(input_var=jnp.where(valid, layer.input_var, 0.5))
    if layer.input_correlation is not None:
        fields["input_correlation"] = jnp.where(valid, layer.input_correlation, 0.5)
    return fields
