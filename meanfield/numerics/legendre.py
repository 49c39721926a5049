"""Gauss-Legendre quadrature on panels, and series of Legendre polynomials."""

import functools
from collections.abc import Iterator

import numpy as np
from numpy.polynomial import legendre


@functools.cache
def gauss_legendre(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of n points on (-1, 1)."""
    return legendre.leggauss(n)


def rule_on(edges, n: int):
    """Nodes and weights, shape (panels, n), of n points on every panel between ``edges``."""
    nodes, weights = (x.astype(edges.dtype) for x in gauss_legendre(n))
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    return middle[:, None] + half[:, None] * nodes, half[:, None] * weights


@functools.cache
def panel_rule(points: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Panel, place within it (0 to 1) and weight of so many nodes: panels of eight, the first few of nine."""
    sizes = np.full(points // 8, 8)
    sizes[: points % 8] += 1
    panel = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    within, weight = (np.concatenate([gauss_legendre(n)[i] for n in sizes]) for i in (0, 1))
    return panel, (1 + within) / 2, weight / 2


@functools.cache
def to_coefficients(n: int) -> np.ndarray:
    """The matrix, shape (n, n), from values at the n Gauss nodes to coefficients of Legendre polynomials.

    By their discrete orthogonality on these nodes.
    """
    nodes, weights = gauss_legendre(n)
    return (np.arange(n) + 0.5)[:, None] * legendre.legvander(nodes, n - 1).T * weights


def polynomials(x, n: int) -> Iterator:
    """The first n Legendre polynomials at x, of NumPy or JAX, one after the other, by their recurrence."""
    before, now = x**0, x
    for k in range(n):
        yield before
        before, now = now, ((2 * k + 3) * x * now - (k + 1) * before) / (k + 2)
