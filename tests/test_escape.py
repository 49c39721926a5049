"""How wide networks must be for their variance to stay."""

import numpy as np
import pytest

import meanfield as mf
from meanfield.activations.names import as_activation
from meanfield.advice.escape import GRID, Wandering, _cost
from meanfield.empirical import measure

LOOSE = mf.NormalPrior(3.3227216729620057, 0.10774092836095055, 1.0)  # critical for softplus at q = 1.2589
TIGHT = mf.NormalPrior(2.91419, 0.497763, 1.0)  # at q = 3.548


def columns(*priors):
    return mf.NormalPrior(
        *(np.array([float(getattr(p, n)) for p in priors]) for n in mf.NormalPrior.parameters)
    )


@pytest.mark.parametrize("kappa, closed_form", [(0.0, 5.0), (0.5, 4.677598), (1.0, 4.407629)])
def test_the_variance_of_relu_wanders_as_in_closed_form(kappa, closed_form):
    """(5 - 12 k/pi + 4 k^2/pi (1 - 1/pi))/(1 - k/pi)^2 over N a layer, at every variance."""
    expected = 5 - 12 * kappa / np.pi + 4 * kappa**2 / np.pi * (1 - 1 / np.pi)
    assert expected / (1 - kappa / np.pi) ** 2 == pytest.approx(closed_form, rel=1e-5)
    _, noise = Wandering(as_activation("relu"))._wandering(columns(mf.NormalPrior(2.0, 0.0, kappa)))
    # The mean, which meets the kink, enters with kappa: 200 Gauss-Hermite nodes miss it by 1e-3.
    np.testing.assert_allclose(noise, closed_form, rtol=3e-3 * kappa + 1e-13)


def test_the_cost_of_a_parabola_is_its_height():
    """Drift -k x up to a barrier at B against noise a: W = k B^2/a."""
    x = np.log(GRID)
    drift = np.where(np.abs(x) < 3, -0.1 * x, 0.1 * x)
    assert _cost(drift, np.full(x.size, 2.0), 1.0) == pytest.approx(0.1 * 3**2 / 2, rel=0.02)


def test_the_nearer_way_out_counts():
    x = np.log(GRID)
    drift = np.where((x > -1) & (x < 3), -0.1 * x, 0.1 * x)
    assert _cost(drift, np.full(x.size, 2.0), 1.0) == pytest.approx(0.1 * 1**2 / 2, rel=0.06)


def test_softplus_needs_width_where_its_variance_is_held_loosely():
    wandering = Wandering(as_activation("softplus"))
    q, xi_q = np.array([1.2589, 3.548]), np.array([33.0, 11.8])
    loose, tight = wandering.needed_width(columns(LOOSE, TIGHT), q, xi_q, 1000)
    assert loose > 1024 and tight < 256


@pytest.mark.slow
def test_networks_of_softplus_leave_the_loose_variance_and_stay_at_the_tight_one():
    how = dict(width=256, depth=200, networks=64, c0=0.5, method="weightless")
    ends = {
        q0: np.asarray(measure("softplus", prior, q0=q0, **how).samples.q)[:, -1] / q0
        for prior, q0 in ((LOOSE, 1.2589), (TIGHT, 3.548))
    }
    lost = {q0: np.mean(~(end < 6)) for q0, end in ends.items()}
    assert lost[1.2589] > 0 and lost[3.548] == 0


@pytest.mark.slow
def test_what_is_recommended_for_1000_layers_of_softplus_holds_at_width_256():
    best = mf.recommend("softplus", 1000).best
    assert any("networks narrower than" in note for note in best.notes)
    how = dict(width=256, depth=1000, networks=32, q0=best.start, c0=0.5, method="weightless")
    q = np.asarray(measure("softplus", best.prior, **how).samples.q)[:, -1]
    assert np.all(q < 6 * best.start) and np.median(q) == pytest.approx(best.outcome.q, rel=0.3)
