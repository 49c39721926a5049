"""The part of ``peers.py`` that runs in an environment with Neural Tangents and an older JAX.

Reads axes (JSON) from stdin; prints seconds and values of a diagram (JSON). All points of a
row at once, by plain iteration of the kernel functions until no point of it moves any more,
or 200 times: by more than 1e-8 for erf, in closed form, and than 1e-5 for tanh, by the
package's quadrature of 25 nodes, as its documentation advises, which is no more accurate.
"""

import json
import sys
import time
import warnings

import jax
import numpy as np

warnings.simplefilter("ignore")
jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
import neural_tangents as nt  # noqa: E402
from neural_tangents import stax  # noqa: E402

NODES, STEPS = 25, 200
CLOSE = {"erf": 1e-8, "tanh": 1e-5}
WIDTH = 1024  # enters no result


def kernel(covariance, ntk=None):
    """What one layer hands to the next: pre-activations of as many inputs as there are rows."""
    shape = (len(covariance), WIDTH)
    return nt.Kernel(
        cov1=jnp.diag(covariance),
        cov2=None,
        nngp=covariance,
        ntk=ntk,
        is_gaussian=True,
        is_reversed=False,
        is_input=False,
        diagonal_batch=True,
        diagonal_spatial=False,
        shape1=shape,
        shape2=shape,
        x1_is_x2=True,
        batch_axis=0,
        channel_axis=1,
        mask1=None,
        mask2=None,
    )


def iterate(f, start, close):
    def step(state):
        _, x, count = state
        return x, f(x), count + 1

    def moving(state):
        before, x, count = state
        return (jnp.abs(x - before) > close) & (count < STEPS)

    return jax.lax.while_loop(moving, step, (start + 1.0, start, 0))[1]


def solver(name: str):
    layer = stax.Erf() if name == "erf" else stax.ElementwiseNumerical(jnp.tanh, deg=NODES)

    def point(weight_var, bias_var):
        dense = stax.Dense(1, jnp.sqrt(weight_var), jnp.sqrt(bias_var))
        both = stax.serial(layer, dense)[2]
        q = iterate(lambda q: both(kernel(q[None, None])).nngp[0, 0], jnp.asarray(1.0), CLOSE[name])

        def next_c(c):
            mapped = both(
                kernel(q * jnp.array([[1.0, 0.0], [0.0, 1.0]]) + q * c * jnp.array([[0, 1], [1, 0]]))
            )
            return mapped.nngp[0, 1] / mapped.nngp[0, 0]

        c = iterate(next_c, jnp.asarray(0.0), CLOSE[name])
        after = stax.serial(layer)[2](kernel(q[None, None], jnp.ones((1, 1))))
        return {"q": q, "one_minus_c": 1 - c, "chi_1": weight_var * after.ntk[0, 0]}

    def diagram(weight_var, bias_var):
        return jax.lax.map(lambda w: jax.vmap(lambda b: point(w, b))(bias_var), weight_var)

    return jax.jit(diagram)


def main():
    axes = json.load(sys.stdin)
    arrays = [jnp.asarray(axes[key]) for key in ("weight_var", "bias_var")]
    run = solver(sys.argv[1])
    times = []
    for _ in range(4):
        began = time.perf_counter()
        values = jax.device_get(run(*arrays))
        times.append(time.perf_counter() - began)
        if times[-1] > 20 and len(times) > 1:
            break
    answer = {"version": nt.__version__, "jax": jax.__version__, "first": times[0], "seconds": min(times[1:])}
    print(
        json.dumps({**answer, "values": {key: np.asarray(value).tolist() for key, value in values.items()}})
    )


if __name__ == "__main__":
    main()
