r"""Build the tables of one activation's Gaussian moments, and keep them.

The moments depend on (q, theta) alone, never on the prior: tabulated once, they serve
every point of every phase diagram. Panels (see ``cells``) are built when first needed,
from the exact source of moments, and held against it at random points; what is found is
their error. They stay in the process, and in a directory if there is one, under a key
made of what the activation computes, so that a table never outlives its activation.
Those of the named activations, at the variances that are met most, come with the package
(see ``shipped``).
"""

import functools
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.activations.activation import Activation
from meanfield.activations.asymptotes import Asymptote, asymptote_at_infinity, asymptote_at_zero
from meanfield.activations.names import NAMED
from meanfield.activations.programs import content_key
from meanfield.dual.adaptive import AdaptiveMoments, moments_of
from meanfield.dual.base import Dual
from meanfield.dual.hermite import chord_tails, chords
from meanfield.dual.quadrature import QuadratureDual
from meanfield.dual.tables.cells import (
    ANGLE_TERMS,
    CELLS,
    PANELS,
    Q_TERMS,
    ROWS,
    chebyshev_points,
    q_of,
    theta_of,
    to_cells,
    to_series,
)
from meanfield.dual.tables.lookup import STARTS, TabulatedDual
from meanfield.dual.tables.on_host import LinesOnHost
from meanfield.numerics.compiling import compiled
from meanfield.numerics.memo import Memo
from meanfield.numerics.pytrees import replaced
from meanfield.support.files import save_npz
from meanfield.support.memory import give_back
from meanfield.support.progress import progress_bar

# Columns in the angle and cells cut from them, tried in turn: kinks that see each other need more.
_SIZES = ((48, 64), (112, 192))
_TOLERANCE = 2e-13
_PROBES = 26  # points at which a panel is held against its source
_BATCH = 32
_TRIED = 6  # of them are compared with adaptive moments too
_AGREEMENT = 5e-11  # of two quadratures of one chord near theta = 0, where phi(u1) - phi(u2) loses digits
# Coefficients: of 36 small panels, or 12 large ones, so that all tables that are shipped have one size.
_STEP = 36 * CELLS * _SIZES[0][1] * ANGLE_TERMS * Q_TERMS
CACHE_VARIABLE = "MEANFIELD_CACHE"
_FORMAT = "4"
_BITS = 56  # of a series, below its largest coefficient: a twentieth of the tolerance's rounding error
SHIPPED = range(40, 58)  # 1e-6 < q < 6e4: panels that come with the package; others are built when needed
_KEPT = ("lines", "line_errors", "errors", "known")


def tables_of(source: Dual, activation, cache=None) -> "DualTables":
    """The tables of an activation with concrete parameters, one set in a process.

    cache: directory to keep them in; default that of the environment variable
    MEANFIELD_CACHE, if it is set.
    """
    directory = cache or os.environ.get(CACHE_VARIABLE)
    return _TABLES(
        activation.key, lambda: DualTables(source, activation, Path(directory) if directory else None)
    )


_TABLES: Memo["DualTables"] = Memo(8)  # of 25 MB; a sweep may go over any number of parameter values


