"""Softmax attention and MLPs: overlaps, angles, collapse, and what gradients do."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import check_slopes, relative

import meanfield as mf
from meanfield.dual.softmax import softmax_overlaps
from meanfield.layers.attention import Tokens

P = mf.NormalPrior
FILE = Path(__file__).parent / "reference" / "kinds_of_layers.json"
RECORDS = json.loads(FILE.read_text())
MLP = mf.Chain("linear", P(2.0), "relu", P(1.0, 0.0, 1.0))


def post(**options):
    return mf.Transformer(MLP, **(dict(beta=1.5, tokens=8, attention=(1.0, 0.3)) | options))


@pytest.mark.parametrize("record", RECORDS["softmax"], ids=lambda r: str(r["parameters"]["s"]))
def test_overlaps_of_softmax_rows_are_those_of_the_reference(x64, record):
    p, expected = record["parameters"], record["values"]
    found = softmax_overlaps(p["s"], p["c"], p["n"], largest=p["s"])
    assert relative([found.r0, found.r1], [expected["R0"], expected["R1"]]) <= 3e-12


def test_overlaps_of_softmax_rows_are_the_means_over_drawn_logits(x64):
    rng, s, c, n = np.random.default_rng(0), 2.0, 0.3, 8
    common, *own = rng.standard_normal((3, 400_000, n))
    rows = [np.exp(s * (np.sqrt(c) * common + np.sqrt(1 - c) * x)) for x in own]
    a, b = (x / x.sum(1, keepdims=True) for x in rows)
    power = lambda k: (a**k).sum(1)
    together = (a * b).sum(1)
    samples = [power(2), together, power(2) - 2 * power(3) + power(2) ** 2,
               (a * b * (1 - a - b + together[:, None])).sum(1)]  # fmt: skip
    for sample, value in zip(samples, softmax_overlaps(s, c, n, largest=2.0), strict=True):
        assert abs(sample.mean() - value) <= 4 * sample.std() / np.sqrt(len(sample))


def test_equal_rows_overlap_as_one_does_with_itself(x64):
    near = softmax_overlaps(1.0, 1 - 1e-12, 8, largest=1.0)
    assert relative(near.r1, near.r0) <= 1e-10 and relative(near.cross, near.own) <= 1e-9
    flat = softmax_overlaps(1e-6, 0.5, 8, largest=1.0)
    assert relative([flat.r0, flat.r1], 1 / 8) <= 1e-10


def test_beyond_what_is_resolved_there_is_no_number(x64):
    assert np.isnan(softmax_overlaps(3.0, 0.5, 8, largest=2.0).r1)


def test_the_post_norm_block_is_that_of_the_reference(x64):
    (record,) = RECORDS["transformer"]
    expected, block = record["values"], post()
    step = mf.propagate_tokens(block, c0=0.3, depth=1)
    assert relative(step.c[1], expected["one_step_from_0p3"]) <= 1e-12
    found = mf.token_phases(block)
    assert relative(found.c[0], expected["c"]) <= 1e-12
    assert relative(found.chi_c[:2], [expected["chi_c"], expected["chi_1"]]) <= 1e-8  # digits of the former
    assert relative(found.chi_c[1], expected["chi_1"]) <= 1e-12
    assert np.array_equal(found.stable[:2], [True, False]) and np.all(np.isnan(found.c[2:]))


def test_at_collapse_attention_parts_the_exponents_of_angle_and_gradient(x64):
    """By log a^2/(a^2 + b^2 sigma_V^2): the tokens' mean feels the MLP alone, their differences both."""
    block = post(value_var=1.7)
    found = mf.token_phases(block)
    mean, difference = found.growth[1]
    assert relative(difference, found.chi_c[1]) <= 1e-12
    assert relative(difference / mean, 1 / (1 + 0.3**2 * 1.7)) <= 1e-12
    relu = 2 * 0.5 / (2 * 0.5 * (1 - 1 / np.pi))  # chi_perp and Q of the branch, at anticorrelation 1
    assert relative(mean, (1 + 1.0) / (1 + 1.0 / relu)) <= 1e-12


