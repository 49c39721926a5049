"""Time and accuracy of the main jobs, side by side.

    python benchmarks/core.py            # full sizes; --quick for small ones
    python benchmarks/core.py --json results.json

Each job is run once to compile, then several times; the median is given (of blocks beside a dense layer,
which run in turn, the least). Accuracy is the largest relative deviation from ``tests/reference`` or from the
quadrature.
"""

import functools
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
from harness import main, median_seconds

import meanfield as mf

REFERENCE = Path(__file__).parent.parent / "tests" / "reference" / "fixed_points.json"
FIELDS = ("q", "c", "chi_1", "chi_c")


def import_ratio(repeats=5) -> float:
    """Time of ``import meanfield`` over that of ``import jax``, in alternating fresh processes."""
    times = {"jax": [], "meanfield": []}
    for _ in range(repeats):
        for module in times:
            code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
            output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            times[module].append(float(output.stdout))
    return statistics.median(m / j for m, j in zip(times["meanfield"], times["jax"], strict=True))


def largest_deviation(found, expected) -> float:
    """Largest relative difference over fields, zero where both are equal."""
    worst = 0.0
    for name in FIELDS:
        a, b = np.asarray(getattr(found, name)), np.asarray(expected[name])
        with np.errstate(invalid="ignore", divide="ignore"):
            worst = max(worst, np.nanmax(np.where(a == b, 0.0, np.abs(a - b) / np.abs(b))))
    return float(worst)


def reference_accuracy() -> dict[str, float]:
    """Largest relative deviation of q, c, chi_1, chi_c from the reference, by activation."""
    rows = json.loads(REFERENCE.read_text())
    names = sorted({row["activation"] for row in rows})
    result = {}
    with jax.enable_x64(True):
        for name in names:
            mine = [row for row in rows if row["activation"] == name]
            column = {key: np.array([row[key] for row in mine]) for key in mine[0] if key != "activation"}
            prior = mf.NormalPrior(column["weight_var"], column["bias_var"], column["anticorrelation"])
            result[name] = largest_deviation(mf.fixed_point(name, prior, q0=column["q0"]), column)
    return result


def diagram_accuracy(diagram, sample=24) -> float:
    """Largest relative deviation of a tabulated diagram from the quadrature, at random points."""
    rng = np.random.default_rng(0)
    first, second = diagram.axes
    i, j = (rng.integers(0, np.size(getattr(diagram, name)), sample) for name in (first, second))
    values = {first: getattr(diagram, first)[i], second: getattr(diagram, second)[j]}
    fixed, value = diagram.fixed
    with jax.enable_x64(True):
        prior = mf.NormalPrior(**values, **{fixed: value})
        exact = jax.jit(lambda prior: mf.fixed_point(diagram.activation, prior))(prior)  # by quadrature
    chosen = type("Chosen", (), {name: getattr(diagram, name)[i, j] for name in FIELDS})
    return largest_deviation(chosen, {name: np.asarray(getattr(exact, name)) for name in FIELDS})


def in_turn(jobs, repeats=9) -> list[float]:
    """The least time of each of several jobs that run one after the other, again and again."""
    for job in jobs:
        job()
    rounds = [[_seconds(job) for job in jobs] for _ in range(repeats)]
    return [min(times) for times in zip(*rounds, strict=True)]


def _seconds(job) -> float:
    began = time.perf_counter()
    job()
    return time.perf_counter() - began


def swiglu_block(skip):
    """A pre-norm residual block with a gated unit, as a function of the parameters of its weights."""

    def block(weight_var, bias_var):
        prior = mf.NormalPrior(weight_var, bias_var)
        glu = mf.GLU("silu", gate=prior, up=prior, down=prior)
        return mf.Residual(mf.Chain(mf.RMSNorm(), glu), skip=skip, scale=0.5)

    return block


def blocks_beside_dense(side: int) -> list[dict]:
    """Diagrams of blocks, and their times over that of a dense diagram of tanh on the same grid, warm."""
    grid = dict(weight_var=np.linspace(0.5, 4, side), bias_var=np.linspace(0.01, 0.5, side))
    kinds = {f"pre-norm SwiGLU block, skip {skip}": swiglu_block(skip) for skip in (0.9, 1.0)}
    jobs = [functools.partial(mf.phase_diagram, kind, **grid) for kind in ("tanh", *kinds.values())]
    dense, *warm = in_turn(jobs)
    of = f"diagram, {side**2:,} points, over tanh's"
    return [
        {"job": f"{kind}, {of}", "warm_s": seconds, "ratio": seconds / dense}
        for kind, seconds in zip(kinds, warm, strict=True)
    ]


def measure(quick: bool) -> list[dict]:
    """One row a job."""
    rows = []
    side = 100 if quick else 1000

    def relu():
        return mf.phase_diagram(
            "relu",
            weight_var=np.linspace(0.5, 4, side),
            bias_var=0.1,
            anticorrelation=np.linspace(-1, 1, side),
        )

    first, warm = median_seconds(relu)
    accuracy = diagram_accuracy(relu())
    rows.append(
        {"job": f"relu diagram, {side**2:,} points", "first_s": first, "warm_s": warm, "error": accuracy}
    )

    side = 30 if quick else 100
    for name in ("tanh",) if quick else ("tanh", "gelu", "selu", "hard_tanh"):

        def diagram(name=name):
            grid = {"weight_var": np.linspace(0.5, 4, side), "bias_var": np.linspace(0.01, 0.5, side)}
            return mf.phase_diagram(name, **grid)

        first, warm = median_seconds(diagram, repeats=3)
        accuracy = diagram_accuracy(diagram())
        rows.append(
            {
                "job": f"{name} diagram, {side**2:,} points",
                "first_s": first,
                "warm_s": warm,
                "error": accuracy,
            }
        )
    rows += blocks_beside_dense(100 if quick else 317)
    rows.append({"job": "import meanfield / import jax", "ratio": import_ratio(2 if quick else 5)})
    if not quick:
        rows.extend({"job": f"reference points, {n}", "error": e} for n, e in reference_accuracy().items())
    return rows


if __name__ == "__main__":
    main(__doc__, measure)