@dataclass
class DualTables:
    """The tables of one activation, which grow by the panels that are asked for.

    lines: Chebyshev coefficients in log q of (mean - phi(0)) / sqrt(q) and variance / q, shape
    (panels, 2, rows). chords: of the chord, by panel, shape (columns, rows). line_errors, errors:
    relative, by panel, of mean and variance, and of the chord too. known: phi(0), and the numbers of what phi
    looks like to vanishing and to unbounded signals.
    """

    source: Dual
    activation: Activation
    directory: Path | None = None
    lines: np.ndarray = field(init=False)
    line_errors: np.ndarray = field(init=False)
    errors: np.ndarray = field(init=False)
    known: np.ndarray = field(init=False)
    chords: dict[int, np.ndarray] = field(default_factory=dict)
    last: tuple[tuple[int, ...], TabulatedDual] | None = None

    def __post_init__(self):
        if self._load(self._path()) or self._load(shipped_file(self.activation)):
            return
        self.lines, self.line_errors = line_series(self.source, self._adaptive())
        self.errors = self.line_errors.copy()
        with jax.enable_x64(True):
            self.known = np.array(jax.tree.leaves(jax.device_get(_known(self.activation))), float)
        self._save()

    def _adaptive(self) -> AdaptiveMoments | None:
        """Moments that need nothing compiled, where the source is a quadrature."""
        return moments_of(self.activation) if isinstance(self.source, QuadratureDual) else None

    @functools.cached_property
    def _chords(self) -> "ChordSource":
        return ChordSource(self.source)

    def build(self, panels) -> bool:
        """Tabulate the chord on the panels that are not there yet; whether there were any."""
        missing = sorted({int(p) for p in panels} - self.chords.keys())
        with progress_bar(len(missing), f"Tables of {self.activation!r}") as advance:
            for panel in missing:
                self._build_one(panel)
                advance(1)
        if missing:
            self._save()
            give_back()  # a process may try any number of functions
        return bool(missing)

    def _build_one(self, panel: int) -> None:
        for columns, _ in _SIZES:
            series, error = chord_series(self._chords, panel, columns, self._adaptive())
            if error <= _TOLERANCE:
                break
        self.chords[panel] = series
        self.errors[panel] = max(self.errors[panel], error)

    def dual(self, panels=None) -> TabulatedDual:
        """What has been tabulated so far (or of it these panels), ready for looking up."""
        built = tuple(sorted(self.chords if panels is None else panels))
        if self.last is None or self.last[0] != built:
            with jax.enable_x64(True):  # whoever asks first: it is kept for all
                self.last = built, self._assembled(built)
        return self.last[1]

    @functools.cached_property
    def lines_alone(self) -> TabulatedDual:
        """Mean and variance only: the same shapes whatever else has been tabulated."""
        with jax.enable_x64(True):
            return self._assembled(())

    def expected(self) -> TabulatedDual:
        """What has the shapes of ``dual`` after few panels more, whatever is in it."""
        if self.chords:
            return self.dual()
        with jax.enable_x64(True):
            return self._assembled((), _STEP)

    def _assembled(self, built: tuple[int, ...], least: int = 0) -> TabulatedDual:
        slots = np.full(PANELS, -1, np.int32)
        slots[list(built)] = np.arange(len(built))
        pieces = [cut_panel(panel, self.chords[panel]) for panel in built] or [_nothing()]
        # Few distinct shapes: what is compiled for one table serves the next.
        spare = -len(pieces) % 32
        patches, columns, ends, starts = zip(*pieces, *[_nothing()] * spare, strict=True)
        offsets = np.cumsum([0, *(p.size for p in patches)])
        flat = np.concatenate([p.ravel() for p in patches])
        flat = np.pad(flat, (0, max(least - flat.size, -flat.size % _STEP if built else 0)))
        origin, *ends_of_phi = self.known
        arrays = (
            origin,
            cut_lines(self.lines),
            flat,
            np.stack(ends),
            np.stack(starts),
            slots,
            offsets[:-1].astype(np.int32),
            np.array(columns, np.int32),
            self.line_errors,
            np.where(slots < 0, np.inf, self.errors),
            (_asymptote(*ends_of_phi[:4]), _asymptote(*ends_of_phi[4:])),
        )
        table = TabulatedDual(self.source, *_on_device(arrays))
        return replaced(table, may_be_quadratic=2 in (ends_of_phi[2], ends_of_phi[6]))

    # --- the cache ------------------------------------------------------------

    def _path(self) -> Path | None:
        if self.directory is None:
            return None
        key = _content_key(self.activation)
        return None if key is None else self.directory / f"{key}.npz"

    def _load(self, path) -> bool:
        if path is None or not path.exists():
            return False
        try:
            with np.load(path, allow_pickle=False) as file:
                if str(file["format"]) != _FORMAT:
                    return False
                self.lines, self.line_errors, self.errors, self.known = (file[n] for n in _KEPT)
                self.chords = {int(n[5:]): file[n] for n in file.files if n.startswith("chord")}
        except Exception:  # written by something else, or damaged: build anew and replace it
            self.chords = {}
            return False
        return True

    def _save(self) -> None:
        if (path := self._path()) is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.write(path)
        except OSError:  # a folder that can't be written: they serve this process alone
            self.directory = None

    def write(self, path: Path) -> None:
        """Write all of it to a file. Raises OSError."""
        chords = {f"chord{panel}": series for panel, series in self.chords.items()}
        save_npz(path, {"format": np.array(_FORMAT)} | {n: getattr(self, n) for n in _KEPT} | chords)