def test_without_skip_tokens_collapse_doubly_exponentially(x64):
    """1 - c' = (n-1)/n^2 beta^2 (1-c)^3."""
    linear = mf.Chain("linear", P(1.0))
    block = mf.Transformer(linear, beta=1.5, tokens=8, attention=(0.0, 1.0), feedforward=(1.0, 0.0))
    start = 0.02
    found = mf.propagate_tokens(block, c0=1 - start, depth=1)
    assert abs(found.one_minus_c[1] / (7 / 64 * 1.5**2 * start**3) - 1) <= 0.05


@pytest.mark.slow
def test_two_phases_are_stable_at_once(x64):
    """Tokens that start close collapse, others stay apart; blocks in between go where they are led."""
    block = post(beta=10.0, tokens=64, attention=(1.0, 0.5))
    found = mf.token_phases(block)
    assert np.array_equal(found.stable[:3], [True, False, True])
    assert abs(found.c[0] - 0.065) <= 1e-3 and abs(found.c[1] - 0.525) <= 2e-3
    start = np.array([0.0, 0.3, 0.65, 0.9, 1.0])
    assert np.array_equal(found.reached(start), np.asarray(found.c)[[0, 0, 2, 2, 2]])
    path = mf.propagate_tokens(block, c0=start[1:4], depth=12)
    networks, error = np.array([0.244, 0.704, 0.947]), np.array([0.018, 0.034, 0.004])  # drawn, 12 blocks
    assert np.all(np.abs(path.c[-1] - networks) <= 2 * error)


def test_pre_norm_tokens_go_where_what_blocks_add_leads(x64):
    """dc/dlog(depth) = C(c) - c, once the variance is large: of one block at q = 10^6."""
    block, q, c = post(norm="pre", attention=(1.0, 0.5), beta=1.0), 1e6, 0.4
    step = mf.propagate_tokens(block, q0=q, c0=c, depth=1)
    rate = step.q[1] - q
    drift = 1 - block.limit_map(jnp.asarray(1 - c)) - c
    assert abs((step.c[1] - c) * step.q[1] / rate / drift - 1) <= 1e-5


@pytest.mark.slow
def test_pre_norm_fixed_points_are_zeros_of_that_drift(x64):
    block = post(norm="pre", attention=(1.0, 0.5), beta=1.0)
    found = mf.token_phases(block)
    at = found.one_minus_c[0]
    assert abs(block.limit_map(at) - at) <= 1e-12 and found.stable[0]
    assert found.c[1] == 1 and not found.stable[1]
    assert relative(found.growth[1, 1], found.chi_c[1]) <= 1e-12


def drawn(block, apart, width=512, keys=128, heads=8, count=40):
    """One post-norm block of NumPy networks: (1 - c of tokens, d0, d1 of a tangent), one row a network."""
    rng, rows, n = np.random.default_rng(3), [], block.tokens
    draw = lambda var, *shape: rng.standard_normal(shape) * np.sqrt(var / shape[0])
    norm = lambda x: x / np.sqrt(np.mean(x**2, -1, keepdims=True))

    def network(x, parameters):
        rms = lambda x: x / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True))
        mixed = 0.0
        for q, k, v, o in parameters[:-2]:
            logits = float(block.beta) * (x @ q) @ (x @ k).T / np.sqrt(keys)
            mixed += jax.nn.softmax(logits, -1) @ (x @ v) @ o / np.sqrt(heads)
        x = rms(block.attention[0] * x + block.attention[1] * mixed)
        up, down = parameters[-2:]
        return rms(x + jax.nn.relu(x @ up) @ down)

    step = jax.jit(lambda x, tangent, parameters: jax.jvp(lambda x: network(x, parameters), (x,), (tangent,)))
    for _ in range(count):
        common, own = rng.standard_normal((1, width)), rng.standard_normal((n, width))
        x = norm(np.sqrt(1 - apart) * common + np.sqrt(apart) * own)
        tangent = rng.standard_normal((n, width))
        square = lambda size: draw(1.0, width, size)
        heads_of = [(square(keys), square(keys), square(width), square(width)) for _ in range(heads)]
        up, down = draw(2.0, width, width), draw(1.0, width, width)
        down = down - down.mean(0)  # anticorrelation 1
        y, t = step(x, tangent, [*heads_of, up, down])
        gram, over = (np.asarray(z @ z.T) / width for z in (y, t))
        off = ~np.eye(n, dtype=bool)
        rows.append([1 - gram[off].mean(), np.diagonal(over).mean(), over[off].mean()])
    return np.array(rows)


