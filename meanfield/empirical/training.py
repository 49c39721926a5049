"""Training: all seeds and learning rates at once, in one compiled scan."""

import functools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from meanfield.activations.names import as_activation
from meanfield.empirical.checkpoints import Checkpoints
from meanfield.empirical.initializations import initialization as as_initialization
from meanfield.empirical.models import FullyConnected
from meanfield.empirical.tasks import Task
from meanfield.empirical.tasks import task as as_task
from meanfield.support import validation
from meanfield.support.files import save_npz
from meanfield.support.progress import progress_bar
from meanfield.support.text import unknown

OPTIMIZERS: dict[str, Callable] = {
    "sgd": optax.sgd,
    "momentum": functools.partial(optax.sgd, momentum=0.9),
    "adam": optax.adam,
    "adamw": optax.adamw,
    "rmsprop": optax.rmsprop,
    "adagrad": optax.adagrad,
    "lion": optax.lion,
}
_SEGMENTS = 20  # a run is cut into so many, for its progress bar and its checkpoints
_TRAIN_SHOWN = 1024  # training examples on which the training loss is evaluated


@dataclass(frozen=True, eq=False)
class LearningCurves:
    """What was measured during training, at the steps ``steps``, entry 0 before the first.

    train_loss, test_loss, test_accuracy: shape (seeds, learning rates, evaluations). The
    training loss is that on the first 1024 training examples, or all if they are fewer.
    Losses are mean squares for regression, cross entropies (nats) for classification;
    accuracies are fractions, NaN for regression. A diverged run has infinite losses.
    settings: everything the run depends on.
    """

    steps: np.ndarray
    learning_rate: np.ndarray
    train_loss: np.ndarray
    test_loss: np.ndarray
    test_accuracy: np.ndarray
    settings: dict[str, Any]

    def time_to_reach(self, loss: float) -> np.ndarray:
        """The first evaluated step with at most this training loss, inf if none; shape (seeds, rates)."""
        reached = self.train_loss <= loss
        return np.where(reached.any(axis=-1), self.steps[np.argmax(reached, axis=-1)], np.inf)

    def save(self, path) -> None:
        """Write all of it to an NPZ file, whole or not at all. Raises OSError."""
        fields = {k: v for k, v in vars(self).items() if k != "settings"}
        save_npz(path, fields | {"settings": json.dumps(self.settings)})


def train(
    task,
    initialization="he",
    *,
    learning_rate=0.01,
    width=64,
    depth=10,
    activation="relu",
    optimizer="sgd",
    batch_size=64,
    steps=2000,
    evaluations=50,
    seeds=20,
    first_seed=0,
    checkpoint=None,
    devices=None,
    title="Training",
) -> LearningCurves:
    """Learning curves of ``seeds`` networks at every learning rate, trained all at once in one compiled scan.

    task: a name or a ``Task``. initialization: a name, an ``Initialization`` or a prior.
    learning_rate: a positive number or a list of them. width, depth: neurons in a hidden
    layer, and hidden layers. optimizer: a name (sgd, momentum, adam, adamw, rmsprop,
    adagrad, lion) or a function from a learning rate to an Optax transformation.
    batch_size: examples a step, drawn with replacement. steps: how many, a multiple of
    evaluations, which is how often losses are evaluated.
    seeds: how many; seed first_seed + i gives the weights' random numbers, the batches
    and, of a task that is random, the data: the same for every initialisation and rate,
    so that runs are paired.
    checkpoint: a directory. What is done is kept there (Orbax); the same call continues
    where it was when it ended, however it ended, and gives the same curve bit by bit.
    devices: over which seeds are spread, as evenly as their number allows (default: all).

    Raises TypeError or ValueError for what cannot be meant, ValueError for a checkpoint
    of other settings, OSError where one cannot be written.
    """
    task, setup = as_task(task), as_initialization(initialization)
    activation = as_activation(activation)
    optimizer_name, make = named_optimizer(optimizer)
    counts = dict(
        width=width, depth=depth, batch_size=batch_size, steps=steps, evaluations=evaluations, seeds=seeds
    )
    counts = {name: validation.count(name, value) for name, value in counts.items()}
    if steps % evaluations:
        raise ValueError(f"steps must be a multiple of evaluations, {evaluations}, got {steps}")
    rates = _rates(learning_rate)
    settings = counts | dict(
        task=repr(task),
        initialization=setup.name,
        activation=repr(activation),
        optimizer=optimizer_name,
        learning_rate=[float(x) for x in rates],
        first_seed=validation.count("first_seed", first_seed, low=0),
    )
    trainer = Trainer(task, setup, activation, make, counts)
    keep = None if checkpoint is None else Checkpoints(checkpoint, settings)
    place = Placement(jax.devices() if devices is None else devices, seeds)

    keys = jax.vmap(jax.random.key)(jnp.arange(first_seed, first_seed + seeds))
    start = trainer.start(keys, rates, place)
    with progress_bar(steps, title) as advance:
        measured = _measured(trainer, start, rates, evaluations, keep, advance)
    return _curves(measured, rates, settings)