def is_shipped(activation) -> bool:
    """Whether the package comes with the tables of an activation, at the panels ``SHIPPED``."""
    path = shipped_file(activation)
    return path is not None and path.exists()


def shipped_file(activation) -> Path | None:
    """Where the package keeps the table of a named activation, if it has one."""
    name = activation.name
    known = NAMED.get(name)
    if known is None or known.key != activation.key:
        return None
    return Path(__file__).parent / "shipped" / f"{name}.npz"


def shipped_ends(activation) -> tuple[Asymptote, Asymptote] | None:
    """What an activation looks like to vanishing and to unbounded signals, if the package comes with that.

    Numbers, where something is traced too.
    """
    return _shipped_with(activation)[1]


def shipped_lines(activation) -> LinesOnHost | None:
    """The mean and variance of an activation, if the package comes with them: no look at phi is needed."""
    return _shipped_with(activation)[0]


def _shipped_with(activation) -> tuple[LinesOnHost | None, tuple[Asymptote, Asymptote] | None]:
    """Nothing where a parameter is an array, or somebody may differentiate by it."""
    numbers = not any(np.ndim(p) or isinstance(p, jax.core.Tracer) for p in activation.params)
    is_one = numbers and not activation.traced and is_shipped(activation)
    return _read(shipped_file(activation)) if is_one else (None, None)


@functools.cache
def _read(path: Path) -> tuple[LinesOnHost | None, tuple[Asymptote, Asymptote] | None]:
    """What a file says; nothing where it is damaged or of another version, as for ``DualTables``."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["format"]) != _FORMAT:
                return None, None
            lines, errors, (origin, *ends) = (file[name] for name in ("lines", "line_errors", "known"))
    except Exception:
        return None, None
    end = lambda left, right, degree, smooth: Asymptote(left, right, int(degree), bool(smooth))
    return LinesOnHost(lines, errors, float(origin)), (end(*ends[:4]), end(*ends[4:]))


def _content_key(activation) -> str | None:
    """A name made of what the activation computes, not of what it is called; None if nothing can tell."""
    program = content_key(activation.program, len(activation.params))
    if program is None:
        return None
    rest = activation.kinks, activation.scale, [float(p) for p in activation.params]
    return hashlib.sha256(f"{_FORMAT} {program} {rest}".encode()).hexdigest()[:32]


@compiled(0)
def _known(activation):
    dtype = jnp.result_type(float)
    ends = (end(activation, dtype) for end in (asymptote_at_zero, asymptote_at_infinity))
    return activation(jnp.zeros((), dtype)), *ends


def _asymptote(left, right, degree, smooth) -> Asymptote:
    return Asymptote(*_on_device((left, right, np.int64(degree), np.bool_(smooth))))


def _on_device(arrays: Any) -> Any:
    """As JAX's arrays, with nothing compiled: ``jnp.asarray`` compiles for every shape."""
    return jax.device_put(arrays)


# --- from the source to series ------------------------------------------------------


