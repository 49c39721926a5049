"""Which deep networks can be trained, beside the theory's depth scales."""

import numpy as np
import pytest

import meanfield as mf
from meanfield.empirical import Trainability, teacher_student, train, trainability

SMALL = dict(width=16, steps=60, batch_size=16, learning_rates=[0.03, 0.1])


@pytest.fixture(scope="module")
def small():
    return trainability(weight_var=[1.0, 1.7], depth=[2, 4], seeds=2, **SMALL)


def made(accuracy):
    accuracy = np.asarray(accuracy, float)[..., None, None]
    variances, depths = np.arange(1.0, 1 + len(accuracy)), 10.0 * 2 ** np.arange(accuracy.shape[1])
    curve = np.stack([variances, variances])
    rest = dict(xi_c=variances, curve=curve, chance=0.1, settings={})
    return Trainability(variances, depths, np.array([0.1]), accuracy, **rest)


def test_shallow_networks_learn_the_digits(small):
    assert small.accuracy.shape == (2, 2, 2, 2) and small.best.shape == (2, 2)
    assert 0.1 < small.chance < 0.12 and np.all(small.best > 0.5)


def test_a_point_is_what_training_it_alone_gives(small):
    """The same seeds, batches and rates: the same networks, whatever is trained beside them."""
    other = trainability(weight_var=1.7, depth=4, seeds=2, **SMALL)
    np.testing.assert_allclose(other.accuracy[0, 0], small.accuracy[1, 1], atol=2e-3)


def test_networks_are_those_of_train():
    how = dict(width=16, depth=3, steps=8, seeds=2, activation="tanh")
    task = teacher_student(features=4, width=8, depth=2, train=64, test=32)
    with pytest.raises(ValueError, match="task must be a classification"):
        trainability(task, weight_var=1.0, depth=3)
    curves = train("digits", mf.NormalPrior(1.5, 0.05), learning_rate=1e-9, evaluations=1, **how)
    still = trainability(weight_var=[1.0, 1.5], learning_rates=[1e-9], **how)
    # The same weights: nothing was learned, and accuracies on training and on test examples are alike.
    assert np.all(abs(still.accuracy[1, 0, 0] - curves.test_accuracy[:, 0, 0]) < 0.1)


def test_the_depth_reached_lies_where_accuracy_is_halfway_to_chance():
    reached = made(
        [[1.0, 0.55, 0.1], [1.0, 1.0, 1.0], [0.1, 0.1, 0.1], [1.0, 0.55 + 0.2, 0.55 - 0.2]]
    ).reached
    np.testing.assert_allclose(reached, [20.0, np.inf, np.nan, 20 * 2**0.5])


def test_xi_c_is_that_of_the_theory_also_in_single_precision(small):
    assert small.xi_c[0] == pytest.approx(3.626976, rel=1e-6)
    assert small.curve.shape == (2, 401) and small.curve[1, 0] == pytest.approx(small.xi_c[0], rel=1e-12)


def test_the_picture_has_both_lines_and_says_what_was_trained(small):
    figure = small.plot()
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [r"$6\,\xi_c$", "halfway trained"]
    assert "digits, 60 steps of SGD" in figure.get_suptitle()


def test_it_is_kept_whole(small, tmp_path):
    small.save(tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as kept:
        np.testing.assert_array_equal(kept["accuracy"], small.accuracy)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(weight_var=[2.0, 1.0]), "weight_var must be one number or an ascending list"),
        (dict(depth=[5, 5]), "depth must be one number or an ascending list"),
        (dict(depth=0), "depth must be at least 1"),
        (dict(weight_var=0.0), "weight_var"),
        (dict(learning_rates=[-1.0]), "learning_rates"),
    ],
)
def test_a_wrong_argument_is_one_sentence(change, words):
    with pytest.raises(ValueError, match=words):
        trainability(**(dict(weight_var=1.0, depth=3) | change))
