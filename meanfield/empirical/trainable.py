"""Which deep networks can be trained: over depth and weight variance, beside the theory's depth scales."""

import itertools
import json
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.activations.names import as_activation
from meanfield.empirical.tasks import task as as_task
from meanfield.empirical.training import Placement, Trainer, named_optimizer
from meanfield.fixed_points.stability import depth_scales
from meanfield.priors import NormalPrior
from meanfield.support import validation
from meanfield.support.files import save_npz
from meanfield.support.progress import progress_bar

LEARNING_RATES = (0.001, 0.003, 0.01, 0.03)
_CURVE = 401  # points


@dataclass(frozen=True, eq=False)
class Trainability:
    """Training accuracies over weight variance and depth, and the depth scales that the theory gives.

    weight_var: shape (n,). depth: shape (m,), layers. learning_rates: shape (k,).
    accuracy: shape (n, m, k, seeds), fractions, on at most 1024 training examples after the last step.
    xi_c: shape (n,), layers, infinite at the edge of chaos. curve: shape (2, 401), weight variances
    from the first to the last, and xi_c there. chance: accuracy of always naming the most frequent
    class. settings: all else that the result depends on.
    """

    weight_var: np.ndarray
    depth: np.ndarray
    learning_rates: np.ndarray
    accuracy: np.ndarray
    xi_c: np.ndarray
    curve: np.ndarray
    chance: float
    settings: dict[str, Any]

    @property
    def best(self) -> np.ndarray:
        """Mean accuracy over seeds at the best learning rate of every point, shape (n, m)."""
        return self.accuracy.mean(axis=-1).max(axis=-1)

    @property
    def reached(self) -> np.ndarray:
        """Depth, in layers, to which networks train: where ``best`` falls halfway to chance; shape (n,).

        Interpolated in the logarithm of the depth; NaN where the shallowest is not trained, infinite where
        all are.
        """
        half = (1 + self.chance) / 2
        return np.array([_crossing(np.log(self.depth), row, half) for row in self.best])

    def save(self, path) -> None:
        """Write all of it to an NPZ file, whole or not at all. Raises OSError."""
        fields = {k: v for k, v in vars(self).items() if k != "settings"}
        save_npz(path, fields | {"settings": json.dumps(self.settings)})

    def plot(self):
        """Draw it; see ``plotting.plot_trainability``. Returns the figure."""
        from meanfield.plotting import plot_trainability

        return plot_trainability(self)


def _crossing(log_depth, accuracy, half: float) -> float:
    trained = accuracy >= half
    if trained.all():
        return float("inf")
    i = int(np.argmin(trained))  # the first that is not
    if i == 0:
        return float("nan")
    share = (accuracy[i - 1] - half) / (accuracy[i - 1] - accuracy[i])
    return float(np.exp(log_depth[i - 1] + share * (log_depth[i] - log_depth[i - 1])))


def trainability(
    task="digits",
    activation="tanh",
    *,
    weight_var,
    depth,
    bias_var=0.05,
    anticorrelation=0.0,
    learning_rates=LEARNING_RATES,
    width=64,
    optimizer="sgd",
    batch_size=32,
    steps=400,
    seeds=1,
    first_seed=0,
) -> Trainability:
    """Accuracies of trained networks over weight variance and depth, beside xi_c of the theory.

    task: of classification, a name or a ``Task``. weight_var: variances sigma_w^2, ascending.
    depth: numbers of hidden layers, ascending. bias_var, anticorrelation: of all priors.
    learning_rates: each point is trained at all of them. seeds: networks a point and rate.
    Others: as for ``train``. Of one depth everything is trained at once, in one compiled scan.

    Raises TypeError or ValueError. Source: Schoenholz et al., arXiv:1611.01232, which finds that
    networks train to a depth of about 6 xi_c.
    """
    task, activation = as_task(task), as_activation(activation)
    if not task.classification:
        raise ValueError(f"task must be a classification, whose accuracy can be told, got {task!r}")
    variances = _ascending("weight_var", validation.real("weight_var", weight_var, low=0.0, low_open=True))
    depths = _ascending("depth", [validation.count("depth", n) for n in np.atleast_1d(depth).tolist()])
    rates = np.unique(validation.real("learning_rates", learning_rates, low=0.0, low_open=True))
    prior = NormalPrior(float(variances[0]), bias_var, anticorrelation)
    counts = dict(width=width, batch_size=batch_size, steps=steps, seeds=seeds)
    counts = {name: validation.count(name, value) for name, value in counts.items()}
    first_seed = validation.count("first_seed", first_seed, low=0)
    optimizer_name, make = named_optimizer(optimizer)

    runs = list(itertools.product(variances, rates))
    keys = jax.vmap(jax.random.key)(jnp.arange(first_seed, first_seed + seeds))
    accuracy = []
    with progress_bar(int(depths.sum()), "Training") as advance:
        for layers in depths.tolist():
            trainer = Trainer(task, prior, activation, make, counts | {"depth": layers, "evaluations": 1})
            accuracy.append(_trained(trainer, keys, runs, prior))
            advance(layers)
    shape = (len(depths), seeds, len(variances), len(rates))
    settings = counts | dict(
        task=repr(task),
        activation=repr(activation),
        optimizer=optimizer_name,
        bias_var=float(bias_var),
        anticorrelation=float(anticorrelation),
        first_seed=first_seed,
    )
    fine = np.linspace(variances[0], variances[-1], _CURVE)
    return Trainability(
        variances,
        depths,
        rates,
        np.reshape(accuracy, shape).transpose(2, 0, 3, 1),
        _xi_c(activation, prior, variances),
        np.stack([fine, _xi_c(activation, prior, fine)]),
        _chance(trainer.task, keys[0]),
        settings,
    )


def _xi_c(activation, prior, weight_var) -> np.ndarray:
    """In double precision, of priors that differ in their weight variance."""
    priors = NormalPrior(weight_var, float(prior.bias_var), float(prior.anticorrelation))
    with jax.enable_x64(True):
        return np.asarray(depth_scales(activation, priors).c, float)


def _ascending(name: str, values) -> np.ndarray:
    values = np.atleast_1d(np.asarray(values))
    if values.ndim > 1 or np.any(np.diff(values) <= 0):
        raise ValueError(f"{name} must be one number or an ascending list of them, got {values.tolist()}")
    return values


def _trained(trainer: Trainer, keys, runs, prior) -> np.ndarray:
    """Training accuracies at the end, shape (seeds, runs)."""
    variances, rates = (np.array(column, np.float32) for column in zip(*runs, strict=True))
    same = lambda value: jnp.full(variances.shape, value, jnp.float32)
    priors = NormalPrior(jnp.asarray(variances), same(prior.bias_var), same(prior.anticorrelation))
    data, batch_keys, state = trainer.start(keys, rates, Placement(jax.devices(), len(keys)), priors)
    state, _ = trainer.advanced(state, data, batch_keys, rates, 0, 1)
    return np.asarray(trainer.training_accuracy(state, data))


def _chance(task, key) -> float:
    """How often the most frequent class is right."""
    labels = np.asarray(task.data(key)[0].targets)
    return float(np.bincount(labels).max() / len(labels))
