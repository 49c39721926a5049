"""Results as tables on the terminal."""

import math
from typing import TYPE_CHECKING

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from meanfield.dead.nodes import DeadNodes
    from meanfield.empirical.comparison import Comparison
    from meanfield.empirical.studies import TrainingStudy
    from meanfield.grids.phase_diagrams import PhaseDiagram
    from meanfield.grids.sweeps import Sweep

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


def print_points(points: list[dict]) -> None:
    from meanfield.status import Phase, Status

    table = new_table()
    for _ in points[1:]:
        table.add_column(justify="right", no_wrap=True)
    for name, label in _ROWS.items():
        if name in points[0]:
            table.add_row(label, *(_with_error(point, name) for point in points))
    table.add_row("phase", *(_word(Phase(point["phase"])) for point in points))
    statuses = [Status(point["status"]) for point in points]
    table.add_row("status", *map(_word, statuses))
    print_table(table)
    for status in dict.fromkeys(statuses):
        print(f"{_word(status)}: {status.message}")


def _with_error(point: dict, name: str) -> str:
    """A number, to the digits that its standard error leaves, of a point that was sampled."""
    if "chi_c_error" not in point:
        return f"{point[name]:.12g}"
    error = point.get({"c": "c_error", "one_minus_c": "c_error", "chi_c": "chi_c_error"}.get(name, ""), 0.0)
    if not error > 0:
        return f"{point[name]:.12g}"
    places = max(0, 1 - math.floor(math.log10(error)))
    return f"{point[name]:.{places}f} ± {error:.{places}f}"


def print_critical_line(title: str, line) -> None:
    """A point of the line a row; what has no point says so by its status."""
    from meanfield.status import Status

    table = new_table(title)
    table.show_header = True
    names = ("weight_var", "bias_var", "q", "chi_q")
    for _ in names[1:]:
        table.add_column(justify="right", no_wrap=True)
    for column, header in zip(table.columns, (*names, "status"), strict=True):
        column.header, column.justify = header, "right"
    statuses = [Status(int(code)) for code in line.status]
    for i, status in enumerate(statuses):
        table.add_row(*(f"{float(getattr(line, name)[i]):.10g}" for name in names), _word(status))
    print_table(table)
    for status in dict.fromkeys(statuses):
        print(f"{_word(status)}: {_ON_THE_LINE[status.name]}")


_ON_THE_LINE = {
    "CONVERGED": "the point lies on the critical line.",
    "VANISHING": "the end of the line, at q = 0 without bias.",
    "MARGINAL": "without bias, every variance is a fixed point.",
    "UNSTABLE": "signals move away from this variance.",
    "INVALID": "there is no such point.",
}


def print_dead_nodes(result: "DeadNodes") -> None:
    table = new_table()
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
    print_table(table)


def print_findings(diagram: "PhaseDiagram") -> None:
    import numpy as np

    from meanfield.status import Phase, Status

    names = ", ".join(filter(None, (diagram.activation, diagram.special_weight)))
    phases = {phase: int(np.sum(diagram.phase == phase)) for phase in Phase}
    statuses = {status: int(np.sum(diagram.status == status)) for status in Status}
    table = _table_of_counts(names, dict(zip(diagram.axes, diagram.status.shape, strict=True)))
    _add_counts(table, phases, statuses)
    table.add_section()
    stable = diagram.status == Status.CONVERGED
    for label, field in {"q*": diagram.q, "c*": diagram.c}.items():
        known = stable & np.isfinite(field)
        if known.any():
            low, high = field[known].min(), field[known].max()
            where = "where converged" if known.sum() == stable.sum() else "where converged and ordered"
            table.add_row(label, f"{low:.4g} to {high:.4g}", where)
    print_table(table)


def print_sweep(sweep: "Sweep") -> None:
    """How many points of the store have each phase and status."""
    table = _table_of_counts(sweep.name, {name: values.size for name, values in sweep.axes.items()})
    _add_counts(table, *sweep.counts())
    print_table(table)


def _table_of_counts(name: str, axes: dict[str, int]) -> Table:
    table = new_table(f"{name}, {' x '.join(axes)} ({' x '.join(map(str, axes.values()))})")
    table.add_column()
    return table


def _add_counts(table: Table, phases: dict, statuses: dict) -> None:
    from meanfield.status import Phase

    size = sum(statuses.values())
    meanings = {phase: f"chi_1 {sign} 1" for phase, sign in zip(Phase, "<=>", strict=False)}
    meanings[Phase.UNDEFINED] = "chi_1 has no value"
    meanings[Phase.NEUTRAL] = "chi_1 = 1, of a variance that does not stay"
    for counts in (phases, statuses):
        for code, count in counts.items():
            if count:
                meaning = meanings[code] if counts is phases else code.message
                table.add_row(_word(code), f"{count} ({count / size:.1%})", meaning)
        if counts is phases:
            table.add_section()


def _word(code) -> str:
    return code.name.lower().replace("_", " ")


def new_table(title: str | None = None) -> Table:
    table = Table(title=title, show_header=False, box=SIMPLE, title_justify="left", title_style="")
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    return table


