"""The command ``spectrum``."""

from typing import Annotated

import typer

from meanfield.cli.app import app
from meanfield.cli.files import Dpi, Force, Output, Size, Style, outputs
from meanfield.cli.options import (
    Q0,
    ActivationName,
    Anticorrelation,
    BiasVar,
    WeightVar,
    number,
)
from meanfield.cli.tables import print_spectrum


@app.command("spectrum")
def _spectrum(
    weight_var: WeightVar,
    activation: ActivationName = "tanh",
    bias_var: BiasVar = "0",
    anticorrelation: Anticorrelation = "0",
    weights: Annotated[str, typer.Option(metavar="LAW", help="gaussian or orthogonal.")] = "gaussian",
    depth: Annotated[int, typer.Option(metavar="NUMBER", help="Number of layers.")] = 8,
    quantity: Annotated[
        str, typer.Option(metavar="NAME", help="What the picture shows: jacobian or lyapunov.")
    ] = "jacobian",
    networks: Annotated[
        int, typer.Option(metavar="NUMBER", help="Real networks to measure beside the theory.")
    ] = 0,
    width: Annotated[int, typer.Option(metavar="NUMBER", help="Neurons in a layer of theirs.")] = 256,
    q0: Q0 = "1",
    output: Output = None,
    dpi: Dpi = 200,
    size: Size = None,
    style: Style = None,
    force: Force = False,
) -> None:
    """Singular values of the Jacobian, and all Lyapunov exponents: a picture and all values.

    \b
    Example:
      meanfield spectrum -a tanh --weight-var 1.8 --bias-var 0.05 --depth 8 --weights orthogonal --networks 2
    """
    given = {"weight_var": weight_var, "bias_var": bias_var, "anticorrelation": anticorrelation}
    parameters = {name: number(name, text) for name, text in given.items()}
    start = number("q0", q0)
    weights, quantity = weights.lower(), quantity.lower()
    if weights not in ("gaussian", "orthogonal"):
        raise ValueError(f"--weights must be gaussian or orthogonal, got {weights!r}")
    if quantity not in ("jacobian", "lyapunov"):
        raise ValueError(f"--quantity must be jacobian or lyapunov, got {quantity!r}")
    if networks < 0:
        raise ValueError(f"--networks must be at least 0, got {networks}")
    if weights == "orthogonal" and parameters.pop("anticorrelation") != 0:
        raise ValueError("--anticorrelation has no place beside --weights orthogonal")

    import jax
    import numpy as np

    from meanfield.activations.names import as_activation
    from meanfield.plotting import plot_lyapunov_spectrum, plot_spectrum, spectrum_title
    from meanfield.priors import NormalPrior, OrthogonalPrior
    from meanfield.spectra.jacobian import jacobian_spectrum
    from meanfield.spectra.lyapunov import lyapunov_spectrum
    from meanfield.support.files import save_npz

    phi = as_activation(activation)
    prior = (OrthogonalPrior if weights == "orthogonal" else NormalPrior)(**parameters)
    files = outputs(output, f"spectrum_{phi!r}_{weights}_depth_{depth}", dpi, size, style, force)
    with jax.enable_x64(True):
        spectrum = jacobian_spectrum(phi, prior, depth, q0=start)
        lyapunov = lyapunov_spectrum(phi, prior, np.linspace(0, 1, 401), q0=start)
    spectrum, lyapunov = jax.device_get((spectrum, lyapunov))
    columns = {name: np.asarray(value) for name, value in vars(spectrum).items()}
    columns |= {f"lyapunov_{name}": np.asarray(value) for name, value in vars(lyapunov).items()}
    measured = None
    if networks:
        from meanfield.empirical.spectra import measure_lyapunov_spectrum, measure_singular_values

        measure = measure_singular_values if quantity == "jacobian" else measure_lyapunov_spectrum
        measured = measure(phi, prior, width=width, depth=depth, networks=networks)
        columns["measured"] = measured.log_values
    save_npz(files.values, columns)
    if quantity == "jacobian":
        files.write_picture(lambda: plot_spectrum(spectrum, measured, spectrum_title(phi, prior, depth)))
    else:
        files.write_picture(lambda: plot_lyapunov_spectrum(lyapunov, measured, spectrum_title(phi, prior)))
    print_spectrum(spectrum, lyapunov)
    print(files)
