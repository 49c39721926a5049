"""Tasks to train on: made in code, or read from local files."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from meanfield.empirical.data_files import load_cifar10, load_mnist
from meanfield.empirical.mnist1d import mnist1d
from meanfield.empirical.models import FullyConnected
from meanfield.numerics.pytrees import register_dataclass
from meanfield.priors import NormalPrior
from meanfield.support import validation
from meanfield.support.text import unknown

_SPLIT_SEED = 0


@register_dataclass
@dataclass(frozen=True)
class Examples:
    """Inputs (count, features), and targets: (count, outputs), or labels (count,) of integers."""

    inputs: Any
    targets: Any


@dataclass(frozen=True, eq=False)
class Task:
    """Training and test examples: the same for every seed, or each seed's own.

    data: a function of a key that gives (training, test) ``Examples``, traceable if the
    task is ``random``; otherwise called once, without looking at its key.
    features, outputs: sizes of an input and an output. classification: whether targets
    are labels. settings: what else the task is made from, for the record.
    """

    name: str
    data: Callable[[jax.Array], tuple[Examples, Examples]]
    features: int
    outputs: int
    classification: bool
    random: bool = False
    settings: dict[str, Any] = field(default_factory=dict)

    def __repr__(self):
        settings = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        return f"{self.name}({settings})"


def teacher_student(
    *, features=32, width=64, depth=4, prior=None, activation="relu", train=2048, test=1024
) -> Task:
    """Regression: the targets are the outputs of a random network, the teacher, on Gaussian inputs.

    features: of an input. width, depth, prior, activation: the teacher's; its prior is by
    default that of independent weights, ``NormalPrior(2.0)``. train, test: numbers of
    examples. Every seed has its own teacher and inputs. Targets have unit variance, so
    that a loss of 1 is that of a student who answers with the mean.

    Source: the teacher-student experiments of D. Singh's thesis, IISER Pune 2021.
    """
    prior = NormalPrior(2.0) if prior is None else prior
    counts = dict(features=features, width=width, depth=depth, train=train, test=test)
    for name, value in counts.items():
        validation.count(name, value)

    def data(key):
        teacher_key, input_key = jax.random.split(key)
        rngs = nnx.Rngs(params=teacher_key)
        teacher = FullyConnected(
            features, 1, width=width, depth=depth, activation=activation, prior=prior, rngs=rngs
        )
        inputs = jax.random.normal(input_key, (train + test, features))
        targets = teacher(inputs)
        size = jnp.std(targets[:train])
        targets = (targets - jnp.mean(targets[:train])) / jnp.where(size > 0, size, 1)
        return Examples(inputs[:train], targets[:train]), Examples(inputs[train:], targets[train:])

    settings = counts | {"prior": repr(prior), "activation": repr(activation)}
    return Task("teacher-student", data, features, 1, False, random=True, settings=settings)


def digits() -> Task:
    """Classification of the 1797 handwritten digits (8 x 8) of scikit-learn; 360 are for testing."""
    from sklearn.datasets import load_digits

    inputs, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(labels))
    train, test = order[:-360], order[-360:]
    return _fixed("digits", (inputs[train], labels[train]), (inputs[test], labels[test]))


def mnist_1d(*, train=4000, test=1000) -> Task:
    """Classification of MNIST-1D, generated: Greydanus, arXiv:2011.14439. 40 features, ten classes."""
    counts = dict(train=validation.count("train", train), test=validation.count("test", test))
    curves, labels = mnist1d(train + test)
    parts = (curves[:train], labels[:train]), (curves[train:], labels[train:])
    return _fixed("mnist1d", *parts, settings=counts)


def spirals(*, arms=3, train=1500, test=600, turns=1.5, noise=0.05) -> Task:
    """Classification of points in the plane by the arm of a spiral that they lie on, up to ``noise``."""
    for name, value in dict(arms=arms, train=train, test=test).items():
        validation.count(name, value)
    for name, value in dict(turns=turns, noise=noise).items():
        validation.real(name, value, low=0.0)
    random = np.random.default_rng(_SPLIT_SEED)
    count = train + test
    labels = random.integers(arms, size=count)
    radius = np.sqrt(random.uniform(0.02, 1, count))
    angle = 2 * np.pi * (labels / arms + turns * radius)
    points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points += noise * random.standard_normal(points.shape)
    parts = (points[:train], labels[:train]), (points[train:], labels[train:])
    settings = dict(arms=arms, train=train, test=test, turns=turns, noise=noise)
    return _fixed("spirals", *parts, outputs=arms, settings=settings)


def mnist(directory) -> Task:
    """MNIST from local files; see ``load_mnist``, also for what is raised."""
    return _fixed("mnist", *load_mnist(directory), settings={"directory": str(directory)})


def fashion_mnist(directory) -> Task:
    """Fashion-MNIST from local files; see ``load_mnist``, also for what is raised."""
    return _fixed("fashion-mnist", *load_mnist(directory), settings={"directory": str(directory)})


def cifar10(directory) -> Task:
    """CIFAR-10 from local files; see ``load_cifar10``, also for what is raised."""
    return _fixed("cifar10", *load_cifar10(directory), settings={"directory": str(directory)})


_TASKS: dict[str, Callable[..., Task]] = {
    "teacher-student": teacher_student,
    "digits": digits,
    "mnist1d": mnist_1d,
    "spirals": spirals,
    "mnist": mnist,
    "fashion-mnist": fashion_mnist,
    "cifar10": cifar10,
}
NAMES = tuple(_TASKS)


def task(name, directory=None) -> Task:
    """A task by its name, with its defaults; ``directory`` is for those that are read from files.

    "teacher-student", "digits", "mnist1d", "spirals", and "mnist", "fashion-mnist",
    "cifar10" from a directory. A ``Task`` comes back as it is. Raises ValueError naming the
    nearest name, or saying that a directory is needed; TypeError for what is neither.
    """
    if isinstance(name, Task):
        return name
    if not isinstance(name, str):
        raise TypeError(f"task must be a name or a Task, got {name!r}")
    key = name.strip().lower().replace("_", "-")
    if key not in _TASKS:
        raise ValueError(unknown("task", name, NAMES))
    needs_files = "directory" in inspect.signature(_TASKS[key]).parameters
    if needs_files and directory is None:
        needed = "a directory that holds them is needed (on the command line: --data)"
        raise ValueError(f"task {key!r} is read from files: {needed}")
    if not needs_files and directory is not None:
        raise ValueError(f"task {key!r} is not read from files, but a directory was given: {directory}")
    return _TASKS[key](directory) if needs_files else _TASKS[key]()


def _fixed(name, train, test, outputs=10, settings=None) -> Task:
    """A classification task whose inputs are scaled to zero mean and unit variance, all together."""
    flat = [np.asarray(inputs, np.float32).reshape(len(inputs), -1) for inputs, _ in (train, test)]
    mean, size = flat[0].mean(), flat[0].std()
    parts = [
        Examples((inputs - mean) / size, np.asarray(labels, np.int32))
        for inputs, (_, labels) in zip(flat, (train, test), strict=True)
    ]
    return Task(
        name, lambda key: (parts[0], parts[1]), flat[0].shape[1], outputs, True, settings=settings or {}
    )
