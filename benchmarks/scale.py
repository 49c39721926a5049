"""Any activation at the speed of a closed form: time a point, its floor, tables, first calls, derivatives.

    python benchmarks/scale.py            # full sizes; --quick for small ones
    python benchmarks/scale.py --json results.json

The error of a diagram is its largest residual at random points, by quadrature: |Q(q) - q| / q and, where
c* < 1, the relative residual of the chord. The floor of a tanh point is what it must cost: its operations (as
XLA counts those of the compiled program, a transcendental function as 20) at the rate of a polynomial
evaluated in cache, plus its bytes at the rate of a copy, both measured here.
"""

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from harness import main, median_seconds

import meanfield as mf
from meanfield.fixed_points.regular import regular_point, regular_variance
from meanfield.numerics.broadcasting import pointwise

ACTIVATIONS = ("tanh", "gelu", "silu", "mish", "elu", "softplus", "hard_tanh", "softsign")
_TRANSCENDENTAL = 20
_BYTES = 3 * 8 + 7 * 8 + 2  # parameters read, fields written


def diagram(name: str, side: int) -> mf.PhaseDiagram:
    grid = {"weight_var": np.linspace(0.5, 4, side), "bias_var": np.linspace(0.01, 0.5, side)}
    return mf.phase_diagram(name, **grid)


def residual(diagram, sample=64) -> float:
    """Largest residual of q* and c* at random converged points, by the dual itself."""
    rng = np.random.default_rng(0)
    i, j = np.nonzero(diagram.status == mf.Status.CONVERGED)
    chosen = rng.integers(0, len(i), sample)
    i, j = i[chosen], j[chosen]
    with jax.enable_x64(True):
        prior = mf.NormalPrior(diagram.weight_var[i], diagram.bias_var[j])
        layer = mf.Dense(diagram.activation, prior)
        q, omc = jnp.asarray(diagram.q[i, j]), jnp.asarray(diagram.one_minus_c[i, j])
        theta = 2 * jnp.arcsin(jnp.sqrt(omc / 2))
        variance = mf.q_map(layer, q=q)
        chord = jax.lax.map(
            lambda x: layer.dual.chord(*x), (q, jnp.where(theta > 0, theta, 1.0)), batch_size=32
        )
        gap = jnp.where(theta > 0, jnp.abs(prior.weight_var * chord * q / variance - 1), 0.0)
        return float(jnp.maximum(jnp.max(jnp.abs(variance / q - 1)), jnp.max(gap)))


def peak_flops(cores: int) -> float:
    """Multiply-adds a second, times 2, of a polynomial of degree 64 on arrays in cache, on all cores."""
    x = jnp.linspace(0.1, 0.9, 1 << 13)

    @jax.jit
    def polynomial(x):
        lanes = [x + k for k in range(4)]
        for _ in range(64):
            lanes = [y * x + 0.5 for y in lanes]
        return sum(lanes)

    def work(_):
        for _ in range(400):
            polynomial(x).block_until_ready()

    polynomial(x).block_until_ready()
    with ThreadPoolExecutor(cores) as pool:
        _, seconds = median_seconds(lambda: list(pool.map(work, range(cores))), 3)
    return cores * 400 * x.size * 4 * 64 * 2 / seconds


def copy_bytes() -> float:
    """Bytes a second, read and written, of a copy that does not fit in cache."""
    a, b = np.zeros(1 << 25), np.zeros(1 << 25)
    _, seconds = median_seconds(lambda: np.copyto(b, a), 5)
    return 2 * a.nbytes / seconds


def operations(name: str) -> float:
    """What the two programs of a regular point compute, by XLA's count."""
    with jax.enable_x64(True):
        n = 1 << 14
        prior = mf.NormalPrior(np.linspace(0.5, 4, n), np.linspace(0.01, 0.5, n))
        layer = mf.Dense(mf.tabulate(name), prior)
        q = mf.fixed_point(layer).q
        total = 0.0
        for job, given in ((regular_variance, (1.0,)), (regular_point, (q, 0.0))):
            program = jax.jit(lambda *trees, job=job: pointwise(job, *trees, at_once=n))
            cost = program.lower(layer, *given).compile().cost_analysis()
            total += cost.get("flops", 0.0) + _TRANSCENDENTAL * cost.get("transcendentals", 0.0)
        return total / n


def fresh_process(code: str, *arguments, **environment) -> float:
    """The number that ``code`` prints last in a new process."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | environment)
    return float(run.stdout.split()[-1])


_FIRST = """
import time; began = time.perf_counter()
import numpy as np, meanfield as mf
mf.phase_diagram("tanh", weight_var=np.linspace(0.5, 4, 300), bias_var=np.linspace(0.01, 0.5, 300))
print(time.perf_counter() - began)
"""
_MESH = """
import os; os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
import statistics, sys, time, jax, numpy as np, meanfield as mf
side, count = int(sys.argv[1]), int(sys.argv[2])
mesh = jax.sharding.Mesh(np.array(jax.devices()[:count]), ("points",))
grid = dict(weight_var=np.linspace(0.5, 4, side), bias_var=np.linspace(0.01, 0.5, side))
for _ in range(2):  # the second compiles for tables that the first has made larger
    mf.phase_diagram("tanh", **grid, mesh=mesh)
