"""Training: pairing, checkpoints, and what goes wrong."""

import os
import random
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meanfield.empirical import Examples, Task, teacher_student, train
from meanfield.empirical.checkpoints import Checkpoints

SMALL = dict(width=16, depth=3, steps=40, evaluations=8, seeds=4, batch_size=16)
TASK = teacher_student(features=4, width=8, depth=2, train=64, test=32)


def same(a, b):
    return all(
        np.array_equal(getattr(a, n), getattr(b, n), equal_nan=True)
        for n in ("steps", "train_loss", "test_loss", "test_accuracy")
    )


@pytest.fixture(scope="module")
def curves():
    return train(TASK, "he", learning_rate=[0.01, 0.03], **SMALL)


def test_curves_have_axes_seeds_rates_evaluations_and_fall(curves):
    assert curves.train_loss.shape == curves.test_accuracy.shape == (4, 2, 9)
    assert curves.steps.tolist() == [0, 5, 10, 15, 20, 25, 30, 35, 40]
    assert np.mean(np.log(curves.train_loss[..., -1] / curves.train_loss[..., 0])) < -0.2
    assert np.isnan(curves.test_accuracy).all()


def test_rates_and_seeds_do_not_disturb_each_other(curves):
    """The same run, alone and among others: the same start, and the same curve up to rounding."""
    alone = train(TASK, "he", learning_rate=0.03, **(SMALL | {"seeds": 2, "first_seed": 1}))
    np.testing.assert_allclose(alone.train_loss[:, 0], curves.train_loss[1:3, 1], rtol=1e-3)


def test_runs_are_paired_over_initialisations():
    """Same data and batches: two initialisations that are the same prior give the same curve."""
    first, second = (train(TASK, name, **SMALL) for name in ("anticorrelated(0, 2)", "anticorrelated(0)"))
    np.testing.assert_array_equal(first.train_loss, second.train_loss)


def test_a_step_is_that_of_optax():
    """One step of SGD on all of a linear problem, by hand."""
    inputs = jnp.eye(4)
    task = Task("plain", lambda key: (Examples(inputs, inputs[:, :1]),) * 2, 4, 1, False)
    size = dict(width=4, depth=1, steps=1, evaluations=1, seeds=1, batch_size=64, activation="linear")
    still, moved = (train(task, "he", optimizer=optax.sgd, learning_rate=x, **size) for x in (1e-30, 0.01))
    assert still.train_loss[0, 0, 1] == still.train_loss[0, 0, 0] > moved.train_loss[0, 0, 1]


@pytest.mark.parametrize("optimizer", ["momentum", "adamw", "lion"])
def test_every_optimizer_lowers_the_loss(optimizer):
    size = SMALL | {"seeds": 2, "steps": 30, "evaluations": 1}
    found = train(TASK, "he", optimizer=optimizer, learning_rate=0.003, **size)
    assert np.mean(found.train_loss[..., -1] / found.train_loss[..., 0]) < 1


def test_a_classification_learns_and_counts():
    found = train("digits", "he", learning_rate=0.05, width=32, depth=2, steps=200, evaluations=2, seeds=2)
    assert found.test_accuracy[..., -1].min() > 0.85 and (found.test_accuracy <= 1).all()
    reached = found.time_to_reach(0.5)
    assert reached.shape == (2, 1) and set(reached.ravel()) <= {100, 200}
    assert np.isinf(found.time_to_reach(1e-9)).all()


def test_a_diverged_run_has_infinite_losses():
    found = train(TASK, "he", learning_rate=[0.01, 1e6], **SMALL)
    assert np.isinf(found.train_loss[:, 1, -1]).all() and np.isfinite(found.train_loss[:, 0]).all()


def test_seeds_are_spread_over_devices():
    code = """
import numpy as np, jax
from meanfield.empirical import teacher_student, train
task = teacher_student(features=4, width=8, depth=2, train=64, test=32)
size = dict(width=8, depth=2, steps=10, evaluations=2, seeds=6, batch_size=16)
assert len(jax.devices()) == 4
many, one = (train(task, "he", devices=d, **size) for d in (jax.devices(), jax.devices()[:1]))
np.testing.assert_allclose(many.train_loss, one.train_loss, rtol=1e-5)
"""
    flags = os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=4"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"XLA_FLAGS": flags})


# --- checkpoints -----------------------------------------------------------------

