"""The notebooks on the site, each as a file and with one of its own pictures: neither can drift.

The picture is the first of the cell that is tagged "picture".
"""

import base64
import json
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

_NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def on_files(files, config):
    for path in sorted(_NOTEBOOKS.glob("*.ipynb")):
        files.append(File.generated(config, f"notebooks/{path.name}", abs_src_path=str(path)))
        files.append(File.generated(config, f"notebooks/{path.stem}.png", content=_picture(path)))
    return files


def _picture(path: Path) -> bytes:
    for cell in json.loads(path.read_text())["cells"]:
        if "picture" in cell["metadata"].get("tags", []):
            for output in cell["outputs"]:
                if png := output.get("data", {}).get("image/png"):
                    return base64.b64decode("".join(png))
    raise PluginError(f"{path.name} has no cell with a picture that is tagged so")