@pytest.mark.slow
def test_networks_do_as_the_theory_says(x64):
    block, apart = post(attention=(1.0, 0.7)), 0.6
    found = drawn(block, apart)
    attention, mlp = block.tangents(jnp.asarray(apart))
    state = block.mixed(Tokens(jnp.ones(()), jnp.asarray(apart)))
    a, b = (x**2 for x in block.attention)
    raw = a + b * block.attended(jnp.asarray(apart)).q
    d = (a * jnp.eye(2) + b * attention) @ jnp.array([1.0, 0.0]) / raw
    mlp = block.tangents_of_mlp(state.delta)
    d = (jnp.eye(2) + mlp) @ d / (1 + block.mlp.variance_map(jnp.ones(())))
    expected = [mf.propagate_tokens(block, c0=1 - apart, depth=1).one_minus_c[1], *d]
    deviation = (found.mean(0) - expected) / (found.std(0, ddof=1) / np.sqrt(len(found)))
    assert np.all(np.abs(deviation) <= 3.5), (deviation, found.mean(0), expected)


def test_derivatives_of_a_block_with_respect_to_every_parameter(x64):
    def values(p):
        mlp = mf.Chain("linear", P(2.0), "relu", P(p["w"], p["b"]))
        block = mf.Transformer(
            mlp,
            beta=p["beta"],
            tokens=8,
            value_var=p["v"],
            attention=(p["a"], p["s"]),
            feedforward=(p["c"], p["d"]),
        )
        return block.limit_map(0.6, coarse=True)

    check_slopes(values, dict(w=1.0, b=0.1, beta=1.5, v=1.2, a=0.9, s=0.4, c=1.1, d=0.8))


def test_single_precision_and_mapped_blocks(x64):
    beta = np.array([0.5, 1.5])
    double = mf.propagate_tokens(post(beta=beta), c0=0.3, depth=3)
    mapped = jax.vmap(lambda b: mf.propagate_tokens(post(beta=b), c0=0.3, depth=1).c)(beta)
    assert np.max(np.abs(mapped.T - double.c[:2])) <= 1e-7  # inside a trace sums are coarser
    with jax.enable_x64(False):
        single = mf.propagate_tokens(post(), c0=0.3, depth=3)
    assert single.c.dtype == np.float32 and np.max(np.abs(single.c - double.c[:, 1])) <= 1e-5


@pytest.mark.parametrize(
    ("make", "error", "reason"),
    [
        (lambda: post(beta=0.0), ValueError, "beta must be finite and greater than 0"),
        (lambda: post(tokens=1), ValueError, "tokens must be"),
        (lambda: post(norm="psot"), ValueError, "post"),
        (lambda: post(attention=0.3), TypeError, "attention must be a pair"),
        (lambda: mf.Transformer("relu", beta=1.0, tokens=4), TypeError, "mlp must be a layer"),
        (lambda: mf.Transformer(mf.RMSNorm(), beta=1.0, tokens=4), ValueError, "mlp must end in weights"),
        (lambda: mf.Transformer(mf.Chain("relu", mf.Dropout(0.5), P(1.0)), beta=1.0, tokens=4),
         ValueError, "shared"),
        (lambda: mf.fixed_point(post()), TypeError, "use token_phases"),
        (lambda: mf.token_phases(MLP), TypeError, "block must be a meanfield.Transformer"),
        (lambda: mf.propagate_tokens(MLP), TypeError, "use propagate"),
        (lambda: mf.propagate_tokens(post(), c0=-0.5), ValueError, "c0 must be finite and between 0 and 1"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(make, error, reason):
    with pytest.raises(error, match=reason):
        make()