def _rates(learning_rate) -> np.ndarray:
    rates = np.atleast_1d(validation.real("learning_rate", learning_rate, low=0.0, low_open=True))
    if rates.ndim > 1:
        raise ValueError(f"learning_rate must be a number or a list of them, got shape {rates.shape}")
    return rates.astype(np.float32)


def _measured(trainer: "Trainer", start, rates, evaluations: int, keep: Checkpoints | None, advance):
    """What was measured before the first step and at every evaluation, from the last checkpoint on."""
    data, batch_keys, state = start
    state, done, history = (state, 0, []) if keep is None else keep.restored(state)
    segment = -(-evaluations // _SEGMENTS)
    if not history:
        history = [trainer.evaluated(state, data)]
    advance(done * trainer.every)
    while done < evaluations:
        count = min(segment, evaluations - done)
        state, measured = trainer.advanced(state, data, batch_keys, rates, done, count)
        history.append(measured)
        done += count
        if keep is not None:
            history = [_joined(history)]
            keep.save(done, state, history[0])
        advance(count * trainer.every)
    return _joined(history)


def _curves(measured, rates, settings) -> LearningCurves:
    loss, test_loss, accuracy = (np.moveaxis(np.asarray(x), 0, -1) for x in measured)
    finite = lambda x: np.where(np.isnan(x), np.inf, x)
    every = settings["steps"] // settings["evaluations"]
    steps = np.arange(settings["evaluations"] + 1) * every
    return LearningCurves(steps, rates, finite(loss), finite(test_loss), accuracy, settings)


def _joined(history):
    return jax.tree.map(lambda *x: np.concatenate([np.asarray(y) for y in x]), *history)


def named_optimizer(optimizer) -> tuple[str, Callable]:
    if callable(optimizer):
        return getattr(optimizer, "__name__", repr(optimizer)), optimizer
    if not isinstance(optimizer, str):
        raise TypeError(f"optimizer must be a name or a function of a learning rate, got {optimizer!r}")
    if optimizer.lower() not in OPTIMIZERS:
        raise ValueError(unknown("optimizer", optimizer, OPTIMIZERS))
    return optimizer.lower(), OPTIMIZERS[optimizer.lower()]


class Placement:
    """Seeds, the first axis of everything, spread over as many devices as divide their number."""

    def __init__(self, devices, seeds: int):
        count = math.gcd(len(devices), seeds)
        self.mesh = Mesh(np.array(devices[:count]), ("seeds",))

    def by_seed(self, tree):
        return jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec("seeds")))

    def everywhere(self, tree):
        return jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec()))