def line_series(source, adaptive: AdaptiveMoments | None = None):
    """Series of mean and variance on all panels, and their errors; by adaptive moments if there are any."""
    x = np.concatenate([chebyshev_points(ROWS), np.random.default_rng(0).uniform(-1, 1, 4)])
    q = q_of(np.arange(PANELS)[:, None], x)
    if adaptive is None:
        moments = _moments(source, jnp.asarray(q.ravel()))
    else:
        moments = *adaptive.lines(q.ravel()), adaptive.line_error(q.ravel())
    mean, variance, error = (np.asarray(a).reshape(q.shape) for a in moments)
    values = np.stack([mean / np.sqrt(q), variance / q], axis=1)
    series = _rounded(values[..., :ROWS] @ to_series(ROWS).T)
    found = series @ np.polynomial.chebyshev.chebvander(x[ROWS:], ROWS - 1).T
    # The mean enters squared, beside the variance.
    size = np.stack([np.abs(values[:, 0]) + np.sqrt(values[:, 1]), values[:, 1]], axis=1)[..., ROWS:]
    with np.errstate(divide="ignore", invalid="ignore"):
        # Where phi vanishes about the origin, so do its moments: such panels have no relative error.
        deviation = np.abs(found - values[..., ROWS:]) / size
    return series, np.maximum(np.max(deviation, axis=(1, 2)), np.max(error, axis=1))


def _rounded(series: np.ndarray, axis=-1) -> np.ndarray:
    """Without the digits below the rounding of the whole, which take most of a file's space."""
    largest = np.max(np.abs(series), axis=axis, keepdims=True)
    unit = np.exp2(np.floor(np.log2(np.where(largest > 0, largest, 1.0))) - _BITS)
    return np.round(series / unit) * unit


@compiled(0)
def _moments(source, q):
    """(mean - phi(0), variance, relative error) at many variances."""

    def at(q):
        return source.mean_shift(q), source.variance(q), source.line_error(q)

    return jax.lax.map(at, q, batch_size=256)


class ChordSource:
    """The chord of moments at many points. What is compiled for it goes when it goes."""

    def __init__(self, source: Any):
        self.dual = source
        self._chords = compiled(2)(lambda *arguments: _chords(*arguments))

    def __call__(self, q, theta) -> np.ndarray:
        spare = -len(q) % _BATCH
        padded = (jnp.asarray(np.pad(a, (0, spare), mode="edge")) for a in (q, theta))
        return np.asarray(self._chords(self.dual, *padded))[: len(q)]


def _chords(source, q, theta):
    return jax.lax.map(lambda point: source.chord(*point), (q, theta), batch_size=_BATCH)


def chord_series(source: ChordSource, panel: int, columns: int, adaptive: AdaptiveMoments | None = None):
    """Series of the chord on one panel, shape (columns, rows), and its error at random points.

    Where there are adaptive moments the error is against those, at some of the points, and at theta = 0.
    """
    rng = np.random.default_rng([panel, columns])
    probes = rng.uniform(-1, 1, (2, _PROBES))
    (q, at_q), (theta, at_theta) = (
        (to(panel, chebyshev_points(n)), to(panel, places))
        for to, n, places in zip((q_of, theta_of), (ROWS, columns), probes, strict=True)
    )
    grid, expected = _by_hermite(source.dual, q, theta, at_q, at_theta) or _by_source(
        source, q, theta, at_q, at_theta
    )
    series = _rounded(to_series(columns) @ grid @ to_series(ROWS).T, axis=(-2, -1))
    patches, *_ = cut_panel(panel, series)
    found = _patch_values(patches, *probes)
    error = float(np.max(np.abs(found / expected - 1)))
    if adaptive is not None:
        error = max(error, _adaptive_error(adaptive, at_q, at_theta, found, probes[0], series))
    return series, error


def _adaptive_error(adaptive, q, theta, found, place, series) -> float:
    """The largest relative deviation of a table from adaptive moments, where that is more than rounding."""
    some = zip(q[:_TRIED], 2 * np.sin(theta[:_TRIED] / 2) ** 2, strict=True)
    pairs = [adaptive.pair(x, one_minus_c).chord for x, one_minus_c in some]
    end = np.polynomial.chebyshev.chebval(-1.0, np.polynomial.chebyshev.chebval(place[:_TRIED], series.T))
    slopes = adaptive.slope_moment(q[:_TRIED])
    deviations = np.abs(np.concatenate([found[:_TRIED] / pairs, end / slopes]) - 1)
    error = float(np.max(np.nan_to_num(deviations, nan=np.inf)))
    return error if error > _AGREEMENT else 0.0