KILLED = """
import sys
from meanfield.empirical import teacher_student, train
task = teacher_student(features=4, width=8, depth=2, train=64, test=32)
curves = train(task, "he", width=16, depth=3, learning_rate=0.02, steps=4000, evaluations=200, seeds=4,
               batch_size=16, checkpoint=sys.argv[1] if len(sys.argv) > 2 else None)
curves.save(sys.argv[-1])
"""


@pytest.mark.slow
def test_a_run_killed_five_times_ends_with_the_undisturbed_curve(tmp_path):
    whole, pieces, kept = (tmp_path / name for name in ("whole.npz", "pieces.npz", "kept"))
    start = lambda *arguments: subprocess.Popen([sys.executable, "-c", KILLED, *map(str, arguments)])
    assert start(whole).wait() == 0
    chance = random.Random(0)
    for _ in range(5):
        process = start(kept, pieces)
        already = done(kept)
        while process.poll() is None and done(kept) == already:
            time.sleep(0.02)
        time.sleep(chance.random() * 0.3)
        assert process.poll() is None  # it was not done yet
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert done(kept) > 0
    assert start(kept, pieces).wait() == 0
    with np.load(whole) as a, np.load(pieces) as b:
        for name in ("train_loss", "test_loss"):
            np.testing.assert_array_equal(a[name], b[name])


def done(directory):
    """The last evaluation of which there is a whole checkpoint."""
    steps = directory / "steps"
    return max((int(p.name) for p in steps.iterdir() if p.name.isdigit()), default=0) if steps.is_dir() else 0


def test_a_finished_run_is_read_not_repeated(tmp_path):
    first = train(TASK, "he", checkpoint=tmp_path / "run", **SMALL)
    second = train(TASK, "he", checkpoint=tmp_path / "run", **SMALL)
    assert same(first, second) and same(first, train(TASK, "he", **SMALL))


def test_a_checkpoint_of_other_settings_is_refused_and_kept(tmp_path):
    first = train(TASK, "he", checkpoint=tmp_path, **SMALL)
    with pytest.raises(ValueError, match=r"other settings: width was 16 and is now 8"):
        train(TASK, "he", checkpoint=tmp_path, **(SMALL | {"width": 8}))
    assert same(first, train(TASK, "he", checkpoint=tmp_path, **SMALL))


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="is not empty and holds no checkpoints"):
        train(TASK, "he", checkpoint=tmp_path, **SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_full_disk_is_one_clear_error_and_loses_nothing(tmp_path, monkeypatch):
    keep = Checkpoints(tmp_path, {"x": 1})
    state, measured = [jnp.ones((2, 1, 3))], (np.ones((2, 2, 1), np.float32),) * 3
    keep.save(1, state, measured)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keep._manager, "save", full)
    with pytest.raises(OSError, match=r"cannot write a checkpoint to .*No space left on device"):
        keep.save(2, state, measured)
    _, done_so_far, history = Checkpoints(tmp_path, {"x": 1}).restored(state)
    assert done_so_far == 1 and np.array_equal(history[0][0], measured[0])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"optimizer": "sdg"}, ValueError, "did you mean 'sgd'"),
        ({"optimizer": 3}, TypeError, "optimizer must be"),
        ({"task": "teacher"}, ValueError, "did you mean 'teacher-student'"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate must be"),
        ({"learning_rate": [[0.1]]}, ValueError, "a number or a list"),
        ({"steps": 41}, ValueError, "steps must be a multiple of evaluations, 8"),
        ({"seeds": 0}, ValueError, "seeds must be at least 1"),
        ({"initialization": "xavier"}, ValueError, "unknown"),
    ],
)
def test_wrong_arguments_are_named(change, error, message):
    arguments = dict(task=TASK, initialization="he", learning_rate=0.01) | SMALL | change
    with pytest.raises(error, match=message):
        train(**arguments)


@pytest.mark.parametrize("double", [False, True])
def test_training_leaves_jax_as_it_was(double):
    with jax.enable_x64(double):
        before = dict(jax.config.values), jax.config.jax_enable_x64, jax.random.key_impl(jax.random.key(0))
        train(TASK, "he", **SMALL)
        after = dict(jax.config.values), jax.config.jax_enable_x64, jax.random.key_impl(jax.random.key(0))
    assert before == after and before[1] is double
    assert not jax.config.jax_enable_x64
