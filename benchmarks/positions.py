"""Flax networks of convolutions as networks use them against the theory, position by position.

    python benchmarks/positions.py --json benchmarks/positions_cpu_2_cores.json

Zeros around the image, strides, kernels inside of it, averages, and a network of all of these, each from five
starts and seeds: 64 networks of 64 and of 128 channels. What is held against the theory is every covariance
between two positions at every layer, of signals and of gradients; p-values and their uniformity as in
``agreement.py``. Five minutes on two cores.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from agreement import in_words, uniformity
from harness import machine

import meanfield as mf
from meanfield.empirical import compare_positions

P = mf.NormalPrior
SIZES = dict(width=64, networks=64)
QUICK = dict(width=16, networks=16)


def cases():
    """(kind, layers, positions of the image)."""
    zeros = dict(padding="SAME")
    yield "zeros", [mf.Conv("relu", P(1.9, 0.1, 0.5), (3,), **zeros)] * 3, (6,)
    yield "strides", [mf.Conv("tanh", P(1.8, 0.1), (3,), strides=2), mf.Conv("tanh", P(1.8, 0.1), (2,))], (8,)
    both = mf.Conv("gelu", P(1.9, 0.1), (3, 3), strides=(2, 1), **zeros)
    yield "strides among zeros", [both, both], (4, 3)
    yield "inside of the image", [mf.Conv("tanh", P(1.8, 0.1, -1.0), (3,), padding="VALID")] * 2, (7,)
    pooled = mf.Conv("relu", P(1.9, 0.1, 0.5), (3,), pool=mf.AveragePool((2,)))
    yield "averages", [pooled, mf.AveragePool((4,))], (8,)
    network = [
        mf.Conv("relu", P(2.0, 0.1), (3, 3), **zeros),
        mf.Residual(mf.Chain(mf.RMSNorm(), mf.Conv("relu", P(2.0), (3, 3), **zeros)), scale=0.7),
        mf.Conv("relu", P(2.0, 0.1), (3, 3), strides=2, **zeros),
        mf.Chain("relu", mf.Dropout(0.8), P(1.6, 0.1)),
        mf.AveragePool((2, 2)),
        mf.Dense("tanh", P(1.5, 0.1)),
    ]
    yield "a network of all", network, (4, 4)


def start(image, seed):
    """A covariance between all positions of one image, none like another."""
    size = int(np.prod(image))
    x = np.random.default_rng(seed).standard_normal((size, 2 * size))
    return (x @ x.T / (2 * size) + 0.3).reshape(1, *image, 1, *image)


def measure(quick: bool) -> list[dict]:
    """A row a case and seed."""
    rows = []
    for kind, layers, image in cases():
        for seed in range(1 if quick else 5):
            began = time.perf_counter()
            found = compare_positions(
                layers, start(image, seed), seed=40 + seed, **(QUICK if quick else SIZES)
            )
            away = [
                (limit - theory)[error > 0] / error[error > 0]
                for limit, theory, error in zip(
                    (*found.measured, *found.measured_gradient),
                    (*found.covariance, *found.gradient),
                    (*found.error, *found.gradient_error),
                    strict=True,
                )
            ]
            away = np.concatenate(away)
            row = {"kind": kind, "what": f"start {seed + 1}", "p": found.p_value}
            row |= {"mean_square": float(np.mean(away**2)), "largest": float(np.max(np.abs(away)))}
            rows.append(row | {"seconds": time.perf_counter() - began})
            print(f"{kind:20s} {in_words(rows[-1])}", flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args()
    rows = measure(options.quick)
    result = {"machine": machine(), "uniform_p": uniformity(rows), "rows": rows}
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
