"""Real networks beside the theory. The only package that imports Flax and Optax.

Names resolve when first used, as those of ``meanfield``.
"""

import importlib
from typing import TYPE_CHECKING

_HOMES = {
    "FullyConnected": "models",
    "Convolutional": "models",
    "measure": "ensembles",
    "network": "ensembles",
    "signals": "ensembles",
    "signals_of": "ensembles",
    "block_of": "blocks",
    "Stack": "stacks",
    "Measurement": "measurement",
    "LayerStatistics": "measurement",
    "compare": "comparison",
    "Comparison": "comparison",
    "compare_positions": "images",
    "PositionsComparison": "images",
    "measure_singular_values": "spectra",
    "measure_lyapunov_spectrum": "spectra",
    "MeasuredSpectrum": "spectra",
    "compare_spectra": "spectra",
    "SpectrumComparison": "spectra",
    "jacobian_factors": "spectra",
    "log_singular_values": "spectra",
    "leading_singular_values": "spectra",
    "initialization": "initializations",
    "Initialization": "initializations",
    "task": "tasks",
    "Task": "tasks",
    "Examples": "tasks",
    "teacher_student": "tasks",
    "digits": "tasks",
    "mnist_1d": "tasks",
    "spirals": "tasks",
    "mnist": "tasks",
    "fashion_mnist": "tasks",
    "cifar10": "tasks",
    "load_mnist": "data_files",
    "load_cifar10": "data_files",
    "trainability": "trainable",
    "Trainability": "trainable",
    "train": "training",
    "LearningCurves": "training",
    "compare_initializations": "studies",
    "TrainingStudy": "studies",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name in _HOMES:
        value = getattr(importlib.import_module(f"meanfield.empirical.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'meanfield.empirical' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__])


if TYPE_CHECKING:
    from meanfield.empirical.blocks import block_of as block_of
    from meanfield.empirical.comparison import Comparison as Comparison
    from meanfield.empirical.comparison import compare as compare
    from meanfield.empirical.data_files import load_cifar10 as load_cifar10
    from meanfield.empirical.data_files import load_mnist as load_mnist
    from meanfield.empirical.ensembles import measure as measure
    from meanfield.empirical.ensembles import network as network
    from meanfield.empirical.ensembles import signals as signals
    from meanfield.empirical.ensembles import signals_of as signals_of
    from meanfield.empirical.images import PositionsComparison as PositionsComparison
    from meanfield.empirical.images import compare_positions as compare_positions
    from meanfield.empirical.initializations import Initialization as Initialization
    from meanfield.empirical.initializations import initialization as initialization
    from meanfield.empirical.measurement import LayerStatistics as LayerStatistics
    from meanfield.empirical.measurement import Measurement as Measurement
    from meanfield.empirical.models import Convolutional as Convolutional
    from meanfield.empirical.models import FullyConnected as FullyConnected
    from meanfield.empirical.spectra import MeasuredSpectrum as MeasuredSpectrum
    from meanfield.empirical.spectra import SpectrumComparison as SpectrumComparison
    from meanfield.empirical.spectra import compare_spectra as compare_spectra
    from meanfield.empirical.spectra import jacobian_factors as jacobian_factors
    from meanfield.empirical.spectra import leading_singular_values as leading_singular_values
    from meanfield.empirical.spectra import log_singular_values as log_singular_values
    from meanfield.empirical.spectra import measure_lyapunov_spectrum as measure_lyapunov_spectrum
    from meanfield.empirical.spectra import measure_singular_values as measure_singular_values
    from meanfield.empirical.stacks import Stack as Stack
    from meanfield.empirical.studies import TrainingStudy as TrainingStudy
    from meanfield.empirical.studies import compare_initializations as compare_initializations
    from meanfield.empirical.tasks import Examples as Examples
    from meanfield.empirical.tasks import Task as Task
    from meanfield.empirical.tasks import cifar10 as cifar10
    from meanfield.empirical.tasks import digits as digits
    from meanfield.empirical.tasks import fashion_mnist as fashion_mnist
    from meanfield.empirical.tasks import mnist as mnist
    from meanfield.empirical.tasks import mnist_1d as mnist_1d
    from meanfield.empirical.tasks import spirals as spirals
    from meanfield.empirical.tasks import task as task
    from meanfield.empirical.tasks import teacher_student as teacher_student
    from meanfield.empirical.trainable import Trainability as Trainability
    from meanfield.empirical.trainable import trainability as trainability
    from meanfield.empirical.training import LearningCurves as LearningCurves
    from meanfield.empirical.training import train as train
