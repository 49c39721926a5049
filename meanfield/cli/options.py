"""Options that commands share, and what their texts stand for."""

import math
import re
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np

    from meanfield.asymmetric.prior import AsymmetricPrior
    from meanfield.asymmetric.special_weights import SpecialWeight
    from meanfield.priors import NormalPrior

PARAMETERS = ("weight_var", "bias_var", "anticorrelation")

RANGE = "NUMBER|START:STOP:COUNT"

_NAME = 'Name, with parameters if any: tanh, "elu(0.5)".'
ActivationName = Annotated[str, typer.Option("--activation", "-a", metavar="NAME", help=_NAME)]
ACTIVATION = typer.Option("--activation", "-a", metavar="NAME", help=_NAME, show_default="relu")
Q0 = Annotated[str, typer.Option("--q0", metavar="NUMBER", help="Variance to start from, at least 0.")]
C0 = Annotated[str, typer.Option("--c0", metavar="NUMBER", help="Correlation to start from, -1 to 1.")]
SpecialWeightLaw = Annotated[
    str,
    typer.Option(
        metavar="LAW",
        help='Law of one weight in every row: "beta(2,1)" for RAI and RAAI, a number for the same in '
        "every row, or none.",
    ),
]
WeightVar = Annotated[str, typer.Option(metavar="NUMBER", help="Weight variance, at least 0.")]
BiasVar = Annotated[str, typer.Option(metavar="NUMBER", help="Bias variance, at least 0.")]
Anticorrelation = Annotated[str, typer.Option(metavar="NUMBER", help="Anticorrelation, at most 1.")]


def option(name: str) -> str:
    return "--" + name.replace("_", "-")


def number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{option(name)} must be a number, got {text!r}") from None
    if not math.isfinite(value):
        raise ValueError(f"{option(name)} must be finite, got {text!r}")
    return value


def special_weight_law(text: str) -> "SpecialWeight | None":
    """The law that --special-weight names."""
    from meanfield.asymmetric.special_weights import Beta, Constant

    plain = "".join(text.split()).lower()
    if plain == "none":
        return None
    try:
        if match := re.fullmatch(r"beta\(([^,]+),([^,]+)\)", plain):
            return Beta(float(match[1]), float(match[2]))
        return Constant(float(plain))
    except ValueError as error:
        reason = f" ({error})" if "must be" in str(error) else ""
        raise ValueError(
            f'--special-weight must be "beta(a,b)" with positive a and b, a number of at least 0, or none, '
            f"got {text!r}{reason}"
        ) from None


def prior_of(parameters: dict, law) -> "NormalPrior | AsymmetricPrior":
    from meanfield.asymmetric.prior import AsymmetricPrior
    from meanfield.priors import NormalPrior

    return NormalPrior(**parameters) if law is None else AsymmetricPrior(**parameters, special_weight=law)


def axis_of(name: str, text: str) -> "float | np.ndarray":
    """A number, or the values that ``start:stop:count`` stands for."""
    if ":" not in text:
        return number(name, text)
    import numpy as np

    form = f"{option(name)} must be a number or start:stop:count, got {text!r}"
    parts = text.split(":")
    if len(parts) != 3:
        raise ValueError(form)
    try:
        start, stop, count = float(parts[0]), float(parts[1]), int(parts[2])
    except ValueError:
        raise ValueError(form) from None
    if not (math.isfinite(start) and math.isfinite(stop)):
        raise ValueError(f"{option(name)} must be finite, got {text!r}")
    if count < 1:
        raise ValueError(f"{option(name)} needs a count of at least 1, got {text!r}")
    if start == stop and count > 1:
        raise ValueError(f"{option(name)} repeats one value {count} times, got {text!r}")
    return np.linspace(start, stop, count)
