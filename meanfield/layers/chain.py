"""Layers one after the other, and how parts make them."""

import functools
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from meanfield.activations.activation import Activation
from meanfield.activations.names import as_activation
from meanfield.layers.base import Layer, fewest
from meanfield.layers.contract import keeps_contract
from meanfield.layers.dense import Dense
from meanfield.layers.drift import Either, Increment
from meanfield.layers.normalisation import BatchNorm
from meanfield.layers.parts import Part, is_nothing
from meanfield.numerics.pytrees import register_dataclass, replaced
from meanfield.priors import is_prior


@register_dataclass
@dataclass(frozen=True, eq=False, init=False)
class Chain(Layer):
    r"""Parts in the order in which the data flow, from Gaussian pre-activations to Gaussian pre-activations.

    parts: activations (``Activation``, name, callable), priors, norms, ``Dropout`` and layers. An
        activation opens what a prior closes; a norm stands before the one or between the two, dropout
        between the two.

    ``Chain("gelu", prior)`` is ``Dense("gelu", prior)``; with ``RMSNorm()`` before it the stream is
    normalised, with ``LayerNorm()`` between the two the activations.

    Raises TypeError or ValueError, naming the part and the mend, for parts that do not fit.
    """

    layers: tuple

    def __new__(cls, *parts):
        layers = _assembled(parts)
        if len(layers) == 1:
            return layers[0]
        chain = object.__new__(cls)
        object.__setattr__(chain, "layers", layers)
        return chain

    def __init__(self, *parts):
        pass

    @property
    def mixes(self):
        return any(layer.mixes for layer in self.layers)

    @property
    def keeps_angle(self):
        return all(layer.keeps_angle for layer in self.layers)

    @property
    def keeps_one(self):
        return all(layer.keeps_one for layer in self.layers)

    @property
    def about_batch(self):
        return self.layers[0].about_batch

    def _variances(self, q):
        """The variance before each layer, and after the last."""
        found = [q]
        for layer in self.layers:
            found.append(layer.variance_map(found[-1]))
        return found

    def variance_map(self, q):
        return self._variances(q)[-1]

    def variance_from_silence(self):
        first, *others = self.layers
        return functools.reduce(lambda q, layer: layer.variance_map(q), others, first.variance_from_silence())

    def covariance_map(self, q1, q2, c):
        for layer in self.layers[:-1]:
            covariance = layer.covariance_map(q1, q2, c)
            q1, q2 = layer.variance_map(q1), layer.variance_map(q2)
            c = jnp.clip(covariance / jnp.sqrt(q1 * q2), -1, 1)
        return self.layers[-1].covariance_map(q1, q2, c)

    def pair_gain(self, q, theta):
        return self.pair_gain_at(q)(theta)

    def pair_gain_at(self, q):
        variances = self._variances(q)
        gains = [layer.pair_gain_at(x) for layer, x in zip(self.layers, variances, strict=False)]

        def gain(theta):
            total = 1.0
            for i, layer_gain in enumerate(gains):
                one = layer_gain(theta)
                total = total * one
                if i + 1 < len(gains) and not self.layers[i].keeps_angle:
                    theta = _angle_behind(theta, one * variances[i] / variances[i + 1])
            return total

        return gain

    def separation_map(self, q, one_minus_c):
        variances = self._variances(q)
        for layer, before, after in zip(self.layers, variances[:-1], variances[1:], strict=True):
            delta = layer.separation_map(before, one_minus_c)
            one_minus_c = delta / after
        return delta

    def tangent(self, q):
        before = zip(self.layers, self._variances(q), strict=False)
        return math.prod(layer.tangent(x) for layer, x in before)

    def _parted(self, q):
        """delta before each layer, and after the last, of signals that start equal; None while they are."""
        found = [None]
        for layer, before in zip(self.layers, self._variances(q), strict=False):
            delta = found[-1]
            apart = lambda theta, f=layer, q=before, delta=delta: f.pair_gain(q, theta) * delta
            equal = delta is None and layer.keeps_one
            found.append(None if equal else _at(delta, before, apart, layer.gap(before)))
        return found

    def gap(self, q):
        parted = self._parted(q)[-1]
        return jnp.zeros_like(q) if parted is None else parted

    def slope_at_one(self, q):
        places = zip(self.layers, self._variances(q), self._parted(q), strict=False)
        return math.prod(
            _at(delta, q, lambda theta, f=f, q=q: f.slope(q, theta), f.slope_at_one(q))
            for f, q, delta in places
        )

    def slope(self, q, theta):
        total = 1.0
        variances = self._variances(q)
        for layer, before, after in zip(self.layers, variances[:-1], variances[1:], strict=True):
            total = total * layer.slope(before, theta)
            if layer is not self.layers[-1] and not layer.keeps_angle:
                theta = _angle_behind(theta, layer.pair_gain(before, theta) * before / after)
        return total

    def mode_rates(self, q, theta, image_size):
        radial, angular = 1.0, 1.0
        places = zip(self.layers, self._variances(q), self._parted(q), strict=False)
        for layer, before, delta in places:
            if theta is None:
                rates = _at(
                    delta,
                    before,
                    lambda angle, f=layer, q=before: f.mode_rates(q, angle, image_size),
                    layer.mode_rates(before, None, image_size),
                )
            else:
                rates = layer.mode_rates(before, theta, image_size)
                gain = layer.pair_gain(before, theta)
                theta = _angle_behind(theta, gain * before / layer.variance_map(before))
            radial, angular = radial * rates[0], angular * rates[1]
        return radial, angular

    @property
    def no_layer(self):
        return next((layer.no_layer for layer in self.layers if layer.no_layer), "")

    def position_map(self, covariance):
        return functools.reduce(lambda k, layer: layer.position_map(k), self.layers, covariance)

    def position_slopes(self, covariance):
        steps = []
        for layer in self.layers:
            steps.append(layer.position_slopes(covariance))
            covariance = layer.position_map(covariance)
        return lambda tangents: functools.reduce(lambda t, step: step(t), steps, tangents)

    def affine(self):
        growth, offset = 1.0, 0.0
        for layer in self.layers:
            if is_nothing(growth):  # behind a norm all signals are of one variance, whatever the layer
                offset = layer.variance_map(jnp.asarray(offset, self.dtype()))
                continue
            step = layer.affine()
            if step is None:
                return None
            growth = step[0] if is_nothing(step[0]) else step[0] * growth
            offset = step[0] * offset + step[1]
        return growth, offset

    def is_identity(self):
        return functools.reduce(jnp.logical_and, (layer.is_identity() for layer in self.layers))

    def asymptote(self, at_zero):
        ends = [layer.asymptote(at_zero) for layer in self.layers]
        if None in ends:
            return None
        layers, known, smooth = zip(*ends, strict=True)
        # Behind a layer that bounds its signals none is unbounded.
        bounded = [layer.is_negligible() for layer in layers]
        every = lambda flags: functools.reduce(
            lambda rest, here: here[0] & (here[1] | rest),
            reversed(list(zip(flags, bounded, strict=True))),
            True,
        )
        return replaced(self, layers=layers), every(known), every(smooth)

    @property
    def bounds(self):
        return any(layer.bounds for layer in self.layers)

    def saturated(self):
        first, *others = self.layers
        ends = first.saturated()
        here = ends and (replaced(self, layers=(ends[0], *others)), ends[1])
        if first.bounds or not any(layer.bounds for layer in others):
            return here
        # What is not bounded at the head is further on.
        before, later = first.asymptote(False), replaced(self, layers=tuple(others)).saturated()
        if before is None or later is None:
            return here
        large = before[1] & before[2] & ~before[0].is_negligible()
        there = replaced(self, layers=(before[0], later[0])), large & later[1]
        return Either.of(here, there) if here else there

    def drift(self):
        return Increment.of([layer.drift() for layer in self.layers])

    # --- growth at many variances: the last layer's, behind the others --------------------

    def growth_rows(self, q):
        *others, last = self.layers
        before = lambda x: jnp.log(functools.reduce(lambda x, f: f.variance_map(x), others, jnp.exp(x)))
        log_q = jnp.log(q)
        inner, rate = jax.vmap(lambda x: jax.jvp(before, (x,), (jnp.ones_like(x),)))(log_q)
        return last.growth_rows(jnp.exp(inner)), jnp.exp(inner - log_q), rate

    def growth_from(self, row):
        of_last, ratio, rate = row
        value, slope = self.layers[-1].growth_from(of_last)
        return value * ratio, ratio * (slope * rate + value * (rate - 1))

    # --- parameters -----------------------------------------------------------------------

    def is_valid(self):
        return functools.reduce(jnp.logical_and, (layer.is_valid() for layer in self.layers))

    def guarded(self, valid):
        return replaced(self, layers=tuple(layer.guarded(valid) for layer in self.layers))

    def dtype(self):
        return jnp.result_type(*(layer.dtype() for layer in self.layers))

    def error(self, q):
        return self._summed(q, lambda layer, x: layer.error(x))

    def growth_error(self, q):
        return self._summed(q, lambda layer, x: layer.growth_error(x))

    def _summed(self, q, error):
        return sum(error(layer, x) for layer, x in zip(self.layers, self._variances(q), strict=False))

    @property
    def traced(self):
        return any(layer.traced for layer in self.layers)

    def moments(self):
        return [pair for layer in self.layers for pair in layer.moments()]

    def with_moments(self, duals):
        return replaced(self, layers=tuple(layer.with_moments(duals) for layer in self.layers))

    def variances_met(self, q):
        places = zip(self.layers, self._variances(q), strict=False)
        return [x for layer, before in places for x in layer.variances_met(before)]

    @property
    def has_section(self):
        bending = [layer for layer in self.layers if not layer.keeps_angle]
        return len(bending) == 1 and bending[0].has_section

    def near(self, q):
        places = zip(self.layers, self._variances(q), strict=False)
        return replaced(self, layers=tuple(layer.near(x) for layer, x in places))

    def section(self, q, gain):
        places = list(zip(self.layers, self._variances(q), strict=False))
        factor = math.prod(layer.tangent(x) for layer, x in places if layer.keeps_angle)
        ((bending, x),) = ((layer, x) for layer, x in places if not layer.keeps_angle)
        return bending.section(x, gain / factor).scaled(0.0, factor)

    def exact(self):
        return replaced(self, layers=tuple(layer.exact() for layer in self.layers))

    @property
    def points_at_once(self):
        return fewest(*(layer.points_at_once for layer in self.layers))


