"""meanfield beside what others use: time a point, and accuracy, in one run.

    python benchmarks/peers.py                 # SciPy's nested quadrature and meanfield
    python benchmarks/peers.py --neural-tangents PATH_TO_PYTHON   # of an environment that has it
    python benchmarks/peers.py --quick --json results.json

Neural Tangents needs an older JAX than meanfield, hence an environment of its own, for example

    python3.10 -m venv peers && peers/bin/pip install \\
        neural-tangents==0.6.5 jax==0.4.25 jaxlib==0.4.25 'numpy<2' flatbuffers tensorflow-cpu==2.15.*

All solve for (q*, c*) and chi_1 in float64: SciPy by ``brentq`` on maps of nested ``quad``
integrals, one point after the other; Neural Tangents by iterating its kernel functions, see
``neural_tangents_peer.py``, and meanfield by ``phase_diagram``, whose rows also hold chi_q,
chi_c, status and phase. Times are warm, the best of several for the last two, the median of
the points for SciPy. Errors are relative deviations from meanfield's quadrature at the same
points, of 1 - c where that is above 0.01.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import time
from pathlib import Path

import jax
import numpy as np
from harness import machine

import meanfield as mf

PEER = Path(__file__).parent / "neural_tangents_peer.py"
FIELDS = ("q", "one_minus_c", "chi_1")


def grid(side: int) -> dict[str, np.ndarray]:
    return {"weight_var": np.linspace(0.8, 4, side), "bias_var": np.linspace(0.05, 0.5, side)}


# --- a script as they are published -------------------------------------------------


def scipy_point(phi, slope, weight_var: float, bias_var: float) -> dict[str, float]:
    """q*, 1 - c* and chi_1 of one prior, by root finding on nested adaptive quadrature."""
    from scipy import integrate, optimize

    def density(z):
        return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    def mean(f):
        return integrate.quad(lambda z: density(z) * f(z), -8, 8, epsabs=1e-10, epsrel=1e-10)[0]

    def mean_of_two(f):
        def inner(z1):
            return integrate.quad(lambda z2: density(z2) * f(z1, z2), -8, 8, epsabs=1e-9, epsrel=1e-9)[0]

        return integrate.quad(lambda z1: density(z1) * inner(z1), -8, 8, epsabs=1e-8, epsrel=1e-8)[0]

    def next_q(q):
        return weight_var * mean(lambda z: phi(math.sqrt(q) * z) ** 2) + bias_var

    q = optimize.brentq(lambda q: next_q(q) - q, 1e-6, weight_var + bias_var + 1, xtol=1e-12)
    root = math.sqrt(q)
    chi_1 = weight_var * mean(lambda z: slope(root * z) ** 2)

    def next_c(c):
        other = math.sqrt(max(0.0, 1 - c * c))
        covariance = mean_of_two(lambda z1, z2: phi(root * z1) * phi(root * (c * z1 + other * z2)))
        return (weight_var * covariance + bias_var) / q

    if chi_1 <= 1:
        return {"q": q, "one_minus_c": 0.0, "chi_1": chi_1}
    c = optimize.brentq(lambda c: next_c(c) - c, 0.0, 1 - 1e-4, xtol=1e-8)
    return {"q": q, "one_minus_c": 1 - c, "chi_1": chi_1}


def scipy_rows(points: int) -> list[dict]:
    """tanh, points in the chaotic phase (elsewhere c* = 1 takes no nested integral), one by one."""
    rng = np.random.default_rng(0)
    weight_var, bias_var = rng.uniform(2.2, 4, points), rng.uniform(0.05, 0.2, points)
    seconds, found = [], []
    for w, b in zip(weight_var, bias_var, strict=True):
        began = time.perf_counter()
        found.append(scipy_point(math.tanh, lambda x: 1 / math.cosh(x) ** 2, w, b))
        seconds.append(time.perf_counter() - began)
    values = {name: np.array([point[name] for point in found]) for name in FIELDS}
    row = {"peer": "SciPy, nested quad and brentq", "activation": "tanh", "points": points}
    return [
        row | {"seconds_a_point": statistics.median(seconds), **errors("tanh", weight_var, bias_var, values)}
    ]


# --- this and the other package -------------------------------------------------------


def meanfield_rows(cases, repeats=5) -> list[dict]:
    """A diagram of each kind, warm, the best of several."""
    rows = []
    for name, side in cases:
        axes = grid(side)

        def diagram(name=name, axes=axes):
            return mf.phase_diagram(name, **axes)

        began = time.perf_counter()
        found = diagram()
        first = time.perf_counter() - began
        best = min(_timed(diagram) for _ in range(repeats))
        rows.append(
            {
                "peer": "meanfield",
                "activation": name,
                "points": side**2,
                "seconds_a_point": best / side**2,
                "first_call_seconds": first,
                **sampled_errors(name, side, {f: getattr(found, f).ravel() for f in FIELDS}),
            }
        )
    return rows


def neural_tangents_rows(python: Path, cases) -> list[dict]:
    """The same from the other environment's Python."""
    rows = []
    for name, side in cases:
        axes = {key: values.tolist() for key, values in grid(side).items()}
        elsewhere = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(
            [python, PEER, name], input=json.dumps(axes), capture_output=True, text=True, env=elsewhere
        )
        if done.returncode:
            raise SystemExit(f"{python} cannot run Neural Tangents: {done.stderr.strip().splitlines()[-1]}")
        answer = json.loads(done.stdout.splitlines()[-1])
        values = {key: np.array(answer["values"][key]).ravel() for key in FIELDS}
        row = {"peer": f"Neural Tangents {answer['version']}, JAX {answer['jax']}", "activation": name}
        row |= {"points": side**2, "seconds_a_point": answer["seconds"] / side**2}
        rows.append(row | {"first_call_seconds": answer["first"], **sampled_errors(name, side, values)})
    return rows


