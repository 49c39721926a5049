"""Convolutions: covariances between positions, Fourier modes, delta-orthogonal kernels."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from problems import relative

import meanfield as mf

P = mf.NormalPrior
RECORDS = json.loads((Path(__file__).parent / "reference" / "kinds_of_layers.json").read_text())


def uniform(q, c, shape):
    """One variance at all positions, one correlation between any two."""
    size = int(np.prod(shape))
    return (q * (c + (1 - c) * np.eye(size))).reshape(*shape, *shape)


@pytest.mark.parametrize("record", RECORDS["convolution"], ids=lambda r: r["parameters"]["activation"])
def test_covariances_between_positions_are_those_of_the_reference(x64, record):
    p = record["parameters"]
    layer = mf.Conv(p["activation"], P(p["weight_var"], p["bias_var"], p["kappa"]), kernel_size=(3,))
    found = layer.position_map(np.array(p["covariance"]))
    assert np.array_equal(found, found.T)
    for name, value in record["values"].items():
        assert abs(found[int(name[1]), int(name[2])] / value - 1) <= 1e-10, name


def test_modes_are_those_of_the_reference(x64):
    first = RECORDS["modes"][0]["parameters"]
    layer = mf.Conv(first["activation"], P(first["weight_var"], first["bias_var"]), kernel_size=(3,))
    found, lam = mf.fourier_modes(layer, (8,)), layer.eigenvalues((8,))
    for record in RECORDS["modes"]:
        k, values = record["parameters"]["mode"], record["values"]
        measured = [lam[k], found.chi_q[k], found.chi_c[k], found.chi_1[k]]
        expected = [values[name] for name in ("lam", "q_mode", "c_mode", "chi1_mode")]
        assert np.max(np.abs(np.subtract(measured, expected))) <= 1e-10, k
    point, depth = mf.fixed_point(layer), mf.depth_scales(layer)
    assert relative([found.chi_q[0], found.chi_c[0]], [point.chi_q, point.chi_c]) <= 1e-12
    assert relative([found.xi_q[0], found.xi_c[0]], [depth.q, depth.c]) <= 1e-10


@pytest.mark.parametrize(("kernel", "image"), [((3,), (6,)), ((3, 1), (4, 3)), ((2,), (5,))], ids=str)
def test_modes_are_the_derivatives_of_the_map(x64, kernel, image):
    """A wave on the uniform point comes out with its factor: of the variance, and of one lag."""
    layer = mf.Conv("erf", P(2.5, 0.1, 0.4), kernel_size=kernel)
    point, modes = mf.fixed_point(layer), mf.fourier_modes(layer, image)
    start = uniform(float(point.q), float(point.c), image)
    assert np.max(np.abs(layer.position_map(start) - start)) <= 1e-12
    size = int(np.prod(image))
    k = tuple(n - 1 for n in image)
    waves = [np.exp(2j * np.pi * np.arange(n) * m / n) for n, m in zip(image, k, strict=True)]
    wave = np.multiply.outer(waves[0], waves[1] if len(waves) > 1 else 1.0).ravel()
    slope = lambda x: jax.jvp(layer.position_map, (start,), (x,))[1].reshape(size, size)

    both = [np.diag(part).reshape(start.shape) for part in (wave.real, wave.imag)]
    out = slope(both[0]) + 1j * slope(both[1])
    assert np.max(np.abs(np.diag(out) - modes.chi_q[k] * wave)) <= 1e-10

    lag = np.roll(np.arange(size).reshape(image), -1, 0).ravel()  # every position and the one beside it
    both = []
    for part in (wave.real, wave.imag):
        x = np.zeros((size, size))
        x[np.arange(size), lag] += part
        both.append(((x + x.T) / 1).reshape(start.shape))
    out = slope(both[0]) + 1j * slope(both[1])
    assert np.max(np.abs(out[np.arange(size), lag] - modes.chi_c[k] * wave)) <= 1e-10


def test_blocks_with_convolutions_have_modes_too(x64):
    prior = P(1.8, 0.1)
    conv = mf.Conv("erf", prior, kernel_size=(3,))
    lam, image = conv.eigenvalues((7,)), (7,)
    dense = mf.Dense("erf", prior)
    plain = mf.fixed_point(mf.Residual(dense, skip=0.6))
    of_branch = lambda chi: (chi - 0.36) * lam + 0.36
    found = mf.fourier_modes(mf.Residual(conv, skip=0.6), image)
    assert np.max(np.abs(found.chi_q - of_branch(plain.chi_q))) <= 1e-12
    assert np.max(np.abs(found.chi_c - of_branch(plain.chi_c))) <= 1e-12
    twice, once = mf.fourier_modes(mf.Chain(conv, conv), image), mf.fourier_modes(conv, image)
    for name in ("chi_q", "chi_c", "chi_1"):
        assert np.max(np.abs(getattr(twice, name) - getattr(once, name) ** 2)) <= 1e-12, name
    mixed = mf.fourier_modes(mf.Chain(conv, dense), image)  # a 1 x 1 convolution mixes no positions
    assert np.max(np.abs(mixed.chi_q - mf.fixed_point(dense).chi_q ** 2 * lam)) <= 1e-12
    noisy = mf.Chain("erf", mf.Dropout(0.9), prior)
    found = mf.fourier_modes(mf.Chain(noisy, conv), image)
    point = mf.fixed_point(mf.Chain(noisy, dense))
    assert np.max(np.abs(found.chi_1 - point.chi_1 * lam)) <= 1e-12
    assert np.max(np.abs(found.chi_c - point.chi_c * lam)) <= 1e-12


def test_delta_orthogonal_kernels_keep_all_modes(x64):
    layer = mf.Conv("erf", mf.OrthogonalPrior(1.5, 0.1))
    found = mf.fourier_modes(layer, (5, 4))
    point = mf.fixed_point(layer)
    assert np.array_equal(layer.eigenvalues((5, 4)), np.ones((5, 4)))
    assert np.max(np.abs(found.chi_c - point.chi_c)) <= 1e-14
    start = uniform(1.0, 0.3, (5, 4))
    start[0, 0, 0, 0] = 2.0
    after = layer.position_map(start)
    assert relative(after[0, 0, 0, 0], mf.q_map(layer, q=2.0)) <= 1e-12
    assert relative(after[1, 2, 3, 3] / after[1, 2, 1, 2], mf.c_map(layer, c=0.3, q=1.0)) <= 1e-12


def test_several_signals_share_their_positions(x64):
    """Two signals: the map of their covariances at each lag is that of a dense layer, averaged over taps."""
    layer = mf.Conv("relu", P(2.0, 0.1, 0.5), kernel_size=(3,))
    block = np.concatenate([np.full((1, 4), 1.0), np.full((1, 4), 0.4)])
    own, cross = uniform(1.0, 0.2, (4,)), np.full((4, 4), 0.1) + 0.3 * np.eye(4)
    both = np.array([[own, cross], [cross, own]]).transpose(0, 2, 1, 3)
    after = layer.position_map(both)
    assert after.shape == (2, 4, 2, 4)
    q = mf.q_map("relu", P(2.0, 0.1, 0.5), q=1.0)
    assert relative(after[0, 1, 0, 1], q) <= 1e-12
    assert relative(after[0, 1, 1, 1] / q, mf.c_map("relu", P(2.0, 0.1, 0.5), c=block[1, 0], q=1.0)) <= 1e-12
    assert relative(after[0, 1, 1, 2] / q, mf.c_map("relu", P(2.0, 0.1, 0.5), c=0.1, q=1.0)) <= 1e-12


def test_derivatives_of_modes(x64):
    def value(w, b):
        found = mf.fourier_modes(mf.Conv("erf", P(w, b), kernel_size=(3,)), (6,))
        return jnp.stack([found.xi_c[1], found.chi_q[2], found.chi_1[1]])

    value = jax.jit(value)
    for i, slopes in enumerate(jax.jacfwd(value, (0, 1))(2.5, 0.1)):
        step = 1e-5 * np.eye(2)[i]
        expected = (value(2.5 + step[0], 0.1 + step[1]) - value(2.5 - step[0], 0.1 - step[1])) / 2e-5
        assert np.all(np.abs(slopes - expected) <= 1e-6 * np.maximum(1, np.abs(expected)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [P(2.0, 0.1, 0.8), mf.OrthogonalPrior(1.5, 0.1)], ids=["gaussian", "delta"])
def test_stock_convolutions_of_flax_do_as_the_theory_says(kind):
    channels, positions, depth, networks = 256, 8, 3, 40 if kind.spreads else 12
    layer = mf.Conv("erf", kind, kernel_size=(3,))
    expected = start = np.cov(np.random.default_rng(0).standard_normal((positions, 12))) + 0.2
    for _ in range(depth):
        expected = layer.position_map(expected)
    root = np.linalg.cholesky(start)

    @jax.jit
    def network(key):
        h = jnp.asarray(root, jnp.float32) @ jax.random.normal(key, (positions, channels))
        for i in range(depth):
            conv = nnx.Conv(
                channels,
                channels,
                (3,),
                padding="CIRCULAR",
                kernel_init=kind.kernel_init(),
                bias_init=kind.bias_init(),
                param_dtype=h.dtype,
                rngs=nnx.Rngs(params=jax.random.fold_in(key, i)),
            )
            h = conv(jax.scipy.special.erf(h)[None])[0]
        return h @ h.T / channels

    found = np.array([network(key) for key in jax.random.split(jax.random.key(0), networks)])
    deviation = (found.mean(0) - expected) / (found.std(0) / np.sqrt(networks))
    assert np.sqrt(np.mean(deviation**2)) <= 1.6


@pytest.mark.parametrize(
    ("make", "error", "reason"),
    [
        (lambda: mf.Conv("relu", P(1.0), 3), TypeError, "kernel_size must be a sequence of integers"),
        (lambda: mf.Conv("relu", P(1.0), ()), ValueError, "kernel_size must have at least one axis"),
        (lambda: mf.Conv("relu", P(1.0), (3, 0)), ValueError, r"kernel_size\[1\] must be at least 1, got 0"),
        (lambda: mf.Conv("relu", P(1.0), (3.0,)), TypeError, r"kernel_size\[0\] must be an integer"),
        (lambda: mf.Conv("relu", mf.AsymmetricPrior(1.0)), TypeError, "density_evolution"),
        (
            lambda: mf.fourier_modes(mf.Conv("relu", P(1.0)), (8, 2)),
            ValueError,
            r"image_size must be at least kernel_size \(3, 3\) along every axis, got \(8, 2\)",
        ),
        (lambda: mf.fourier_modes(mf.Conv("relu", P(1.0)), (8,)), ValueError, "as many axes as kernel_size"),
        (
            lambda: mf.Conv("relu", P(1.0)).position_map(np.eye(4)),
            ValueError,
            "covariance must have the shape",
        ),
        (lambda: mf.jacobian_spectrum(mf.Conv("relu", P(1.0)), depth=2), TypeError, "dense layers alone"),
    ],
)
def test_wrong_arguments_are_named(make, error, reason):
    with pytest.raises(error, match=reason):
        make()
