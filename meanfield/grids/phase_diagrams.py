"""Phase diagrams: fixed points over a grid of layers, in bounded memory."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from meanfield.activations.names import as_activation
from meanfield.fixed_points.strategies import FIELDS, solve_in_chunks
from meanfield.grids.arguments import check_weight_var, checked_law, given_parameters, number_or_axis
from meanfield.grids.points import solver_of
from meanfield.layers.families import Family, dense_family, is_layer_function, layer_family
from meanfield.numerics.pytrees import register_dataclass
from meanfield.priors import PARAMETERS
from meanfield.status import Phase, Status
from meanfield.support import text
from meanfield.support.files import save_npz
from meanfield.support.progress import progress_bar


@register_dataclass
@dataclass(frozen=True, eq=False)
class PhaseDiagram:
    """Fixed points over two parameters of a layer, NumPy arrays throughout.

    names, values: of all parameters; two are axes (1-d arrays), the others numbers. Each is an attribute
        by its name too: ``diagram.weight_var``.
    q, c, one_minus_c, chi_q, chi_c, chi_1, chi_perp, status, phase: as in
        ``FixedPoint``, shape (first axis, second axis), axes in the order of ``names``.
    q0, c0: the start. activation: its name, or that of the function that makes the layers.
    special_weight: its law's name, empty where there is none.
    """

    values: tuple[np.ndarray, ...]
    q: np.ndarray
    c: np.ndarray
    one_minus_c: np.ndarray
    chi_q: np.ndarray
    chi_c: np.ndarray
    chi_1: np.ndarray
    chi_perp: np.ndarray
    status: np.ndarray
    phase: np.ndarray
    q0: np.ndarray
    c0: np.ndarray
    names: tuple[str, ...] = dataclasses.field(metadata={"static": True})
    activation: str = dataclasses.field(metadata={"static": True})
    special_weight: str = dataclasses.field(default="", metadata={"static": True})

    def __repr__(self):
        axes = [
            f"{name} {text.span(self.parameters[name])} ({self.parameters[name].size})" for name in self.axes
        ]
        constants = (f"{name} = {value:g}" for name, value in self.constants.items())
        named = filter(None, (self.activation, self.special_weight))
        rows = [
            ["phase", *text.described(self.phase, Phase)],
            ["status", *text.described(self.status, Status)],
        ]
        stable = self.status == Status.CONVERGED
        rows += [[f"{name}*", text.span(getattr(self, name)[stable])] for name in "qc" if stable.any()]
        title = ", ".join(("PhaseDiagram: " + ", ".join(named), " x ".join(axes), *constants))
        return text.table(title, [[name, *cells] for name, *cells in rows])

    def __getattr__(self, name: str) -> np.ndarray:
        if name in vars(self).get("names", ()):
            return self.parameters[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def parameters(self) -> dict[str, np.ndarray]:
        """All parameters: name to values."""
        return dict(zip(self.names, self.values, strict=True))

    @property
    def axes(self) -> tuple[str, str]:
        """Names of the two parameters that vary, in the order of the arrays' axes."""
        first, second = (name for name, value in self.parameters.items() if np.ndim(value) == 1)
        return first, second

    @property
    def fixed(self) -> tuple[str, float]:
        """Name and value of the third parameter, of a diagram that has three."""
        (third,) = self.constants.items()
        return third

    @property
    def constants(self) -> dict[str, float]:
        """Names and values of the parameters that do not vary."""
        return {name: float(value) for name, value in self.parameters.items() if np.ndim(value) == 0}

    def plot(self, quantity: str = "phase", ax=None, *, deviations: bool = False):
        """Draw one field over the two axes; returns the Matplotlib axes.

        quantity: "phase", a field's name, or "xi_q", "xi_c" (depth scales). deviations: show sigma_w and
        sigma_b in place of their squares.
        """
        from meanfield.plotting import plot_phase_diagram

        return plot_phase_diagram(self, quantity, ax, deviations=deviations)

    def save(self, path) -> Path:
        """Write an .npz file, whole or not at all; ``load`` gives back the same bits.

        Raises OSError, naming the path, where it cannot be written.
        """
        path = Path(path)
        path = path if path.suffix == ".npz" else path.with_name(path.name + ".npz")
        names = [f.name for f in dataclasses.fields(self) if f.name != "values"]
        arrays = {name: np.asarray(getattr(self, name)) for name in names}
        save_npz(path, arrays | {_PARAMETER + name: value for name, value in self.parameters.items()})
        return path

    @classmethod
    def load(cls, path) -> "PhaseDiagram":
        """Read what ``save`` wrote. Raises OSError, or ValueError for another kind of file."""
        fields = [f.name for f in dataclasses.fields(cls) if f.name != "values"]
        texts = ("activation", "special_weight")
        try:
            with np.load(path, allow_pickle=False) as file:
                values: dict[str, Any] = {name: file[name] for name in fields}
                names = tuple(str(name) for name in values["names"])
                values |= {"names": names, "values": tuple(file[_PARAMETER + name] for name in names)}
        except OSError:
            raise
        except Exception as error:
            raise ValueError(f"{path} is not a phase diagram saved by meanfield: {error}") from error
        return cls(**values | {name: str(values[name]) for name in texts})

    def to_xarray(self):
        """An ``xarray.Dataset`` with the two axes as coordinates. Needs xarray."""
        try:
            import xarray
        except ImportError as error:
            raise ImportError("to_xarray needs the package xarray: pip install xarray") from error
        return xarray.Dataset(
            {name: (self.axes, getattr(self, name)) for name in FIELDS},
            coords={name: getattr(self, name) for name in self.axes},
            attrs={
                "activation": self.activation,
                "special_weight": self.special_weight,
                **self.constants,
                "q0": float(self.q0),
                "c0": float(self.c0),
            },
        )


