"""Asymmetric priors: time of the main jobs, and how far sampled and exact theory lie apart.

    python benchmarks/asymmetric.py            # full sizes; --quick for small ones
    python benchmarks/asymmetric.py --json results.json

Error column: for density evolution, what halving the step moves (relative); for the
population, its largest deviation from density evolution over all layers, in standard errors.
"""

import jax
import numpy as np
from harness import main, median_seconds

import meanfield as mf

DEPTH = 25


def unit_gain(quick: bool) -> list[dict]:
    kappa = np.array([0.0, 0.5, 0.9, 1.0])
    first, warm = median_seconds(lambda: mf.AsymmetricPrior.unit_gain(anticorrelation=kappa))
    found = np.sqrt(mf.AsymmetricPrior.unit_gain(anticorrelation=kappa).weight_var)
    error = float(np.max(np.abs(found - [0.846514, 0.951324, 1.070571, 1.108108])))
    return [{"job": "unit gain, 4 anticorrelations", "first_s": first, "warm_s": warm, "error": error}]


def density(quick: bool) -> list[dict]:
    rows = []
    for name, prior in (("relu", mf.AsymmetricPrior.rai()), ("tanh", mf.AsymmetricPrior(1.5, 0.02, 1.0))):

        def evolve(step=2.0, name=name, prior=prior):
            return jax.block_until_ready(mf.density_evolution(name, prior, depth=DEPTH, step=step))

        first, warm = median_seconds(evolve)
        coarse, fine = evolve(), evolve(4.0 if quick else 1.0)
        error = max(
            float(np.max(np.abs(np.asarray(getattr(coarse, field)) / np.asarray(getattr(fine, field)) - 1)))
            for field in ("q", "noise_var", "inactive", "activity", "growth")
        )
        rows.append(
            {"job": f"density evolution, {name}, 25 layers", "first_s": first, "warm_s": warm, "error": error}
        )
    return rows


def population(quick: bool) -> list[dict]:
    particles = 20_000 if quick else 1_000_000
    rows = []
    for name in ("relu", "tanh"):
        for kappa in (0.0, 1.0):
            unit = mf.AsymmetricPrior.unit_gain
            prior = unit(anticorrelation=kappa) if name == "relu" else mf.AsymmetricPrior(1.5, 0.02, kappa)

            def sample(name=name, prior=prior):
                result = mf.population_dynamics(name, prior, depth=DEPTH, particles=particles)
                return jax.block_until_ready(result)

            first, warm = median_seconds(sample, repeats=3)
            result, exact = sample(), mf.density_evolution(name, prior, depth=DEPTH)
            worst = 0.0
            for field in ("q", "mean", "inactive", "activity", "growth"):
                gap = np.abs(np.asarray(getattr(result, field)) - np.asarray(getattr(exact, field)))
                error = np.asarray(getattr(result.standard_error, field))
                worst = max(worst, float(np.max(gap[1:] / error[1:])))
            job = f"population, {name}, kappa {kappa:g}, {particles:,} x {DEPTH}"
            rows.append({"job": job, "first_s": first, "warm_s": warm, "error": worst})
    return rows


def diagrams(quick: bool) -> list[dict]:
    side = 20 if quick else 100
    rows = []
    for name in ("relu",) if quick else ("relu", "tanh"):

        def diagram(name=name):
            grid = dict(weight_var=np.linspace(0.1, 3, side), bias_var=np.linspace(0.01, 0.5, side))
            return mf.phase_diagram(name, special_weight=mf.Beta(2, 1), **grid)

        first, warm = median_seconds(diagram, repeats=3)
        rows.append({"job": f"{name} diagram, {side**2:,} points", "first_s": first, "warm_s": warm})
    return rows


def measure(quick: bool) -> list[dict]:
    """One row a job, in float64."""
    with jax.enable_x64(True):
        return [row for job in (unit_gain, density, population, diagrams) for row in job(quick)]


if __name__ == "__main__":
    main(__doc__, measure)