seconds = []
for _ in range(5):
    began = time.perf_counter()
    mf.phase_diagram("tanh", **grid, mesh=mesh)
    seconds.append(time.perf_counter() - began)
print(statistics.median(seconds))
"""
_MEMORY = """
import sys, numpy as np, meanfield as mf
side = int(sys.argv[1])
mf.phase_diagram("tanh", weight_var=np.linspace(0.5, 4, side), bias_var=np.linspace(0.01, 0.5, side))
print(int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024)
"""
_TABLE = """
import time, jax, jax.numpy as jnp
from meanfield.activations.names import as_activation
from meanfield.dual import dual_of, tables_of
jax.config.update("jax_enable_x64", True)
jnp.zeros(1).block_until_ready()
began = time.perf_counter()
phi = as_activation("tanh")
tables = tables_of(dual_of(phi), phi)
tables.build(range(47, 52))
tables.dual()
print(time.perf_counter() - began)
"""


def mean_depth_scale(side: int):
    """(the mean of xi_c over a grid as a function of its two axes, the axes), for use with x64."""
    table = mf.tabulate("tanh", q=(1e-2, 1e1))

    def mean_xi(w, b):
        xi = mf.depth_scales(table, mf.NormalPrior(w, b)).c
        return jnp.mean(jnp.where(jnp.isfinite(xi), xi, 0.0))

    return mean_xi, (jnp.linspace(0.5, 3, side), jnp.linspace(0.02, 0.3, side)[:, None])


def gradient_ratio(points: int) -> tuple[float, float]:
    """(forward seconds, gradient / forward) of the mean of xi_c over a grid, with respect to the grid."""
    with jax.enable_x64(True):
        mean_xi, (w, b) = mean_depth_scale(round(points**0.5))
        forward, gradient = jax.jit(mean_xi), jax.jit(jax.value_and_grad(mean_xi, (0, 1)))
        seconds = [
            median_seconds(lambda f=f: jax.block_until_ready(f(w, b)), 11)[1] for f in (forward, gradient)
        ]
    return seconds[0], seconds[1] / seconds[0]


def diagrams(quick: bool) -> list[dict]:
    """Every activation at full size, tanh at smaller ones too, its memory, and its ratio to the floor."""
    side = 300 if quick else 1000
    rows = []
    for name in ACTIVATIONS[: 1 if quick else None]:
        first, warm = median_seconds(lambda name=name: diagram(name, side), 3)
        row = {"job": f"{name} diagram, {side**2:,} points", "activation": name, "points": side**2}
        rows.append(row | {"first_s": first, "warm_s": warm, "error": residual(diagram(name, side))})
    for smaller in (100,) if quick else (100, 316):
        warm = median_seconds(lambda smaller=smaller: diagram("tanh", smaller), 3)[1]
        job = f"tanh diagram, {smaller**2:,} points"
        rows.append({"job": job, "activation": "tanh", "points": smaller**2, "warm_s": warm})
    with jax.enable_x64(True):
        flops, copied = peak_flops(os.cpu_count() or 1), copy_bytes()
    count = operations("tanh")
    floor = side**2 * (count / flops + _BYTES / copied)
    rates = f"{count:.0f} operations at {flops / 1e9:.0f} G/s, {copied / 1e9:.0f} GB/s"
    rows.append({"job": f"floor of tanh ({rates})", "warm_s": floor})
    rows.append({"job": "tanh diagram / floor", "ratio": rows[0]["warm_s"] / floor})
    return rows


def processes(quick: bool) -> list[dict]:
    """What only a process of its own shows: meshes of simulated devices, memory, first calls, tables."""
    side = 300 if quick else 1000
    rows = []
    for count in (1, 2) if quick else (1, 2, 4, 8):
        job = f"tanh diagram, {side**2:,} points, {count} simulated devices"
        rows.append({"job": job, "devices": count, "warm_s": fresh_process(_MESH, side, count)})
    if not quick:
        megabytes = fresh_process(_MEMORY, side)
        rows.append({"job": f"peak memory of the tanh diagram ({megabytes:.0f} MB)", "megabytes": megabytes})
        job = "first tanh diagram of a process, 300 x 300, import included"
        rows.append({"job": job, "first_s": fresh_process(_FIRST)})
        rows.append({"job": "table of tanh from nothing, five panels", "first_s": fresh_process(_TABLE)})
        with tempfile.TemporaryDirectory() as cache:
            fresh_process(_TABLE, MEANFIELD_CACHE=cache)
            second = fresh_process(_TABLE, MEANFIELD_CACHE=cache)
        rows.append({"job": "the same from the cache of another process", "first_s": second})
    return rows


def derivatives(quick: bool) -> list[dict]:
    """The gradient of one number of a whole grid."""
    points = 22_500 if quick else 100_000
    forward, ratio = gradient_ratio(points)
    job = f"mean of xi_c over {points:,} points"
    return [{"job": job, "warm_s": forward}, {"job": "  gradient / forward", "ratio": ratio}]


def measure(quick: bool) -> list[dict]:
    """One row a job."""
    rows = []
    for part in (diagrams, processes, derivatives):
        rows += part(quick)
        print(f"{part.__name__} done", flush=True)
    return rows


if __name__ == "__main__":
    main(__doc__, measure)
