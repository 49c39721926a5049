"""Tables of Gaussian moments: as good as what they are made from, kept under the activation's values."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meanfield.activations.activation import Activation
from meanfield.activations.names import as_activation
from meanfield.dual import dual_of
from meanfield.dual.tables import build as tables
from meanfield.dual.tables.cells import panel_of, q_of

PANELS = (48, 50, 52)


def table_of(activation, directory=None, panels=PANELS):
    made = tables.DualTables(dual_of(activation), activation, directory)
    made.build(panels)
    return made


@jax.jit
def moments(dual, q, theta):
    def at(q, theta):
        return jnp.stack(
            [dual.mean(q), dual.variance(q), dual.chord(q, theta), dual.slope_covariance(q, theta)]
        )

    return jax.lax.map(lambda point: at(*point), (q, theta), batch_size=32)


@pytest.mark.parametrize("name", ["tanh", "hard_tanh", "softplus"])
def test_a_table_gives_the_moments_of_its_source_at_points_of_its_own(x64, name):
    rng = np.random.default_rng(3)
    q = q_of(rng.choice(PANELS, 32), rng.uniform(-1, 1, 32))
    theta = np.pi / 2 * rng.uniform(0, 1, 32) ** 3 + 1e-4
    activation = as_activation(name)
    found, expected = (
        np.asarray(moments(dual, jnp.asarray(q), jnp.asarray(theta)))
        for dual in (table_of(activation).dual(), dual_of(activation))
    )
    size = np.where(np.arange(4) == 0, np.abs(expected) + np.sqrt(expected[:, 1:2]), np.abs(expected))
    worst = np.max(np.abs(found - expected) / size, axis=0)
    # A slope loses digits that its chord has.
    assert np.all(worst <= [1e-13, 1e-13, 1e-12, 2e-11])


def test_its_error_says_where_there_is_no_table(x64):
    dual = table_of(as_activation("tanh")).dual()
    q = jnp.asarray([q_of(48, 0.3), q_of(49, 0.3)])
    assert list(np.isinf(jax.vmap(dual.error)(q))) == [False, True]
    assert list(jax.vmap(panel_of)(q)) == [48, 49]


def test_an_activation_that_vanishes_about_the_origin_gives_no_warning(x64):
    act = Activation(lambda x: jnp.sign(x) * jnp.maximum(jnp.abs(x) - 0.5, 0), kinks=(-0.5, 0.5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, errors = tables.line_series(dual_of(act))
    assert np.isfinite(errors[panel_of(jnp.asarray(1.0))])


def test_a_table_is_kept_in_a_directory_under_the_values_of_its_activation(x64, tmp_path, monkeypatch):
    first = table_of(as_activation("tanh"), tmp_path, (50,))
    (file,) = tmp_path.iterdir()

    def unwanted(*_):
        raise AssertionError("built although it was kept")

    with monkeypatch.context() as patch:
        patch.setattr(tables, "line_series", unwanted)
        patch.setattr(tables, "chord_series", unwanted)
        # The same function by another name: its values are what counts.
        second = table_of(as_activation(Activation(lambda x: jnp.tanh(x), kinks=())), tmp_path, (50,))
    np.testing.assert_array_equal(first.chords[50], second.chords[50])
    with pytest.raises(AssertionError, match="although"), monkeypatch.context() as patch:
        patch.setattr(tables, "line_series", unwanted)
        table_of(as_activation(Activation(lambda x: 1.001 * jnp.tanh(x), kinks=())), tmp_path, (50,))
    file.write_bytes(file.read_bytes()[:1000])
    np.testing.assert_array_equal(
        table_of(as_activation("tanh"), tmp_path, (50,)).chords[50], first.chords[50]
    )
