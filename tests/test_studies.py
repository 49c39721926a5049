"""Initialisations against each other: tuning, intervals and significance."""

import json

import numpy as np
import pytest
from scipy import stats

from meanfield.empirical import LearningCurves, compare_initializations, teacher_student
from meanfield.empirical.studies import Outcome, TrainingStudy, _holm
from meanfield.empirical.tasks import task

SEEDS, STEPS = 20, np.arange(0, 101, 10)
TARGET = 0.27  # losses of rates 0.02 and 0.03 pass it at steps 65 and 44, whatever the median seed's noise


def made(name, rate, noise):
    """An initialisation whose loss decays at a rate, with seeds in common with the others."""
    logs = -rate * STEPS * (1 + 0.05 * noise[:, None])
    loss = np.exp(logs)[:, None]
    accuracy = 1 - 0.5 * loss
    curves = LearningCurves(STEPS, np.array([0.1]), loss, 2 * loss, accuracy, {"seeds": SEEDS})
    return Outcome(name, curves, 0.1, np.zeros(3))


@pytest.fixture
def study():
    noise = np.random.default_rng(0).standard_normal((3, SEEDS))
    outcomes = (
        made("he", 0.02, noise[0]),
        made("fast", 0.03, noise[0] + 0.1 * noise[1]),
        made("he too", 0.02, noise[2]),
    )
    return TrainingStudy(task("digits"), outcomes, np.array([0.01, 0.1, 1.0]), TARGET, {"seeds": SEEDS})


def test_verdicts_find_what_is_faster_and_by_how_much(study):
    he, fast, other = study.verdicts()
    assert fast.loss_ratio.low < np.exp(-0.01 * STEPS[1:].mean()) < fast.loss_ratio.high < 1
    assert fast.p_value < 1e-6 and fast.p_time < 1e-3 and other.p_value > 1e-3
    assert (he.time.value, fast.time.value, other.time.value) == (70, 50, 70)
    for verdict in (he, fast, other):
        assert verdict.time.low <= verdict.time.value <= verdict.time.high
    assert np.isnan(he.p_value) and he.loss_ratio.value == 1
    assert fast.accuracy_gain.low > 0 and not fast.at_edge


def test_p_values_are_paired_and_corrected(study):
    _, fast, other = study.verdicts()
    scores = [o.score for o in study.outcomes]
    raw = [stats.ttest_rel(scores[i], scores[0]).pvalue for i in (1, 2)]
    assert fast.p_value == pytest.approx(2 * raw[0]) and other.p_value == pytest.approx(raw[1])


def test_holm_by_hand():
    np.testing.assert_allclose(_holm([0.01, 0.04, 0.03, np.nan]), [0.03, 0.06, 0.06, np.nan])


def test_a_diverged_seed_counts_as_one_that_learned_nothing(study):
    outcome = study.outcomes[1]
    outcome.curves.train_loss[3, 0, 5:] = np.inf
    verdict = study.verdicts()[1]
    assert verdict.diverged == 1
    assert np.isfinite([verdict.loss_ratio.value, verdict.p_value, verdict.final_loss.high]).all()
    assert verdict.loss_ratio.value > np.exp(-0.01 * STEPS[1:].mean())


def test_unreached_targets_are_infinite_times(study):
    harder = TrainingStudy(study.task, study.outcomes, study.learning_rates, 1e-9, study.settings)
    assert np.isinf(harder.verdicts()[0].time.value)


@pytest.mark.slow
def test_a_study_tunes_trains_saves_and_draws(tmp_path):
    small = teacher_student(features=4, width=8, depth=2, train=64, test=32)
    options = dict(width=8, depth=2, steps=20, evaluations=4, seeds=3, tuning_seeds=2, batch_size=8)
    found = compare_initializations(small, ["he", "rai"], learning_rates=[0.03, 1e9, 0.001], **options)
    assert found.learning_rates.tolist() == [0.001, 0.03, 1e9]
    assert all(o.learning_rate < 1 for o in found.outcomes)
    assert found.outcomes[0].curves.train_loss.shape == (3, 1, 5)
    found.save(tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as saved:
        assert saved["train_loss"].shape == (2, 3, 5) and saved["initialization"].tolist() == ["he", "rai"]
        assert json.loads(str(saved["settings"]))["width"] == 8
    axes = found.plot().axes
    assert [ax.get_ylabel().split(" (")[0] for ax in axes] == ["training loss", "test loss", ""]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"initializations": ["he", "he"]}, "must differ"),
        ({"initializations": []}, "at least one"),
        ({"seeds": 1}, "seeds must be at least 2"),
        ({"learning_rates": [0.1, -1]}, "learning_rates must be"),
        ({"target_loss": 0}, "target_loss must be"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    arguments = dict(task="spirals", initializations=["he"]) | change
    with pytest.raises(ValueError, match=message):
        compare_initializations(**arguments)
