"""Every main function lowers for accelerators: nothing that only a CPU has creeps in."""

import functools

import jax
import jax.numpy as jnp
import pytest

import meanfield as mf
from meanfield.dual import dual_of, tables_of
from meanfield.fixed_points.correlation import at_limit, solve
from meanfield.fixed_points.regular import regular_point, regular_variance

P = mf.NormalPrior


@functools.cache
def table():
    """Of mean and variance: made before anything is traced."""
    return tables_of(dual_of(mf.activations.tanh), mf.activations.tanh).lines_alone


def tabulated(w):
    return mf.Dense("tanh", P(w, 0.1), dual=table())


def block(w):
    return mf.Residual(mf.Chain(mf.RMSNorm(), "gelu", P(w, 0.1), mf.Dense("relu", P(w))), skip=0.5)


MAIN = {
    "fixed_point": lambda w: mf.fixed_point("gelu", P(w, 0.1)),
    "fixed_point of a residual block": lambda w: mf.fixed_point(block(w)),
    "gradient": jax.grad(lambda w: mf.fixed_point("tanh", P(w, 0.1)).c),
    "fixed_points": lambda w: mf.fixed_points("erf", P(w, 0.1)),
    "propagate": lambda w: mf.propagate("silu", P(w, 0.1), depth=5),
    "c_map": lambda w: mf.c_map("hard_tanh", P(w, 0.1), c=0.5, q=w),
    "depth_scales": lambda w: mf.depth_scales("erf", P(w, 0.1)),
    "critical_weight_var": lambda w: mf.critical_weight_var("erf", w),
    "jacobian_spectrum": lambda w: mf.jacobian_spectrum("erf", P(w, 0.1), 8),
    "lyapunov_spectrum": lambda w: mf.lyapunov_spectrum("erf", P(w, 0.1), jnp.linspace(0, 1, 5)),
    "density_evolution": lambda w: mf.density_evolution("relu", mf.AsymmetricPrior(w), depth=3),
    "population_dynamics": lambda w: mf.population_dynamics(
        "relu", mf.AsymmetricPrior(w), depth=3, particles=1 << 12
    ),
    "a diagram's variances": lambda w: regular_variance(tabulated(w), jnp.ones_like(w)),
    "a diagram's points": lambda w: regular_point(tabulated(w), jnp.ones_like(w), jnp.zeros_like(w)),
    "a diagram's limits": lambda w: at_limit(tabulated(w), mf.Status.UNBOUNDED, jnp.zeros_like(w)),
    "a diagram's other points": lambda w: solve(tabulated(w), jnp.ones_like(w), jnp.zeros_like(w)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MAIN)
def test_it_lowers_for_cuda_and_tpu(name):
    with jax.enable_x64(
        name.startswith("a diagram")
    ):  # they are in double precision whatever JAX's default is
        lowered(name)


def lowered(name):
    table()
    function = jax.jit(lambda w: jax.tree.leaves(MAIN[name](w)))
    exported = jax.export.export(function, platforms=("cuda", "tpu"))(jnp.asarray(1.5))
    assert exported.platforms == ("cuda", "tpu")
