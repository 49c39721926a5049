"""An activation that carries the table of its Gaussian moments."""

import dataclasses

import jax
import jax.numpy as jnp
from jax.tree_util import GetAttrKey

from meanfield.activations.activation import Activation, rebuilt, static_fields
from meanfield.dual.tables.lookup import TabulatedDual
from meanfield.support import validation


class TabulatedActivation(Activation):
    """An activation with the table of its Gaussian moments. ``tabulate`` makes it.

    table: the table. slopes: by parameter, the derivatives of its coefficients. built_for: the
    parameters' values.
    """

    table: TabulatedDual
    slopes: tuple
    built_for: tuple[float, ...]

    @property
    def dual(self) -> TabulatedDual:
        """The table, differentiable with respect to ``params``."""
        names = ("origin", "lines", "patches", "ends")
        arrays = {name: getattr(self.table, name) for name in names}
        for p, slope in zip(self.params, self.slopes, strict=True):
            arrays = {name: _with_slope(p, arrays[name], slope[name]) for name in names}
        return dataclasses.replace(self.table, **arrays)

    def with_params(self, *params) -> "TabulatedActivation":
        """The same activation with its parameters replaced by (traced) ones of the same values.

        To differentiate with respect to them: ``jax.grad(lambda a: ... table.with_params(a) ...)``. Only
        first derivatives exist. Where a value is not the one that the table was built for, fixed
        points are ``Status.INVALID``. Raises ValueError where that can be seen before tracing.
        """
        if len(params) != len(self.params):
            raise ValueError(f"{self.name} has {len(self.params)} parameters, got {len(params)}")
        checked = []
        for p, built in zip(params, self.built_for, strict=True):
            if not validation.is_traced(p) and float(p) != built:
                raise ValueError(
                    f"the table of {self.name} was built for {built}, got {p}: tabulate that one"
                )
            checked.append(jnp.where(jnp.asarray(p, float) == built, p, jnp.nan))
        return from_parts((static_fields(self), self.built_for), (tuple(checked), self.table, self.slopes))

    @property
    def plain(self) -> Activation:
        """The activation without its table."""
        return rebuilt(Activation, static_fields(self), params=self.params)


@jax.custom_jvp
def _with_slope(p, value, slope):
    """``value``, which changes with p at the rate ``slope``."""
    return value


@_with_slope.defjvp
def _(primals, tangents):
    p, value, slope = primals
    p_dot, value_dot, _ = tangents
    return value, value_dot + _first_order(p, slope) * p_dot


@jax.custom_jvp
def _first_order(p, slope):
    return slope


@_first_order.defjvp
def _(primals, tangents):
    raise NotImplementedError(
        "a tabulated activation has first derivatives with respect to its parameters only; "
        "use the activation itself for higher ones"
    )


def from_parts(static, children) -> TabulatedActivation:
    """A tabulated activation from its static and its other fields, without validation."""
    (static, built_for), names = static, ("params", "table", "slopes")
    return rebuilt(
        TabulatedActivation, static, built_for=built_for, **dict(zip(names, children, strict=True))
    )


jax.tree_util.register_pytree_with_keys(
    TabulatedActivation,
    lambda a: (
        tuple((GetAttrKey(n), getattr(a, n)) for n in ("params", "table", "slopes")),
        (static_fields(a), a.built_for),
    ),
    from_parts,
)