def _timed(job) -> float:
    began = time.perf_counter()
    job()
    return time.perf_counter() - began


# --- accuracy ---------------------------------------------------------------------------


def sampled_errors(name: str, side: int, values: dict[str, np.ndarray], sample=64) -> dict:
    """Errors at random points of a square diagram."""
    chosen = np.random.default_rng(1).integers(0, side**2, sample)
    weight_var, bias_var = (mesh.ravel()[chosen] for mesh in np.meshgrid(*grid(side).values(), indexing="ij"))
    return errors(name, weight_var, bias_var, {key: array[chosen] for key, array in values.items()})


def errors(name: str, weight_var, bias_var, values) -> dict:
    """Median and largest relative deviation from the quadrature, and where 1 - c* is above 0.01."""
    known = getattr(mf.activations, name)
    integrated = mf.Activation(lambda x: known(x), kinks=(), name=name)  # never a closed form or a table
    with jax.enable_x64(True):
        exact = mf.fixed_point(integrated, mf.NormalPrior(weight_var, bias_var))
    result = {}
    for field in FIELDS:
        reference = np.asarray(getattr(exact, field))
        use = reference > (0.01 if field == "one_minus_c" else 0)
        deviation = np.abs(values[field] - reference)[use] / reference[use]
        result[f"error_{field}"] = float(np.median(deviation))
        result[f"largest_error_{field}"] = float(np.max(deviation))
    return result


def print_rows(rows: list[dict]) -> None:
    headers = " ".join(f"{'error ' + field:>18s}" for field in FIELDS)
    print(f"{'':36s} {'':5s} {'points':>7s} {'s a point':>10s} {headers}")
    for row in rows:
        who = f"{row['peer']:36s} {row['activation']:5s} {row['points']:7d} {row['seconds_a_point']:10.2e}"
        cells = (f"{row['error_' + field]:9.0e}{row['largest_error_' + field]:9.0e}" for field in FIELDS)
        print(who, " ".join(cells))
    print("errors: median and largest, relative to meanfield's quadrature")


def main() -> None:
    """Measure, print a table, keep the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    parser.add_argument("--neural-tangents", type=Path, metavar="PYTHON", help="the Python that has it")
    options = parser.parse_args()
    own = [("erf", 20), ("tanh", 20)] if options.quick else [("erf", 274), ("tanh", 274), ("arctan", 274)]
    rows = scipy_rows(1 if options.quick else 9)
    if options.neural_tangents:
        theirs = [("erf", 20), ("tanh", 20)] if options.quick else [("erf", 274), ("tanh", 40)]
        rows += neural_tangents_rows(options.neural_tangents, theirs)
    rows += meanfield_rows(own, 1 if options.quick else 5)
    where = machine()
    print(where)
    print_rows(rows)
    if options.json:
        options.json.write_text(json.dumps({"machine": where, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
