"""All benchmarks, one after the other, each in a process of its own: results, a table and pictures.

    python benchmarks/run.py --to results                   # hours: agreement and training are studies
    python benchmarks/run.py --to results --only core scale # some
    python benchmarks/run.py --to results --quick --only scale --against benchmarks/quick
    python benchmarks/run.py --to results --neural-tangents PATH_TO_PYTHON

Writes NAME_DEVICE_N_cores.json for each, ``table.md`` and, of whatever the folder holds,
``speed.png`` and ``scaling.png``. With --against it compares with the files of the same names
there, and fails where a job has become slower: not in seconds but in ratios, those that
a benchmark states itself and a job's time over that of fixed work in NumPy in the same run.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import plots

HERE = Path(__file__).parent
NAMES = (
    "core",
    "first_answer",
    "scale",
    "accelerator",
    "spectra",
    "asymmetric",
    "sweep",
    "peers",
    "empirical",
    "agreement",
    "layers",
    "positions",
    "recommend",
    "trainability",
    "training",
    "attack",
)
ALLOWED = 3.0  # growth of a ratio; less is the noise of a shared machine at small sizes
SHORTEST = 5e-3  # seconds; what takes less is not compared


def file_name(benchmark: str) -> str:
    """Of the results on this machine."""
    device = re.sub(r"\W+", "_", jax.devices()[0].device_kind.lower())
    return f"{benchmark}_{device}_{os.cpu_count()}_cores.json"


def run(benchmark: str, options) -> None:
    """Measure one benchmark in a new process, which writes its results."""
    command = [sys.executable, HERE / f"{benchmark}.py", "--json", options.to / file_name(benchmark)]
    command += ["--quick"] if options.quick else []
    if benchmark == "peers" and options.neural_tangents:
        command += ["--neural-tangents", options.neural_tangents]
    print(f"== {benchmark}", flush=True)
    subprocess.run(command, check=True)


def ratios(file: Path) -> dict[str, float]:
    """What is comparable between machines, by job; empty for results that state no times."""
    measured = json.loads(file.read_text())
    fixed = measured["machine"].get("yardstick_s")
    found = {}
    for row in measured.get("rows", []):
        if "ratio" in row:
            found[row["job"].strip()] = row["ratio"]
        elif fixed and row.get("warm_s", 0) >= SHORTEST and "floor" not in row["job"]:
            found[row["job"]] = row["warm_s"] / fixed
    return found


def slower(benchmark: str, options) -> list[str]:
    """One line a job whose ratio has grown by more than is allowed."""
    now, before = (ratios(folder / file_name(benchmark)) for folder in (options.to, options.against))
    common = now.keys() & before.keys()
    print(f"{benchmark}: {len(common)} ratios compared")
    return [
        f"{benchmark}, {job}: {now[job] / before[job]:.1f} times slower, {before[job]:.3g} -> {now[job]:.3g}"
        for job in sorted(common)
        if now[job] > ALLOWED * before[job]
    ]


def table(folder: Path) -> str:
    """All timed jobs of a folder's results, in Markdown."""
    lines = [
        "| benchmark | job | first call (s) | warm (s) | error | ratio |",
        "|---|---|---:|---:|---:|---:|",
    ]
    columns = (("first_s", ".3g"), ("warm_s", ".3g"), ("error", ".1e"), ("ratio", ".3g"))
    for benchmark in NAMES:
        file = folder / file_name(benchmark)
        rows = json.loads(file.read_text()).get("rows", []) if file.exists() else []
        for row in rows:
            if "job" in row:
                cells = (format(row[key], form) if key in row else "" for key, form in columns)
                lines.append(f"| {benchmark} | {row['job'].strip()} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run, write, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--to", type=Path, required=True, help="folder for what is written")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, help="some benchmarks")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--neural-tangents", metavar="PYTHON", help="the Python that has it")
    parser.add_argument("--against", type=Path, help="folder of earlier results to compare with")
    options = parser.parse_args()
    options.to.mkdir(parents=True, exist_ok=True)
    for benchmark in options.only:
        run(benchmark, options)
    (options.to / "table.md").write_text(table(options.to))
    plots.draw(options.to, {name: options.to / file_name(name) for name in ("scale", "sweep", "peers")})
    if options.against:
        lines = [line for benchmark in options.only for line in slower(benchmark, options)]
        raise SystemExit("\n".join(lines) if lines else 0)


if __name__ == "__main__":
    main()
