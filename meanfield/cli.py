"""The command line: ``meanfield phase-diagram``, ``fixed-point``, ``dead-nodes`` and ``info``.

JAX is imported inside the commands, so that help and usage errors come at once.
"""

import math
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from meanfield import __version__

if TYPE_CHECKING:
    import numpy as np

    from meanfield.dead_nodes import DeadNodes
    from meanfield.fixedpoint import FixedPoint
    from meanfield.phase_diagrams import PhaseDiagram
    from meanfield.priors import AsymmetricPrior, NormalPrior
    from meanfield.special_weights import SpecialWeight

USAGE_ERROR = 2
INTERRUPTED = 130
_PARAMETERS = ("weight_var", "bias_var", "anticorrelation")
_MOST = 64  # fixed points that --all finds
_VERSIONED = ("jax", "jaxlib", "flax", "optax", "numpy")

# Plain help: its text is the same in a terminal, a pipe and a log.
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

_RANGE = "NUMBER|START:STOP:COUNT"
_Activation = Annotated[
    str,
    typer.Option(
        "--activation", "-a", metavar="NAME", help='Name, with parameters if any: tanh, "elu(0.5)".'
    ),
]
_Q0 = Annotated[str, typer.Option("--q0", metavar="NUMBER", help="Variance to start from, at least 0.")]
_C0 = Annotated[str, typer.Option("--c0", metavar="NUMBER", help="Correlation to start from, -1 to 1.")]
_SpecialWeight = Annotated[
    str,
    typer.Option(
        metavar="LAW",
        help='Law of one weight in every row: "beta(2,1)" for RAI and RAAI, a number for the same in '
        "every row, or none.",
    ),
]
_WeightVar = Annotated[str, typer.Option(metavar="NUMBER", help="Weight variance, at least 0.")]
_BiasVar = Annotated[str, typer.Option(metavar="NUMBER", help="Bias variance, at least 0.")]
_Anticorrelation = Annotated[str, typer.Option(metavar="NUMBER", help="Anticorrelation, at most 1.")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code.

    0 for success; 2, with one sentence on stderr, for anything the user got wrong;
    130 if interrupted. Files are written whole or not at all in each case.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        command = typer.main.get_command(app)
        with command.make_context("meanfield", arguments) as context:
            command.invoke(context)
    except typer.Exit as stop:
        return stop.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _stop("Interrupted: no unfinished file was left.", INTERRUPTED)
    except (MemoryError, OverflowError):
        return _stop("Error: there is not enough memory for a grid of this size.", USAGE_ERROR)
    except OSError as error:
        return _stop(f"Error: {_sentence(_of_the_system(error))}", USAGE_ERROR)
    except (ValueError, TypeError) as error:
        return _stop(f"Error: {_sentence(str(error))}", USAGE_ERROR)
    except Exception as error:
        # Typer's own usage errors; their base class has no public name.
        if not hasattr(error, "format_message"):
            raise
        return _stop(f"Error: {_sentence(error.format_message())}", USAGE_ERROR)
    return 0


def _stop(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


def _sentence(text: str) -> str:
    """On one line, as what follows a colon: one sentence, whatever the library's messages are."""
    text = re.sub(r"[.?!] (\w)", lambda m: f"; {m[1].lower()}", " ".join(text.split()).rstrip(".?!"))
    return f"{text[:1].lower()}{text[1:]}."


def _of_the_system(error: OSError) -> str:
    if error.strerror is None:
        return str(error)
    return f"cannot write {error.filename}: {error.strerror}" if error.filename else error.strerror


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"meanfield {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _meanfield(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Mean-field theory of signal propagation in random neural networks.

    \b
    Example:
      meanfield phase-diagram --activation tanh --weight-var 0.5:4:71 --bias-var 0:1:41
    """
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command("phase-diagram")
def _phase_diagram(
    activation: _Activation = "relu",
    weight_var: Annotated[str, typer.Option(metavar=_RANGE, help="Weight variance.")] = "0.5:4:351",
    bias_var: Annotated[str, typer.Option(metavar=_RANGE, help="Bias variance.")] = "0.1",
    anticorrelation: Annotated[
        str | None,
        typer.Option(
            metavar=_RANGE,
            help="Anticorrelation, at most 1.",
            show_default="-1:1:201, or 0 if the other two are ranges",
        ),
    ] = None,
    q0: _Q0 = "1",
    c0: _C0 = "0",
    special_weight: _SpecialWeight = "none",
    quantity: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What the picture shows: phase, status, q, c, one_minus_c, "
            "chi_q, chi_c, chi_1, chi_perp, xi_q or xi_c.",
        ),
    ] = "phase",
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="Where to write, with or without .png or .npz.",
            show_default="phase_diagram_ACTIVATION in the current directory",
        ),
    ] = None,
) -> None:
    """Fixed points over two parameters of the prior: a picture (PNG) and all values (NPZ).

    Two of the weight variance, the bias variance and the anticorrelation are ranges;
    without options, the diagram is that of ReLU over weight variance and anticorrelation.

    \b
    Example:
      meanfield phase-diagram -a tanh --weight-var 0.5:4:71 --bias-var 0:1:41 -o tanh
    """
    given = {"weight_var": weight_var, "bias_var": bias_var, "anticorrelation": anticorrelation}
    axes = {name: _axis(name, text) for name, text in _with_default(given).items()}
    _check_two_ranges(axes)
    start = {"q0": _number("q0", q0), "c0": _number("c0", c0)}

    from meanfield.activations import as_activation
    from meanfield.phase_diagrams import phase_diagram, written_whole
    from meanfield.plotting import checked_quantity, write_picture

    law = _law(special_weight)
    name = repr(as_activation(activation)) + ("" if law is None else f"_{law!r}")
    checked_quantity(quantity)
    picture, data = _outputs(output, name)
    diagram = phase_diagram(activation, **axes, **start, special_weight=law)
    diagram.save(data)
    written_whole(picture, lambda file: write_picture(diagram, quantity, file))
    _print_findings(diagram)
    print(f"Picture: {picture}\nValues:  {data}")


@app.command("fixed-point")
def _fixed_point(
    weight_var: _WeightVar,
    activation: _Activation = "relu",
    bias_var: _BiasVar = "0",
    anticorrelation: _Anticorrelation = "0",
    q0: _Q0 = "1",
    c0: _C0 = "0",
    special_weight: _SpecialWeight = "none",
    every: Annotated[
        bool, typer.Option("--all", help="Every finite, positive fixed point, stable or not.")
    ] = False,
) -> None:
    """The fixed point that two signals approach, its stability and depth scales.

    \b
    Example:
      meanfield fixed-point -a silu --weight-var 2.5 --bias-var 0.1 --anticorrelation 0.5 --all
    """
    given = dict(zip(_PARAMETERS, (weight_var, bias_var, anticorrelation), strict=True))
    parameters = {name: _number(name, text) for name, text in given.items()}
    start = {"q0": _number("q0", q0), "c0": _number("c0", c0)}

    import jax

    from meanfield.activations import as_activation

    law = _law(special_weight)
    if every and law is not None:
        raise ValueError("--all has no place beside --special-weight; --q0 chooses the fixed point there")
    with jax.enable_x64(True):
        prior = _prior(parameters, law)
        points = (_every_point if every else _one_point)(as_activation(activation), prior, **start)
    if not points:
        print("There is no finite, positive fixed point.")
        return
    _print_points(points)


@app.command("dead-nodes")
def _dead_nodes(
    activation: _Activation = "relu",
    weight_var: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER", help="Weight variance, at least 0.", show_default="that of unit gain, for relu"
        ),
    ] = None,
    bias_var: _BiasVar = "0",
    anticorrelation: _Anticorrelation = "0",
    special_weight: _SpecialWeight = "none",
    inputs: Annotated[int, typer.Option(metavar="NUMBER", help="How many inputs.")] = 10,
    depth: Annotated[int, typer.Option(metavar="NUMBER", help="Number of layers.")] = 40,
    width: Annotated[
        int | None,
        typer.Option(
            metavar="NUMBER", help="Neurons in a layer: also how often such a network is born dead."
        ),
    ] = None,
    q0: _Q0 = "1",
    c0: _C0 = "0",
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
    parameters = {name: _number(name, text) for name, text in given.items()}
    start = {"q0": _number("q0", q0), "c0": _number("c0", c0)}

    import jax

    from meanfield.activations import as_activation
    from meanfield.born_dead import born_dead_probability
    from meanfield.dead_nodes import dead_node_probability

    law, phi = _law(special_weight), as_activation(activation)
    if width is not None and repr(phi) != "relu":
        raise ValueError(f"--width needs the activation relu, got {phi!r}")
    with jax.enable_x64(True):
        gain = " (unit gain)" if weight_var is None else ""
        value = _unit_gain(phi, parameters, law) if weight_var is None else _number("weight_var", weight_var)
        prior = _prior(parameters | {"weight_var": value}, law)
        nodes = dead_node_probability(phi, prior, inputs, depth=depth, seed=seed, **start)
        born = None
        if width is not None:
            born = born_dead_probability(prior, width, depth, n_inputs=inputs, c0=start["c0"], seed=seed)
    on = "one input" if inputs == 1 else f"{inputs} inputs"
    print(f"{phi!r}, weight variance {value:.6g}{gain}, dead on {on}")
    _print_dead_nodes(nodes)
    if born is not None:
        error = f" ± {float(born.standard_error):.2g}" if born.standard_error else ""
        print(
            f"A network of {depth} hidden layers of {width} neurons is born dead on {on} "
            f"with probability {float(born.probability):.6g}{error}."
        )


@app.command("info")
def _info() -> None:
    """Versions, backend, devices and precision.

    \b
    Example:
      meanfield info
    """
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import jax
    import jax.numpy as jnp

    def installed(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "not installed"

    with jax.enable_x64(True):
        double = jnp.zeros((), jnp.float64).dtype == jnp.float64
    table = _table()
    table.add_row("meanfield", __version__)
    for package in _VERSIONED:
        table.add_row(package, installed(package))
    table.add_row("Python", platform.python_version())
    table.add_row("backend", jax.default_backend())
    table.add_row("devices", ", ".join(str(device) for device in jax.devices()))
    table.add_row("precision", "float64" if double else "float32 (this backend has no float64)")
    _print(table)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{_option(name)} must be a number, got {text!r}") from None
    if not math.isfinite(value):
        raise ValueError(f"{_option(name)} must be finite, got {text!r}")
    return value


def _law(text: str) -> "SpecialWeight | None":
    """The law that --special-weight names."""
    from meanfield.special_weights import Beta, Constant

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


def _prior(parameters: dict, law) -> "NormalPrior | AsymmetricPrior":
    from meanfield.priors import AsymmetricPrior, NormalPrior

    return NormalPrior(**parameters) if law is None else AsymmetricPrior(**parameters, special_weight=law)


def _unit_gain(activation, parameters: dict, law) -> float:
    """The weight variance at which ReLU signals neither grow nor decay, without bias."""
    from meanfield.priors import AsymmetricPrior

    if repr(activation) != "relu":
        raise ValueError(f"--weight-var must be given for the activation {activation!r}: it has no unit gain")
    kappa = parameters["anticorrelation"]
    law = 0.0 if law is None else law
    return AsymmetricPrior.unit_gain(kappa, activation, law).weight_var


def _axis(name: str, text: str) -> "float | np.ndarray":
    """A number, or the values that ``start:stop:count`` stands for."""
    if ":" not in text:
        return _number(name, text)
    import numpy as np

    form = f"{_option(name)} must be a number or start:stop:count, got {text!r}"
    parts = text.split(":")
    if len(parts) != 3:
        raise ValueError(form)
    try:
        start, stop, count = float(parts[0]), float(parts[1]), int(parts[2])
    except ValueError:
        raise ValueError(form) from None
    if not (math.isfinite(start) and math.isfinite(stop)):
        raise ValueError(f"{_option(name)} must be finite, got {text!r}")
    if count < 1:
        raise ValueError(f"{_option(name)} needs a count of at least 1, got {text!r}")
    if start == stop and count > 1:
        raise ValueError(f"{_option(name)} repeats one value {count} times, got {text!r}")
    return np.linspace(start, stop, count)


def _with_default(given: dict[str, str | None]) -> dict[str, str]:
    others_vary = all(":" in (given[name] or "") for name in ("weight_var", "bias_var"))
    default = "0" if others_vary else "-1:1:201"
    return {name: default if text is None else text for name, text in given.items()}


def _check_two_ranges(axes) -> None:
    ranges = [_option(name) for name, value in axes.items() if not isinstance(value, float)]
    if len(ranges) != 2:
        raise ValueError(
            f"two of {', '.join(map(_option, _PARAMETERS))} must be ranges start:stop:count "
            f"and the third a number, but here {', '.join(ranges) or 'none'} "
            f"{'is a range' if len(ranges) == 1 else 'are ranges'}"
        )


def _outputs(stem: str | None, activation: str) -> tuple[Path, Path]:
    """Where the picture and the values go, checked to be writable."""
    if stem is None:
        stem = "phase_diagram_" + re.sub(r"[^\w.-]+", "_", activation).strip("_")
    elif not stem or stem.endswith("/"):
        raise ValueError(f"--output must end in a file's name, got {stem!r}")
    base = Path(stem).expanduser()
    if base.is_dir():
        raise ValueError(f"--output must be a file's name, but {stem} is a directory")
    if base.suffix.lower() in (".png", ".npz"):
        base = base.with_suffix("")
    picture, data = (base.with_name(base.name + suffix) for suffix in (".png", ".npz"))
    for path in (picture, data):
        _check_writable(path)
    return picture, data


def _check_writable(path: Path) -> None:
    """Try what ``written_whole`` will do, before the work whose result it is to keep."""
    try:
        if path.is_dir():
            raise IsADirectoryError(0, "it is a directory")
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}."):
            pass
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror}") from error


def _one_point(activation, prior, q0, c0) -> list[dict]:
    from meanfield.fixedpoint import fixed_point

    return [_with_rates(fixed_point(activation, prior, q0=q0, c0=c0), ())]


def _every_point(activation, prior, q0, c0) -> list[dict]:
    from meanfield.fixedpoint import fixed_points
    from meanfield.status import Status

    if (q0, c0) != (1.0, 0.0):
        raise ValueError("--q0 and --c0 say which fixed point is approached and have no place beside --all")
    found = fixed_points(activation, prior, most=_MOST)
    return [_with_rates(found, i) for i in range(_MOST) if found.status[i] != Status.INVALID]


def _with_rates(point: "FixedPoint", index) -> dict:
    """One point's fields, depth scales and maximal Lyapunov exponent."""
    from meanfield.lyapunov import depth_scales_at, exponents_at

    scales = depth_scales_at(point)
    derived = {"xi_q": scales.q, "xi_c": scales.c, "maximal": exponents_at(point).maximal}
    return _fields(point, index) | {name: value[index].item() for name, value in derived.items()}


def _fields(point: "FixedPoint", index) -> dict:
    return {name: value[index].item() for name, value in vars(point).items()}


_ROWS = {
    "q": "q*",
    "c": "c*",
    "one_minus_c": "1 - c*",
    "chi_q": "chi_q",
    "chi_c": "chi_c",
    "chi_1": "chi_1",
    "chi_perp": "chi_perp",
    "xi_q": "xi_q (layers)",
    "xi_c": "xi_c (layers)",
    "maximal": "maximal Lyapunov exponent",
    "mean": "mean E h",
    "noise_var": "variance of the Gaussian part",
    "inactive": "inactive fraction",
}


def _print_points(points: list[dict]) -> None:
    from meanfield.status import Phase, Status

    table = _table()
    for _ in points[1:]:
        table.add_column(justify="right", no_wrap=True)
    for name, label in _ROWS.items():
        if name in points[0]:
            table.add_row(label, *(_with_error(point, name) for point in points))
    table.add_row("phase", *(_word(Phase(point["phase"])) for point in points))
    statuses = [Status(point["status"]) for point in points]
    table.add_row("status", *map(_word, statuses))
    _print(table)
    for status in dict.fromkeys(statuses):
        print(f"{_word(status)}: {status.message}")


def _with_error(point: dict, name: str) -> str:
    """A number, to the digits that its standard error leaves."""
    error = point.get({"c": "c_error", "one_minus_c": "c_error", "chi_c": "chi_c_error"}.get(name, ""), 0.0)
    if not error > 0:
        return f"{point[name]:.12g}"
    places = max(0, 1 - math.floor(math.log10(error)))
    return f"{point[name]:.{places}f} ± {error:.{places}f}"


def _print_dead_nodes(result: "DeadNodes") -> None:
    table = _table()
    table.show_header = True
    table.columns[0].header, table.columns[1].header = "layer", "dead nodes"
    depth = result.probability.shape[0] - 1
    sampled = bool((result.standard_error > 0).any())
    if sampled:
        table.add_column("standard error", justify="right", no_wrap=True)
    shown = [layer for layer in (0, 1, 2, 5, *range(10, depth, 10)) if layer < depth]
    for layer in (*shown, depth):
        cells = [f"{float(result.probability[layer]):.6g}"]
        if sampled:
            cells.append(f"{float(result.standard_error[layer]):.2g}")
        table.add_row(str(layer), *cells)
    _print(table)


def _print_findings(diagram: "PhaseDiagram") -> None:
    import numpy as np

    from meanfield.status import Phase, Status

    size = diagram.status.size
    shape = " x ".join(str(n) for n in diagram.status.shape)
    names = ", ".join(filter(None, (diagram.activation, diagram.special_weight)))
    table = _table(f"{names}, {' x '.join(diagram.axes)} ({shape})")
    table.add_column()

    def add(label: str, count: int, meaning: str = "") -> None:
        if count:
            table.add_row(label, f"{count} ({count / size:.1%})", meaning)

    for phase, sign in {Phase.ORDERED: "<", Phase.CRITICAL: "=", Phase.CHAOTIC: ">"}.items():
        add(_word(phase), int(np.sum(diagram.phase == phase)), f"chi_1 {sign} 1")
    add("undefined", int(np.sum(diagram.phase == Phase.UNDEFINED)), "chi_1 has no value")
    table.add_section()
    for status in Status:
        add(_word(status), int(np.sum(diagram.status == status)), status.message)
    table.add_section()
    stable = diagram.status == Status.CONVERGED
    for label, field in {"q*": diagram.q, "c*": diagram.c}.items():
        known = stable & np.isfinite(field)
        if known.any():
            low, high = field[known].min(), field[known].max()
            where = "where converged" if known.sum() == stable.sum() else "where converged and ordered"
            table.add_row(label, f"{low:.4g} to {high:.4g}", where)
    _print(table)


def _word(code) -> str:
    return code.name.lower().replace("_", " ")


def _table(title: str | None = None) -> Table:
    table = Table(title=title, show_header=False, box=SIMPLE, title_justify="left", title_style="")
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    return table


def _print(table: Table) -> None:
    """Numbers are never cut off: a table too wide for the terminal wraps there instead."""
    console = Console(highlight=False)
    fixed = all(column.no_wrap for column in table.columns)
    if fixed:
        wide = console.options.update(width=10_000)
        console.width = max(console.width, console.measure(table, options=wide).maximum)
    console.print(table)