_PARAMETER = "parameter "  # before a parameter's name in files


def phase_diagram(
    activation,
    *,
    weight_var=None,
    bias_var=None,
    anticorrelation=None,
    q0=1.0,
    c0=0.0,
    special_weight=None,
    mesh=None,
    **parameters,
) -> PhaseDiagram:
    """Fixed points over any two of weight_var, bias_var, anticorrelation, the third fixed.

    activation: an ``Activation``, a name or a callable, of dense layers under a ``NormalPrior``. Or a
        function that makes a layer from parameters of any name, which are then the ones to give:
        ``phase_diagram(lambda weight_var, scale: Residual(...), weight_var=..., scale=...)``.

    special_weight: None for a ``NormalPrior``; a law, as for ``AsymmetricPrior``, for
        that prior. Then c and chi_c are NaN where signals part (chi_1 > 1): they take
        sampling, for which see ``fixed_point``. All else is deterministic.

    mesh: a ``jax.sharding.Mesh``, with any number of axes, over whose devices the chunks of the grid
        are dealt: each runs what one device alone would, so that results are the same to the bit.

    Give two of them as 1-d arrays and at most one as a number (bias_var and
    anticorrelation are 0 if left out). Computes in float64 whatever JAX's default
    is, in chunks: memory beyond the result does not grow with the grid. In a
    terminal, a progress bar shows for what takes more than two seconds.

    Raises TypeError or ValueError for arguments out of range or of the wrong shape.
    """
    given = given_parameters(weight_var, bias_var, anticorrelation, **parameters)
    family = family_of(activation, given)
    axes = _checked_axes(family, given)
    q0, c0 = (_number(name, value) for name, value in (("q0", q0), ("c0", c0)))
    law = checked_law(special_weight, family.activation is not None, q0)
    if mesh is not None and not isinstance(mesh, Mesh):
        raise TypeError(f"mesh must be a jax.sharding.Mesh, got {mesh!r}")
    grids = [np.atleast_1d(value) for value in axes.values()]
    sizes = tuple(g.size for g in grids)
    size = int(np.prod(sizes))

    def columns_of(start: int, stop: int) -> list[np.ndarray]:
        index = np.unravel_index(np.arange(start, stop), sizes)
        return [grid[i] for grid, i in zip(grids, index, strict=True)]

    with jax.enable_x64(True), progress_bar(size, "phase diagram") as advance:
        first = [g[:1] for g in grids]
        solver = solver_of(family, law, q0, c0, size, first)
        result = solve_in_chunks(solver, size, columns_of, advance, mesh)
    shape = tuple(value.size for value in axes.values() if value.ndim == 1)
    fields = {name: array.reshape(shape) for name, array in result.items()}
    return PhaseDiagram(
        names=tuple(axes),
        values=tuple(axes.values()),
        **fields,
        q0=np.asarray(q0),
        c0=np.asarray(c0),
        activation=family.label,
        special_weight="" if law is None else repr(law),
    )


def _number(name, value) -> float:
    if np.ndim(value) != 0:
        raise ValueError(f"{name} must be one number in a phase diagram, got shape {np.shape(value)}")
    return float(number_or_axis(name, value))


def family_of(activation, given) -> Family:
    """Dense layers with an activation, or those that a function of the given parameters makes."""
    if is_layer_function(activation, given):
        return layer_family(activation, given)
    unknown = [name for name in given if name not in PARAMETERS]
    family = dense_family(as_activation(activation))
    if unknown:
        raise TypeError(
            f"{', '.join(unknown)}: dense layers have the parameters {', '.join(PARAMETERS)}; for others "
            f"give a function of them that makes the layer: phase_diagram(lambda {unknown[0]}: ...)"
        )
    return family


def _checked_axes(family: Family, given) -> dict[str, np.ndarray]:
    if family.activation is not None:
        check_weight_var(given)
    axes = {name: number_or_axis(name, given.get(name, 0.0)) for name in family.names}
    varying = [name for name, value in axes.items() if value.ndim == 1]
    if len(varying) != 2:
        raise ValueError(
            f"two of {', '.join(family.names)} must be 1-d arrays and the third a number; "
            f"arrays were given for {', '.join(varying) or 'none'}"
        )
    return axes
