"""Tasks made in code."""

import jax
import numpy as np
import pytest

import meanfield as mf
from meanfield.empirical import mnist_1d, spirals, task, teacher_student
from meanfield.empirical.mnist1d import mnist1d


def test_a_teacher_is_another_for_every_seed_and_its_targets_have_unit_variance():
    made = teacher_student(
        features=6, width=16, depth=2, prior=mf.NormalPrior(2.0, 0.0, 1.0), train=64, test=8
    )
    (train, test), (other, _) = (made.data(jax.random.key(i)) for i in (0, 1))
    assert (train.inputs.shape, train.targets.shape, test.inputs.shape) == ((64, 6), (64, 1), (8, 6))
    assert float(np.std(train.targets)) == pytest.approx(1, rel=1e-5)
    assert not np.allclose(train.targets, other.targets)


@pytest.mark.parametrize(
    ("name", "features", "outputs"), [("digits", 64, 10), ("mnist1d", 40, 10), ("spirals", 2, 3)]
)
def test_classifications_have_scaled_inputs_and_all_labels(name, features, outputs):
    made = task(name)
    train, test = made.data(jax.random.key(0))
    assert (made.features, made.outputs, made.classification) == (features, outputs, True)
    assert abs(train.inputs.mean()) < 1e-5 and train.inputs.std() == pytest.approx(1, rel=1e-4)
    assert set(train.targets) == set(test.targets) == set(range(outputs))


def test_mnist1d_can_be_learned_but_not_by_a_linear_rule_alone():
    """The paper: logistic regression reaches 32%, a nearest neighbour far more than chance."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    inputs, labels = mnist1d(5000)
    parts = (inputs[:4000], labels[:4000]), (inputs[4000:], labels[4000:])
    linear = LogisticRegression(max_iter=300).fit(*parts[0]).score(*parts[1])
    near = KNeighborsClassifier(5).fit(*parts[0]).score(*parts[1])
    assert 0.25 < linear < 0.40 and near > linear + 0.1


def test_mnist1d_is_the_same_every_time():
    np.testing.assert_array_equal(mnist1d(20)[0], mnist1d(20)[0])
    assert np.bincount(mnist1d(200)[1]).tolist() == [20] * 10


def test_spirals_and_sizes_are_settings():
    assert "arms=4" in repr(spirals(arms=4, train=40, test=12)) and "train=30" in repr(
        mnist_1d(train=30, test=20)
    )


@pytest.mark.parametrize(
    ("name", "directory", "error", "message"),
    [
        ("digit", None, ValueError, "did you mean 'digits'"),
        ("mnist", None, ValueError, "a directory that holds them is needed"),
        ("digits", "/tmp", ValueError, "not read from files"),
        (7, None, TypeError, "a name or a Task"),
        ("cifar10", "/nowhere/at/all", FileNotFoundError, "no directory"),
    ],
)
def test_unknown_tasks_are_refused(name, directory, error, message):
    with pytest.raises(error, match=message):
        task(name, directory)
