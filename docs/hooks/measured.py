"""Tables of measured figures, read from benchmarks/*.json when the site is built, so that they cannot drift.

A page asks for one with a line of its own: ``<!-- measured: core_cpu_2_cores -->``.
"""

import json
import re
from pathlib import Path

from mkdocs.exceptions import PluginError

_BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
_REQUEST = re.compile(r"^<!-- measured: (\w+)(?: (\S+))? -->$", re.MULTILINE)


def on_page_markdown(markdown: str, page, **_) -> str:
    def table(match):
        file = _BENCHMARKS / f"{match[1]}.json"
        if not file.is_file():
            raise PluginError(f"{page.file.src_uri} asks for {file.name}, which is not among the benchmarks")
        return "\n".join(table_of(json.loads(file.read_text()), match[2]))

    return _REQUEST.sub(table, markdown)


def table_of(measured: dict, part: str | None) -> list[str]:
    """Markdown lines for one file of results."""
    where = measured["machine"]
    machine = f"{where['cores']} cores, {where['device']}, JAX {where['jax']}, Python {where['python']}"
    if "results" in measured:
        return [*_training(measured["results"][part]), "", f"Measured on: {machine}."]
    if "wrong" in measured:
        return [*_attack(measured), "", f"Measured on: {machine}."]
    first = measured["rows"][0]
    kind = _first_answers if "bar_s" in first else _timings
    for name, table in {"peer": _peers, "bar": _spectra}.items():
        kind = table if name in first else kind
    kind = _agreement if "uniform_p" in measured else kind
    kind = _recommended if "verdict" in measured else kind
    lines = kind(measured["rows"])
    if "verdict" in measured:
        lines += ["", *_uniformity(measured["verdict"])]
    return [*lines, "", f"Measured on: {machine}."]


def _attack(measured: dict) -> list[str]:
    kinds = measured["statuses"]
    names = list(dict.fromkeys(name for counts in kinds.values() for name in counts))
    lines = [f"| status | {' | '.join(kinds)} |", f"| --- | {' | '.join(['---:'] * len(kinds))} |"]
    lines += [f"| {name} | {' | '.join(str(c.get(name, 0)) for c in kinds.values())} |" for name in names]
    points, excused = measured["points"], measured["not solved, and could not be"]
    near = measured["within 1e-4 of a fold or an edge"]
    wrong, needless = len(measured["wrong"]), measured["not solved needlessly"]
    why = ", ".join(f"{n} for {reason}" for reason, n in sorted(excused.items())) or "none"
    return [
        *lines,
        "",
        f"{points} points, {near} of them within 10⁻⁴ of a fold or an edge. CONVERGED and wrong by more than "
        f"it tells: **{wrong}**. INACCURATE or MAX_STEPS needlessly: **{needless}**, {needless / points:.2%} "
        f"(with a reason: {why}).",
    ]


def _timings(rows: list[dict]) -> list[str]:
    lines = ["| job | first call (s) | warm (s) | error | ratio |", "| --- | ---: | ---: | ---: | ---: |"]
    for row in rows:
        cells = [_number(row.get(key), form) for key, form in zip(*_COLUMNS, strict=True)]
        lines.append(f"| {row['job'].strip()} | {' | '.join(cells)} |")
    return lines


def _first_answers(rows: list[dict]) -> list[str]:
    lines = ["| job | first (s) | second (s) | bar (s) |", "| --- | ---: | ---: | ---: |"]
    for row in rows:
        cells = [_number(row.get(key), ".2f") for key in ("first_s", "second_s")]
        lines.append(f"| {_in_words(row['job'])} | {' | '.join(cells)} | {row['bar_s']} |")
    return lines


def _in_words(job: str) -> str:
    return f"`{job}`" if "(" in job else job


_COLUMNS = (("first_s", "warm_s", "error", "ratio"), (".3g", ".3g", ".1e", ".3g"))


def _spectra(rows: list[dict]) -> list[str]:
    lines = ["| what | figure | measured | bar | met |", "| --- | --- | ---: | ---: | --- |"]
    for row in rows:
        bar, said = row["bar"], row.get("unsaid") == 0
        for key, (name, form) in _FIGURES.items():
            if row.get(key) is None:
                continue
            met = "" if bar is None else "yes" if row[key] <= bar else "no, and says so" if said else "**no**"
            job = row["job"] + (f" (worst: {row['worst_at']})" if "worst_at" in row else "")
            lines.append(f"| {job} | {name} | {row[key]:{form}} | {'' if bar is None else bar} | {met} |")
    return lines


_FIGURES = {
    "warm_s": ("seconds, warm", ".2g"),
    "error": ("largest miss", ".1e"),
    "distance": ("distance", ".4f"),
    "largest_gap": ("largest gap, midpoint quantiles", ".4f"),
    "largest_gap_inverted_cdf": ("largest gap, inverted_cdf", ".4f"),
    "largest_gap_null_counted": ("largest gap, null direction counted", ".4f"),
}


def _agreement(rows: list[dict]) -> list[str]:
    names = ("kind", "what") if "kind" in rows[0] else ("activation", "prior")
    head = [
        f"| {' | '.join(names)} | p | largest deviation (standard errors) |",
        "| --- | --- | ---: | ---: |",
    ]
    cells = lambda row: " | ".join(row[name] for name in names)
    return head + [f"| {cells(r)} | {r['p']:.2f} | {r['largest']:.1f} |" for r in rows]


def _recommended(rows: list[dict]) -> list[str]:
    names = ("q", "one_minus_c", "gradient")
    head = [
        "| activation | depth | initialisation | q_L | 1 - c_L | gradient |",
        "| --- | ---: | --- | ---: | ---: | ---: |",
    ]
    return head + [
        f"| {r['activation']} | {r['depth']} | {r['candidate']} "
        f"| {' | '.join(_number(r[name]['deviation'], '+.1f') for name in names)} |"
        for r in rows
    ]


def _uniformity(verdict: dict) -> list[str]:
    """Kolmogorov-Smirnov tests of the p-values, in all and by depth."""
    head = ["| depth | p-values | smallest | uniform: p |", "| --- | ---: | ---: | ---: |"]
    return head + [
        f"| {depth} | {found['count']} | {found['smallest']:.1g} | {found['uniform_p']:.2f} |"
        for depth, found in verdict.items()
        if found is not None
    ]


def _peers(rows: list[dict]) -> list[str]:
    head = [
        "| | activation | seconds a point | largest error of q* | of 1 - c* |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    return head + [
        f"| {r['peer']} | {r['activation']} | {r['seconds_a_point']:.1e} | {r['largest_error_q']:.0e} "
        f"| {r['largest_error_one_minus_c']:.0e} |"
        for r in rows
    ]


def _training(result: dict) -> list[str]:
    head = ["| initialisation | learning rate | training loss relative to the first | diverged |"]
    head.append("| --- | ---: | ---: | ---: |")
    return head + [
        f"| {v['name']} | {v['learning_rate']:g} | {_interval(v['loss_ratio'])} | {v['diverged']} |"
        for v in result["verdicts"]
    ]


def _interval(estimate: dict) -> str:
    return f"{estimate['value']:.2f} [{estimate['low']:.2f}, {estimate['high']:.2f}]"


def _number(value, form: str) -> str:
    return "" if value is None else format(value, form)
