"""Problems made to mislead a solver, and a plain oracle that shares no code with the library.

An activation is a sum of parts, each with a place and a width of its own: steep steps, narrow bumps, kinks,
oscillations, exponential growth, jumps, parts far out. The oracle knows places and widths and lays its panels
by them: Gauss's rule on panels graded about every place, in NumPy alone.
"""

import functools
import math
import warnings
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import meanfield as mf

_ROUNDING = 2e-14  # of the oracle's sums, up to 10^7 terms
_BEYOND = 1e-25  # of slopes that the oracle's twelve standard deviations do not reach
_EVERYWHERE = np.exp(np.arange(-30 * 16, 30 * 16) / 16)  # where moments are looked at for every prior
_MOST_WAVES = 4e3  # for which the oracle has the time of a double integral
KINDS = ("step", "bump", "kink", "wave", "growth", "jump", "line", "square")


@dataclass(frozen=True)
class Part:
    """amplitude * shape((x - place) / width)."""

    kind: str
    amplitude: float
    place: float
    width: float

    def value(self, xp, x):
        t = (x - self.place) / self.width
        shapes = {
            "step": lambda: xp.tanh(t),
            "bump": lambda: xp.exp(-(t**2)),
            "kink": lambda: xp.maximum(t, 0.0),
            "wave": lambda: xp.sin(t),
            "growth": lambda: xp.exp(t),
            "jump": lambda: xp.where(t > 0, 1.0, 0.0),
            "line": lambda: t,
            "square": lambda: t**2 / (1 + xp.abs(t)),
        }
        return self.amplitude * shapes[self.kind]()

    def slope(self, x):
        t = (x - self.place) / self.width
        shapes = {
            "step": lambda: 1 / np.cosh(np.clip(t, -300, 300)) ** 2,
            "bump": lambda: -2 * t * np.exp(-(t**2)),
            "kink": lambda: np.where(t > 0, 1.0, 0.0),
            "wave": lambda: np.cos(t),
            "growth": lambda: np.exp(t),
            "jump": lambda: np.zeros_like(t),
            "line": lambda: np.ones_like(t),
            "square": lambda: np.sign(t) * (2 * np.abs(t) + t**2) / (1 + np.abs(t)) ** 2,
        }
        return self.amplitude / self.width * shapes[self.kind]()


@dataclass(frozen=True)
class Nasty:
    """A sum of parts: as a JAX function, and as the oracle sees it."""

    parts: tuple[Part, ...]

    def __call__(self, x):
        return sum(part.value(jnp, x) for part in self.parts)

    def value(self, x):
        return sum(part.value(np, x) for part in self.parts)

    def slope(self, x):
        return sum(part.slope(x) for part in self.parts)

    @property
    def jumps(self) -> bool:
        return any(part.kind == "jump" for part in self.parts)


def nasty(rng) -> Nasty:
    """One to three parts of any kind, over many scales of place, width and size."""
    parts = []
    for _ in range(rng.integers(1, 4)):
        kind = KINDS[rng.integers(len(KINDS))]
        width = 10.0 ** rng.uniform(-4, 2)
        place = 0.0 if rng.random() < 0.4 else float(rng.normal() * 10 ** rng.uniform(-1, 1))
        if kind == "bump":  # as wide as the survey says that it sees
            width = max(width, abs(place) / 300)
        if kind == "growth":
            width, place = max(width, 0.5), 0.0
        if kind == "wave":
            width = max(width, 0.1)
        amplitude = float(rng.choice([-1, 1]) * 10 ** rng.uniform(-1, 1.5))
        if kind in ("line", "kink", "square"):
            amplitude *= width
        if kind == "growth":
            amplitude = 10 ** rng.uniform(-4, 0)
        parts.append(Part(kind, amplitude, place, width))
    return Nasty(tuple(parts))


class Prior(NamedTuple):
    """A prior and a start.

    off: relative distance of the bias from a fold, or of the growth without it from 1. fold: variance at
    which two fixed points are about to merge, or just have.
    """

    weight_var: float
    bias_var: float
    kappa: float
    q0: float
    kind: str
    off: float
    fold: float = math.nan


PRIORS = ("anywhere", "edge", "fold")
_FARTHEST = {"growth": 2.0**2, "wave": 300.0**2}  # variances, in squares of a part's width


