"""Files that are written whole or not at all."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def save_npz(path, columns: dict[str, Any]) -> None:
    """Write arrays to an NPZ file. Raises OSError."""
    written_whole(Path(path), lambda file: np.savez_compressed(file, allow_pickle=False, **columns))


def written_whole(path: Path, write: Callable) -> None:
    """Call ``write(file)`` on a file beside ``path``, then rename: all of it or nothing."""
    directory = path.parent
    if path.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a directory")
    try:
        handle, temporary = tempfile.mkstemp(dir=directory, prefix=f".{path.name}.")
    except OSError as error:
        raise type(error)(f"cannot write {path}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException as error:
        os.unlink(temporary)
        if isinstance(error, OSError) and error.filename is None and error.strerror:
            raise OSError(f"cannot write {path}: {error.strerror}") from error
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
