"""Times of finite networks: with weights, without, and what a matrix product alone would take.

python benchmarks/empirical.py --json benchmarks/empirical_cpu_2_cores.json
"""

import jax
import jax.numpy as jnp
from harness import main, median_seconds

import meanfield as mf
from meanfield.empirical import ensembles
from meanfield.empirical import measure as measured

PRIOR = mf.NormalPrior(1.5, 0.1, 1.0)


def seconds(job, repeats=3) -> tuple[float, float]:
    return median_seconds(lambda: jax.block_until_ready(job()), repeats=repeats)


def without_weights(width, depth):
    run = lambda: measured("tanh", PRIOR, width=width, depth=depth, networks=1, method="weightless")
    return seconds(lambda: run().samples.q)


def drawing(width, layers):
    """Kernels alone, one after the other, each reduced to a number so that none can be left out."""
    init = PRIOR.kernel_init()

    @jax.jit
    def draw(key):
        one = lambda total, k: (total + jnp.sum(init(k, (width, width), jnp.float32)), None)
        return jax.lax.scan(one, jnp.zeros(()), jax.random.split(key, layers))[0]

    return seconds(lambda: draw(jax.random.key(0)))


def forward_without_drawing(width, depth, n_inputs):
    """The ensemble's own forward pass, its kernel read from memory instead of drawn."""
    kernel = PRIOR.kernel_init()(jax.random.key(0), (width, width), jnp.float32)

    def stored(prior, key, sent):
        return jax.lax.dot_general(kernel, sent, (((0,), (1,)), ((), ()))).T

    ensembles.METHODS["stored"] = stored
    sizes = dict(width=width, depth=depth, networks=1, n_inputs=n_inputs, method="stored")
    try:
        return seconds(lambda: measured("tanh", PRIOR, **sizes).samples.q, repeats=9)
    finally:
        del ensembles.METHODS["stored"]


def product(width, depth, rows):
    """As many products of the same shapes, and nothing else."""
    kernel = PRIOR.kernel_init()(jax.random.key(0), (width, width), jnp.float32)
    start = jax.random.normal(jax.random.key(1), (rows, width))

    @jax.jit
    def multiply(kernel, x):
        return jax.lax.scan(lambda x, _: (x @ kernel, None), x, length=depth)[0]

    return seconds(lambda: multiply(kernel, start), repeats=9)


def measure(quick):
    rows = []
    width, depth = (10_000, 5) if quick else (1_000_000, 100)
    first, warm = without_weights(width, depth)
    rows.append(
        {"job": f"weightless, width {width:,}, depth {depth}, 2 inputs", "first_s": first, "warm_s": warm}
    )
    width, layers = (256, 2) if quick else (8192, 2)
    drawn = drawing(width, layers)[1] / layers
    rows.append({"job": f"drawing a kernel, width {width}", "warm_s": drawn})
    depth = 20 if quick else 500
    per_layer = without_weights(width, depth)[1] / depth
    rows.append({"job": f"a weightless layer, width {width}", "warm_s": per_layer})
    rows.append({"job": "  drawing / weightless", "ratio": drawn / per_layer})
    for n_inputs in (2, 127):
        width, depth = (128, 5) if quick else (2048, 50)
        forward = forward_without_drawing(width, depth, n_inputs)[1]
        alone = product(width, depth, n_inputs + 1)[1]
        drawn = drawing(width, 5)[1] / 5 * depth
        rate = 2e-9 * width**2 * (n_inputs + 1) * depth / alone
        label = f"width {width}, depth {depth}, {n_inputs} inputs and a tangent"
        rows.append({"job": f"forward without drawing, {label}", "warm_s": forward})
        rows.append({"job": f"  products alone ({rate:.0f} Gflop/s)", "warm_s": alone})
        rows.append({"job": "  products alone / forward", "ratio": alone / forward})
        rows.append({"job": "  drawing the weights", "warm_s": drawn})
    return rows


if __name__ == "__main__":
    main(__doc__, measure)