def priors(rng, phi: Nasty, count: int) -> list[Prior]:
    """A third anywhere, a third with next to no bias, where growth is near 1, a third beside a fold.

    Beside a fold: Q(q) = q and Q'(q) = 1 at some q, the bias then changed by 10^-10 to 10^-4 of itself.
    """
    rows = []
    for _ in range(count):
        kappa = float(rng.choice([0.0, 0.0, 1.0, 0.5, -2.0]))
        most = min([1e6, *(_FARTHEST[p.kind] * p.width**2 for p in phi.parts if p.kind in _FARTHEST)])
        q = min(10.0 ** rng.uniform(-6, 6), most)
        variance, mean, _, rate, mean_rate = (float(m[0]) for m in moments(phi, np.array([q])))
        own, own_rate = variance + (1 - kappa) * mean**2, rate + 2 * (1 - kappa) * mean * mean_rate
        if not (own > 0 and math.isfinite(own)):
            continue
        kind, start = PRIORS[rng.integers(3)], 10.0 ** rng.uniform(-3, 3)
        if kind == "fold" and not (math.isfinite(own_rate) and own < q * own_rate):
            kind = "edge"  # there is none with a bias at this q
        if kind == "fold":
            off = float(rng.choice([-1, 1])) * 10.0 ** rng.uniform(-10, -4)
            rows.append(
                Prior(1 / own_rate, (q - own / own_rate) * (1 + off), kappa, start, kind, abs(off), q)
            )
        else:
            rest = 1 - rng.uniform(0, 1) if kind == "anywhere" else 10.0 ** rng.uniform(-6, -1)
            rows.append(Prior(q * (1 - rest) / own, q * rest, kappa, start, kind, rest))
    return rows


# --- the oracle ---------------------------------------------------------------------------


@functools.cache
def _gauss(n=24):
    x, w = np.polynomial.legendre.leggauss(n)
    return (1 + x) / 2, w / 2


def _edges(phi: Nasty, low: float, high: float, sd: float) -> np.ndarray:
    """Panels no wider than a standard deviation, graded about every place by its width."""
    pieces = [np.arange(low, high, sd), [low, high, 0.0]]
    for part in phi.parts:
        scale = part.width
        grades = scale * np.exp2(np.arange(-6, 44) / 1.0)
        pieces += [part.place + grades, part.place - grades, [part.place]]
        if part.kind in ("bump", "step"):
            pieces.append(part.place + scale * np.arange(-40, 41) / 2)
        if part.kind == "wave" and (high - low) / scale < 1e6:
            pieces.append(np.arange(low, high, 2 * scale))
        if part.kind == "growth":
            pieces.append(np.arange(low, high, scale * 2))
    edges = np.unique(np.concatenate(pieces))
    return edges[(edges >= low) & (edges <= high)]


def _nodes(phi: Nasty, centre: float, sd: float, tail: float):
    edges = _edges(phi, centre - tail * sd, centre + tail * sd, sd)
    x, w = _gauss()
    step = np.diff(edges)[:, None]
    u = (edges[:-1, None] + step * x).ravel()
    t = (u - centre) / sd
    return u, (step * w).ravel() / sd * np.exp(-(t**2) / 2) / math.sqrt(2 * math.pi)


def _tail(phi: Nasty, q: float) -> float:
    growth = [2 * math.sqrt(q) / part.width for part in phi.parts if part.kind == "growth"]
    return 12.0 + max(growth, default=0.0)


def moments(phi: Nasty, q):
    """(Var phi, E phi, E phi'^2, d Var phi/dq, d E phi/dq) at variances of shape (n,)."""
    return np.array([_moments(phi, float(x)) for x in np.atleast_1d(q)]).T


@functools.lru_cache(2048)
def _moments(phi: Nasty, q: float) -> tuple[float, ...]:
    with np.errstate(over="ignore", invalid="ignore"):
        u, w = _nodes(phi, 0.0, math.sqrt(q), _tail(phi, q))
        value, bend = phi.value(u), w * (u**2 / q - 1) / (2 * q)
        mean = w @ value
        apart = value - mean
        return w @ apart**2, mean, w @ phi.slope(u) ** 2, bend @ apart**2, bend @ apart