def print_table(table: Table) -> None:
    """Numbers are never cut off: a table too wide for the terminal wraps there instead."""
    console = Console(highlight=False)
    fixed = all(column.no_wrap for column in table.columns)
    if fixed:
        wide = console.options.update(width=10_000)
        console.width = max(console.width, console.measure(table, options=wide).maximum)
    console.print(table)


def print_comparison(comparison: "Comparison") -> None:
    """Deviations by layer, in standard errors, and the last layer beside the fixed point."""
    import numpy as np

    narrow, wide = comparison.narrow, comparison.wide
    names = comparison.quantities
    table = new_table(
        f"Deviation from the theory, in standard errors; {narrow.networks} networks of widths "
        f"{narrow.width} and {wide.width}, extrapolated"
    )
    table.show_header = True
    table.columns[0].header, table.columns[1].header = "layer", _COMPARED[names[0]]
    for name in names[1:]:
        table.add_column(_COMPARED[name], justify="right", no_wrap=True)
    depth = narrow.depth
    for layer in (*(n for n in (1, 2, 5, *range(10, depth, 10)) if n < depth), depth):
        values = [comparison.deviation[name][layer] for name in names]
        table.add_row(str(layer), *(f"{x:+.1f}" if np.isfinite(x) else "" for x in values))
    print_table(table)

    point = comparison.fixed_point
    ends = {"q": point.q, "one_minus_c": point.one_minus_c, "growth": point.chi_perp}
    last = new_table(f"Layer {depth}")
    last.show_header = True
    last.columns[0].header, last.columns[1].header = "", f"width {narrow.width}"
    for header in (f"width {wide.width}", "theory", "fixed point"):
        last.add_column(header, justify="right", no_wrap=True)
    for name in names:
        if name == "gradient":
            continue
        cells = [
            f"{getattr(m.mean, name)[-1]:.5g} ± {getattr(m.standard_error, name)[-1]:.1g}"
            for m in (narrow, wide)
        ]
        end = f"{float(ends[name]):.5g}" if name in ends else ""
        last.add_row(_COMPARED[name], *cells, f"{comparison.theory.values[name][-1]:.5g}", end)
    print_table(last)
    print(
        f"p = {comparison.p_value:.3g}: how often chance alone gives deviations as large, "
        "all layers and quantities together"
    )


_COMPARED = {
    "q": "q",
    "one_minus_c": "1 - c",
    "growth": "tangent growth",
    "inactive": "inactive",
    "dead": "inactive on both",
    "gradient": "gradient",
}


def print_spectrum(spectrum, lyapunov) -> None:
    """What one number says of a Jacobian's singular values, and quantiles of the exponents."""
    import math

    import numpy as np

    from meanfield.status import Status

    table = new_table()
    rows = {
        "q*": spectrum.q,
        "log of the largest singular value": spectrum.log_largest,
        "log of the mean square": spectrum.log_mean,
        "standard deviation of squares / mean": math.sqrt(max(float(spectrum.relative_variance), 0.0)),
        "fraction of zeros": spectrum.zero,
        "fraction at one value": spectrum.atom,
        "top Lyapunov exponent": lyapunov.top[0],
    }
    for label, value in rows.items():
        table.add_row(label, f"{float(value):.10g}")
    for level in (0.05, 0.25, 0.5, 0.75, 0.95):
        value = np.interp(level, lyapunov.t, lyapunov.exponent) if level > lyapunov.silent[0] else -np.inf
        table.add_row(f"Lyapunov exponent, quantile {level:g}", f"{value:.6g}")
    status = Status(int(spectrum.status))
    table.add_row("status", _word(status))
    print_table(table)
    print(f"{_word(status)}: {status.message}")


def print_study(study: "TrainingStudy") -> None:
    """One initialisation a row."""
    verdicts = study.verdicts()
    table = new_table(f"{study.task.name}, {study.settings['seeds']} seeds; 95% intervals in brackets")
    table.show_header = True
    quality = "test accuracy (%)" if study.task.classification else "test loss"
    headers = [
        "initialisation",
        "learning rate",
        f"steps to loss {study.target_loss:.3g}",
        f"loss over the curve / {verdicts[0].name}",
        "p",
        quality,
    ]
    for _ in headers[2:]:
        table.add_column(justify="right", no_wrap=True)
    for column, header in zip(table.columns, headers, strict=True):
        column.header = header
    for v in verdicts:
        accuracy = v.final_accuracy
        if study.task.classification:
            percent = [100 * x for x in (accuracy.value, accuracy.low, accuracy.high)]
            last = "{:.1f} [{:.1f}, {:.1f}]".format(*percent)
        else:
            last = f"{v.final_test_loss:.3f}"
        edge = " (edge)" if v.at_edge else ""
        diverged = f" ({v.diverged} diverged)" if v.diverged else ""
        p = f"{v.p_value:.1g}" if v.p_value == v.p_value else ""
        rate, time = f"{v.learning_rate:g}{edge}", f"{v.time:.0f}{diverged}"
        table.add_row(v.name, rate, time, f"{v.loss_ratio:.2f}", p, last)
    print_table(table)
    print("p: of the loss ratio being 1, paired over seeds, Holm's correction included")
    if any(v.at_edge for v in verdicts):
        print("edge: the best learning rate was the smallest or the largest tried")
