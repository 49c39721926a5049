"""Derivatives of the c-map at c = 1 and -1, against one-dimensional integrals of phi' and phi''.

There u2 is a multiple of u1. C' is E phi'(u1) phi'(u2) and C'' is E phi''(u1) phi''(u2), in the units of
the map; where slopes jump at the same time, C'' is infinite, with the sign of the product of the jumps.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import panels

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
    z, w = panels([*a, *b, 0.0])
    slope = jax.vmap(jax.grad(phi))
    bend = jnp.vectorize(jax.grad(jax.grad(phi)))
    u1, u2 = np.sqrt(q) * z, c * np.sqrt(q2) * z
    scale = WEIGHT_VAR * np.sqrt(q * q2 / (next_variance(phi, q) * next_variance(phi, q2)))
    first = scale * w @ (np.asarray(slope(u1)) * np.asarray(slope(u2)))
    kinks = np.array(phi.kinks)
    jumps = np.asarray(slope(kinks + 1e-9)) - np.asarray(slope(kinks - 1e-9)) if kinks.size else np.zeros(0)
    jumps = np.where(np.abs(jumps) < 1e-6, 0, jumps)
    # phi'' has a delta at every kink: beside the smooth part of the other signal, and beside its deltas.
    beside = sum(
        jump * np.exp(-(k**2) / (2 * one)) / np.sqrt(2 * np.pi * one) * bend(c * k * np.sqrt(other / one))
        for one, other in ((q, q2), (q2, q))
        for k, jump in zip(kinks, jumps, strict=True)
    )
    second = scale * np.sqrt(q * q2) * (w @ (np.asarray(bend(u1)) * np.asarray(bend(u2))) + float(beside))
    together = np.abs(a[:, None] - b) < 1e-12
    meeting = np.sum(np.outer(jumps, jumps) * np.exp(-(a[:, None] ** 2) / 2) * together)
    return first, second if meeting == 0 else np.sign(meeting) * np.inf


def next_variance(phi, q):
    z, w = panels(np.array([0.0, *phi.kinks]) / np.sqrt(q))
    value = np.asarray(phi(np.sqrt(q) * z))
    return WEIGHT_VAR * (w @ value**2 - KAPPA * (w @ value) ** 2) + BIAS_VAR


KINDS = [
    *(pytest.param(kind, marks=pytest.mark.slow) for kind in (SMOOTH, BENT)),
    *((name,) for name in REST),
]


@pytest.mark.parametrize("unequal", [False, True], ids=["equal", "unequal"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[0])
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


def test_known_slopes(x64):
    """Of ReLU, tanh, and a tanh shaped so that C'' is small."""

    def slope(name, prior, c, q, q2=None):
        return jax.grad(lambda c: mf.c_map(name, prior, c=c, q=q, q2=q2))(c)

    assert slope("relu", mf.NormalPrior(2.0), 1.0, 1.0) == 1
    assert abs(slope("relu", PRIOR, -1.0, 1.3)) <= 1e-16
    assert abs(slope("tanh", PRIOR, -1.0, 1.3) - 1.086480108975) <= 1e-12
    assert abs(slope("relu", PRIOR, 1.0, 1.0, 2.0) - 1.007753103574) <= 1e-12

    def shaped(x):
        return 22.36066261763117 * (
            jnp.tanh(0.0580205218578313 * x + 0.5218639804099805) - 0.4796430704354356
        )

    second = jax.grad(jax.grad(lambda c: mf.c_map(shaped, mf.NormalPrior(1.0), c=c, q=1.0)))(1.0)
    assert abs(second - 0.0030395135) <= 1e-10


def test_slopes_through_layers_are_products_of_their_own(x64):
    def end(c, q2=None):
        path = mf.propagate("relu", mf.NormalPrior(2.0), c0=c, depth=20, q2=q2)
        return path.c[-1], path.one_minus_c[-1]

    assert jax.jit(jax.jacfwd(end))(1.0) == (1, -1)
    assert jax.jit(jax.jacrev(end))(1.0) == (1, -1)
    # Signals of other lengths have c < 1 from the second layer of a network with a bias on.
    path = mf.propagate("relu", PRIOR, c0=1.0, q0=1.0, q2=2.0, depth=4)
    one = jax.vmap(jax.grad(lambda c, q, q2: mf.c_map("relu", PRIOR, c=c, q=q, q2=q2)))
    product = np.prod(one(path.c[:-1], path.q[:-1], path.q2[:-1]))
    through = jax.grad(lambda c: mf.propagate("relu", PRIOR, c0=c, q0=1.0, q2=2.0, depth=4).c[-1])(1.0)
    assert abs(through - product) <= 1e-13


def hessian_of(activation, unequal):
    def c_map(row):
        weight_var, q, c = row
        q2 = 0.7 * q if unequal else None
        return mf.c_map(activation, mf.NormalPrior(weight_var, BIAS_VAR, KAPPA), c=c, q=q, q2=q2)

    return c_map


@pytest.mark.parametrize("c", [1.0, -1.0])
@pytest.mark.parametrize("name, unequal", [("hard_tanh", True), ("relu", False), ("erf", False)])
def test_second_derivatives_mix_in_any_order(x64, name, unequal, c):
    """Those with respect to c and the rest, against central differences of the first over the rest."""
    fn = hessian_of(name, unequal)
    row = jnp.array([WEIGHT_VAR, 1.3, c])
    first = jax.jit(jax.vmap(jax.grad(fn)))
    moves = np.array([[1e-4, 0, 0], [0, 1e-4, 0]])
    mixed = (first(row + moves) - first(row - moves))[:, 2] / 2e-4
    for hessian in (jax.hessian(fn), jax.jacrev(jax.jacfwd(fn)), jax.jacfwd(jax.jacfwd(fn))):
        found = jax.jit(hessian)(row)
        assert np.max(np.abs(found[2, :2] - mixed)) <= 1e-7
        assert np.max(np.abs(found[:2, 2] - mixed)) <= 1e-7
        assert np.all(np.isfinite(found[:2, :2]))
        assert np.isinf(found[2, 2]) == (name == "relu")


def test_slopes_in_single_precision():
    for name in ("relu", "hard_tanh", "erf"):
        for c in (1.0, -1.0):
            slope = jax.grad(lambda c, name=name: mf.c_map(name, PRIOR, c=c, q=1.3))(jnp.float32(c))
            want, _ = expected(ACTIVATIONS[name], c, 1.3, 1.3)
            assert slope.dtype == jnp.float32
            assert abs(slope - want) <= 1e-5


@pytest.mark.slow
def test_slopes_through_what_an_activation_closes_over(x64):
    def c_map(by_hand, slope, c):
        phi = mf.activations.leaky_relu(slope)
        if by_hand:
            phi = mf.Activation(lambda x: jnp.where(x > 0, x, slope * x), kinks=(0.0,))
        return mf.c_map(phi, PRIOR, c=c, q=1.0, q2=2.0)

    for c in (0.4, 1.0):
        one, other = (jax.grad(functools.partial(c_map, by), (0, 1))(0.2, c) for by in (True, False))
        np.testing.assert_allclose(one, other, rtol=1e-11)
    along = jax.vmap(lambda slope: jax.grad(functools.partial(c_map, True, slope))(1.0))
    assert np.all(along(jnp.array([0.2, 0.3])) > 0)


def test_a_jump_has_an_infinite_slope(x64):
    sign = mf.Activation(jnp.sign, kinks=(0.0,))
    slopes = jax.vmap(jax.grad(lambda c: mf.c_map(sign, mf.NormalPrior(1.0), c=c, q=1.3)))
    found = slopes(jnp.array([1.0, -1.0, 0.5]))
    assert np.all(found[:2] == np.inf)
    assert abs(found[2] - 2 / np.pi / np.sqrt(0.75)) <= 1e-12  # C = 2/pi arcsin c


def test_an_even_function_bends_at_zero_correlation(x64):
    """cos: the covariance is exp(-q) (cosh q c - 1)."""
    bend = jax.grad(jax.grad(lambda c: mf.c_map("cos", mf.NormalPrior(1.0), c=c, q=1.3)))(0.0)
    value = (1 + np.exp(-2.6)) / 2
    assert abs(bend - 1.3**2 * np.exp(-1.3) / value) <= 1e-14


@pytest.mark.parametrize("name", ["tanh", "selu"])
def test_the_distance_of_neighbours_keeps_its_digits(x64, name):
    """Each layer multiplies it by chi_perp q / q', however small it is."""
    prior = mf.NormalPrior(0.5, 0.3)
    path = mf.propagate(name, prior, q0=1.0, c0=1 - 1e-6, depth=150)
    point = mf.fixed_point(name, prior)
    ratio = path.one_minus_c[1:] / path.one_minus_c[:-1]
    assert path.one_minus_c[-1] < 1e-40
    assert abs(ratio[-1] / point.chi_1 - 1) <= 1e-12
    # selu's slope differs from that by its kink: as the root of the distance.
    late = slice(60, None)
    assert np.all(np.abs(ratio[late] / ratio[-1] - 1) <= 10 * np.sqrt(path.one_minus_c[:-1][late]) + 1e-12)
