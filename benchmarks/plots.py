"""Pictures of what was measured: seconds a point beside other tools, and how time grows with the grid."""

import json
from pathlib import Path

from meanfield.plotting.figures import LINE_COLOURS, new_figure

BLUE, ORANGE, GREEN, PINK = LINE_COLOURS[:4]


def draw(folder: Path, files: dict[str, Path]) -> None:
    """Write ``speed.png`` and ``scaling.png`` from those of the files that exist."""
    rows = {name: json.loads(file.read_text())["rows"] for name, file in files.items() if file.exists()}
    if "scale" in rows:
        speed(rows["scale"], rows.get("peers", [])).savefig(folder / "speed.png", dpi=150)
        scaling(rows["scale"], rows.get("sweep", [])).savefig(folder / "scaling.png", dpi=150)


def speed(scale: list[dict], peers: list[dict]):
    """Bars: warm seconds a point of every activation, other tools' above."""
    largest = max(row.get("points", 0) for row in scale)
    mine = [(r["activation"], r["warm_s"] / largest, BLUE) for r in scale if r.get("points") == largest]
    others = [
        (f"{r['activation']}: {r['peer'].split(',')[0]}", r["seconds_a_point"], ORANGE)
        for r in peers
        if r["peer"] != "meanfield"
    ]
    bars = [*others, *mine][::-1]
    figure = new_figure((6.4, 0.5 + 0.32 * len(bars)))
    axes = figure.subplots()
    axes.barh([b[0] for b in bars], [b[1] for b in bars], color=[b[2] for b in bars])
    if others:
        axes.set_xscale("log")
    axes.set_xlabel("seconds per point of a phase diagram (warm, float64)")
    axes.margins(y=0.02)
    return figure


def scaling(scale: list[dict], sweep: list[dict]):
    """Time against the number of points, in memory and to disk; and against devices."""
    figure = new_figure((9.6, 3.6))
    left, right = figure.subplots(1, 2)
    in_memory = sorted((r["points"], r["warm_s"]) for r in scale if r.get("activation") == "tanh")
    left.loglog(*zip(*in_memory, strict=True), "o-", color=BLUE, label="tanh, in memory (warm)")
    for name, colour, marker in (("tanh", GREEN, "s"), ("relu", ORANGE, "^")):
        on_disk = [(r["points"], r["seconds"]) for r in sweep if r["job"].startswith(name) and "points" in r]
        if on_disk:
            label = f"{name}, to disk (whole process)"
            left.loglog(*zip(*on_disk, strict=True), marker + "-", color=colour, label=label)
    left.set_xlabel("points of the grid")
    left.set_ylabel("seconds")
    left.legend(frameon=False)
    devices = [(r["devices"], r["warm_s"]) for r in scale if "devices" in r]
    right.plot(*zip(*devices, strict=True), "o-", color=PINK)
    right.set_xscale("log", base=2)
    right.set_xticks([d for d, _ in devices], [str(d) for d, _ in devices])
    right.set_ylim(0, None)
    right.set_xlabel("simulated devices sharing the cores")
    right.set_ylabel("seconds, tanh diagram (warm)")
    return figure
