"""What the sliders say, and the same as the query of an address."""

import math
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, urlencode

from meanfield.activations.names import NAMES, as_activation
from meanfield.layers import Chain, Dense, Dropout, Layer, Residual, RMSNorm
from meanfield.priors import NormalPrior
from meanfield.support.text import unknown

CHOICES = [name for name in NAMES if name != "polynomial"]  # which takes coefficients


@dataclass(frozen=True)
class Range:
    """A slider: its ends and its step."""

    low: float
    high: float
    step: float


RANGES = {
    "weight_var": Range(0.0, 4.0, 0.01),
    "bias_var": Range(0.0, 1.0, 0.005),
    "anticorrelation": Range(-1.0, 1.0, 0.01),
    "skip": Range(0.0, 1.0, 0.01),
    "keep": Range(0.2, 1.0, 0.01),
}
# The blocks that can be chosen, and the parameter that each has beside the prior's.
BLOCKS = {"dense": "", "residual": "skip", "pre-norm residual": "skip", "dropout": "keep"}


@dataclass(frozen=True)
class Settings:
    """An activation, by name, the parameters of a ``NormalPrior``, a block and the parameters of blocks."""

    activation: str = "tanh"
    weight_var: float = 2.3
    bias_var: float = 0.1
    anticorrelation: float = 0.0
    block: str = "dense"
    skip: float = 0.8
    keep: float = 0.9

    @property
    def prior(self) -> NormalPrior:
        return NormalPrior(self.weight_var, self.bias_var, self.anticorrelation)

    @property
    def layer(self) -> Layer:
        return self.layer_of(self.prior)

    def layer_of(self, prior) -> Layer:
        """The block with another prior."""
        if self.block == "residual":
            return Residual(Dense(self.activation, prior), skip=self.skip)
        if self.block == "pre-norm residual":
            return Residual(Chain(RMSNorm(), self.activation, prior), skip=self.skip)
        if self.block == "dropout":
            return Chain(self.activation, Dropout(self.keep), prior)
        return Dense(self.activation, prior)

    @property
    def program(self) -> tuple[str, str]:
        """What is compiled once: an activation and a block."""
        return self.activation, self.block

    @property
    def plane(self) -> list:
        """What a diagram over weight and bias variance is of: the first two are its program."""
        own = BLOCKS[self.block]
        return [*self.program, self.anticorrelation, getattr(self, own) if own else 0.0]

    @property
    def query(self) -> str:
        """As the part of an address from "?" on."""
        return "?" + urlencode(vars(self))

    @classmethod
    def checked(cls, **given) -> tuple["Settings", list[str]]:
        """Settings from values of any kind, and a sentence for each that was bad and left at its default."""
        settings, complaints = cls(), []
        for name, value in given.items():
            try:
                settings = replace(settings, **{name: _checked(name, value)})
            except (TypeError, ValueError) as error:
                complaints.append(f"{error}.")
        return settings, complaints

    @classmethod
    def from_query(cls, query: str) -> tuple["Settings", list[str]]:
        """Settings from what follows "?" in an address, and a sentence for each bad value in it."""
        return cls.checked(**dict(parse_qsl(query.removeprefix("?"), keep_blank_values=True)))


def _checked(name: str, value):
    if name == "activation":
        as_activation(str(value))
        return str(value).strip()
    if name == "block":
        if value not in BLOCKS:
            raise ValueError(unknown("block", value, BLOCKS))
        return str(value)
    if name not in RANGES:
        raise ValueError(unknown("the explorer's parameter", name, [*RANGES, "activation", "block"]))
    low, high = RANGES[name].low, RANGES[name].high
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number, got {value!r}") from None
    if not (math.isfinite(number) and low <= number <= high):
        raise ValueError(f"{name} must be between {low:g} and {high:g} in the explorer, got {value}")
    return number