def _by_hermite(source, q, theta, at_q, at_theta):
    """(the chord at all q and theta, shape (columns, rows); at points), of smooth activations; or None.

    Their Hermite series costs no second integral, and nothing but phi is compiled.
    """
    if not (isinstance(source, QuadratureDual) and not source.activation.kinks):
        return None
    tails, error = chord_tails(source.activation, np.concatenate([q, at_q]))
    if not np.all(error <= _TOLERANCE / 20):
        return None
    points = [chords(t, x[None])[0] for t, x in zip(tails[len(q) :], at_theta, strict=True)]
    return chords(tails[: len(q)], theta).T, np.array(points)


def _by_source(source: ChordSource, q, theta, at_q, at_theta):
    """The same by what the source itself says."""
    rows, columns = (a.ravel() for a in np.meshgrid(q, theta))
    values = source(np.concatenate([rows, at_q]), np.concatenate([columns, at_theta]))
    return values[: len(rows)].reshape(len(theta), len(q)), values[len(rows) :]


# --- from series to cells -----------------------------------------------------------


def cut_lines(series: np.ndarray) -> np.ndarray:
    """Polynomials of mean and variance in every cell, flat: (panels * cells, 2, terms)."""
    return np.einsum("ctr,pfr->pcft", to_cells(ROWS, CELLS, Q_TERMS), series).ravel()


def cut_panel(panel: int, series: np.ndarray):
    """Polynomials of the chord in every cell of a panel; at theta = 0 and pi/2; where to start."""
    columns = dict(_SIZES)[len(series)]
    in_q = to_cells(ROWS, CELLS, Q_TERMS)
    in_angle = to_cells(len(series), columns, ANGLE_TERMS)
    by_q = np.tensordot(series, in_q, axes=(1, 2))  # column, cell in q, term
    patches = np.moveaxis(np.tensordot(in_angle, by_q, axes=(2, 0)), 2, 0)
    at_ends = np.polynomial.chebyshev.chebvander([-1.0, 1.0], len(series) - 1) @ series
    ends = np.einsum("ctr,er->cet", in_q, at_ends)
    return patches, columns, ends, _starts(series)


def _starts(series: np.ndarray) -> np.ndarray:
    """The stretched angle s over w, where w^2 runs from 0 at the chord of theta = 0 to 1 at that of pi/2.

    At the edges of the cells in log q, shape (cells + 1, bins + 1). s is about proportional to w for
    smooth and to w^2 for kinked activations.
    """
    edges = np.polynomial.chebyshev.chebvander(np.linspace(-1, 1, CELLS + 1), ROWS - 1)
    s = np.linspace(0, 1, 4 * STARTS + 1) ** 1.5
    chord = edges @ (np.polynomial.chebyshev.chebvander(2 * s - 1, len(series) - 1) @ series).T
    drop = chord[:, :1] - chord
    with np.errstate(invalid="ignore", divide="ignore"):
        w = np.sqrt(np.maximum.accumulate(np.maximum(drop, 0), axis=1) / np.maximum(drop[:, -1:], 0))
    bins = np.linspace(0, 1, STARTS + 1)
    return np.stack([np.interp(bins, np.nan_to_num(row), s) for row in w])


def _nothing():
    return (
        np.zeros((1, 1, ANGLE_TERMS, Q_TERMS)),
        1,
        np.zeros((CELLS, 2, Q_TERMS)),
        np.zeros((CELLS + 1, STARTS + 1)),
    )


def _patch_values(patches: np.ndarray, x: np.ndarray, s: np.ndarray) -> np.ndarray:
    """The chord at positions (x, s) of a panel, both from -1 to 1, by its cells."""
    (i, x), (j, s) = (_cell_and_place(a, n) for a, n in ((x, CELLS), (s, patches.shape[1])))
    powers = np.vander(s, ANGLE_TERMS, increasing=True), np.vander(x, Q_TERMS, increasing=True)
    return np.einsum("pat,pa,pt->p", patches[i, j], *powers)


def _cell_and_place(x: np.ndarray, cells: int):
    place = (x + 1) / 2 * cells
    cell = np.minimum(np.floor(place).astype(int), cells - 1)
    return cell, 2 * (place - cell) - 1
