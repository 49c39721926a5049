"""Runs the notebooks: ``python notebooks/run.py [--quick | --write] [NAME ...]``.

Each runs in a temporary copy of this folder, two at a time. Any error, warning or machine path in an
output fails, as do a file that a notebook leaves behind and a notebook of 1 MB or more.
"""

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

HERE = Path(__file__).resolve().parent
LARGEST = 1_000_000  # bytes
PATH = re.compile(r"(?<![\w.:/])/(?:tmp|work|home|root|usr|var|opt|mnt|Users)/|[A-Z]:\\\\")
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def executed(path: Path) -> tuple[nbformat.NotebookNode, list[str], float]:
    """A notebook with its outputs, what is wrong with them, and the seconds that it took."""
    notebook = nbformat.read(path, as_version=4)
    before, began = set(path.parent.iterdir()), time.monotonic()
    client = NotebookClient(
        notebook,
        timeout=900,
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--log-level=ERROR"],
    )
    try:
        client.execute()
        found = []
    except CellExecutionError as error:
        found = [str(error)]
    seconds = time.monotonic() - began
    found += [f"left behind: {left.name}" for left in set(path.parent.iterdir()) - before]
    return cleaned(notebook), found + problems(notebook), seconds


def cleaned(notebook):
    """Without anything that depends on the machine or the time."""
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    for cell in notebook.cells:
        cell.metadata = {key: cell.metadata[key] for key in ("tags",) if key in cell.metadata}
        for output in cell.get("outputs", []):
            if "metadata" in output:
                output.metadata = {}
    return notebook


def problems(notebook) -> list[str]:
    """One line for each output that nobody should see, and for the size."""
    found = []
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            shown = dict(output)
            shown["data"] = {k: v for k, v in output.get("data", {}).items() if not k.startswith("image/")}
            text = json.dumps(shown)
            if output.get("name") == "stderr" or "Warning" in text or output.output_type == "error":
                found.append(f"cell {number}: a warning or an error: {text[:500]}")
            if PATH.search(text):
                found.append(f"cell {number}: a machine path: {text[:500]}")
    size = len(nbformat.writes(notebook).encode())
    return found + ([f"{size} bytes"] if size >= LARGEST else [])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="notebooks, by the start of their names")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_true", help="the reduced size; nothing is stored")
    how.add_argument("--write", action="store_true", help="store the outputs in the notebooks")
    options = parser.parse_args()
    os.environ.pop("MPLBACKEND", None)  # the kernel has one of its own, which shows figures
    os.environ.pop("MEANFIELD_QUICK", None)
    if options.quick:
        os.environ["MEANFIELD_QUICK"] = "1"
        # At this size nearly all the time goes to the compiler; these settings halve that.
        os.environ.setdefault(
            "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
        )
    names = [p.name for p in sorted(HERE.glob("*.ipynb"))]
    names = [n for n in names if not options.names or n.startswith(tuple(options.names))]
    with tempfile.TemporaryDirectory() as directory:
        os.environ["IPYTHONDIR"] = f"{directory}/ipython"
        copies = [copied(name, Path(directory)) for name in names]
        with ProcessPoolExecutor(2) as pool:
            return sum(map(partial(reported, write=options.write), copies, pool.map(executed, copies))) > 0


def copied(name: str, directory: Path) -> Path:
    """A checkout with one notebook and the benchmarks' results, which it may read."""
    place = directory / Path(name).stem / HERE.name
    place.mkdir(parents=True)
    shutil.copytree(HERE.parent / "benchmarks", place.parent / "benchmarks")
    return Path(shutil.copy(HERE / name, place))


def reported(path: Path, result, write: bool) -> bool:
    """Print what came out, and store it if asked; whether anything is wrong."""
    notebook, found, seconds = result
    text = nbformat.writes(notebook) + "\n"
    print(f"{path.name:32s} {seconds:6.1f} s {len(text) / 1000:6.0f} kB", *found, sep="\n    ", flush=True)
    if write and not found:
        (HERE / path.name).write_text(text)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
