"""Distribution functions with atoms: what spectra of networks tend to, and how far samples lie from them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from meanfield.spectra.jacobian import JacobianSpectrum
from meanfield.spectra.lyapunov import LyapunovSpectrum

_ROUNDING = 1e-10  # relative, of a singular value: a thousand times what decompositions leave
_SMALLEST_ATOM = 1e-6
_SPARE = 8  # times the mass that a density explains


@dataclass(frozen=True, eq=False)
class LimitLaw:
    """A law on the line and -inf, piecewise linear between knots.

    places, levels, shape (knots,): the distribution function, ascending; where it jumps the place
        stands twice, with the values before and after. silent: probability of -inf. atoms: places
        of the others.
    """

    places: Float[np.ndarray, " knots"]
    levels: Float[np.ndarray, " knots"]
    silent: float
    atoms: Float[np.ndarray, " atoms"]

    @classmethod
    def of(cls, spectrum: JacobianSpectrum | LyapunovSpectrum) -> "LimitLaw":
        """Of log s, or of exponents, known at ascending t from 0 to 1."""
        if isinstance(spectrum, LyapunovSpectrum):
            x, t = np.asarray(spectrum.exponent), np.asarray(spectrum.t)
            loud = np.isfinite(x)
            return cls(x[loud], t[loud], float(spectrum.silent[0]), np.zeros(0))
        names = ("log_singular_value", "cdf", "mass", "density")
        x, cdf, mass, density = (np.asarray(getattr(spectrum, name)) for name in names)
        loud = np.isfinite(x)
        return cls._with_atoms(x[loud], cdf[loud], mass[loud], density[loud], spectrum)

    @classmethod
    def _with_atoms(cls, x, cdf, mass, density, spectrum) -> "LimitLaw":
        """Nodes at one place with more mass than the density has around it stand for an atom there."""
        silent, size, place = (float(getattr(spectrum, n)) for n in ("zero", "atom", "log_atom"))
        own, first = np.unique(x, return_index=True)
        shares = np.add.reduceat(mass, first) if x.size else mass
        around = np.gradient(own) if own.size > 1 else np.zeros(own.size)
        smooth_share = density[first] * around
        jumps = (np.diff(np.append(first, x.size)) > 1) & (shares > _SMALLEST_ATOM + _SPARE * smooth_share)
        atoms = list(zip(own[jumps], cdf[first[jumps]], shares[jumps], strict=True))
        if size > 0:
            atoms.append((place, 1.0, size))
        at = np.array([a for a, _, _ in atoms])
        smooth = ~np.isin(x, at)
        before, after = (np.array([level - share * part for _, level, share in atoms]) for part in (1, 0))
        places = np.concatenate([x[smooth], at, at])
        levels = np.concatenate([cdf[smooth], before, after])
        # Nodes next to an atom may round past it.
        order = np.lexsort((levels, places))
        return cls(places[order], np.maximum.accumulate(levels[order]), silent, np.sort(at))

    def up_to(self, x):
        """P(X <= x)."""
        return self._level(x, "right")

    def below(self, x):
        """P(X < x)."""
        return np.where(np.isneginf(x), 0.0, self._level(x, "left"))

    def quantile(self, t):
        """The least x with P(X <= x) >= t, linear between knots."""
        return np.where(np.asarray(t) > self.silent, np.interp(t, self.levels, self.places), -np.inf)

    def _level(self, x, side):
        x = np.asarray(x, float)
        if not self.places.size:
            return np.full(x.shape, self.silent)
        above = np.searchsorted(self.places, x, side=side)
        low, high = np.clip(above - 1, 0, None), np.clip(above, None, self.places.size - 1)
        step = self.places[high] - self.places[low]
        part = (np.clip(x, self.places[0], self.places[-1]) - self.places[low]) / np.where(step > 0, step, 1)
        level = self.levels[low] + part * (self.levels[high] - self.levels[low])
        level = np.where(above == 0, self.silent, np.where(above == self.places.size, 1.0, level))
        return np.where(np.isneginf(x), self.silent, level)

    def distance(self, samples) -> float:
        """Kolmogorov distance, the largest of abs(F_n - F), of the samples' distribution function F_n.

        F_n and F both jump, F at its atoms: they are compared at every sample and atom, with
        the jumps there and (as limits from below) without, and at -inf. Samples within rounding
        of an atom, 1e-10 of the value itself, are taken to be on it.
        """
        x = np.sort(np.ravel(samples))
        for atom in self.atoms:
            x = np.where(np.abs(x - atom) <= _ROUNDING * max(1.0, abs(atom)), atom, x)
        at = np.concatenate([x, self.atoms, [-np.inf]])
        with_jump = np.searchsorted(x, at, side="right") / x.size - self.up_to(at)
        without = np.searchsorted(x, at, side="left") / x.size - self.below(at)
        return float(max(np.max(np.abs(with_jump)), np.max(np.abs(without))))
