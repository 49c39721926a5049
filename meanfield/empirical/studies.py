"""Initialisations against each other: each at its own best learning rate, paired over seeds."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from meanfield.empirical.initializations import Initialization
from meanfield.empirical.initializations import initialization as as_initialization
from meanfield.empirical.tasks import Task
from meanfield.empirical.tasks import task as as_task
from meanfield.empirical.training import LearningCurves, train
from meanfield.numerics.statistics import LEVEL, interval_of_mean
from meanfield.support import validation
from meanfield.support.files import save_npz

INITIALIZATIONS = ("he", "orthogonal", "anticorrelated(1)", "rai", "raai", "rai_unit_gain", "raai_unit_gain")
LEARNING_RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
_FIRST_TUNING_SEED = 1_000_000
_RESAMPLES = 2000


@dataclass(frozen=True, eq=False)
class Outcome:
    """One initialisation: its curves at the learning rate that tuning chose, and what tuning saw.

    tuning_score: by learning rate, the mean over tuning seeds and evaluations of the
    logarithm of the training loss (at most that of the start); the smallest was chosen.
    """

    name: str
    curves: LearningCurves
    learning_rate: float
    tuning_score: np.ndarray

    @property
    def score(self) -> np.ndarray:
        """By seed, the mean over evaluations of the log training loss: lower means faster."""
        return _scores(self.curves)[:, 0]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95% confidence interval."""

    value: float
    low: float
    high: float

    def __format__(self, spec):
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


@dataclass(frozen=True)
class Verdict:
    """An initialisation against the first of the study, paired over seeds.

    time: median steps to the target loss. final_loss, final_test_loss: geometric means at the end;
    final_accuracy: mean (NaN for regression). loss_ratio: the training loss averaged over the curve
    (geometrically) over that of the first; accuracy_gain: final accuracy minus that of the
    first. p_value: of the loss ratio (paired t-test), Holm's correction over the study
    included; p_time: of the times (Wilcoxon's signed ranks), corrected likewise.
    at_edge: whether the best learning rate was the grid's smallest or largest. diverged:
    seeds whose training loss ended no lower than it began; wherever losses are averaged, a
    loss counts as at most that of the same run's start.
    """

    name: str
    learning_rate: float
    at_edge: bool
    diverged: int
    time: Estimate
    final_loss: Estimate
    final_test_loss: Estimate
    final_accuracy: Estimate
    loss_ratio: Estimate
    accuracy_gain: Estimate
    p_value: float
    p_time: float


@dataclass(frozen=True, eq=False)
class TrainingStudy:
    """Outcomes of all initialisations on one task; the first one is what the others are compared with."""

    task: Task
    outcomes: tuple[Outcome, ...]
    learning_rates: np.ndarray
    target_loss: float
    settings: dict[str, Any]

    def verdicts(self) -> list[Verdict]:
        """One an initialisation, in order."""
        first = self.outcomes[0]
        raw = [_verdict(o, first, self.target_loss, self.learning_rates) for o in self.outcomes]
        by_loss, by_time = (_holm([v[1][i] for v in raw[1:]]) for i in (0, 1))
        adjusted = [(np.nan, np.nan), *zip(by_loss, by_time, strict=True)]
        return [
            Verdict(**fields, p_value=float(p), p_time=float(q))
            for (fields, _), (p, q) in zip(raw, adjusted, strict=True)
        ]

    def save(self, path) -> None:
        """Write all curves to an NPZ file, whole or not at all. Raises OSError.

        Arrays have axes (initialisations, seeds, evaluations).
        """
        pick = lambda name: np.stack([getattr(o.curves, name)[:, 0] for o in self.outcomes])
        columns: dict[str, Any] = {name: pick(name) for name in ("train_loss", "test_loss", "test_accuracy")}
        columns |= dict(
            initialization=[o.name for o in self.outcomes],
            learning_rate=[o.learning_rate for o in self.outcomes],
            learning_rates=self.learning_rates,
            tuning_score=np.stack([o.tuning_score for o in self.outcomes]),
            steps=self.outcomes[0].curves.steps,
            target_loss=self.target_loss,
            settings=json.dumps(self.settings),
        )
        save_npz(path, columns)

    def plot(self):
        """Draw it; see ``plotting.plot_training_study``. Returns the figure."""
        from meanfield.plotting import plot_training_study

        return plot_training_study(self)