def image(phi: Nasty, prior, q):
    """(Q(q), Q'(q))."""
    weight_var, bias_var, kappa, *_ = prior
    variance, mean, _, rate, mean_rate = moments(phi, q)
    return (
        weight_var * (variance + (1 - kappa) * mean**2) + bias_var,
        weight_var * (rate + 2 * (1 - kappa) * mean * mean_rate),
    )


def gain(phi: Nasty, q: float, one_minus_c: float) -> float:
    """E (phi(u1) - phi(u2))^2 / (2 q (1 - c)): over the sum of the two, then over their difference."""
    a, b = math.sqrt(1 - one_minus_c / 2), math.sqrt(one_minus_c / 2)
    root, tail = math.sqrt(q), _tail(phi, q)
    outer = [np.arange(0, tail, 0.5)]
    for part in phi.parts:
        if part.kind in ("wave", "growth"):
            outer.append(np.arange(0, tail, 2 * part.width / (root * b)))
        for other in phi.parts:
            gap = abs(part.place - other.place) / 2
            scale = min(part.width, other.width)
            outer.append((gap + np.concatenate([[0.0], scale * np.exp2(np.arange(-4, 30.0))])) / (root * b))
            outer.append((gap - scale * np.exp2(np.arange(-4, 30.0))) / (root * b))
    edges = np.unique(np.concatenate(outer))
    edges = np.append(edges[(edges >= 0) & (edges < tail)], tail)
    x, w = _gauss(16)
    step = np.diff(edges)[:, None]
    o = (edges[:-1, None] + step * x).ravel()
    weight = (step * w).ravel() * np.exp(-(o**2) / 2) / math.sqrt(2 * math.pi)
    total = 0.0
    for offset, share in zip(root * b * o, weight, strict=True):
        if share > 1e-22:
            total += share * _mean_square_difference(phi, offset, root * a, tail)
    return 2 * total / (4 * q * b**2)


def _mean_square_difference(phi: Nasty, offset: float, sd: float, tail: float) -> float:
    """E (phi(u + offset) - phi(u - offset))^2.

    On either side of 0 in the place v of the nearer argument: beside a large offset a small feature would
    be lost in rounding.
    """
    total = 0.0
    x, w = _gauss(12)
    for apart in (2 * offset, -2 * offset):
        low, high = sorted((-apart / 2, math.copysign(tail * sd, apart) - apart / 2))
        far = _edges(phi, low + apart, high + apart, sd) - apart
        edges = np.unique(np.concatenate([_edges(phi, low, high, sd), far, [low, high]]))
        edges = edges[(edges >= low) & (edges <= high)]
        step = np.diff(edges)[:, None]
        v = (edges[:-1, None] + step * x).ravel()
        density = np.exp(-(((v + apart / 2) / sd) ** 2) / 2) / math.sqrt(2 * math.pi) / sd
        total += ((step * w).ravel() * density) @ (phi.value(v) - phi.value(v + apart)) ** 2
    return float(total)


def first_fixed_point(phi: Nasty, prior: Prior, q: float) -> bool:
    """Whether the orbit from q0 reaches q before any other fixed point, if Q increases on the way.

    Two about to merge are seen at the place where they do.
    """
    start = prior.q0
    own = np.exp(np.linspace(math.log(start), math.log(q), 9))[:-1]
    way = np.concatenate([own, _EVERYWHERE, [prior.fold]])
    way = np.unique(way[(way - start) * (way - q) <= 0])[:: 1 if q > start else -1]
    values, _ = image(phi, prior, way)
    if np.any(np.diff(values) * np.sign(q - start) < 0):
        return True  # not for this oracle to say
    ahead = np.sign(q - start) * (values / way - 1)
    return bool(np.all(ahead[np.abs(way / q - 1) > 1e-4] > -1e-12))


