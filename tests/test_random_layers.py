"""Layers built at random from all kinds: solved as their plain iteration says, or refused by name."""

import numpy as np
import pytest

import meanfield as mf

P = mf.NormalPrior
POINTS, DEPTH = 16, 3000


def random_prior(rng):
    bias = rng.uniform(0.02, 0.4, POINTS) if rng.random() < 0.7 else 0.0
    return P(rng.uniform(0.3, 2.5, POINTS), bias, rng.uniform(-1, 1, POINTS))


def random_chain(rng):
    """Parts as they come, put together if they fit."""
    activation = lambda: str(rng.choice(["erf", "relu", "sin"]))
    norm = lambda: rng.choice([mf.RMSNorm, mf.LayerNorm])(rng.uniform(0.5, 1.5, POINTS))
    layers = []
    for _ in range(rng.integers(1, 3)):
        kind = rng.integers(5)
        if kind == 0:
            up, down = random_prior(rng), random_prior(rng)
            layers += [mf.RMSNorm()] if rng.random() < 0.6 else []
            layers += [mf.GLU(activation(), gate=random_prior(rng), up=up, down=down)]
        elif kind == 1:
            layers += [mf.Conv(activation(), random_prior(rng))]
        else:
            before = [norm()] if rng.random() < 0.3 else []
            between = [mf.Dropout(rng.uniform(0.6, 1, POINTS), bool(rng.integers(2)))] if kind == 2 else []
            between += [norm()] if rng.random() < 0.3 else []
            layers += [*before, activation(), *between, random_prior(rng)]
    return mf.Chain(*layers)


def random_layer(seed):
    rng = np.random.default_rng(seed)
    chain = random_chain(rng)
    if rng.random() < 0.5:
        return chain
    skip = 1.0 if rng.random() < 0.3 else rng.uniform(0.2, 0.95, POINTS)
    return mf.Residual(chain, skip=skip, scale=rng.uniform(0.2, 1.2, POINTS))


def check(layer):
    """Every status and every number against plain iteration; how many points have each status."""
    found = mf.fixed_point(layer)
    q, x = (np.asarray(getattr(mf.propagate(layer, c0=0.0, depth=DEPTH), n)) for n in ("q", "one_minus_c"))
    q, x = (np.broadcast_to(a, (DEPTH + 1, POINTS)) for a in (q, x))
    status = np.broadcast_to(found.status, POINTS)
    counts = {}
    for i, code in enumerate(status):
        name = mf.Status(int(code)).name
        counts[name] = counts.get(name, 0) + 1
        point = {
            n: float(np.broadcast_to(getattr(found, n), POINTS)[i])
            for n in ("q", "c", "one_minus_c", "chi_q", "chi_c", "chi_perp")
        }
        end, before = q[-1, i], q[-2, i]
        if name == "CONVERGED":
            assert abs(point["chi_q"]) <= 1 + 1e-9
            if abs(point["chi_q"]) < 0.98:
                assert abs(end / point["q"] - 1) <= 1e-10, (i, point, end)
                if point["chi_c"] < 0.98:
                    assert abs(x[-1, i] - point["one_minus_c"]) <= 1e-9, (i, point, x[-1, i])
        elif name in ("UNBOUNDED", "DRIFTING"):
            assert not np.isfinite(end) or end > before
            if name == "DRIFTING":
                rate = float(np.broadcast_to(mf.drift(layer).rate, POINTS)[i])
                assert abs((end - before) / rate - 1) <= 0.05, (i, rate, end - before)
        elif name == "VANISHING":
            assert end < 1e-3 and end <= before
        elif name == "MARGINAL":
            assert abs(end - 1) <= 1e-9
        else:
            assert name == "UNSTABLE" and abs(point["chi_q"]) > 1, (i, name)
    return counts


@pytest.mark.parametrize("seed", range(4))
def test_layers_built_at_random_are_where_plain_iteration_ends(x64, seed):
    assert sum(check(random_layer(seed)).values()) == POINTS


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4, 40))
def test_more_layers_built_at_random(x64, seed):
    assert sum(check(random_layer(seed)).values()) == POINTS