def _at(delta, q, apart, together):
    """apart(theta) of two signals of variance q that differ by delta; ``together`` if that is 0 or None."""
    if delta is None:
        return together
    differ = delta > 0
    one_minus_c = jnp.minimum(jnp.where(differ, delta / q, 0.5), 1.0)  # above 1 by rounding alone
    there = apart(2 * jnp.arcsin(jnp.sqrt(one_minus_c / 2)))
    return jax.tree.map(lambda a, b: jnp.where(differ, a, b), there, together)


def _angle_behind(theta, ratio):
    """The angle of two signals whose 1 - c has become ``ratio`` times what it was."""
    sine = jnp.sin(theta / 2) * jnp.sqrt(ratio)
    # No layer turns acute angles into obtuse ones; rounding may.
    return 2 * jnp.arcsin(jnp.minimum(sine, jnp.sqrt(0.5).astype(sine.dtype)))


def as_layer(layer, prior=None) -> Layer:
    """A layer from one, or from an activation (object, name or callable) and a prior.

    Raises TypeError or ValueError naming the argument that is neither.
    """
    if not isinstance(layer, Layer):
        if isinstance(layer, Part):
            if layer.no_layer:
                raise TypeError(layer.no_layer)
            raise TypeError(
                f"{layer!r} is a part, not a layer: put it into one, as in "
                f"Chain('tanh', {type(layer).__name__}(...), prior)"
            )
        return Dense(layer, prior)
    if prior is not None:
        raise TypeError("prior must be left out where a layer is given: the layer has its own")
    if layer.no_layer:
        raise ValueError(layer.no_layer)
    return keeps_contract(layer)


