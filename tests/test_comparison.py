"""Networks beside the theory: the table, its p-values and its pictures."""

import matplotlib.figure
import numpy as np
import pytest
from scipy import stats

import meanfield as mf
from meanfield.empirical import compare, measure
from meanfield.empirical.comparison import _compared, theory_of

SIGNALS = dict(q0=1.0, c0=0.5)


@pytest.fixture(scope="module")
def agreeing():
    return compare("tanh", mf.NormalPrior(1.5, 0.1, 1.0), width=128, depth=8, networks=32, seed=3)


def test_networks_of_two_widths_agree_with_the_theory(agreeing):
    assert set(agreeing.quantities) == {"q", "one_minus_c", "growth", "inactive", "dead", "gradient"}
    assert agreeing.p_value > 1e-3
    deviations = np.concatenate([agreeing.deviation[name] for name in agreeing.quantities])
    assert np.nanmax(np.abs(deviations)) < 5
    assert (agreeing.narrow.width, agreeing.wide.width) == (128, 256)


@pytest.mark.slow
def test_asymmetric_networks_agree_with_the_sampled_theory():
    prior = mf.AsymmetricPrior(1.2, 0.02, 1.0)
    found = compare("relu", prior, width=256, depth=8, networks=32, method="weightless")
    assert found.p_value > 1e-3 and "gradient" not in found.quantities


def test_a_wrong_theory_is_found_out():
    """Networks of kappa 0.9 against the theory of kappa 1."""
    made, claimed = mf.NormalPrior(1.5, 0.1, 0.9), mf.NormalPrior(1.5, 0.1, 1.0)
    narrow, wide = (
        measure("relu", made, width=n, depth=8, networks=400, method="weightless", seed=n) for n in (256, 512)
    )
    theory = theory_of("relu", claimed, depth=8)
    assert _compared(narrow, wide, theory, SIGNALS).p_value < 1e-3


def test_without_the_smaller_width_the_bias_would_be_taken_for_disagreement():
    """At depth 30 networks of width 32 are off by many standard errors; extrapolated they are not."""
    prior = mf.NormalPrior(2.0)
    narrow, wide = (
        measure("relu", prior, width=n, depth=20, networks=3000, method="weightless", seed=n)
        for n in (64, 128)
    )
    found = _compared(narrow, wide, theory_of("relu", prior, depth=20), SIGNALS)
    raw = (np.log(wide.samples.q[:, -1]).mean() - 0) / (
        np.log(wide.samples.q[:, -1]).std() / len(wide.samples.q) ** 0.5
    )
    assert abs(raw) > 10
    assert abs(found.deviation["q"][-1]) < 4
    assert found.bias["q"][-1] / found.bias_error["q"][-1] < -10


@pytest.mark.slow
def test_p_values_are_uniform_where_the_theory_holds():
    prior = mf.NormalPrior(1.8, 0.05, 0.5)
    theory = theory_of("relu", prior, depth=6)
    draw = lambda width, seed: measure(
        "relu", prior, width=width, depth=6, networks=32 * 60, method="weightless", seed=seed
    )
    narrow, wide = draw(200, 1), draw(400, 2)
    p_values = [_compared(_part(narrow, i), _part(wide, i), theory, SIGNALS).p_value for i in range(60)]
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3
    assert min(p_values) > 1e-3 / 60


def _part(measured, index):
    """The index-th 32 networks of an ensemble."""
    import dataclasses

    import jax

    picked = jax.tree.map(lambda x: x[32 * index : 32 * (index + 1)], measured.samples)
    return dataclasses.replace(measured, samples=picked)


def test_values_that_cannot_deviate_are_blank():
    found = compare("linear", mf.NormalPrior(1.0), width=32, depth=3, networks=8, c0=1.0)
    assert np.isnan(found.deviation["one_minus_c"]).all()
    assert np.isnan(found.deviation["growth"][0]) and np.isnan(found.deviation["gradient"][-1])


def test_the_table_holds_every_layer_and_quantity(agreeing, tmp_path):
    rows = agreeing.table()
    assert len(rows) == 9 * len(agreeing.quantities)
    last = next(row for row in rows if row["quantity"] == "q" and row["layer"] == 8)
    assert last["theory"] == pytest.approx(agreeing.theory.values["q"][8])
    assert last["limit"] == pytest.approx(last["theory"], rel=0.2)
    agreeing.save(tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as saved:
        assert saved["deviation"].shape == saved["quantity"].shape == (len(rows),)
        assert saved["p_value"] == agreeing.p_value and "NormalPrior" in str(saved["prior"])


def test_it_knows_where_signals_end(agreeing):
    assert float(agreeing.fixed_point.q) == pytest.approx(0.52022, abs=1e-4)


def test_the_picture_has_a_panel_with_deviations_for_every_quantity(agreeing):
    figure = agreeing.plot()
    assert isinstance(figure, matplotlib.figure.Figure)
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert len(shown) == 2 * len(agreeing.quantities)
    assert {ax.get_xlabel() for ax in shown} == {"", "layer $l$"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"networks": 4}, "networks must be at least 8"),
        ({"method": "x"}, "'weights' or 'weightless'"),
        ({"prior": mf.AsymmetricPrior(1.0), "gradients": True}, "no theory"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    arguments = dict(activation="relu", prior=mf.NormalPrior(2.0), width=8, depth=2, networks=8) | change
    with pytest.raises(ValueError, match=message):
        compare(**arguments)
