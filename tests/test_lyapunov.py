"""Lyapunov exponents and depth scales, and the decay that they promise."""

import numpy as np
import pytest
from problems import relative

import meanfield as mf


def test_a_positive_correlation_lets_the_radial_direction_win(x64):
    """ReLU, kappa = -3: |delta|^2 falls by 0.9553 = chi_q^2 a layer, while chi_perp = 0.5."""
    exponents = mf.lyapunov_exponents("relu", mf.NormalPrior(1.0, 0.1, -3.0))
    chi_q = 0.5 + 3 / (2 * np.pi)
    assert abs(np.exp(2 * exponents.maximal) - 0.9554) <= 1e-4
    assert relative(exponents.maximal, np.log(chi_q)) <= 1e-12
    assert exponents.maximal == exponents.q
    assert relative(exponents.c, np.log(0.5)) <= 1e-12


def test_elsewhere_the_transverse_direction_wins(x64):
    exponents = mf.lyapunov_exponents("relu", mf.NormalPrior(2.3, 0.1, 0.9))
    assert relative(exponents.maximal, np.log(1.15) / 2) <= 1e-13
    assert exponents.maximal > exponents.q


@pytest.mark.parametrize("weight_var, kappa", [(4.0, 0.5), (4.0, -0.5), (0.7, 0.5), (0.7, -2.0)])
def test_without_a_scale_both_directions_count_half_a_logarithm(x64, weight_var, kappa):
    exponents = mf.lyapunov_exponents("relu", mf.NormalPrior(weight_var, 0.0, kappa))
    growth = weight_var * (0.5 - kappa / (2 * np.pi))
    assert relative(exponents.q, np.log(growth)) <= 1e-12
    assert relative(exponents.maximal, max(np.log(weight_var / 2), np.log(growth)) / 2) <= 1e-12


@pytest.mark.parametrize(
    "activation, prior", [("erf", (2.5, 0.1)), ("cos", (3.0, 0.1, 0.9)), ("relu", (2.4, 0.1, 0.9))]
)
def test_both_maps_relax_at_the_rate_of_their_depth_scale(x64, activation, prior):
    prior = mf.NormalPrior(*prior)
    end = mf.fixed_point(activation, prior)
    scales = mf.depth_scales(activation, prior)
    assert end.status == mf.Status.CONVERGED
    path = mf.propagate(activation, prior, q0=end.q, c0=end.c - 1e-6, depth=3)
    assert relative((path.c[3] - end.c) / (path.c[2] - end.c), np.exp(-1 / scales.c)) <= 1e-5
    path = mf.propagate(activation, prior, q0=end.q * (1 + 1e-6), depth=3)
    rate = np.abs((path.q[3] - end.q) / (path.q[2] - end.q))
    assert relative(rate, np.exp(-1 / scales.q)) <= 1e-5


def test_the_correlation_keeps_its_memory_at_criticality(x64):
    scales = mf.depth_scales("relu", mf.NormalPrior(np.array([1.999, 2.0, 2.001]), 0.1, 0.9))
    assert np.isinf(scales.c[1]) and scales.c[1] > 0
    assert scales.c[0] > 1000 and scales.c[2] > 1000
    assert np.isinf(mf.depth_scales("relu", mf.NormalPrior(2.0)).q)
    at_rounding = mf.depth_scales("gelu", mf.NormalPrior(np.linspace(2.1, 4.0, 64), 0.1))  # chi_c = 1 there
    assert np.all(np.isinf(at_rounding.c) | (at_rounding.c < 1e10))


def test_an_expanding_direction_has_a_rate_and_no_scale(x64):
    assert np.isnan(mf.depth_scales("relu", mf.NormalPrior(4.0, 0.1)).q)
    assert mf.lyapunov_exponents("relu", mf.NormalPrior(4.0, 0.1)).q > 0


def test_no_weights_means_no_memory(x64):
    exponents = mf.lyapunov_exponents("relu", mf.NormalPrior(0.0, 0.1))
    scales = mf.depth_scales("relu", mf.NormalPrior(0.0, 0.1))
    assert exponents.q == exponents.c == exponents.maximal == -np.inf
    assert scales.q == scales.c == 0
