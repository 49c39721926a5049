"""The thesis' training claim: do anti-correlated and asymmetric initialisations train faster?

    python benchmarks/training.py --json benchmarks/training_cpu_2_cores.json --pictures docs

Three tasks, the same deep ReLU network from eight initialisations, each at its best
learning rate of the same grid, 20 seeds, paired. About an hour on two cores.
"""

import argparse
import dataclasses
import json
import math
from pathlib import Path

from harness import machine

from meanfield.empirical import compare_initializations

TASKS = ("teacher-student", "digits", "mnist1d")
INITIALIZATIONS = (
    "he",
    "glorot",
    "orthogonal",
    "anticorrelated(1)",
    "rai",
    "raai",
    "rai_unit_gain",
    "raai_unit_gain",
)
FULL = dict(width=64, depth=12, steps=2000, evaluations=50, seeds=20, tuning_seeds=5)
QUICK = dict(width=16, depth=3, steps=20, evaluations=5, seeds=3, learning_rates=(0.1,))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--json", type=Path, help="write the verdicts to this file")
    parser.add_argument("--pictures", type=Path, help="write pictures to this directory")
    parser.add_argument("--checkpoint", type=Path, help="continue from this directory if interrupted")
    options = parser.parse_args()
    tasks, names = (TASKS[1:2], INITIALIZATIONS[::5]) if options.quick else (TASKS, INITIALIZATIONS)
    results = {}
    for task in tasks:
        checkpoint = options.checkpoint and options.checkpoint / task
        study = compare_initializations(
            task, names, checkpoint=checkpoint, **(QUICK if options.quick else FULL)
        )
        results[task] = {
            "target_loss": study.target_loss,
            "settings": study.settings,
            "verdicts": [dataclasses.asdict(v) for v in study.verdicts()],
        }
        print(f"\n{task}, target loss {study.target_loss:.3g}")
        for v in study.verdicts():
            print(
                f"{v.name:18s} rate {v.learning_rate:<6g} diverged {v.diverged:2d}"
                f"  time {v.time:.0f}  loss ratio {v.loss_ratio:.2f}"
                f"  p {v.p_value:.1e}  accuracy {v.final_accuracy:.3f}  test loss {v.final_test_loss:.3f}",
                flush=True,
            )
        if options.pictures:
            study.plot().savefig(options.pictures / f"training_{task.replace('-', '_')}.png", dpi=120)
        if options.json:
            write(options.json, results)


def write(path, results):
    path.write_text(json.dumps(without_nan({"machine": machine(), "results": results}), indent=1) + "\n")


def without_nan(tree):
    """JSON has neither NaN nor infinity: None, and a word, stand for them."""
    if isinstance(tree, dict):
        return {key: without_nan(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [without_nan(value) for value in tree]
    if isinstance(tree, float) and not math.isfinite(tree):
        return None if math.isnan(tree) else "inf"
    return tree


if __name__ == "__main__":
    main()
