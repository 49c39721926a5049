"""What a command has compiled is kept for the next one: every command is a process of its own."""

import os
import sys
from pathlib import Path

SWITCH = "MEANFIELD_COMPILATION_CACHE"  # "off", or a folder
_JAX = "JAX_COMPILATION_CACHE_DIR"  # where it is set, JAX keeps what is compiled there
_MOST = 256 << 20  # bytes; what was not used for longest goes first


def keep_what_is_compiled() -> None:
    """Let JAX, which is not imported yet, keep compiled programs in the user's cache folder.

    Not where the user said where, or that it should not, or where that folder can't be written.
    """
    wish = os.environ.get(SWITCH, "")
    if wish.lower() in ("off", "0", "no") or _JAX in os.environ:
        return
    folder = Path(wish) if wish else _user_caches() / "meanfield" / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(folder, os.W_OK):
        os.environ[_JAX] = str(folder)
        os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(_MOST))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")


def _user_caches() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
