"""The commands ``init`` and ``critical-line``."""

from typing import Annotated

import typer

from meanfield.cli.app import app
from meanfield.cli.options import RANGE, ActivationName, Anticorrelation, axis_of, number
from meanfield.cli.tables import print_critical_line

_FRAMEWORKS = ("nnx", "linen", "torch", "none")


@app.command("init")
def _init(
    depth: Annotated[int, typer.Option(metavar="NUMBER", help="How many layers follow the first.")],
    activation: ActivationName = "relu",
    q0: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER",
            help="Variance of the first layer's pre-activations.",
            show_default="each initialisation's own q*",
        ),
    ] = None,
    c0: Annotated[
        str, typer.Option(metavar="NUMBER", help="Correlation of two signals at the start, below 1.")
    ] = "0.5",
    framework: Annotated[
        str, typer.Option(metavar="NAME", help="Of the code for the best: nnx, linen, torch or none.")
    ] = "nnx",
) -> None:
    """Initialisations for an activation and a depth, what each does to signals, and code for the best.

    \b
    Example:
      meanfield init --activation gelu --depth 50
    """
    start = None if q0 is None else number("q0", q0)
    correlation = number("c0", c0)
    framework = framework.lower()
    if framework not in _FRAMEWORKS:
        raise ValueError(f"--framework must be {', '.join(_FRAMEWORKS)}, got {framework!r}")

    from meanfield.advice.recommend import recommend

    found = recommend(activation, depth, q0=start, c0=correlation)
    print(found)
    if framework != "none":
        print(f"\n# {found.best.name}\n{found.snippet(framework)}", end="")


@app.command("critical-line")
def _critical_line(
    activation: ActivationName = "tanh",
    q: Annotated[
        str | None, typer.Option("--q", metavar=RANGE, help="Variances at which the prior is critical.")
    ] = None,
    bias_var: Annotated[
        str | None,
        typer.Option(
            metavar=RANGE, help="Bias variances, in place of --q.", show_default="0:0.5:11 if --q is left out"
        ),
    ] = None,
    anticorrelation: Anticorrelation = "0",
) -> None:
    """The critical weight variance: chi_1 = 1, by the variance q or by the bias variance.

    \b
    Example:
      meanfield critical-line --activation tanh --bias-var 0:0.5:11
    """
    if q is not None and bias_var is not None:
        raise ValueError("--q and --bias-var are two ways to choose a point of the line: give one of them")
    kappa = number("anticorrelation", anticorrelation)
    given = axis_of("bias_var", bias_var or "0:0.5:11") if q is None else axis_of("q", q)

    import jax
    import numpy as np

    from meanfield.activations.names import as_activation
    from meanfield.fixed_points.criticality import critical_line, critical_point

    phi = as_activation(activation)
    with jax.enable_x64(True):
        line = (critical_point if q is None else critical_line)(phi, np.atleast_1d(given), kappa)
    print_critical_line(f"{phi!r}" + (f", anticorrelation {kappa:g}" if kappa else ""), jax.device_get(line))
