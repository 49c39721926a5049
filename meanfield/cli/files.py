"""Where a command writes its picture and its values."""

import math
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES = (".png", ".pdf", ".svg")
_NOT_WRITTEN = (".jpg", ".jpeg", ".eps", ".ps", ".gif", ".tif", ".tiff", ".webp", ".csv", ".txt")

Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="PATH",
        help="Where to write: x.png, x.pdf or x.svg, and the values beside it as x.npz.",
        show_default="in the current directory, named after the command and what it is about",
    ),
]
Dpi = Annotated[int, typer.Option("--dpi", metavar="NUMBER", help="Dots an inch of the picture.")]
Size = Annotated[
    str | None,
    typer.Option(
        "--size",
        metavar="WIDTHxHEIGHT",
        help="Of the picture, in inches.",
        show_default="the picture's own",
    ),
]
Style = Annotated[
    str | None,
    typer.Option(
        "--style",
        metavar="NAME",
        help="Of Matplotlib's styles, such as ggplot, or a file of its settings.",
        show_default="its default",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]


@dataclass(frozen=True)
class Outputs:
    """A picture and its values, checked to be writable before the work begins."""

    picture: Path
    values: Path
    dpi: int
    size: tuple[float, float] | None
    style: str | None

    def write_picture(self, draw: "Callable[[], Figure]") -> None:
        from meanfield.plotting import write_picture
        from meanfield.support.files import written_whole

        form = self.picture.suffix[1:].lower()
        written_whole(
            self.picture, lambda file: write_picture(draw, file, form, self.dpi, self.size, self.style)
        )

    def __str__(self):
        return f"Picture: {self.picture}\nValues:  {self.values}"


def outputs(
    stem: str | None, default: str, dpi: int, size: str | None, style: str | None, force: bool
) -> Outputs:
    """What the options name. Raises ValueError or OSError where it cannot be written, or is there."""
    if dpi < 1:
        raise ValueError(f"--dpi must be at least 1, got {dpi}")
    picture, values = _paths(stem, default)
    found = Outputs(picture, values, dpi, _inches(size), _style(style))
    for path in (picture, values):
        _check_writable(path)
    there = [str(path) for path in (picture, values) if path.exists()]
    if there and not force:
        raise ValueError(
            f"{' and '.join(there)} {'is' if len(there) == 1 else 'are'} there already: "
            "give another name with --output, or --force to write over"
        )
    return found


def _paths(stem: str | None, default: str) -> tuple[Path, Path]:
    if stem is None:
        stem = re.sub(r"[^\w.-]+", "_", default).strip("_")
    elif not stem or stem.endswith("/"):
        raise ValueError(f"--output must end in a file's name, got {stem!r}")
    base = Path(stem).expanduser()
    if base.is_dir():
        raise ValueError(f"--output must be a file's name, but {stem} is a directory")
    suffix = base.suffix.lower()
    if suffix in _NOT_WRITTEN:
        raise ValueError(f"--output must end in {', '.join(PICTURES)} or .npz, got {stem!r}")
    form = base.suffix if suffix in PICTURES else PICTURES[0]
    if suffix in (*PICTURES, ".npz"):
        base = base.with_suffix("")
    return base.with_name(base.name + form), base.with_name(base.name + ".npz")


def _inches(size: str | None) -> tuple[float, float] | None:
    if size is None:
        return None
    match = re.fullmatch(r"([\d.]+)x([\d.]+)", size.strip().lower())
    try:
        width, height = (float(text) for text in match.groups()) if match else (0.0, 0.0)
    except ValueError:
        width, height = 0.0, 0.0
    if not (0 < width < math.inf and 0 < height < math.inf):
        raise ValueError(f"--size must be width x height in inches, such as 3.4x2.6, got {size!r}")
    return width, height


def _style(style: str | None) -> str | None:
    if style is None:
        return None
    from meanfield.plotting import checked_style

    return checked_style(style)


def _check_writable(path: Path) -> None:
    """Try what ``written_whole`` will do, before the work whose result it is to keep."""
    try:
        if path.is_dir():
            raise IsADirectoryError(0, "it is a directory")
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}."):
            pass
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror}") from error
