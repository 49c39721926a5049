"""Problems made to mislead, by the thousand: does any point that says CONVERGED lie?

    python benchmarks/attack.py --json benchmarks/attack_cpu_2_cores.json

Activations with steep, narrow, far, fast, heavy-tailed parts and jumps, under priors of which a third are
within 10^-1 to 10^-6 of where the variance stops to be bounded, and a third within 10^-4 to 10^-10 of a fold;
each CONVERGED point against the oracle of ``tests/attack.py``, its correlation for one prior of fifty. About
half an hour on two cores.
"""

import argparse
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from harness import machine

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import attack


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--activations", type=int, default=100)
    parser.add_argument("--each", type=int, default=100, help="priors for each activation")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the result to this file too")
    options = parser.parse_args()
    activations, each = (3, 3) if options.quick else (options.activations, options.each)
    where, began = machine(), time.perf_counter()
    wrong: list[str] = []
    counts: dict[str, dict[str, int]] = {kind: {} for kind in attack.PRIORS}
    seeds = range(options.seed * 100_000, options.seed * 100_000 + activations)
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        jobs = [pool.submit(attack.attacked, seed, 1, each, pairs_every=50) for seed in seeds]
        for block, job in enumerate(as_completed(jobs)):
            found, of_block = job.result()
            wrong += found
            for (kind, status), count in of_block.items():
                counts[kind][status] = counts[kind].get(status, 0) + count
            result = {
                "machine": where,
                "activations": block + 1,
                "seed": options.seed,
                "points": sum(sum(c.values()) for c in counts.values()),
                "statuses": counts,
                "wrong": wrong,
                "seconds": round(time.perf_counter() - began),
            }
            if options.json:
                options.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    if wrong:
        raise SystemExit("a CONVERGED point is wrong")


if __name__ == "__main__":
    main()
