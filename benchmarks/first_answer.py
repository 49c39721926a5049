"""What everyone meets first: seconds to a first answer in a new process, importing JAX taken off.

    python benchmarks/first_answer.py            # three processes each, the least; --quick for one, of some
    python benchmarks/first_answer.py --json results.json

A job is a line of Python, timed from before ``import meanfield`` and from after JAX has been imported and has
started its backend. ``second_s`` is the same line in a process that finds what an earlier one has compiled
(JAX's persistent compilation cache). ``ratio`` is the first answer over a small function's first ``jax.jit``
together with importing JAX, in the same process: what can be compared between machines. ``swiglu`` makes
pre-norm residual blocks with a gated unit, ``FINE`` has 100,172 points.
"""

import os
import subprocess
import sys
import tempfile

from harness import main

_PROGRAM = """
import sys, time
began = time.perf_counter()
import jax, jax.numpy as jnp, numpy as np
jax.jit(lambda x: jnp.sin(x) + 1)(1.0).block_until_ready()
imported = time.perf_counter()
import meanfield as mf
P = mf.NormalPrior
GRID = dict(weight_var=np.linspace(0.5, 4, 200), bias_var=np.linspace(0.01, 0.5, 200))
FINE = dict(weight_var=np.linspace(0.5, 4, 316), bias_var=np.linspace(0.01, 0.5, 317))
def new(x, a=1.3):
    return jnp.tanh(a * x) + 0.1 * jnp.sin(x)
def other(x):
    return jnp.arctan(1.7 * x)
def swiglu(skip):
    def block(weight_var, bias_var):
        prior = P(weight_var, bias_var)
        glu = mf.GLU("silu", gate=prior, up=prior, down=prior)
        return mf.Residual(mf.Chain(mf.RMSNorm(), glu), skip=skip, scale=0.5)
    return block
{before}
jax.effects_barrier()
start = imported if {whole} else time.perf_counter()
jax.block_until_ready({job})
print(time.perf_counter() - start, imported - began)
"""
_POINT = "mf.fixed_point({}, P(2.0, 0.1))"
_DIAGRAM = "mf.phase_diagram({}, **GRID)"
_GRADIENT = "jax.jit(jax.grad(lambda w: mf.fixed_point('tanh', P(w, 0.1)).{}))(2.0)"

# Job, what runs before it in the process, bar in seconds.
FIRST = [
    *((_POINT.format(repr(name)), 1.5) for name in ("tanh", "gelu", "silu", "hard_tanh", "relu")),
    (_POINT.format("new"), 2.0),
    *((_DIAGRAM.format(repr(name)), 2.0) for name in ("tanh", "gelu", "silu", "hard_tanh")),
    (_DIAGRAM.format("new"), 5.0),
    *((f"mf.phase_diagram(swiglu({skip}), **FINE)", 3.0) for skip in (0.9, 1.0)),
    ("mf.propagate('tanh', P(2.0, 0.1), depth=64)", 1.5),
    ("mf.critical_line('tanh', jnp.linspace(0.1, 2.0, 20))", 1.5),
    ("mf.critical_weight_var('tanh', 0.1)", 1.5),
    ("mf.lyapunov_exponents('tanh', P(2.0, 0.1))", 1.5),
    ("mf.jacobian_spectrum('tanh', P(2.0, 0.1), 64)", 5.0),
    (_GRADIENT.format("q"), 3.0),
    (_GRADIENT.format("c"), 3.0),
]
AGAIN = [
    (
        "a grid of another size",
        _DIAGRAM.format("'tanh'"),
        "mf.phase_diagram('tanh', weight_var=np.linspace(1, 2, 99), bias_var=np.linspace(0, 1, 333))",
        0.3,
    ),
    ("another prior", _POINT.format("'tanh'"), "mf.fixed_point('tanh', P(1.7, 0.2, 0.3))", 0.3),
    ("another named activation", _POINT.format("'tanh'"), _POINT.format("'arctan'"), 0.3),
    ("another callable's diagram", _DIAGRAM.format("new"), _DIAGRAM.format("other"), 2.0),
    ("another callable's point", _POINT.format("new"), _POINT.format("other"), 1.0),
]
QUICK = ("mf.fixed_point('tanh', P(2.0, 0.1))", _DIAGRAM.format("'gelu'"))


def seconds(job: str, before: str = "", cache: str | None = None, times: int = 3) -> tuple[float, float]:
    """(least seconds of the job, of importing JAX and a first small ``jit``) in new processes."""
    program = _PROGRAM.format(before=before, whole=not before, job=job)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_") and k != "XLA_FLAGS"}
    if cache:
        environment |= {
            "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
    rows = []
    for _ in range(times):
        command = [sys.executable, "-W", "ignore", "-c", program]
        run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        rows.append([float(x) for x in run.stdout.split()[-2:]])
    return tuple(min(column) for column in zip(*rows, strict=True))


def measure(quick: bool) -> list[dict]:
    times = 1 if quick else 3
    rows = []
    for job, bar in FIRST:
        if quick and job not in QUICK:
            continue
        first, base = seconds(job, times=times)
        row = {"job": job, "bar_s": bar, "first_s": first, "ratio": first / base}
        if not quick:
            with tempfile.TemporaryDirectory() as cache:
                seconds(job, cache=cache, times=1)
                row["second_s"] = seconds(job, cache=cache, times=1)[0]
        print(f"  {first:.2f} s (bar {bar}): {job}", flush=True)
        rows.append(row)
    for name, before, job, bar in [] if quick else AGAIN:
        rows.append({"job": name, "bar_s": bar, "first_s": seconds(job, before, times=times)[0]})
    return rows


if __name__ == "__main__":
    main(__doc__, measure)
