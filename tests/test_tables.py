"""Tables of Gaussian moments: as good as what they are made from, kept under the activation's values."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meanfield.activations.activation import Activation
from meanfield.activations.names import NAMED, as_activation
from meanfield.dual import dual_of, is_tabulable, shipped_ends, shipped_lines
from meanfield.dual.adaptive import AdaptiveDual, moments_of
from meanfield.dual.tables import build as tables
from meanfield.dual.tables.cells import panel_of, q_of

PANELS = (48, 50, 52)
STRETCHED = as_activation(lambda x: jnp.tanh(1.1 * x))  # has no table yet


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


SHIPPED = [name for name, activation in NAMED.items() if is_tabulable(dual_of(activation))]
FEW = ("tanh", "hard_tanh", "softplus")
NAMES = [pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in SHIPPED]


@pytest.mark.parametrize("name", ["built", *NAMES])
def test_a_table_gives_the_moments_of_its_source_at_points_of_its_own(x64, name):
    """One that is built now, and all that come with the package."""
    built = name == "built"
    activation = STRETCHED if built else as_activation(name)
    table = table_of(activation) if built else tables.tables_of(dual_of(activation), activation)
    assert built or table.chords.keys() >= set(tables.SHIPPED)
    rng = np.random.default_rng(3)
    q = q_of(rng.choice(PANELS, 32), rng.uniform(-1, 1, 32))
    theta = np.pi / 2 * rng.uniform(0, 1, 32) ** 3 + 1e-4
    found, expected = (
        np.asarray(moments(dual, jnp.asarray(q), jnp.asarray(theta)))
        for dual in (table.dual().alone(), dual_of(activation))
    )
    size = np.where(np.arange(4) == 0, np.abs(expected) + np.sqrt(expected[:, 1:2]), np.abs(expected))
    if name not in FEW:  # the slope of an oscillating function's chord passes through 0
        size[:, 3] = np.maximum(size[:, 3], size[:, 2])
    rounding = np.where(
        np.arange(4) < 2, 0, np.finfo(float).eps / theta[:, None]
    )  # of the source's differences
    worst = np.max((np.abs(found - expected) - 2 * rounding * expected[:, 2:3]) / size, axis=0)
    # A slope loses digits that its chord has.
    assert np.all(worst <= [1e-13, 1e-13, 1e-12, 2e-11])


@pytest.mark.parametrize("name", SHIPPED)
def test_what_comes_with_the_package_serves_a_walk_on_the_host(name):
    """Mean, variance and their rates beside an integral laid for the function itself."""
    activation = as_activation(name)
    q = np.exp2(np.random.default_rng(4).uniform(-30, 30, 64))
    on_host, adaptive = shipped_lines(activation), AdaptiveDual(moments_of(activation))
    (found, rates), (expected, expected_rates) = (dual.line_rates(q) for dual in (on_host, adaptive))
    errors = np.max(on_host.line_errors(q), axis=0) + np.max(adaptive.line_errors(q), axis=0) + 1e-14
    size = expected[0] + expected[1]
    for one, other, of_order in ((found, expected, 0), (rates, expected_rates, 1)):
        off = np.max(np.abs(np.array(one) - np.array(other)), axis=0) / (size / q**of_order)
        assert np.all(off <= 16 * 30**of_order * errors)


def test_what_comes_with_the_package_is_small_and_of_this_version():
    files = [tables.shipped_file(as_activation(name)) for name in SHIPPED]
    assert len(files) > 20
    assert sum(file.stat().st_size for file in files) < 3e6
    for file in files:
        with np.load(file) as kept:
            assert str(kept["format"]) == tables._FORMAT


@pytest.mark.parametrize("harm", ["truncated", "of another version", "not a table"])
def test_a_file_that_cannot_be_used_is_as_none_at_all(x64, tmp_path, monkeypatch, harm):
    kept = tmp_path / "tanh.npz"
    whole = tables.shipped_file(as_activation("tanh"))
    with np.load(whole) as file:
        columns = dict(file)
    if harm == "truncated":
        kept.write_bytes(whole.read_bytes()[:5000])
    elif harm == "of another version":
        np.savez(kept, **columns | {"format": np.array("1")})
    else:
        kept.write_text("not a table")
    monkeypatch.setattr(tables, "shipped_file", lambda _: kept)
    monkeypatch.setattr(tables, "line_series", lambda *_: (columns["lines"] + 1, columns["line_errors"]))
    activation = as_activation("tanh")
    built = tables.DualTables(dual_of(activation), activation)
    np.testing.assert_array_equal(built.lines, columns["lines"] + 1)
    assert built.chords == {}


@pytest.mark.parametrize("content", [b"", b"no table", b"PK\x03\x04 and no more"])
def test_what_comes_with_the_package_and_is_damaged_is_as_nothing(tmp_path, monkeypatch, content):
    file = tmp_path / "tanh.npz"
    file.write_bytes(content)
    monkeypatch.setattr(tables, "shipped_file", lambda _: file)
    assert shipped_lines(as_activation("tanh")) is None and shipped_ends(as_activation("tanh")) is None


def test_a_folder_that_cannot_be_written_does_no_harm(x64, tmp_path):
    blocked = tmp_path / "a file, not a folder"
    blocked.write_text("")
    assert table_of(STRETCHED, blocked, (50,)).chords.keys() == {50}


def test_its_error_says_where_there_is_no_table(x64):
    dual = table_of(STRETCHED).dual()
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
    first = table_of(STRETCHED, tmp_path, (50,))
    (file,) = tmp_path.iterdir()

    def unwanted(*_):
        raise AssertionError("built although it was kept")

    with monkeypatch.context() as patch:
        patch.setattr(tables, "line_series", unwanted)
        patch.setattr(tables, "chord_series", unwanted)
        # The same function by another name: its values are what counts.
        second = table_of(as_activation(lambda x: jnp.tanh(1.1 * x)), tmp_path, (50,))
    np.testing.assert_array_equal(first.chords[50], second.chords[50])
    with pytest.raises(AssertionError, match="although"), monkeypatch.context() as patch:
        patch.setattr(tables, "line_series", unwanted)
        table_of(as_activation(Activation(lambda x: 1.001 * jnp.tanh(x), kinks=())), tmp_path, (50,))
    file.write_bytes(file.read_bytes()[:1000])
    np.testing.assert_array_equal(table_of(STRETCHED, tmp_path, (50,)).chords[50], first.chords[50])