class Trainer:
    """The compiled functions of one setting; arrays have axes (seeds, learning rates, ...)."""

    def __init__(self, task: Task, setup, activation, make_optimizer, counts):
        self.task, self.make_optimizer = task, make_optimizer
        self.batch_size = counts["batch_size"]
        self.every = counts["steps"] // counts["evaluations"]
        self._model = functools.partial(
            FullyConnected,
            task.features,
            task.outputs,
            width=counts["width"],
            depth=counts["depth"],
            activation=activation,
            prior=setup,
        )
        abstract = nnx.eval_shape(lambda: self._model(rngs=nnx.Rngs(params=0)))
        self._graph = nnx.graphdef(abstract)
        self.data_axis = 0 if task.random else None

    def start(self, keys, rates, place: Placement, priors=None):
        """Data, the batches' keys by seed, and the state: parameters and the optimiser's.

        priors: one of arrays of the shape of the rates, in place of the setting's initialisation.
        """
        init_keys, data_keys, batch_keys = jax.vmap(lambda k: jax.random.split(k, 3), out_axes=1)(keys)
        if self.task.random:
            data = place.by_seed(jax.jit(jax.vmap(self.task.data))(data_keys))
        else:
            data = place.everywhere(jax.tree.map(jnp.asarray, self.task.data(data_keys[0])))

        def one(key, rate, prior):
            other = {} if prior is None else {"prior": prior}
            parameters = nnx.state(self._model(rngs=nnx.Rngs(params=key), **other))
            return nnx.to_pure_dict(parameters), self.make_optimizer(rate).init(nnx.to_pure_dict(parameters))

        by_rate = jax.vmap(one, in_axes=(None, 0, 0))
        by_seed = jax.jit(jax.vmap(by_rate, in_axes=(0, None, None)))
        state = by_seed(place.by_seed(init_keys), jnp.asarray(rates), priors)
        return data, place.by_seed(batch_keys), place.by_seed(state)

    def _outputs(self, parameters, inputs):
        graph, state = self._graph, nnx.state(nnx.eval_shape(lambda: self._model(rngs=nnx.Rngs(params=0))))
        nnx.replace_by_pure_dict(state, parameters)
        return nnx.merge(graph, state)(inputs)

    def _loss(self, parameters, examples):
        outputs = self._outputs(parameters, examples.inputs)
        if self.task.classification:
            return jnp.mean(
                optax.softmax_cross_entropy_with_integer_labels(outputs, examples.targets)
            ), outputs
        return jnp.mean((outputs - examples.targets) ** 2), outputs

    def _evaluate(self, state, data):
        train, test = data
        shown = jax.tree.map(lambda x: x[:_TRAIN_SHOWN], train)
        test_loss, outputs = self._loss(state[0], test)
        if self.task.classification:
            accuracy = jnp.mean(jnp.argmax(outputs, axis=-1) == test.targets, dtype=outputs.dtype)
        else:
            accuracy = jnp.full((), jnp.nan)
        return self._loss(state[0], shown)[0], test_loss, accuracy

    def _training_accuracy(self, state, data):
        train = jax.tree.map(lambda x: x[:_TRAIN_SHOWN], data[0])
        outputs = self._outputs(state[0], train.inputs)
        return jnp.mean(jnp.argmax(outputs, axis=-1) == train.targets, dtype=outputs.dtype)

    def training_accuracy(self, state, data) -> Float[Array, "seeds rates"]:
        """Of classifiers, on the examples on which the training loss is evaluated."""
        return jax.jit(self._over_runs(self._training_accuracy))(state, data)

    def _over_runs(self, fn, *axes):
        """``fn(state, data, ...)`` for every rate of every seed; axes: of the rest, (seeds', rates')."""
        by_rate = jax.vmap(fn, in_axes=(0, None, *(rate for _, rate in axes)))
        return jax.vmap(by_rate, in_axes=(0, self.data_axis, *(seed for seed, _ in axes)))

    @functools.cached_property
    def _evaluated(self):
        def evaluate(state, data):
            return jax.tree.map(lambda x: x[None], self._over_runs(self._evaluate)(state, data))

        return jax.jit(evaluate)

    def evaluated(self, state, data) -> tuple[Float[Array, "1 seeds rates"], ...]:
        """Training loss, test loss and test accuracy."""
        return self._evaluated(state, data)

    def _step(self, state, data, batch_key, rate, step):
        parameters, optimizer_state = state
        train, _ = data
        key = jax.random.fold_in(batch_key, step)
        index = jax.random.randint(key, (self.batch_size,), 0, len(train.inputs))
        batch = jax.tree.map(lambda x: x[index], train)
        gradient = jax.grad(self._loss, has_aux=True)(parameters, batch)[0]
        optimizer = self.make_optimizer(rate)
        updates, optimizer_state = optimizer.update(gradient, optimizer_state, parameters)
        return optax.apply_updates(parameters, updates), optimizer_state

    @functools.cached_property
    def _advanced(self):
        @functools.partial(jax.jit, static_argnames="count", donate_argnums=0)
        def advance(state, data, batch_keys, rates, first, count):
            step = self._over_runs(self._step, (0, None), (None, 0), (None, None))

            def between_evaluations(state, evaluation):
                def one_step(state, i):
                    return step(state, data, batch_keys, rates, evaluation * self.every + i), None

                state, _ = jax.lax.scan(one_step, state, jnp.arange(self.every))
                return state, self._over_runs(self._evaluate)(state, data)

            return jax.lax.scan(between_evaluations, state, first + jnp.arange(count))

        return advance

    def advanced(self, state, data, batch_keys, rates, first: int, count: int):
        """The state after ``count`` more evaluations, and what they measured, by evaluation."""
        state, measured = self._advanced(state, data, batch_keys, jnp.asarray(rates), first, count=count)
        return state, jax.tree.map(np.asarray, measured)
