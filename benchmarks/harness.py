"""What the benchmarks share: timing, the command line, a table and a JSON file."""

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

# Threads of LAPACK wait for one another by spinning: where other processes have the cores, decompositions of
# hundreds of small matrices then take minutes in place of seconds.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import numpy as np

import meanfield as mf


def median_seconds(job, repeats=5) -> tuple[float, float]:
    """(first call, median of the following ones); the job waits for its results itself."""
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        job()
        times.append(time.perf_counter() - began)
    return times[0], statistics.median(times[1:])


def yardstick_seconds() -> float:
    """Seconds of fixed work, a sort and a product in NumPy: times over it compare between machines."""
    numbers = np.random.default_rng(0).random(1 << 20)
    square = numbers.reshape(1024, 1024)
    return median_seconds(lambda: (np.sort(numbers), square @ square))[1]


def machine() -> dict:
    """What the figures were measured on."""
    return {
        "yardstick_s": yardstick_seconds(),
        "cores": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "python": platform.python_version(),
        "meanfield": mf.__version__,
    }


def main(description: str, measure) -> None:
    """Run ``measure(quick)``, which gives one dict a job, and print and keep its rows."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    options = parser.parse_args()
    where = machine()
    rows = measure(options.quick)
    where["yardstick_s"] = statistics.median([where["yardstick_s"], yardstick_seconds(), yardstick_seconds()])
    print(where)
    print(f"{'job':70s} {'first':>9s} {'warm':>9s} {'error':>9s}")
    for row in rows:
        cells = [f"{row[k]:9.3f}" if k in row else " " * 9 for k in ("first_s", "warm_s")]
        last = f"{row['error']:9.1e}" if "error" in row else f"{row['ratio']:8.2f}x" if "ratio" in row else ""
        print(f"{row['job']:70s} {cells[0]} {cells[1]} {last}")
    if options.json:
        options.json.write_text(json.dumps({"machine": where, "rows": rows}, indent=1) + "\n")
