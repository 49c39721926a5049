"""Flax networks against the theory: three activations, five priors, widths 1024 and 2048, depth 30.

    python benchmarks/agreement.py --json benchmarks/agreement_cpu_2_cores.json

32 networks of each width. Every comparison has a p-value (all layers and quantities
together, see ``meanfield.empirical.compare``); if the theory and the error bars hold, the
p-values are uniform, which a Kolmogorov-Smirnov test decides. About half an hour on two cores.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from harness import machine
from scipy import stats

import meanfield as mf
from meanfield.empirical import compare

ACTIVATIONS = {"relu": (1.9, 0.7, 1.2), "tanh": (1.5, 1.0, 1.5), "gelu": (1.9, 0.8, 1.3)}
BIAS_VAR = 0.05


def cases(weight_vars):
    """The five priors, from the weight variances of Gaussian weights, RAI and RAAI."""
    gaussian, rai, raai = weight_vars
    for kappa in (0.0, 0.9, 1.0):
        yield f"kappa {kappa:g}", mf.NormalPrior(gaussian, BIAS_VAR, kappa)
    yield "RAI", mf.AsymmetricPrior(rai, BIAS_VAR, 0.0)
    yield "RAAI", mf.AsymmetricPrior(raai, BIAS_VAR, 1.0)


def measure(quick: bool, method: str) -> dict:
    sizes = dict(width=64, depth=5, networks=16) if quick else dict(width=1024, depth=30, networks=32)
    rows, seed = [], 100
    for activation, weight_vars in list(ACTIVATIONS.items())[: 1 if quick else 3]:
        for name, prior in list(cases(weight_vars))[:: 4 if quick else 1]:
            seed += 1
            began = time.perf_counter()
            found = compare(activation, prior, seed=seed, method=method, **sizes)
            row = {"activation": activation, "prior": name, "parameters": repr(prior)}
            row |= figures(found, time.perf_counter() - began)
            rows.append(row)
            print(f"{activation:5s} {name:10s} {in_words(row)}", flush=True)
    return {"sizes": sizes, "method": method, "uniform_p": uniformity(rows), "rows": rows}


def figures(found, seconds) -> dict:
    """A comparison's numbers."""
    deviations = {k: v[np.isfinite(v)] for k, v in found.deviation.items()}
    everything = np.concatenate(list(deviations.values()))
    return {
        "p": found.p_value,
        "mean_square": float(np.mean(everything**2)),
        "largest": float(np.max(np.abs(everything))),
        "mean_square_by_quantity": {k: float(np.mean(v**2)) for k, v in deviations.items() if v.size},
        "bias_of_q_at_the_end": float(found.bias["q"][-1]),
        "bias_error": float(found.bias_error["q"][-1]),
        "seconds": seconds,
    }


def in_words(row) -> str:
    """One row of figures."""
    p, square, largest, seconds = (row[key] for key in ("p", "mean_square", "largest", "seconds"))
    return f"p {p:.3f}  mean square {square:.2f}  largest {largest:.1f}  ({seconds:.0f} s)"


def uniformity(rows) -> float:
    """Of the p-values, by Kolmogorov and Smirnov."""
    uniform = float(stats.kstest([row["p"] for row in rows], "uniform").pvalue)
    print(f"p-values uniform: p = {uniform:.3f}; smallest {min(r['p'] for r in rows):.2g} of {len(rows)}")
    return uniform


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--method", default="weights", choices=("weights", "weightless"))
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args()
    results = measure(options.quick, options.method)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), **results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
