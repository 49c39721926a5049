"""What ``recommend`` promises for a depth, against networks of widths 512 and 1024.

    python benchmarks/recommend.py --json benchmarks/recommend_cpu_2_cores.json

For 22 activations and depths 10 to 1000: the best candidate's q_L, 1 - c_L and squared gradient (here
the growth of a tangent over all layers, which has the same law at infinite width), as logarithms, beside 16
networks of each width drawn without weights, the bias of order depth/width taken out. A deviation is in
standard errors, p from Student's law. If promise and error bars hold, the p-values are uniform.
"""

import argparse
import json
import time
from pathlib import Path

import jax
import numpy as np
from harness import machine
from scipy import stats

import meanfield as mf
from meanfield.empirical import measure

NAMES = (
    *("tanh", "relu", "gelu", "silu", "erf", "selu", "softplus", "elu", "hard_tanh", "mish", "sigmoid"),
    *(
        "leaky_relu",
        "softsign",
        "arctan",
        "sin",
        "cos",
        "relu6",
        "abs",
        "celu",
        "hard_swish",
        "gelu_tanh",
        "squareplus",
    ),
)
DEPTHS = (10, 50, 200, 1000)
FULL = dict(width=512, networks=16)
QUICK = dict(width=32, networks=8)


def ends(measurement) -> dict[str, np.ndarray]:
    """Logarithms of the promised quantities in the last layer, one for each network."""
    samples = measurement.samples
    with np.errstate(divide="ignore"):
        growth = np.log(np.asarray(samples.growth, float)[:, 1:]).sum(axis=1)
        q, one_minus_c = (np.log(np.asarray(x, float)[:, -1]) for x in (samples.q, samples.one_minus_c))
    return {"q": q, "one_minus_c": one_minus_c, "gradient": growth}


def compared(promise: float, narrow: np.ndarray, wide: np.ndarray) -> dict:
    """The limit of infinite width, 2 wide - narrow, beside the promise."""
    if not np.all(np.isfinite([*narrow, *wide, promise])):
        return {"deviation": None, "p": None}
    limit = 2 * wide.mean() - narrow.mean()
    variances = 4 * wide.var(ddof=1) / wide.size, narrow.var(ddof=1) / narrow.size
    error = float(np.sqrt(sum(variances)))
    row = {"promised": promise, "width_1024": float(wide.mean()), "limit": float(limit), "error": error}
    if error < 1e-6:  # nothing fluctuates: the growth of a linear network
        return row | {"deviation": None, "p": None}
    deviation = float((limit - promise) / error)
    freedom = sum(variances) ** 2 / sum(
        v**2 / (x.size - 1) for v, x in zip(variances, (wide, narrow), strict=True)
    )
    return row | {"deviation": deviation, "p": float(2 * stats.t.sf(abs(deviation), freedom))}


def one(name: str, depth: int, seed: int, width: int, networks: int) -> dict:
    began = time.perf_counter()
    best = mf.recommend(name, depth).best
    told = time.perf_counter() - began
    outcome = best.outcome
    options = dict(depth=depth, networks=networks, q0=best.start, c0=0.5, method="weightless")
    narrow, wide = (measure(name, best.prior, width=n * width, seed=2 * seed + n, **options) for n in (1, 2))
    promises = {
        "q": np.log(outcome.q),
        "one_minus_c": np.log(max(outcome.one_minus_c, 1e-300)),
        "gradient": np.log(outcome.gradient),
    }
    below, above = ends(narrow), ends(wide)
    found = {key: compared(float(promises[key]), below[key], above[key]) for key in promises}
    return {
        "activation": name,
        "depth": depth,
        "candidate": best.name,
        "prior": repr(best.prior),
        "start": best.start,
        "recommend_s": told,
        "seconds": time.perf_counter() - began,
        **found,
    }


def verdict(rows: list[dict]) -> dict:
    """Uniformity of all p-values, by depth and in all."""

    def tested(chosen):
        p = [
            row[key]["p"]
            for row in chosen
            for key in ("q", "one_minus_c", "gradient")
            if row[key]["p"] is not None
        ]
        if not p:
            return None
        return {"count": len(p), "smallest": min(p), "uniform_p": float(stats.kstest(p, "uniform").pvalue)}

    return {"all": tested(rows)} | {str(d): tested([r for r in rows if r["depth"] == d]) for d in DEPTHS}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument(
        "--json", type=Path, help="write to this file after every row, and keep those that it has"
    )
    options = parser.parse_args()
    names, depths, sizes = (NAMES[1:2], DEPTHS[:1], QUICK) if options.quick else (NAMES, DEPTHS, FULL)
    where = machine()
    rows: list[dict] = []
    if options.json and options.json.is_file():
        rows = json.loads(options.json.read_text())["rows"]
    done = {(row["activation"], row["depth"]) for row in rows}
    for seed, name in enumerate(names):
        for depth in (d for d in depths if (name, d) not in done):
            row = one(name, depth, 100 * seed + depth, **sizes)
            rows.append(row)
            text = ", ".join(
                f"{key} {'-' if row[key]['deviation'] is None else format(row[key]['deviation'], '+.1f')}"
                for key in ("q", "one_minus_c", "gradient")
            )
            print(
                f"{name:12s} {depth:5d} {row['candidate']:30s} {text}  ({row['seconds']:.0f} s)", flush=True
            )
            if options.json:
                kept = {"machine": where, "sizes": sizes, "verdict": verdict(rows), "rows": rows}
                options.json.write_text(json.dumps(kept, indent=1) + "\n")
        jax.clear_caches()
    print(json.dumps(verdict(rows), indent=1))


if __name__ == "__main__":
    main()
