"""Problems made to mislead, by the thousand: does any point that says CONVERGED lie?

    python benchmarks/attack.py --json benchmarks/attack_cpu_2_cores.json

Activations with steep, narrow, far, fast, heavy-tailed parts and jumps, under priors of which a third are
within 10^-1 to 10^-6 of where the variance stops to be bounded, and a third within 10^-4 to 10^-10 of a fold;
each CONVERGED point against the oracle of ``tests/attack.py``, its correlation for one prior of fifty. About
an hour and a half on two cores; ``--onto`` a file adds to what was found with other seeds.
"""

import argparse
import json
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from harness import machine

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import attack


def added(earlier, now):
    """Numbers and lists added up, at every depth of dictionaries."""
    if isinstance(now, dict):
        return {key: added((earlier or {}).get(key), now.get(key)) for key in {**(earlier or {}), **now}}
    return now if earlier is None else earlier if now is None else earlier + now


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--activations", type=int, default=430)
    parser.add_argument("--each", type=int, default=300, help="priors for each activation")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the result to this file too")
    parser.add_argument("--onto", type=Path, help="a result of other seeds, to which this one is added")
    options = parser.parse_args()
    activations, each = (3, 3) if options.quick else (options.activations, options.each)
    where, began = machine(), time.perf_counter()
    total = attack.Attack([], Counter(), Counter(), Counter(), [])
    earlier = json.loads(options.onto.read_text()) if options.onto else {}
    seeds = range(options.seed * 100_000, options.seed * 100_000 + activations)
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        jobs = [pool.submit(attack.attacked, seed, 1, each, pairs_every=50) for seed in seeds]
        for block, job in enumerate(as_completed(jobs)):
            for all_of, found in zip(total, job.result(), strict=True):
                all_of += found  # lists and counters, in place
            now = {
                "activations": block + 1,
                "seeds": [options.seed],
                "points": total.counts.total(),
                "within 1e-4 of a fold or an edge": total.near["fold"] + total.near["edge"],
                "statuses": {
                    kind: {status: n for (of, status), n in total.counts.items() if of == kind}
                    for kind in attack.PRIORS
                },
                "wrong": total.wrong,
                "not solved, and could not be": dict(total.excused),
                "not solved needlessly": len(total.needless),
                "seconds": round(time.perf_counter() - began),
            }
            result = {"machine": where} | {key: added(earlier.get(key), x) for key, x in now.items()}
            if options.json:
                options.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    if result["wrong"]:
        raise SystemExit("a CONVERGED point is wrong")
    if result["not solved needlessly"] > max(2, result["points"] / 100):
        raise SystemExit("too many points are not solved")


if __name__ == "__main__":
    main()
