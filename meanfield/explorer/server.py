"""Serves the page on 127.0.0.1, and nowhere else."""

import logging
import socket

from werkzeug.serving import make_server

from meanfield.explorer.page import build
from meanfield.explorer.settings import Settings
from meanfield.explorer.workbench import Workbench

HOST = "127.0.0.1"


def server(port: int = 0):
    """A server, listening but not yet answering, at ``port`` or, for 0, a free one.

    Raises OSError where the port is taken.
    """
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    # Bound here, for Werkzeug's own failure to bind ends the process.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise OSError(f"cannot listen on port {port} of {HOST}: {error.strerror}") from None
    workbench = Workbench()
    workbench.answer(Settings())  # compile what the page opens with
    app = build(workbench).server
    return make_server(HOST, listener.getsockname()[1], app, threaded=True, fd=listener.detach())
