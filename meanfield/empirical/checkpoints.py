"""What a run has done so far, kept by Orbax: whole or not at all, whenever it is killed."""

import json
import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np

from meanfield.support.files import written_whole

_SETTINGS = "settings.json"


class Checkpoints:
    """A directory of checkpoints of one run.

    Raises ValueError if it holds those of a run with other settings, OSError if it cannot be made.
    """

    def __init__(self, directory, settings: dict[str, Any]):
        import orbax.checkpoint as ocp

        logging.getLogger("absl").setLevel(logging.ERROR)
        self._ocp = ocp
        self.directory = Path(directory).expanduser().absolute()
        self._make(settings)
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(self.directory / "steps", options=options)

    def _make(self, settings) -> None:
        path = self.directory / _SETTINGS
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"cannot keep checkpoints in {self.directory}: {error.strerror}") from error
        if not path.exists():
            if any(self.directory.iterdir()):
                raise ValueError(f"{self.directory} is not empty and holds no checkpoints of meanfield")
            text = json.dumps(settings, indent=1).encode()
            written_whole(path, lambda file: file.write(text))
            return
        try:
            found = json.loads(path.read_text())
        except ValueError as error:
            raise ValueError(f"{path} is not readable as settings: {error}") from error
        different = sorted(k for k in {*settings, *found} if settings.get(k) != found.get(k))
        if different:
            name = different[0]
            raise ValueError(
                f"{self.directory} holds a run of other settings: {name} was {found.get(name)!r} "
                f"and is now {settings.get(name)!r}"
            )

    def restored(self, start) -> tuple[Any, int, list]:
        """State, evaluations done and measurements of the last whole checkpoint, or those of the start."""
        step = self._manager.latest_step()
        if step is None:
            return start, 0, []
        leaves, treedef = jax.tree.flatten(start)
        measured = [np.zeros((step + 1, *leaves[0].shape[:2]), np.float32)] * 3
        target = {"state": leaves, "measured": measured}
        try:
            found = self._manager.restore(step, args=self._ocp.args.StandardRestore(target))
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"the checkpoint in {self.directory} cannot be read: {reason}") from error
        return jax.tree.unflatten(treedef, found["state"]), step, [tuple(found["measured"])]

    def save(self, done: int, state, measured) -> None:
        """Keep the state after ``done`` evaluations. Raises OSError; earlier checkpoints stay."""
        tree = {"state": jax.tree.leaves(state), "measured": list(measured)}
        try:
            self._manager.save(done, args=self._ocp.args.StandardSave(tree), force=True)
            self._manager.wait_until_finished()
        except Exception as error:
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise OSError(f"cannot write a checkpoint to {self.directory}: {reason}") from error
