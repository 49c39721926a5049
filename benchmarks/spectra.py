"""Spectra: SVDs and QR of real networks against the theory, closed forms, and times.

    python benchmarks/spectra.py --json benchmarks/spectra_cpu_2_cores.json

Kolmogorov distances of singular values of width 1000 (networks of one case taken together), quantiles
of Lyapunov exponents of width 500. ReLU at depth 64 is left to ``--relu``: a layer of width N has
N/2 +- sqrt(N)/2 active neurons and the narrowest of 64 sets the rank, so that some 4% of the
singular values are zero beyond the theory's half, whatever the theory. About half an hour on two cores.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path

import jax
import numpy as np
from harness import machine

import meanfield as mf
from meanfield.empirical import measure_lyapunov_spectrum, measure_singular_values
from meanfield.empirical.spectra import LEVELS, kolmogorov_distance, theory_of

CASES = {"tanh": (1.8, 0.05), "gelu": (1.9, 0.1), "hard_tanh": (1.02, 0.005)}
LAWS = {"gaussian": mf.NormalPrior, "orthogonal": mf.OrthogonalPrior}
NETWORKS = {1: 8, 8: 2, 64: 1}
SWEEPS = {1: 1, 8: 6, 64: 3}


def times(quick):
    """Best of five warm calls."""

    def best(job):
        job()
        spent = []
        for _ in range(5):
            began = time.perf_counter()
            job()
            spent.append(time.perf_counter() - began)
        return min(spent)

    side = (20, 25) if quick else (250, 400)
    weight_var, bias_var = np.meshgrid(np.linspace(0.8, 3, side[1]), np.linspace(0.01, 0.5, side[0]))
    with jax.enable_x64(True):
        for activation in ("tanh", "relu"):
            for name, law in LAWS.items():
                job = lambda: jax.block_until_ready(  # noqa: E731
                    mf.jacobian_spectrum(activation, law(1.8, 0.05), 1000)  # noqa: B023
                )
                yield {"job": f"density, 1000 points, depth 1000, {activation}, {name}", "warm_s": best(job)}
        for activation in ("tanh", "erf"):
            job = lambda: jax.block_until_ready(  # noqa: E731
                mf.isometry(activation, mf.OrthogonalPrior(weight_var, bias_var), 20)  # noqa: B023
            )
            yield {
                "job": f"top exponent and spread, {weight_var.size} points, {activation}",
                "warm_s": best(job),
            }


def distances(quick, activations, depths=tuple(NETWORKS)):
    width, networks = (60, dict.fromkeys(NETWORKS, 1)) if quick else (1000, NETWORKS)
    for depth in depths:
        for activation in activations[: 1 if quick else None]:
            for name, law in LAWS.items():
                prior = law(*({"relu": (2.0, 0.1)} | CASES)[activation])
                began = time.perf_counter()
                sizes = dict(width=width, depth=depth, networks=networks[depth], sweeps=SWEEPS[depth])
                found = measure_singular_values(activation, prior, **sizes)
                distance = kolmogorov_distance(found.log_values, theory_of(found)[1])
                yield {
                    "job": f"Kolmogorov distance, {activation}, {name}, depth {depth}, width {width}",
                    "prior": repr(prior),
                    "networks": networks[depth],
                    "distance": distance,
                    "seconds": time.perf_counter() - began,
                }


def exponents(quick):
    width, depth = (40, 20) if quick else (500, 150)
    for kappa in (0.0, 1.0):
        prior = mf.NormalPrior(2.5, 0.05, kappa)
        began = time.perf_counter()
        found = measure_lyapunov_spectrum("tanh", prior, width=width, depth=depth)
        if kappa == 1:
            # Rows that sum to zero lose one direction of each network, exactly: 1/width of all.
            found = dataclasses.replace(found, log_values=found.log_values[:, :-1])
        gap = found.quantile(LEVELS) - theory_of(found)[2](LEVELS)
        yield {
            "job": f"Lyapunov quantiles .05 to .95, tanh, kappa {kappa:g}, width {width}, depth {depth}",
            "largest_gap": float(np.max(np.abs(gap))),
            "seconds": time.perf_counter() - began,
        }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--relu", action="store_true", help="Kolmogorov distances of ReLU networks alone")
    parser.add_argument("--part", choices=("times", "exponents", "distances"), help="one part alone")
    parser.add_argument("--activation", choices=tuple(CASES), help="distances of this activation alone")
    parser.add_argument("--depth", type=int, choices=tuple(NETWORKS), help="distances at this depth alone")
    parser.add_argument(
        "--json", type=Path, help="write the rows to this file, in place of those of the same name"
    )
    options = parser.parse_args()
    activations = [options.activation] if options.activation else list(CASES)
    depths = [options.depth] if options.depth else list(NETWORKS)
    parts = {
        "times": times(options.quick),
        "exponents": exponents(options.quick),
        "distances": distances(options.quick, ["relu"] if options.relu else activations, depths),
    }
    chosen = (
        ["distances"]
        if options.relu or options.activation
        else [options.part]
        if options.part
        else list(parts)
    )
    rows = {}
    if options.json and options.json.exists():
        rows = {row["job"]: row for row in json.loads(options.json.read_text())["rows"]}
    for row in (row for name in chosen for row in parts[name]):
        rows[row["job"]] = row
        print({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()}, flush=True)
        if options.json:
            results = {"machine": machine(), "rows": list(rows.values())}
            options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