def compare_initializations(
    task,
    initializations: Sequence = INITIALIZATIONS,
    *,
    learning_rates=LEARNING_RATES,
    seeds=20,
    tuning_seeds=5,
    target_loss=None,
    checkpoint=None,
    **options,
) -> TrainingStudy:
    """Outcomes of training one network from several initialisations, each at its best learning rate.

    Every initialisation is trained at every learning rate on ``tuning_seeds`` seeds; the
    rate whose training loss, averaged over the curve on a logarithmic scale, is smallest
    is used for ``seeds`` other seeds, from which everything is reported. Seeds are the same for
    all initialisations: data, batches and random numbers are paired.

    target_loss: training loss whose time is reported; by default the largest, over
    initialisations, of the median final loss, which half of the runs of each reach.
    checkpoint, and other arguments: as for ``train``. Raises as ``train``.
    """
    task = as_task(task)
    setups = [as_initialization(x) for x in initializations]
    if not setups:
        raise ValueError("initializations must name at least one")
    names = [s.name for s in setups]
    if len(set(names)) < len(names):
        raise ValueError(f"initializations must differ, got {', '.join(names)}")
    rates = np.unique(validation.real("learning_rates", learning_rates, low=0.0, low_open=True))
    if target_loss is not None:
        target_loss = float(validation.real("target_loss", target_loss, low=0.0, low_open=True))
    validation.count("seeds", seeds, low=2)
    validation.count("tuning_seeds", tuning_seeds)
    outcomes = tuple(_outcome(task, s, rates, seeds, tuning_seeds, checkpoint, options) for s in setups)
    if target_loss is None:
        target_loss = max(float(np.median(o.curves.train_loss[..., -1])) for o in outcomes)
    return TrainingStudy(task, outcomes, rates, target_loss, outcomes[0].curves.settings)


def _outcome(task, setup: Initialization, rates, seeds, tuning_seeds, checkpoint, options) -> Outcome:
    def run(which, rates, **how):
        folder = None if checkpoint is None else Path(checkpoint) / setup.name / which
        return train(
            task,
            setup,
            learning_rate=rates,
            checkpoint=folder,
            title=f"{setup.name}, {which}",
            **how,
            **options,
        )

    score, best = np.full(len(rates), np.nan), 0
    if len(rates) > 1:
        tuning = run("tuning", rates, seeds=tuning_seeds, first_seed=_FIRST_TUNING_SEED)
        score = np.mean(_scores(tuning), axis=0)
        best = int(np.argmin(score))
    curves = run("final", rates[best], seeds=seeds)
    return Outcome(setup.name, curves, float(rates[best]), score)


def _scores(curves: LearningCurves) -> np.ndarray:
    return np.mean(_log_capped(curves.train_loss)[..., 1:], axis=-1)


def _log_capped(losses) -> np.ndarray:
    """Logarithms of losses; a run that diverges counts as one that has learned nothing."""
    capped = np.minimum(losses, losses[..., :1])
    return np.log(np.maximum(np.asarray(capped, float), np.finfo(np.float32).tiny))


def _verdict(outcome: Outcome, first: Outcome, target, rates) -> tuple[dict, tuple[float, float]]:
    from scipy import stats

    curves = outcome.curves
    time, first_time = (o.curves.time_to_reach(target)[:, 0] for o in (outcome, first))
    final, test = (_log_capped(x)[:, 0, -1] for x in (curves.train_loss, curves.test_loss))
    accuracy = curves.test_accuracy[:, 0, -1]
    gain = accuracy - first.curves.test_accuracy[:, 0, -1]
    ratio = outcome.score - first.score
    p_loss = p_time = float("nan")
    if outcome is not first:
        censored = [np.where(np.isfinite(t), t, 2 * curves.steps[-1]) for t in (time, first_time)]
        p_loss = float(stats.ttest_1samp(ratio, 0.0).pvalue)
        p_time = float(stats.wilcoxon(*censored).pvalue) if np.any(censored[0] != censored[1]) else 1.0
    fields = dict(
        name=outcome.name,
        learning_rate=outcome.learning_rate,
        at_edge=len(rates) > 1 and outcome.learning_rate in (rates[0], rates[-1]),
        diverged=int(np.sum(~(curves.train_loss[:, 0, -1] < curves.train_loss[:, 0, 0]))),
        time=_median(time),
        final_loss=_mean(final, np.exp),
        final_test_loss=_mean(test, np.exp),
        final_accuracy=_mean(accuracy),
        loss_ratio=_mean(ratio, np.exp),
        accuracy_gain=_mean(gain),
    )
    return fields, (p_loss, p_time)


def _mean(samples, back=lambda x: x) -> Estimate:
    return Estimate(*(float(back(x)) for x in interval_of_mean(samples)))


def _median(samples) -> Estimate:
    """The median and its bootstrap interval; infinite values count as larger than all others."""
    draws = np.random.default_rng(0).integers(len(samples), size=(_RESAMPLES, len(samples)))
    medians = np.sort(_middle(samples[draws]))
    low, high = (medians[int(f * (_RESAMPLES - 1))] for f in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Estimate(float(_middle(samples)), float(low), float(high))


def _middle(samples) -> np.ndarray:
    return np.sort(samples, axis=-1)[..., samples.shape[-1] // 2]


def _holm(p_values: list[float]) -> np.ndarray:
    """Holm's step-down correction; NaN stays NaN."""
    p = np.asarray(p_values, float)
    order = np.argsort(p)
    known = order[np.isfinite(p[order])]
    scaled = np.full(len(p), np.nan)
    scaled[known] = np.minimum(np.maximum.accumulate(p[known] * np.arange(len(known), 0, -1)), 1.0)
    return scaled