def verdict(phi: Nasty, prior, point, with_pairs=True) -> str:
    """What is wrong with a CONVERGED point, beyond its estimates; empty if nothing is."""
    q, one_minus_c = float(point.q), float(point.one_minus_c)
    value, rate = (float(x[0]) for x in image(phi, prior, np.array([q])))
    q_wrong = (abs(value - q) - _ROUNDING * q) / abs(1 - rate)
    if q_wrong > float(point.q_error):
        return f"q {q} is wrong by {q_wrong:.1e}, told {float(point.q_error):.1e}"
    if not first_fixed_point(phi, prior, q):
        return f"q {q} is not the one that is reached"
    slope = float(moments(phi, np.array([q]))[2][0])
    chi_1 = math.inf if phi.jumps and math.isinf(float(point.chi_1)) else prior[0] * slope * q / value
    tolerance = 1e-8 * max(1, 1 / abs(1 - rate)) * chi_1 + _BEYOND
    if math.isfinite(chi_1) and not abs(float(point.chi_1) - chi_1) <= tolerance:
        return f"chi_1 {float(point.chi_1)} is {chi_1}"
    waves = [2 * _tail(phi, q) * math.sqrt(q) / part.width for part in phi.parts if part.kind == "wave"]
    if one_minus_c > 0 and with_pairs and max(waves, default=0) < _MOST_WAVES:
        found = prior[0] * gain(phi, q, one_minus_c) * q / value
        c_wrong = one_minus_c * abs(found - 1) / abs(1 - float(point.chi_c))
        if c_wrong > max(float(point.c_error), 1e-9):
            return f"1 - c {one_minus_c} is wrong by {c_wrong:.1e}, told {float(point.c_error):.1e}"
    return ""


def excuse(phi: Nasty, prior: Prior, point) -> str:
    """Why no solver in double precision could say more of a point that is not solved; empty if one could.

    The survey of an activation says how many oscillations it resolves: panels of 8 widths, 16,384 of them in
    an octave up to a distance of 8192, 512 beyond.
    """
    reach = _tail(phi, prior.q0) * math.sqrt(max(float(point.q), prior.q0))
    for part in phi.parts:
        if part.kind == "wave" and reach > max(min(130_000 * part.width, 8192), 4000 * part.width):
            return "oscillations"
    if math.isfinite(prior.fold):
        at_fold = float(image(phi, prior, np.array([prior.fold]))[0][0])
        rate = (
            float(image(phi, prior, np.array([float(point.q)]))[1][0]) if 0 < point.q < np.inf else math.nan
        )
        if abs(at_fold / prior.fold - 1) < 1e-12 or (1 - rate) ** 2 < 1e-13:
            return "rounding at a fold"
    return "rounding at c = 1" if 0 <= float(point.one_minus_c) < 1e-15 < float(point.chi_1) - 1 else ""


class Attack(NamedTuple):
    """wrong: what is wrong with CONVERGED points. counts: of (kind of prior, status). near: of priors of a
    kind within 10^-4 of a fold or an edge. excused: of why a point is not solved. needless: those not
    solved without an excuse."""

    wrong: list[str]
    counts: Counter[tuple[str, str]]
    near: Counter[str]
    excused: Counter[str]
    needless: list[str]


def attacked(seed: int, activations: int, each: int, pairs_every: int = 1) -> Attack:
    """Points under so many activations, one after another.

    The correlation is checked at one point of ``pairs_every``: it takes the oracle a double integral. Where
    an activation oscillates, which takes both sides longest, there are a tenth as many priors.
    """
    rng = np.random.default_rng(seed)
    found = Attack([], Counter(), Counter(), Counter(), [])
    for _ in range(activations):
        phi = nasty(rng)
        with warnings.catch_warnings(), jax.enable_x64(True):
            warnings.simplefilter("ignore")
            activation = mf.Activation(phi, name="nasty")
            count = -(-each // 10) if any(part.kind == "wave" for part in phi.parts) else each
            for i, prior in enumerate(priors(rng, phi, count)):
                point = mf.fixed_point(activation, mf.NormalPrior(*prior[:3]), q0=prior.q0)
                status = mf.Status(int(point.status)).name
                found.counts[prior.kind, status] += 1
                found.near[prior.kind] += prior.off <= 1e-4
                if status == "CONVERGED" and (why := verdict(phi, prior, point, i % pairs_every == 0)):
                    found.wrong.append(f"{why}: {phi}, {prior}")
                if status in ("INACCURATE", "MAX_STEPS"):
                    why = excuse(phi, prior, point)
                    found.excused.update([why] if why else [])
                    found.needless.extend([] if why else [f"{status}: {phi}, {prior}"])
    return found
