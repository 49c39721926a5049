"""Derivatives of the c-map at c = 1 and -1, against one-dimensional integrals of phi' and phi''.

There u2 is a multiple of u1. C' is E phi'(u1) phi'(u2) and C'' is E phi''(u1) phi''(u2), in the units of
the map; where slopes jump at the same time, C'' is infinite, with the sign of the product of the jumps.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import _panels

import meanfield as mf
from meanfield.activations.names import FAMILIES, FIXED

WEIGHT_VAR, BIAS_VAR, KAPPA = 1.7, 0.1, 0.3
PRIOR = mf.NormalPrior(WEIGHT_VAR, BIAS_VAR, KAPPA)
ENDS = np.array([1.0, -1.0, 1.0, -1.0])
Q = np.array([1.3, 1.3, 0.04, 20.0])
Q2 = np.array([2.0, 0.5, 0.09, 1.0])
ACTIVATIONS = FIXED | {name: FAMILIES[name]() for name in ("leaky_relu", "elu", "celu")}
ACTIVATIONS["polynomial"] = mf.activations.polynomial(0.3, 1.0, -0.5, 0.2)
# One program for all of a kind.
SMOOTH = ("tanh", "sigmoid", "softplus", "gelu", "gelu_tanh", "silu", "mish", "arctan")
BENT = ("selu", "elu", "celu", "softsign")
REST = sorted(ACTIVATIONS.keys() - {*SMOOTH, *BENT})


def one_of(names, index):
    """The activation with this (traced) index, in a program that holds all of them."""
    members = [ACTIVATIONS[name] for name in names]
    branches = [lambda x, a=a: a(x) for a in members]
    return mf.Activation(
        functools.partial(_chosen, branches), kinks=members[0].kinks, params=(index,), name="one of many"
    )


def _chosen(branches, x, index):
    return jax.lax.switch(jnp.asarray(index, int), branches, x)


def slopes_of(activation, unequal):
    """(C', C'') in every row."""

    def c_map(c, q, q2):
        return mf.c_map(activation, PRIOR, c=c, q=q, q2=q2 if unequal else None)

    first = jax.grad(c_map)
    return jax.vmap(lambda *row: (first(*row), jax.jvp(lambda c: first(c, *row[1:]), row[:1], (1.0,))[1]))(
        jnp.asarray(ENDS), jnp.asarray(Q), jnp.asarray(Q2)
    )


@functools.cache
def computed(kind, unequal):
    """The program, as a function of the index in ``kind``."""
    if len(kind) == 1:
        return jax.jit(lambda _: slopes_of(ACTIVATIONS[kind[0]], unequal))
    return jax.jit(lambda index: slopes_of(one_of(kind, index), unequal))


def expected(phi, c, q, q2):
    """(C', C'') by panels of one Gaussian."""
    a, b = np.array(phi.kinks) / np.sqrt(q), c * np.array(phi.kinks) / np.sqrt(q2)
    z, w = _panels([*a, *b, 0.0])
    slope = jax.vmap(jax.grad(phi))
    bend = jax.vmap(jax.grad(jax.grad(phi)))
    u1, u2 = np.sqrt(q) * z, c * np.sqrt(q2) * z
    scale = WEIGHT_VAR * np.sqrt(q * q2 / (next_variance(phi, q) * next_variance(phi, q2)))
    first = scale * w @ (np.asarray(slope(u1)) * np.asarray(slope(u2)))
    second = scale * np.sqrt(q * q2) * w @ (np.asarray(bend(u1)) * np.asarray(bend(u2)))
    kinks = np.array(phi.kinks)
    jumps = np.asarray(slope(kinks + 1e-9)) - np.asarray(slope(kinks - 1e-9)) if kinks.size else np.zeros(0)
    jumps = np.where(np.abs(jumps) < 1e-6, 0, jumps)
    together = np.abs(a[:, None] - b) < 1e-12
    meeting = np.sum(np.outer(jumps, jumps) * np.exp(-(a[:, None] ** 2) / 2) * together)
    return first, second if meeting == 0 else np.sign(meeting) * np.inf


def next_variance(phi, q):
    z, w = _panels(np.array([0.0, *phi.kinks]) / np.sqrt(q))
    value = np.asarray(phi(np.sqrt(q) * z))
    return WEIGHT_VAR * (w @ value**2 - KAPPA * (w @ value) ** 2) + BIAS_VAR


@pytest.mark.parametrize("unequal", [False, True], ids=["equal", "unequal"])
@pytest.mark.parametrize("kind", [SMOOTH, BENT, *[(name,) for name in REST]], ids=lambda k: k[0])
def test_slopes_at_the_ends_are_those_of_the_moments(x64, kind, unequal):
    for index, name in enumerate(kind):
        first, second = computed(kind, unequal)(index)
        for row, (c, q, q2) in enumerate(zip(ENDS, Q, Q2 if unequal else Q, strict=True)):
            want_first, want_second = expected(ACTIVATIONS[name], c, q, q2)
            assert abs(first[row] - want_first) <= 1e-11 * max(1, abs(want_first)), (name, c, q, q2)
            if np.isinf(want_second):
                assert second[row] == want_second, (name, c, q, q2)
            else:
                assert abs(second[row] - want_second) <= 1e-9 * max(1, abs(want_second)), (name, c, q, q2)
