"""The command ``sweep``."""

from typing import TYPE_CHECKING, Annotated

import typer

from meanfield.cli.app import app
from meanfield.cli.layers import parameter_of
from meanfield.cli.options import (
    PARAMETERS,
    RANGE,
    ActivationName,
    SpecialWeightLaw,
    axis_of,
    special_weight_law,
)
from meanfield.cli.tables import print_sweep

if TYPE_CHECKING:
    import numpy as np

_RESUMED = "the same command takes up where this one ended"


@app.command("sweep")
def _sweep(
    weight_var: Annotated[str, typer.Option(metavar=RANGE, help="Weight variance, at least 0.")],
    activation: ActivationName = "relu",
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter",
            "-p",
            metavar=f"NAME={RANGE}",
            help="Of the activation: slope (leaky_relu), alpha (elu, celu). Can be given again.",
        ),
    ] = None,
    bias_var: Annotated[str, typer.Option(metavar=RANGE, help="Bias variance, at least 0.")] = "0",
    anticorrelation: Annotated[str, typer.Option(metavar=RANGE, help="Anticorrelation, at most 1.")] = "0",
    q0: Annotated[str, typer.Option(metavar=RANGE, help="Variance to start from, at least 0.")] = "1",
    c0: Annotated[str, typer.Option(metavar=RANGE, help="Correlation to start from, -1 to 1.")] = "0",
    special_weight: SpecialWeightLaw = "none",
    chunk: Annotated[
        int, typer.Option(metavar="NUMBER", help="The most points that are computed and written at a time.")
    ] = 1 << 18,
    processes: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", help="How many processes run this command, on any machines."),
    ] = None,
    process: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Which of them this is, from 0.")
    ] = None,
    coordinator: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT|auto",
            help="Where the processes meet (jax.distributed): that of process 0, the same for all, or auto "
            "where the cluster knows. Not needed: without it each takes its numbers as given.",
            show_default="JAX_COORDINATOR_ADDRESS, if that is set",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="The Zarr store, a directory that all processes see.",
            show_default="in the current directory, named after the activation",
        ),
    ] = None,
) -> None:
    """Fixed points over any number of axes and points: a Zarr store, which xarray opens.

    However it ends, the same command takes up where it ended. Several processes, on one machine or many,
    share the work by --processes and --process; each does what is left, should others be killed.

    \b
    Example:
      meanfield sweep -a elu -p alpha=0.1:2:20 --weight-var 0.5:4:200 --bias-var 0.01:0.5:200 -o elu.zarr
    """
    given = dict(zip(PARAMETERS, (weight_var, bias_var, anticorrelation), strict=True)) | {"q0": q0, "c0": c0}
    axes = {name: axis_of(name, text) for name, text in given.items()}
    own = dict(_parameter(text) for text in parameter or ())

    from meanfield.grids.processes import place_among_processes

    law = special_weight_law(special_weight)
    index, count = place_among_processes(coordinator, processes, process)

    from meanfield.grids.sweeps import sweep

    store = _default_name(activation, own, law) if output is None else output
    try:
        done = sweep(
            activation,
            store,
            **axes,
            **own,
            special_weight=law,
            chunk=chunk,
            process=index,
            processes=count,
        )
        if index == 0:
            print_sweep(done)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_RESUMED) from None
    who = "" if count == 1 else f" by process {index} of {count}"
    print(f"Computed{who}: {done.computed} of {done.size} points\nStore: {store}")


def _parameter(text: str) -> "tuple[str, float | np.ndarray]":
    name, values = parameter_of(text)
    if name in (*PARAMETERS, "q0", "c0", "chunk", "store", "activation", "special_weight"):
        raise ValueError(f"--parameter names one of the activation, but {name} is none of an activation")
    return name, values


def _default_name(activation: str, own: dict, law) -> str:
    import re

    from meanfield.activations.names import as_activation

    name = activation if own else repr(as_activation(activation))
    name += "" if law is None else f"_{law!r}"
    return re.sub(r"[^\w.-]+", "_", f"sweep_{name}").strip("_") + ".zarr"
