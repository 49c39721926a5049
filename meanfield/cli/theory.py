"""The commands of the theory: ``phase-diagram``, ``fixed-point`` and ``dead-nodes``."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from meanfield.cli.app import app
from meanfield.cli.files import Dpi, Force, Output, Size, Style, outputs
from meanfield.cli.layers import (
    LayerFunction,
    LayerParameters,
    arguments_of,
    layer_function,
    no_place,
    parameter_of,
    with_numbers,
)
from meanfield.cli.options import (
    ACTIVATION,
    C0,
    PARAMETERS,
    Q0,
    RANGE,
    ActivationName,
    Anticorrelation,
    BiasVar,
    SpecialWeightLaw,
    axis_of,
    number,
    option,
    prior_of,
    special_weight_law,
)
from meanfield.cli.tables import print_dead_nodes, print_findings, print_points

if TYPE_CHECKING:
    from meanfield.fixed_points.point import FixedPoint

_MOST = 64  # fixed points that --all finds


@app.command("phase-diagram")
def _phase_diagram(
    activation: Annotated[str | None, ACTIVATION] = None,
    weight_var: Annotated[
        str | None, typer.Option(metavar=RANGE, help="Weight variance.", show_default="0.5:4:351")
    ] = None,
    bias_var: Annotated[
        str | None, typer.Option(metavar=RANGE, help="Bias variance.", show_default="0.1")
    ] = None,
    anticorrelation: Annotated[
        str | None,
        typer.Option(
            metavar=RANGE,
            help="Anticorrelation, at most 1.",
            show_default="-1:1:201, or 0 if the other two are ranges",
        ),
    ] = None,
    q0: Q0 = "1",
    c0: C0 = "0",
    special_weight: SpecialWeightLaw = "none",
    layer: LayerFunction = None,
    parameter: LayerParameters = None,
    quantity: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What the picture shows: phase, status, q, c, one_minus_c, "
            "chi_q, chi_c, chi_1, chi_perp, xi_q or xi_c.",
        ),
    ] = "phase",
    deviations: Annotated[
        bool, typer.Option("--deviations", help="Axes of sigma_w and sigma_b in place of their squares.")
    ] = False,
    output: Output = None,
    dpi: Dpi = 200,
    size: Size = None,
    style: Style = None,
    force: Force = False,
) -> None:
    """Fixed points over two parameters of the prior: a picture and all values.

    Two of the weight variance, the bias variance and the anticorrelation are ranges;
    without options, the diagram is that of ReLU over weight variance and anticorrelation.
    With --layer the parameters are the arguments of a function that returns a layer.

    \b
    Example:
      meanfield phase-diagram -a tanh --weight-var 0.5:4:71 --bias-var 0:1:41 -o tanh
      meanfield phase-diagram --layer block.py:block -p weight_var=0.5:4:71 -p keep=0.5:1:41
    """
    given = {"weight_var": weight_var, "bias_var": bias_var, "anticorrelation": anticorrelation}
    start = {"q0": number("q0", q0), "c0": number("c0", c0)}
    own = dict(map(parameter_of, parameter or ()))
    if layer is None:
        _no_parameters(own)
        axes = {name: axis_of(name, text) for name, text in _with_default(given).items()}
        _check_two_ranges(axes, list(map(option, PARAMETERS)))
    else:
        no_place(
            {"--activation": activation, "--special-weight": _named_law(special_weight)} | _options(given)
        )

    from meanfield.activations.names import as_activation
    from meanfield.grids.phase_diagrams import phase_diagram
    from meanfield.plotting import checked_quantity, phase_diagram_figure

    law = special_weight_law(special_weight)
    of: Any
    if layer is None:
        of = activation or "relu"
        name = repr(as_activation(of)) + ("" if law is None else f"_{law!r}")
    else:
        of, axes = _family(layer, own)
        name = of.__name__
    quantity = checked_quantity(quantity.lower())
    files = outputs(output, f"phase_diagram_{name}", dpi, size, style, force)
    diagram = phase_diagram(of, **axes, **start, special_weight=law)
    diagram.save(files.values)
    files.write_picture(lambda: phase_diagram_figure(diagram, quantity, deviations))
    print_findings(diagram)
    print(files)


@app.command("fixed-point")
def _fixed_point(
    weight_var: Annotated[
        str | None,
        typer.Option(metavar="NUMBER", help="Weight variance, at least 0.", show_default="must be given"),
    ] = None,
    activation: Annotated[str | None, ACTIVATION] = None,
    bias_var: Annotated[
        str | None, typer.Option(metavar="NUMBER", help="Bias variance, at least 0.", show_default="0")
    ] = None,
    anticorrelation: Annotated[
        str | None, typer.Option(metavar="NUMBER", help="Anticorrelation, at most 1.", show_default="0")
    ] = None,
    q0: Q0 = "1",
    c0: C0 = "0",
    special_weight: SpecialWeightLaw = "none",
    layer: LayerFunction = None,
    parameter: LayerParameters = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every finite, positive fixed point, stable or not.")
    ] = False,
) -> None:
    """The fixed point that two signals approach, its stability and depth scales.

    \b
    Example:
      meanfield fixed-point -a silu --weight-var 2.5 --bias-var 0.1 --anticorrelation 0.5 --all
      meanfield fixed-point --layer block.py:block -p weight_var=2 -p keep=0.9
    """
    given = dict(zip(PARAMETERS, (weight_var, bias_var, anticorrelation), strict=True))
    start = {"q0": number("q0", q0), "c0": number("c0", c0)}
    own = dict(map(parameter_of, parameter or ()))
    if layer is None:
        _no_parameters(own)
        if weight_var is None:
            raise ValueError("missing option '--weight-var'")
        parameters = {name: number(name, text or "0") for name, text in given.items()}
    else:
        no_place(
            {"--activation": activation, "--special-weight": _named_law(special_weight)} | _options(given)
        )

    import jax

    from meanfield.activations.names import as_activation

    law = special_weight_law(special_weight)
    if every and law is not None:
        raise ValueError("--all has no place beside --special-weight; --q0 chooses the fixed point there")
    with jax.enable_x64(True):
        found = _every_point if every else _one_point
        if layer is None:
            points = found(as_activation(activation or "relu"), prior_of(parameters, law), **start)
        else:
            points = found(_layer(layer, own), None, **start)
    if not points:
        print("There is no finite, positive fixed point.")
        return
    print_points(points)


@app.command("dead-nodes")
def _dead_nodes(
    activation: ActivationName = "relu",
    weight_var: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER", help="Weight variance, at least 0.", show_default="that of unit gain, for relu"
        ),
    ] = None,
    bias_var: BiasVar = "0",
    anticorrelation: Anticorrelation = "0",
    special_weight: SpecialWeightLaw = "none",
    inputs: Annotated[int, typer.Option(metavar="NUMBER", help="How many inputs.")] = 10,
    depth: Annotated[int, typer.Option(metavar="NUMBER", help="Number of layers.")] = 40,
    width: Annotated[
        int | None,
        typer.Option(
            metavar="NUMBER", help="Neurons in a layer: also how often such a network is born dead."
        ),
    ] = None,
    q0: Q0 = "1",
    c0: C0 = "0",
    seed: Annotated[int, typer.Option(metavar="NUMBER", help="Of what is sampled.")] = 0,
) -> None:
    """How many neurons are inactive on every one of some inputs, layer by layer.

    Exact for Gaussian weights, sampled, with a standard error, with a special weight. The
    inputs are equally correlated at the start (--c0).

    \b
    Example:
      meanfield dead-nodes --anticorrelation 1 --special-weight "beta(2,1)" --inputs 10 --width 20
    """
    given = {"bias_var": bias_var, "anticorrelation": anticorrelation}
    parameters = {name: number(name, text) for name, text in given.items()}
    start = {"q0": number("q0", q0), "c0": number("c0", c0)}

    import jax

    from meanfield.activations.names import as_activation
    from meanfield.dead.networks import born_dead_probability
    from meanfield.dead.nodes import dead_node_probability

    law, phi = special_weight_law(special_weight), as_activation(activation)
    if width is not None and repr(phi) != "relu":
        raise ValueError(f"--width needs the activation relu, got {phi!r}")
    with jax.enable_x64(True):
        gain = " (unit gain)" if weight_var is None else ""
        value = _unit_gain(phi, parameters, law) if weight_var is None else number("weight_var", weight_var)
        prior = prior_of(parameters | {"weight_var": value}, law)
        nodes = dead_node_probability(phi, prior, inputs, depth=depth, seed=seed, **start)
        born = None
        if width is not None:
            born = born_dead_probability(prior, width, depth, n_inputs=inputs, c0=start["c0"], seed=seed)
    nodes, born = jax.device_get((nodes, born))  # outside, JAX would take float64 for float32
    on = "one input" if inputs == 1 else f"{inputs} inputs"
    print(f"{phi!r}, weight variance {value:.6g}{gain}, dead on {on}")
    print_dead_nodes(nodes)
    if born is not None:
        error = f" ± {float(born.standard_error):.2g}" if born.standard_error else ""
        print(
            f"A network of {depth} hidden layers of {width} neurons is born dead on {on} "
            f"with probability {float(born.probability):.6g}{error}."
        )


def _unit_gain(activation, parameters: dict, law) -> float:
    """The weight variance at which ReLU signals neither grow nor decay, without bias."""
    from meanfield.asymmetric.prior import AsymmetricPrior

    if repr(activation) != "relu":
        raise ValueError(f"--weight-var must be given for the activation {activation!r}: it has no unit gain")
    kappa = parameters["anticorrelation"]
    law = 0.0 if law is None else law
    return AsymmetricPrior.unit_gain(activation, kappa, law).weight_var


def _with_default(given: dict[str, str | None]) -> dict[str, str]:
    defaults = {"weight_var": "0.5:4:351", "bias_var": "0.1"}
    found = {name: defaults.get(name) if text is None else text for name, text in given.items()}
    others_vary = all(":" in (found[name] or "") for name in defaults)
    rest = "0" if others_vary else "-1:1:201"
    return {name: rest if text is None else text for name, text in found.items()}


def _options(given: dict) -> dict:
    return {option(name): text for name, text in given.items()}


def _named_law(special_weight: str) -> str | None:
    return None if special_weight == "none" else special_weight


def _no_parameters(own: dict) -> None:
    if own:
        raise ValueError(f"--parameter {next(iter(own))} belongs to a function: name it with --layer")


def _check_two_ranges(axes: dict, options: list[str]) -> None:
    """Raises ValueError unless two are ranges. options: how all of them are called."""
    ranges = [
        name for name, value in zip(options, axes.values(), strict=True) if not isinstance(value, float)
    ]
    if len(ranges) != 2:
        rest = "the third a number" if len(options) == 3 else "the others numbers"
        raise ValueError(
            f"two of {', '.join(options)} must be ranges start:stop:count "
            f"and {rest}, but here {', '.join(ranges) or 'none'} "
            f"{'is a range' if len(ranges) == 1 else 'are ranges'}"
        )


def _family(text: str, own: dict) -> tuple[Any, dict]:
    """A function of the two arguments that are ranges, and these."""
    function = layer_function(text)
    axes = arguments_of(function, own)
    _check_two_ranges(axes, list(axes))
    numbers = {name: value for name, value in axes.items() if isinstance(value, float)}
    ranges = {name: value for name, value in axes.items() if name not in numbers}
    return with_numbers(function, numbers), ranges


def _layer(text: str, own: dict) -> Any:
    """The layer of one value of every argument."""
    function = layer_function(text)
    values = arguments_of(function, own)
    if ranges := [name for name, value in values.items() if not isinstance(value, float)]:
        raise ValueError(f"--parameter {ranges[0]} must be a number: one fixed point has no axes")
    return function(**values)


def _one_point(activation, prior, q0, c0) -> list[dict]:
    from meanfield.fixed_points.point import fixed_point

    return [_with_rates(fixed_point(activation, prior, q0=q0, c0=c0), ())]


def _every_point(activation, prior, q0, c0) -> list[dict]:
    from meanfield.fixed_points.point import fixed_points
    from meanfield.status import Status

    if (q0, c0) != (1.0, 0.0):
        raise ValueError("--q0 and --c0 say which fixed point is approached and have no place beside --all")
    found = fixed_points(activation, prior, most=_MOST)
    return [_with_rates(found, i) for i in range(_MOST) if found.status[i] != Status.INVALID]


def _with_rates(point: "FixedPoint", index) -> dict:
    """One point's fields, depth scales and maximal Lyapunov exponent."""
    from meanfield.fixed_points.stability import depth_scales_at, exponents_at

    scales = depth_scales_at(point)
    derived = {"xi_q": scales.q, "xi_c": scales.c, "maximal": exponents_at(point).maximal}
    return _fields(point, index) | {name: value[index].item() for name, value in derived.items()}


def _fields(point: "FixedPoint", index) -> dict:
    return {name: value[index].item() for name, value in vars(point).items()}
