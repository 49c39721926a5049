"""To which depth networks train, beside 6 xi_c: the figure of Schoenholz et al. 2017, on small digits.

    python benchmarks/trainability.py --json benchmarks/trainability_cpu_2_cores.json --picture docs/pictures

Tanh networks, sigma_b^2 = 0.05, over weight variance and depth, each at the best of four learning rates.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from harness import machine

import meanfield as mf

FULL = dict(
    weight_var=[1.0, 1.25, 1.5, 1.65, 1.76, 1.9, 2.1, 2.5, 3.0, 4.0],
    depth=[5, 10, 20, 30, 45, 70, 100, 150],
    width=64,
    steps=1000,
)
QUICK = dict(weight_var=[1.0, 1.76], depth=[3], width=16, steps=10, learning_rates=(0.03,))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--json", type=Path, help="write the accuracies to this file")
    parser.add_argument("--picture", type=Path, help="write trainability.png to this directory")
    options = parser.parse_args()
    began = time.perf_counter()
    result = mf.empirical.trainability("digits", "tanh", **(QUICK if options.quick else FULL))
    seconds = time.perf_counter() - began
    print(f"{seconds:.0f} s")
    print("sigma_w^2   6 xi_c   trained to   accuracy (%) at depths", *result.depth)
    for variance, xi_c, reached, row in zip(
        result.weight_var, result.xi_c, result.reached, result.best, strict=True
    ):
        print(f"{variance:9.2f} {6 * xi_c:8.0f} {reached:12.0f}  ", *(f"{100 * x:4.0f}" for x in row))
    if options.picture:
        result.plot().savefig(options.picture / "trainability.png", dpi=120)
    if options.json:
        kept = {
            "machine": machine(),
            "seconds": seconds,
            "settings": result.settings,
            "chance": result.chance,
        }
        kept |= {name: getattr(result, name).tolist() for name in ("weight_var", "depth", "learning_rates")}
        kept["six_xi_c"] = (6 * result.xi_c).round(2).tolist()
        kept["accuracy"] = np.round(result.best, 4).tolist()
        options.json.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
