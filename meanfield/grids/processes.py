"""Which of several processes this one is, and how many there are."""

import os
import socket
import time

from meanfield.support import validation

AUTOMATIC = "auto"
PATIENCE_SECONDS = 300.0  # JAX's own, for processes that are not there yet
_ADDRESS = "JAX_COORDINATOR_ADDRESS"


def place_among_processes(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> tuple[int, int]:
    """(index, count) of this process, to be asked for before JAX computes anything.

    coordinator: host:port of process 0, the same for all; "auto" where the cluster knows
        it (Slurm, Open MPI, Kubernetes, TPU); None for JAX_COORDINATOR_ADDRESS, or for
        no coordinator: then nothing is exchanged, and the numbers are taken as given.
    processes, process: how many, and which from 0. With "auto" the cluster knows them.

    With a coordinator all processes meet through ``jax.distributed`` and leave it again at
    once: it would end every process when one of them dies.

    Raises TypeError or ValueError for what does not fit together, OSError where the others
    are not met.
    """
    coordinator = coordinator or os.environ.get(_ADDRESS)
    if (process is None) != (processes is None):
        raise ValueError("process and processes must be given together")
    if processes is not None and process is not None:
        validation.count("processes", processes)
        if not 0 <= validation.count("process", process, low=0) < processes:
            raise ValueError(f"process must be from 0 to {processes - 1}, got {process}")
    if coordinator is None:
        return (0, 1) if process is None or processes is None else (process, processes)
    if coordinator != AUTOMATIC:
        _check_address(coordinator)
        if process is None:
            raise ValueError(f"process and processes must be given with the coordinator {coordinator}")
        if process > 0:
            _await_listener(coordinator)
    return _met(None if coordinator == AUTOMATIC else coordinator, processes, process)


def _met(address, processes, process) -> tuple[int, int]:
    import jax

    try:
        jax.distributed.initialize(address, processes, process)
        place = jax.process_index(), jax.process_count()
        jax.distributed.shutdown()
    except (RuntimeError, ValueError) as error:
        where = "this machine's cluster" if address is None else f"the coordinator {address}"
        raise OSError(f"the processes did not meet through {where}: {str(error).splitlines()[0]}") from error
    return place


def _await_listener(address: str) -> None:
    """Wait for process 0, which JAX would not miss without ending this process."""
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > deadline or isinstance(error, socket.gaierror):
                reason = error.strerror or str(error)
                raise OSError(f"process 0 was not met at the coordinator {address}: {reason}") from error
            time.sleep(0.1)


def _check_address(text: str) -> None:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"coordinator must be host:port, or {AUTOMATIC}, got {text!r}")