def _assembled(parts) -> tuple[Layer, ...]:
    """The layers that parts make, in order."""
    layers: list[Layer] = []
    activation: Activation | None = None
    between: list[Part] = []
    add = lambda layer: layers.append(_behind_batch_norm(layers, layer))
    for part in parts:
        if is_prior(part):
            if activation is None:
                raise ValueError(
                    f"{part!r} stands where no activation is: a chain starts from pre-activations, "
                    "and so does what follows weights: put the activation before the weights"
                )
            add(Dense(activation, part, between=between))
            activation, between = None, []
        elif isinstance(part, Part) and activation is not None:
            if not hasattr(part, "on_activations"):
                raise ValueError(
                    f"{type(part).__name__} takes pre-activations, but stands behind the activation "
                    f"{activation!r}: put a prior between the two"
                )
            between.append(part)
        elif isinstance(part, Layer):
            for layer in part.layers if isinstance(part, Chain) else (keeps_contract(part),):
                add(layer)
        elif isinstance(part, Part):
            raise ValueError(
                f"{part!r} stands where no activation is, and would leave signals that are not Gaussian: "
                "put it between an activation and the weights behind it"
            )
        elif activation is not None:
            raise ValueError(
                f"{part!r} follows the activation {activation!r}: put a prior between the two, or make "
                "one function of both"
            )
        else:
            activation = as_activation(part)
    if activation is not None:
        raise ValueError(
            f"the chain ends with the activation {activation!r}: put a prior at its end, so that it ends "
            "with pre-activations"
        )
    if not layers:
        raise ValueError('a chain needs parts, as in Chain("gelu", NormalPrior(2.0))')
    return fitting(layers)


def _behind_batch_norm(before, layer):
    """The layer, as it is behind those before it."""
    centred = bool(before) and isinstance(before[-1], BatchNorm)
    return layer.within_batch() if centred and not layer.about_batch else layer


def fitting(layers) -> tuple[Layer, ...]:
    """The layers, if they can follow one another. Raises ValueError naming one that cannot.

    Signals are counted from the mean of the batch in all or in none, and are Gaussian if there are others.
    """
    if len({layer.about_batch for layer in layers}) > 1:
        other = next(layer for layer in layers if not layer.about_batch)
        raise ValueError(
            f"with BatchNorm signals are counted from the mean of their batch, which {type(other).__name__} "
            "does not: put a BatchNorm before every activation"
        )
    alone = next((layer for layer in layers if layer.stands_alone), None)
    if alone is not None and len({type(layer) for layer in layers}) > 1:
        raise ValueError(
            f"{type(alone).__name__} stands alone: its signals are not Gaussian, so that no other layer can "
            "stand before or behind it"
        )
    return tuple(layers)
