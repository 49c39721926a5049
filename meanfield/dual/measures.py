"""A function under many Gaussians at once, on the host: nodes, weights, and sums over them."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from meanfield.dual.runs import Panels, Rule
from meanfield.numerics.legendre import gauss_legendre


@dataclass(frozen=True, eq=False)
class Gaussians:
    """Centres, standard deviations, and how many of these each reaches: shape (n,) each.

    cut: whether panels end where those of the function do.
    """

    centre: np.ndarray
    sd: np.ndarray
    tail: np.ndarray
    cut: np.ndarray

    def __len__(self):
        return self.sd.size

    def __getitem__(self, part) -> "Gaussians":
        return Gaussians(self.centre[part], self.sd[part], self.tail[part], self.cut[part])

    @property
    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        return self.centre - self.tail * self.sd, self.centre + self.tail * self.sd

    def count(self, edges) -> np.ndarray:
        """How many edges each one's panels are cut at."""
        low, high = self.ends
        return np.where(self.cut, np.searchsorted(edges, high) - np.searchsorted(edges, low), 0)

    def batches(self, edges, rule: Rule, at_once: int) -> Iterator[slice]:
        """Consecutive ones that take about so many nodes together."""
        total = np.cumsum(rule.nodes * (self.count(edges) + 2 * self.tail / rule.width + 2))
        ends = np.unique(np.searchsorted(total, np.arange(at_once, total[-1], at_once)))
        for first, last in zip([0, *ends], [*ends, len(self)], strict=True):
            if first < last:
                yield slice(first, last)

    def nodes_needed(self, edges, rule: Rule) -> float:
        return float(np.sum(rule.nodes * (self.count(edges) + 2 * self.tail / rule.width + 2)))


@dataclass(frozen=True, eq=False)
class Measure:
    """A function f at the nodes of panels, those of ``size`` Gaussians one after another.

    owner: the Gaussian of each panel. All else has the shape (panels, nodes). place: in standard deviations
    from its centre. At a node that stands for many, ``first`` and ``second`` are weighted sums of what f adds
    to ``value`` there, and of its square.
    """

    size: int
    owner: np.ndarray
    place: np.ndarray
    weight: np.ndarray
    value: np.ndarray
    first: np.ndarray | None = None
    second: np.ndarray | None = None

    def about(self, numbers: np.ndarray) -> "Measure":
        """f less a number for each Gaussian."""
        return replace(self, value=self.value - numbers[self.owner][:, None])

    def mean(self, factor: np.ndarray | None = None) -> np.ndarray:
        """E f g, shape (size,), for g at the nodes."""
        terms = self.weight if factor is None else self.weight * factor
        return self._sums(self.value, terms) + self._sums(self.first, factor)

    def square(self, factor: np.ndarray | None = None) -> np.ndarray:
        """E f^2 g."""
        terms = self.weight * self.value
        if self.first is not None:
            terms += 2 * self.first
        if factor is not None:
            terms *= factor
        return self._sums(self.value, terms) + self._sums(self.second, factor)

    def _sums(self, values: np.ndarray | None, factor: np.ndarray | None) -> np.ndarray:
        """Of numbers too large for a double, infinite or NaN."""
        if values is None:
            return np.zeros(self.size)
        panels = values.sum(axis=1) if factor is None else np.einsum("pn,pn->p", values, factor)
        return np.bincount(self.owner, panels, self.size)


def measure(fn: Callable, gaussians: Gaussians, rule: Rule, edges) -> Measure:
    """A function whose panels end at ``edges``."""
    return _at_own_nodes(fn, gaussians, rule, edges, None)


def measure_by_runs(fn: Callable, gaussians: Gaussians, rule: Rule, panels: Panels, slopes: bool) -> Measure:
    """The same where many panels are joined to runs, for Gaussians of about one width.

    slopes: whether f is the slope of what the panels know.
    """
    alone = _at_own_nodes(fn, gaussians, rule, panels.edges, panels.joined)
    low, high = gaussians.ends
    first = np.searchsorted(panels.edges, low, "right") - 1
    run, owner = ranges(first, np.searchsorted(panels.edges, high, "left"))
    kept = panels.joined[run]
    run, owner = run[kept], owner[kept]
    sd = gaussians.sd[owner][:, None]
    place = (panels.u[run] - gaussians.centre[owner][:, None]) / sd
    density = bell(place) / sd
    value, first, second = (x[run] for x in panels.moments(slopes))
    weight, first, second = (x * density for x in (panels.weight[run], first, second))
    none = np.zeros(alone.place.shape)
    parts = (
        (alone.owner, owner),
        (alone.place, place),
        (alone.weight, weight),
        (alone.value, value),
        (none, first),
        (none, second),
    )
    return Measure(len(gaussians), *(np.concatenate(part) for part in parts))


def _at_own_nodes(fn, gaussians: Gaussians, rule: Rule, edges, joined) -> Measure:
    """f where it is looked at for each Gaussian; nowhere in what is joined."""
    width, nodes, shift = rule.width, rule.nodes, rule.shift
    centre, sd, tail = gaussians.centre, gaussians.sd, gaussians.tail
    low, high = gaussians.ends
    first, last = np.searchsorted(edges, low, "right"), np.searchsorted(edges, high, "left")
    inside, owner = ranges(first, np.where(gaussians.cut, np.maximum(last, first), first))
    count = np.ceil(2 * tail / width).astype(int) + 1
    step, number = ranges(np.zeros_like(count), count)
    place = np.clip((step - shift * (step > 0)) * width, 0.0, 2 * tail[number])
    place = np.where(step == count[number] - 1, 2 * tail[number], place)
    ends = np.concatenate([edges[inside], low[number] + place * sd[number]])
    owners = np.concatenate([owner, number])
    order = np.lexsort((ends, owners))
    ends, owners = ends[order], owners[order]
    same = (owners[1:] == owners[:-1]) & (ends[1:] > ends[:-1])
    if joined is not None:
        same &= ~joined[np.searchsorted(edges, (ends[1:] + ends[:-1]) / 2) - 1]
    start, size, owner = ends[:-1][same], np.diff(ends)[same], owners[:-1][same]
    x, w = gauss_legendre(nodes)
    u = start[:, None] + size[:, None] * (1 + x) / 2
    scaled = (u - centre[owner][:, None]) / sd[owner][:, None]
    weight = (size / sd[owner])[:, None] * (w / 2) * bell(scaled)
    return Measure(len(gaussians), owner, scaled, weight, fn(u.ravel()).reshape(u.shape))


def bell(t):
    """Density of a Gaussian."""
    return np.exp(-(t**2) / 2) / math.sqrt(2 * math.pi)


def ranges(first, last) -> tuple[np.ndarray, np.ndarray]:
    """(all integers of the ranges one after another, the number of the range of each)."""
    sizes = last - first
    owner = np.repeat(np.arange(first.size), sizes)
    before = np.cumsum(sizes) - sizes
    return np.arange(sizes.sum()) - before[owner] + first[owner], owner
