"""Spectra: SVDs and QR of real networks against the theory, closed forms, and times.

    python benchmarks/spectra.py --json benchmarks/spectra_cpu_2_cores.json

Kolmogorov distances of singular values of width 1000 (networks of one case taken together), quantiles
of Lyapunov exponents of widths 500 and 1000, integrals of the density for every named activation.
ReLU at depth 64 is an extra row, beside the three activations of the bar: a layer of width N has
N/2 +- sqrt(N)/2 active neurons and the narrowest of 64 sets the rank, so that some 4% of the
singular values are zero beyond the theory's half, whatever the theory. About an hour on two cores.
"""

import argparse
import json
import time
from pathlib import Path

import jax
import numpy as np
from harness import machine

import meanfield as mf
from meanfield.empirical import measure_lyapunov_spectrum, measure_singular_values
from meanfield.empirical.spectra import LEVELS, quantiles, theory_of

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
                job = lambda: jax.block_until_ready(
                    mf.jacobian_spectrum(activation, law(1.8, 0.05), 1000)  # noqa: B023
                )
                yield {
                    "job": f"density, 1000 points, depth 1000, {activation}, {name}",
                    "warm_s": best(job),
                    "bar": 1.0,
                }
        for activation in ("tanh", "erf"):
            job = lambda: jax.block_until_ready(
                mf.isometry(activation, mf.OrthogonalPrior(weight_var, bias_var), 20)  # noqa: B023
            )
            yield {
                "job": f"top exponent and spread, {weight_var.size} points, {activation}",
                "warm_s": best(job),
                "bar": 2.0,
            }


FINITE = tuple(name for name in mf.activations.NAMES if name not in ("squared_relu", "polynomial"))
DEPTHS = (1, 2, 3, 8, 64, 1000, 10_000)
VARIANCES = np.array([0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 20.0])


def integrals(quick, activations=FINITE):
    """How far total and first two moments of the density lie from 1 and the closed forms, at the worst.

    Every named activation with finite slopes, both laws of weights. ``unsaid``: cases beyond 1e-6
    without INACCURATE.
    """
    depths, q = ((8,), VARIANCES[[4]]) if quick else (DEPTHS, VARIANCES)
    activations = ("tanh",) if quick else activations
    for name in activations:
        began, cases = time.perf_counter(), []
        with jax.enable_x64(True):
            # Half of q* is the bias's: then q* is a stable fixed point of every one of them.
            weight_var = q / (2 * np.asarray(mf.q_map(name, mf.NormalPrior(1.0), q)))
            for law_name, law in LAWS.items():
                for depth in depths:
                    found = mf.jacobian_spectrum(name, law(weight_var, q / 2), depth, q0=q)
                    second = found.relative_moment(2) / (1 + found.relative_variance)
                    misses = np.abs(np.stack([found.total, found.relative_moment(1), second]) - 1)
                    places = [f"{law_name}, depth {depth}, q* = {x:.3g}" for x in found.q]
                    cases += zip(misses.max(axis=0), np.asarray(found.status), places, strict=True)
        missed = [case for case in cases if not case[0] <= 1e-6]
        worst = max(cases, key=lambda case: (np.isnan(case[0]), case[0]))
        yield {
            "job": f"density's total and first two moments, {name}",
            "error": float(worst[0]),
            "bar": 1e-6,
            "worst_at": worst[2],
            "cases": len(cases),
            "beyond_1e-6": len(missed),
            "unsaid": sum(int(status != mf.Status.INACCURATE) for _, status, _ in missed),
            "beyond_at": [f"{case[2]}: {case[0]:.1e}" for case in missed],
            "seconds": time.perf_counter() - began,
        }
        jax.clear_caches()  # each activation compiles its own: memory mappings would run out


def distances(quick, activations, depths=tuple(NETWORKS)):
    width, networks = (60, dict.fromkeys(NETWORKS, 1)) if quick else (1000, NETWORKS)
    for depth in depths:
        for activation in activations[: 1 if quick else None]:
            for name, law in LAWS.items():
                prior = law(*({"relu": (2.0, 0.1)} | CASES)[activation])
                began = time.perf_counter()
                sizes = dict(width=width, depth=depth, networks=networks[depth], sweeps=SWEEPS[depth])
                found = measure_singular_values(activation, prior, **sizes)
                distance = theory_of(found)[1].distance(found.bulk)
                yield {
                    "job": f"Kolmogorov distance, {activation}, {name}, depth {depth}, width {width}",
                    "prior": repr(prior),
                    "networks": networks[depth],
                    "distance": distance,
                    "bar": None if activation == "relu" else 0.02,
                    "seconds": time.perf_counter() - began,
                }


def exponents(quick):
    """The largest gap of a quantile, by both definitions of a sample's quantile.

    With the null direction of anticorrelation 1 left out, as the theory knows it (``MeasuredSpectrum``),
    and counted as an exponent of -inf, a share of 1/width that the limit does not have.
    """
    widths, depth = ((40,), 20) if quick else ((500, 1000), 150)
    for kappa in (0.0, 0.5, 1.0):
        for width in widths:
            prior = mf.NormalPrior(2.5, 0.05, kappa)
            began = time.perf_counter()
            found = measure_lyapunov_spectrum("tanh", prior, width=width, depth=depth)
            expected = theory_of(found)[1].quantile(LEVELS)
            null = found.null_directions
            gap = lambda values, method="hazen": float(
                np.max(np.abs(quantiles(values, LEVELS, method) - expected))  # noqa: B023
            )
            yield {
                "job": f"Lyapunov quantiles .05 to .95, tanh, kappa {kappa:g}, width {width}, depth {depth}",
                "largest_gap": gap(found.bulk),
                "largest_gap_inverted_cdf": gap(found.bulk, "inverted_cdf"),
                "largest_gap_null_counted": gap(found.log_values) if null else None,
                "bar": 0.03,
                "null_directions": null,
                "seconds": time.perf_counter() - began,
            }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument(
        "--part", choices=("times", "integrals", "exponents", "distances", "relu"), help="one part alone"
    )
    parser.add_argument("--activation", choices=FINITE, help="this activation alone")
    parser.add_argument("--depth", type=int, choices=tuple(NETWORKS), help="distances at this depth alone")
    parser.add_argument(
        "--json", type=Path, help="write the rows to this file, in place of those of the same name"
    )
    options = parser.parse_args()
    activations = [name for name in CASES if options.activation in (None, name)]
    depths = [options.depth] if options.depth else list(NETWORKS)
    parts = {
        "times": times(options.quick),
        "integrals": integrals(options.quick, [options.activation] if options.activation else FINITE),
        "exponents": exponents(options.quick),
        "distances": distances(options.quick, activations, depths),
        "relu": distances(options.quick, ["relu"], (64,)),
    }
    alone = ["integrals", "distances"] if options.activation else list(parts)
    chosen = [options.part] if options.part else alone
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
