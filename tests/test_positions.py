"""Convolutions as networks use them: zeros around the image, strides, averages over windows."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import relative

import meanfield as mf
from meanfield.empirical import compare, compare_positions

P = mf.NormalPrior


def covariance(*shape, seed=0):
    """A covariance between all places, none like another."""
    size = int(np.prod(shape))
    x = np.random.default_rng(seed).standard_normal((size, 2 * size))
    return (x @ x.T / (2 * size) + 0.3).reshape(*shape, *shape)


def relu_moments(q1, q2, k):
    """E phi phi and E phi of ReLU, by the arc-cosine kernel of Cho & Saul (2009)."""
    c = np.clip(k / np.sqrt(q1 * q2), -1, 1)
    angle = np.arccos(c)
    return np.sqrt(q1 * q2) * (np.sin(angle) + (np.pi - angle) * c) / (2 * np.pi)


def flax_window(n, size, stride, padding):
    """Positions that each output reads, from what XLA does to an image that holds its own positions."""
    before, after = {
        "CIRCULAR": ((size - 1) // 2, size // 2),
        "VALID": (0, 0),
        "SAME": jax.lax.padtype_to_pads((n,), (size,), (stride,), "SAME")[0],
    }[padding]
    line = [
        i % n if padding == "CIRCULAR" else (i if 0 <= i < n else None) for i in range(-before, n + after)
    ]
    return [line[i : i + size] for i in range(0, len(line) - size + 1, stride)]


@pytest.mark.parametrize("padding", ["CIRCULAR", "VALID", "SAME"])
@pytest.mark.parametrize(("size", "stride", "n"), [(3, 1, 6), (3, 2, 6), (2, 2, 6), (4, 3, 7), (1, 2, 5)])
def test_covariances_between_positions_are_sums_over_taps(x64, padding, size, stride, n):
    """One position after the other, by the closed form of ReLU."""
    layer = mf.Conv("relu", P(1.7, 0.2, 0.6), (size,), strides=stride, padding=padding)
    start = covariance(n)
    reads = flax_window(n, size, stride, padding)
    expected = np.zeros((len(reads), len(reads)))
    mean = lambda taps: sum(np.sqrt(start[a, a] / (2 * np.pi)) for a in taps if a is not None) / size
    for i, j in itertools.product(range(len(reads)), repeat=2):
        pairs = [(a, b) for a, b in zip(reads[i], reads[j], strict=True) if a is not None and b is not None]
        pair = sum(relu_moments(start[a, a], start[b, b], start[a, b]) for a, b in pairs) / size
        expected[i, j] = 1.7 * (pair - 0.6 * mean(reads[i]) * mean(reads[j])) + 0.2
    assert relative(layer.position_map(start), expected) <= 1e-12


def test_averages_over_windows(x64):
    start = covariance(5, 4)
    rows = np.kron(np.eye(2), np.full((1, 2), 0.5)) @ np.eye(4, 5)
    columns = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]) / 2
    matrix = np.kron(rows, columns)
    expected = (matrix @ start.reshape(20, 20) @ matrix.T).reshape(2, 3, 2, 3)
    assert relative(mf.AveragePool((2, 2), (2, 1)).position_map(start), expected) <= 1e-13
    q, c = 1.7, 0.4
    whole = mf.AveragePool((3, 4)).position_map((q * (c + (1 - c) * np.eye(12))).reshape(3, 4, 3, 4))
    assert relative(whole[0, 0, 0, 0], q * (1 + 11 * c) / 12) <= 1e-13


def test_averaging_before_or_behind_weights_of_one_position_is_the_same(x64):
    start, pool = covariance(4, 4), mf.AveragePool((2, 2))
    inside = mf.Conv("gelu", P(1.5, 0.1, 0.7), (1, 1), pool=pool)
    behind = mf.Chain("gelu", P(1.5, 0.1, 0.7), pool)
    assert relative(inside.position_map(start), behind.position_map(start)) <= 1e-12


def test_delta_orthogonal_kernels_never_read_the_zeros(x64):
    circular, padded = (
        mf.Conv("erf", mf.OrthogonalPrior(1.5, 0.1), (3,), padding=padding)
        for padding in ("CIRCULAR", "SAME")
    )
    start = covariance(6)
    assert np.array_equal(circular.position_map(start), padded.position_map(start))
    assert float(mf.fixed_point(padded).q) == float(mf.fixed_point(circular).q)
    assert np.array_equal(mf.fourier_modes(padded, (6,)).chi_c, mf.fourier_modes(circular, (6,)).chi_c)


@pytest.mark.parametrize(("n", "stride", "taps"), [(6, 2, 3), (6, 3, 3), (8, 2, 5)])
def test_modes_alias_behind_strides(x64, n, stride, taps):
    """A wave on the uniform point arrives in the mode and with the factor that are said."""
    layer = mf.Conv("erf", P(2.5, 0.1, 0.4), (taps,), strides=stride)
    point = mf.fixed_point(layer)
    assert point.q == mf.fixed_point("erf", P(2.5, 0.1, 0.4)).q
    start = float(point.q) * (float(point.c) + (1 - float(point.c)) * np.eye(n))
    after = layer.position_map(start)
    assert np.max(np.abs(after - start[: n // stride, : n // stride])) <= 1e-12
    aliases, factors = layer.aliases((n,)), layer.eigenvalues((n,))
    for k in range(n):
        wave = np.exp(2j * np.pi * k * np.arange(n) / n)
        slope = lambda x: jnp.diagonal(jax.jvp(layer.position_map, (start,), (jnp.diag(x),))[1])
        out = slope(wave.real) + 1j * slope(wave.imag)
        arrived = np.exp(2j * np.pi * aliases[k, 0] * np.arange(n // stride) * stride / n)
        assert np.max(np.abs(out - point.chi_q * factors[k] * arrived)) <= 1e-10, k


NETWORKS = {
    "zeros": [mf.Conv("relu", P(1.9, 0.1, 0.5), (3,), padding="SAME")] * 3,
    "strides": [mf.Conv("tanh", P(1.8, 0.1), (3,), strides=2), mf.Conv("tanh", P(1.8, 0.1), (2,))],
    "strides among zeros": [mf.Conv("gelu", P(1.9, 0.1), (3, 3), strides=(2, 1), padding="SAME")] * 2,
    "valid": [mf.Conv("tanh", P(1.8, 0.1, -1.0), (3,), padding="VALID")] * 2,
    "averages": [mf.Conv("relu", P(1.9, 0.1, 0.5), (3,), pool=mf.AveragePool((2,))), mf.AveragePool((4,))],
    "a network": [
        mf.Conv("relu", P(2.0, 0.1), (3, 3), padding="SAME"),
        mf.Residual(mf.Chain(mf.RMSNorm(), mf.Conv("relu", P(2.0), (3, 3), padding="SAME")), scale=0.7),
        mf.Conv("relu", P(2.0, 0.1), (3, 3), strides=2, padding="SAME"),
        mf.Chain("relu", mf.Dropout(0.8), P(1.6, 0.1)),
        mf.AveragePool((2, 2)),
        mf.Dense("tanh", P(1.5, 0.1)),
    ],
}
START = {"zeros": (6,), "strides": (8,), "strides among zeros": (4, 3), "valid": (7,), "averages": (8,)}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_stock_networks_of_flax_agree_forwards_and_backwards(name):
    start = covariance(1, *START.get(name, (4, 4)), seed=1)
    found = compare_positions(NETWORKS[name], start, width=64, networks=64, seed=3)
    assert found.p_value > 1e-3


def test_a_network_agrees_and_a_wrong_padding_is_found_out():
    start = covariance(1, 4, seed=2)
    layers = [mf.Conv("relu", P(1.9, 0.1), (3,), padding="SAME")]
    found = compare_positions(layers, start, width=32, networks=64)
    assert found.p_value > 1e-3
    assert repr(found).startswith("PositionsComparison((1, 4) -> (1, 4), p = ")
    claimed = mf.propagate_positions([mf.Conv("relu", P(1.9, 0.1), (3,))], start)[1]
    deviation = (found.measured[1] - claimed) / found.error[1]
    assert np.max(np.abs(deviation)) > 6


def test_gradients_are_handed_back_by_the_transpose(x64):
    """An average hands every position the same; zeros take what kernels hand out of the image."""
    layers = [mf.Conv("linear", P(1.3), (3,), padding="SAME"), mf.AveragePool((5,))]
    found = mf.gradient_positions(layers, covariance(5))
    assert relative(found[1], np.full((5, 5), 1 / 25)) <= 1e-13
    reached = np.array([[sum(0 <= i - t < 5 and 0 <= j - t < 5 for t in (-1, 0, 1)) for j in range(5)]
                        for i in range(5)])  # fmt: skip
    assert relative(found[0], 1.3 / 3 * reached / 25) <= 1e-13


def test_several_images_and_a_depth(x64):
    layer = mf.Conv("relu", P(1.9, 0.1), (3,), padding="SAME")
    start = covariance(2, 4)
    found = mf.propagate_positions(layer, start, depth=3)
    assert [x.shape for x in found] == [(2, 4, 2, 4)] * 4
    alone = mf.propagate_positions([layer] * 3, start[0, :, 0])
    assert relative(found[-1][0, :, 0], alone[-1]) <= 1e-12


def test_derivatives_with_respect_to_parameters(x64):
    pool, start = mf.AveragePool((2,)), covariance(4)

    def value(w, b, kappa):
        conv = mf.Conv("erf", P(w, b, kappa), (3,), padding="SAME", pool=pool)
        return mf.propagate_positions([mf.Residual(mf.Dense("erf", P(w))), conv], start)[-1].sum()

    slopes = jax.jit(jax.grad(value, (0, 1, 2)))(2.0, 0.1, 0.5)
    for i, slope in enumerate(slopes):
        step = 1e-5 * np.eye(3)[i]
        ends = [value(*(np.array([2.0, 0.1, 0.5]) + s)) for s in (step, -step)]
        assert abs(slope - (ends[0] - ends[1]) / 2e-5) <= 1e-6 * max(1, abs(slope))


PADDED = mf.Conv("relu", P(1.9, 0.1), (3,), padding="SAME")
POOLED = mf.Conv("relu", P(1.9, 0.1), (3,), pool=mf.AveragePool((2,)))
STRIDED = mf.Conv("relu", P(1.9, 0.1), (3,), strides=2)
BATCH = mf.Chain(mf.BatchNorm(), "relu", P(2.0))


@pytest.mark.parametrize(
    ("make", "error", "reason"),
    [
        (lambda: mf.fixed_point(PADDED), ValueError, "zeros around the image .* propagate_positions"),
        (lambda: mf.fixed_point(mf.Residual(PADDED)), ValueError, "zeros around the image"),
        (lambda: mf.fixed_point(mf.Chain(PADDED, PADDED)), ValueError, "zeros around the image"),
        (lambda: mf.propagate([PADDED, PADDED]), ValueError, "zeros around the image"),
        (lambda: mf.phase_diagram(lambda w, b: mf.Conv("relu", P(w, b), (3,), padding="SAME"), w=[1.0, 2.0],
                                  b=[0.0, 0.1]), ValueError, "zeros around the image"),
        (lambda: mf.infinite_depth(PADDED), ValueError, "zeros around the image"),
        (lambda: mf.fixed_point(POOLED), ValueError, "averages mix positions"),
        (lambda: mf.c_map(mf.AveragePool((2,)), c=0.5, q=1.0), ValueError, "AveragePool mixes positions"),
        (lambda: mf.drift(mf.Residual(POOLED)), ValueError, "averages mix positions"),
        (lambda: mf.fourier_modes(STRIDED, (6,)), ValueError, "make several modes one.* Conv.aliases"),
        (lambda: STRIDED.aliases((7,)), ValueError, r"must be a multiple of strides \(2,\), got \(7,\)"),
        (lambda: mf.fourier_modes(mf.Conv("relu", P(1.0), (3,), padding="VALID"), (6,)), ValueError,
         "no Fourier modes, got padding 'VALID'"),
        (lambda: mf.Conv("relu", P(1.0), (3,), padding="same"), ValueError,
         "padding 'same' is unknown; known are CIRCULAR"),
        (lambda: mf.Conv("relu", P(1.0), (3,), strides=0), ValueError, "strides must be at least 1, got 0"),
        (lambda: mf.Conv("relu", P(1.0), (3,), strides=(1, 2)), ValueError, "as many axes"),
        (lambda: mf.Conv("relu", P(1.0), (3,), pool=2), TypeError, "pool must be a meanfield.AveragePool"),
        (lambda: mf.AveragePool(2), TypeError, "window must be a sequence of integers"),
        (lambda: mf.Residual(mf.AveragePool((2,))), ValueError, "branch must end in weights"),
        (lambda: mf.AveragePool((5,)).position_map(np.eye(4)), ValueError, "must be at least window"),
        (lambda: mf.propagate_positions([mf.Residual(STRIDED)], np.eye(6)), ValueError, "keep the image"),
        (lambda: mf.propagate_positions([BATCH], np.eye(6)), ValueError, "use LayerNorm or RMSNorm"),
        (lambda: mf.propagate_positions([mf.Chain("relu", mf.Dropout(0.9, shared=True), P(1.0))], np.eye(6)),
         ValueError, "take shared=False"),
        (lambda: mf.propagate_positions([mf.Recurrent("tanh", P(1.0))], np.eye(6)), ValueError, "recurrent"),
        (lambda: mf.propagate_positions(["relu"], np.eye(6)), TypeError, "must be meanfield layers"),
        (lambda: mf.propagate_positions([PADDED], np.ones((6, 5))), ValueError, "the image twice"),
        (lambda: mf.propagate_positions([PADDED], np.zeros((6, 6))), ValueError, "positive variances"),
        (lambda: mf.propagate_positions([PADDED], np.eye(6), depth=2), ValueError, "depth must be left out"),
        (lambda: compare(STRIDED, networks=8, width=8, depth=2), ValueError, "compare_positions"),
        (lambda: compare(PADDED, networks=8, width=8, depth=2), ValueError, "zeros around the image"),
    ],
)  # fmt: skip
def test_what_has_no_map_is_refused_by_name(make, error, reason):
    with pytest.raises(error, match=reason):
        make()
