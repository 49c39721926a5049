"""The notebooks as they are committed; ``notebooks/run.py`` executes them."""

import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MACHINE = re.compile(r"(?<![\w.:/])/(?:tmp|work|home|root)\b")

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=[p.stem for p in NOTEBOOKS])


def cells(path, kind="code"):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def text(cell):
    return "".join(cell["source"])


def outputs(path):
    """All that a cell shows but its pictures."""
    for cell in cells(path):
        for output in cell["outputs"]:
            data = {k: v for k, v in output.get("data", {}).items() if not k.startswith("image/")}
            yield output | {"data": data}


def test_there_are_eleven_and_all_are_listed_on_their_page():
    assert [p.name[:2] for p in NOTEBOOKS] == [f"{i:02d}" for i in range(1, 12)]
    page = (FOLDER.parent / "docs" / "notebooks.md").read_text()
    assert all(p.name in page for p in NOTEBOOKS)


@each
def test_a_notebook_is_below_one_megabyte(path):
    assert path.stat().st_size < 1_000_000


@each
def test_the_first_cell_says_how_long_it_takes(path):
    first = json.loads(path.read_text())["cells"][0]
    assert first["cell_type"] == "markdown" and text(first).startswith("# ")
    assert re.search(r"\d+ s at full size, \d+ s at the reduced size \(`MEANFIELD_QUICK=1`\)", text(first))


@each
def test_every_code_cell_was_run_in_order_and_there_are_pictures(path):
    assert [cell["execution_count"] for cell in cells(path)] == list(range(1, len(cells(path)) + 1))
    assert sum("image/png" in o.get("data", {}) for c in cells(path) for o in c["outputs"]) >= 1


@each
def test_outputs_hold_no_warnings_errors_or_machine_paths(path):
    for output in outputs(path):
        assert output["output_type"] != "error" and output.get("name") != "stderr"
        assert not MACHINE.search(json.dumps(output)) and "Warning" not in json.dumps(output)


@each
def test_metadata_hold_no_times_and_no_machine(path):
    notebook = json.loads(path.read_text())
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert all(set(cell["metadata"]) <= {"tags"} for cell in notebook["cells"])


@each
def test_the_reduced_size_is_one_switch(path):
    assert sum("MEANFIELD_QUICK" in text(cell) for cell in cells(path)) == 1
    assert any("assert" in text(cell) for cell in cells(path))
