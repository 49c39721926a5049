"""What an accelerator is good for: large grids, derivatives over them, and real networks.

    python benchmarks/accelerator.py --json results.json
    JAX_PLATFORMS=cpu python benchmarks/accelerator.py --json results.json   # the same machine's processor

The error of a diagram is its largest deviation from the quadrature at random points, on the same device.
"""

import jax
from core import diagram_accuracy
from harness import main, median_seconds
from scale import diagram, mean_depth_scale

import meanfield as mf
from meanfield.empirical import measure as measured

ACTIVATIONS = ("relu", "tanh", "gelu", "hard_tanh")


def diagrams(quick: bool):
    for name in ACTIVATIONS:
        for side in (100,) if quick else (1000, 3162) if name == "tanh" else (1000,):
            first, warm = median_seconds(lambda name=name, side=side: diagram(name, side), 3)
            yield {
                "job": f"{name} diagram, {side**2:,} points",
                "first_s": first,
                "warm_s": warm,
                "error": diagram_accuracy(diagram(name, side)),
            }


def compiled(quick: bool):
    """Inside the user's own jit, where the arrays never leave the device."""
    side = 100 if quick else 1000
    with jax.enable_x64(True):
        mean_xi, (w, b) = mean_depth_scale(side)

        def orbit(w, b):
            return mf.propagate("tanh", mf.NormalPrior(w, b), q0=1.0, c0=0.5, depth=10).c

        small = w[: side // 10], b[: side // 10]
        jobs = {
            f"mean of xi_c over {side**2:,} points": (mean_xi, (w, b)),
            "  its gradient": (jax.grad(mean_xi, (0, 1)), (w, b)),
            f"10 layers of propagate by quadrature, {side**2 // 100:,} points": (orbit, small),
        }
        for job, (fn, given) in jobs.items():
            program = jax.jit(fn)
            first, warm = median_seconds(
                lambda program=program, given=given: jax.block_until_ready(program(*given)), 5
            )
            yield {"job": job, "first_s": first, "warm_s": warm}


def networks(quick: bool):
    """Forward passes of random networks, their weights drawn layer by layer."""
    prior = mf.NormalPrior(1.5, 0.1, 0.5)
    full = ((1024, 50, 16), (4096, 50, 4))[: 1 if jax.default_backend() == "cpu" else None]
    for width, depth, count in ((128, 4, 2),) if quick else full:
        sizes = dict(width=width, depth=depth, networks=count, method="weights")
        run = lambda sizes=sizes: jax.block_until_ready(measured("tanh", prior, **sizes).samples.q)
        first, warm = median_seconds(run, 3)
        job = f"{count} tanh networks of width {width}, depth {depth}, 2 inputs"
        yield {"job": job, "first_s": first, "warm_s": warm}


def measure(quick: bool) -> list[dict]:
    """One row a job."""
    rows = []
    for part in (diagrams, compiled, networks):
        for row in part(quick):
            print(row, flush=True)
            rows.append(row)
    return rows


if __name__ == "__main__":
    main(__doc__, measure)
