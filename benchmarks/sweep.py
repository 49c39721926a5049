"""Sweeps written to disk: time and peak memory as the grid grows, and several processes.

    python benchmarks/sweep.py            # full sizes, some 6 GB of disk at a time; --quick for small ones
    python benchmarks/sweep.py --json results.json

Each size is a process of its own, ``meanfield sweep`` from start to end, imports and
compilation included; ``seconds a point`` is what one more point costs, from the two
largest sizes. Stores are removed again.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import main

SIZES = {"relu": (10**6, 10**7, 10**8), "tanh": (10**5, 10**6, 10**7)}
QUICK = {"relu": (10**4, 10**5)}
_MEASURED = (
    "import runpy, sys; sys.argv[0] = 'meanfield'\n"
    "try: runpy.run_module('meanfield', run_name='__main__')\n"
    "finally: print('peak', open('/proc/self/status').read().split('VmHWM:')[1].split()[0], file=sys.stderr)"
)


def command(activation: str, points: int, store: Path) -> list[str]:
    side = round(points**0.5)
    axes = ("--weight-var", f"0.5:4:{side}", "--bias-var", f"0.01:0.5:{points // side}")
    return ["sweep", "-a", activation, *axes, "--anticorrelation", "0.5", "-o", str(store)]


def measured(arguments: list[str]) -> dict:
    """Seconds, peak memory in bytes."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *arguments], capture_output=True, text=True, check=True
    )
    seconds = time.perf_counter() - began
    kilobytes = int(done.stderr.split("peak ")[1].split()[0])
    return {"seconds": seconds, "peak_memory_bytes": kilobytes * 1024}


def bytes_on_disk(store: Path) -> int:
    return sum(p.stat().st_size for p in store.rglob("*") if p.is_file())


def grown(activation: str, sizes, folder: Path) -> list[dict]:
    """One row a size."""
    rows = []
    for points in sizes:
        store = folder / f"{activation}_{points}"
        row = measured(command(activation, points, store))
        row["bytes_a_point"] = bytes_on_disk(store) / points
        shutil.rmtree(store)
        row |= {"job": f"{activation} sweep, {points:,} points", "points": points, "first_s": row["seconds"]}
        if rows:
            before = rows[-1]
            more = points - before["points"]
            row["seconds_a_further_point"] = (row["seconds"] - before["seconds"]) / more
        rows.append(row)
        print(row, flush=True)
    return rows


def shared(points: int, counts, folder: Path) -> list[dict]:
    """The same grid by several processes at once on this machine."""
    rows = []
    for count in counts:
        store = folder / f"shared_{count}"
        share = [
            [*command("relu", points, store), "--processes", str(count), "--process", str(i)]
            for i in range(count)
        ]
        began = time.perf_counter()
        running = [
            subprocess.Popen([sys.executable, "-m", "meanfield", *s], stdout=subprocess.DEVNULL)
            for s in share
        ]
        if any(process.wait() for process in running):
            raise RuntimeError("a process failed")
        seconds = time.perf_counter() - began
        shutil.rmtree(store)
        rows.append({"job": f"relu sweep, {points:,} points, {count} processes", "first_s": seconds})
    return rows


def measure(quick: bool) -> list[dict]:
    """One row a job."""
    sizes = QUICK if quick else SIZES
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [row for activation in sizes for row in grown(activation, sizes[activation], folder)]
        return rows + shared(10**5 if quick else 10**7, (1, 2) if quick else (1, 2, 4), folder)


if __name__ == "__main__":
    main(__doc__, measure)
