"""Transformer blocks of softmax attention and an MLP (THEORY of layers, section 7)."""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from meanfield.dual.softmax import COARSE, fine_step, softmax_overlaps
from meanfield.layers.base import Layer
from meanfield.layers.contract import keeps_contract
from meanfield.layers.parts import Part
from meanfield.numerics.pytrees import register_dataclass
from meanfield.support import text, validation

NORMS = ("post", "pre")
_SHARP = 8.0  # the largest beta that is resolved where its value is not known


class Tokens(NamedTuple):
    """Statistics of the tokens of a sequence, all pairs alike: variance q, and delta = q (1 - c)."""

    q: Any
    delta: Any


@register_dataclass
@dataclass(frozen=True, eq=False, init=False)
class Transformer(Part):
    r"""Block of attention and an MLP: x <- a x + b Attention(x), x <- a' x + b' MLP(x), with norms.

    mlp: a layer that starts from the stream and ends in weights, as ``Chain("linear", P(2.0), "relu",
        P(1.0))``. beta: of the logits beta q.k / sqrt(key size), greater than 0, for q and k of variance 1 a
        component. tokens: n >= 2, of a sequence. value_var: variance of the values and the output
        matrix together, times the input's. attention, feedforward: (skip, scale), a and b of either branch.
        norm: "post" normalises behind every sum, "pre" before every branch.

    The statistics are those of a simplex, all pairs of tokens with one correlation 0 <= c <= 1, of many heads
    (with few the Gram matrix of tokens fluctuates, and these are its means) and of many channels and
    key components. Behind every post-norm q = 1. Numbers other than n may be arrays for ``vmap``; derivatives
    may be taken with respect to all. Inside a trace a beta above 8 gives NaN.

    Not a layer, since the variance depends on the correlation, and the c-map is not convex: there may be
    several fixed points, which ``token_phases`` finds. ``propagate_tokens`` follows the angle.
    Raises TypeError or ValueError naming the argument that is wrong.

    Source: Cowsik et al. 2024, arXiv:2403.02579.
    """

    mlp: Layer
    beta: Any
    value_var: Any
    attention: tuple[Any, Any]
    feedforward: tuple[Any, Any]
    tokens: int = field(metadata={"static": True})
    norm: str = field(metadata={"static": True})
    largest: float = field(metadata={"static": True})

    no_layer: ClassVar[str] = (
        "a Transformer is not a layer, since its variance depends on the correlation: use token_phases and "
        "propagate_tokens"
    )

    def __init__(
        self, mlp, *, beta, tokens, value_var=1.0, attention=(1.0, 1.0), feedforward=(1.0, 1.0), norm="post"
    ):
        set_field = lambda name, value: object.__setattr__(self, name, value)
        set_field("mlp", _fitting(mlp))
        set_field("beta", validation.real("beta", beta, low=0.0, low_open=True))
        set_field("tokens", validation.count("tokens", tokens, low=2))
        set_field("value_var", validation.real("value_var", value_var, low=0.0))
        set_field("attention", _branch("attention", attention))
        set_field("feedforward", _branch("feedforward", feedforward))
        if norm not in NORMS:
            raise ValueError(text.unknown("norm", norm, NORMS))
        set_field("norm", norm)
        traced = isinstance(beta, jax.core.Tracer)
        top = _SHARP if traced else float(jnp.max(jnp.asarray(self.beta)))
        set_field("largest", max(1.0, 0.5 * math.ceil(2 * top)))

    @property
    def traced(self) -> bool:
        """Whether the MLP closes over a value that is being traced."""
        return self.mlp.traced

    @property
    def points_at_once(self) -> int:
        """How many points to treat together: the integrals of each take some megabytes."""
        return 4

    def is_valid(self):
        finite = super().is_valid() & self.mlp.is_valid()
        return finite & (self.beta > 0) & (self.value_var >= 0)

    # --- attention ------------------------------------------------------------------------

    def overlaps(self, apart, coarse=False):
        """``softmax_overlaps`` of tokens of variance 1 that are ``apart`` = 1 - c."""
        # Square roots with derivatives at both ends.
        apart = jnp.clip(apart, 1e-30, 1 - 1e-14)
        s = self.beta * jnp.sqrt(apart)
        step = COARSE if coarse else fine_step(self.largest, s.dtype == jnp.float32)
        return softmax_overlaps(s, 1 - apart, self.tokens, largest=self.largest, step=step)

    def attended(self, apart, coarse=False) -> Tokens:
        """What attention makes of tokens of variance 1."""
        found = self.overlaps(apart, coarse)
        q = self.value_var * (1 - apart + apart * found.r0)
        return Tokens(q, self.value_var * apart * jnp.maximum(found.r0 - found.r1, 0.0))

    # --- the block ------------------------------------------------------------------------

    def block(self, state: Tokens, coarse=False) -> Tokens:
        """One block."""
        return self.fed(self.mixed(state, coarse))

    def mixed(self, state: Tokens, coarse=False) -> Tokens:
        """Attention and its skip connection."""
        return self._sum(self.attention, state, self.attended(state.delta / state.q, coarse))

    def fed(self, state: Tokens) -> Tokens:
        """The MLP and its skip connection."""
        one, apart = jnp.ones_like(state.q), state.delta / state.q
        branch = Tokens(self.mlp.variance_map(one), self.mlp.separation_map(one, apart))
        return self._sum(self.feedforward, state, branch)

    def _sum(self, numbers, state, branch):
        skip, scale = numbers
        q, delta = (skip**2 * x + scale**2 * y for x, y in zip(state, branch, strict=True))
        return Tokens(jnp.ones_like(q), delta / q) if self.norm == "post" else Tokens(q, delta)

    def limit_map(self, apart, coarse=False):
        """1 - C of the map whose fixed points are those of depth.

        With post-norms the block's; with pre-norms that of what a block adds, which takes over as it
        accumulates: dc/dlog(depth) = C(c) - c.
        """
        if self.norm == "post":
            return self.block(Tokens(jnp.ones_like(apart), apart), coarse).delta
        found = self.added(apart, coarse)
        return found.delta / found.q

    def added(self, apart, coarse=False) -> Tokens:
        """What both branches of a block with pre-norms add to tokens whose variance is large."""
        one = jnp.ones_like(apart)
        heads = self.attended(apart, coarse)
        mlp = Tokens(self.mlp.variance_map(one), self.mlp.separation_map(one, apart))
        a, b = self.attention[1] ** 2, self.feedforward[1] ** 2
        return Tokens(*(a * x + b * y for x, y in zip(heads, mlp, strict=True)))

    # --- tangents -------------------------------------------------------------------------

    def tangents(self, apart):
        """2 x 2 matrices (attention, MLP) that act on (d0, d1) of tokens ``apart`` at variance 1.

        d0: squared perturbation of a token; d1: overlap of those of two tokens. Gradients: the transposes.
        """
        found = self.overlaps(apart)
        spread = apart * self.beta**2
        own, cross = spread * found.own, spread * found.cross
        attention = self.value_var * jnp.array(
            [
                [found.r0 + own * (1 + apart), 1 - found.r0 - own],
                [found.r1 + cross * (1 - apart), 1 - found.r1 + cross * (2 * apart - 1)],
            ]
        )
        return attention, self.tangents_of_mlp(apart)

    def tangents_of_mlp(self, apart):
        """What the MLP does to (d0, d1) of tokens that are ``apart``: both by themselves."""
        one = jnp.ones_like(apart)
        differ = apart > 0
        theta = 2 * jnp.arcsin(jnp.sqrt(jnp.where(differ, apart, 0.5) / 2))
        pair = jnp.where(differ, self.mlp.slope(one, theta), self.mlp.tangent(one))
        return jnp.diag(jnp.array([self.mlp.tangent(one), pair]))


def _branch(name, value) -> tuple:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise TypeError(f"{name} must be a pair (skip, scale), got {value!r}")
    return tuple(
        validation.real(f"{what} of {name}", x) for what, x in zip(("skip", "scale"), value, strict=True)
    )


def _fitting(mlp) -> Layer:
    if not isinstance(mlp, Layer):
        raise TypeError(f"mlp must be a layer, as meanfield.Chain makes one, got {mlp!r}")
    if not mlp.mixes or mlp.stands_alone:
        raise ValueError(
            "mlp must end in weights: put a prior at its end, as in Chain('linear', p, 'relu', p)"
        )
    if not mlp.keeps_one or mlp.about_batch:
        raise ValueError(
            "mlp must keep equal tokens equal: leave out BatchNorm, and give dropout shared masks"
        )
    return keeps_contract(mlp)
