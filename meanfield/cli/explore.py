"""The command ``explore``."""

import sys
from socketserver import BaseServer
from typing import Annotated

import typer

from meanfield.cli.app import INTERRUPTED, app


@app.command("explore")
def _explore(
    port: Annotated[
        int, typer.Option(metavar="NUMBER", help="Where to listen on 127.0.0.1; 0 for any that is free.")
    ] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
) -> None:
    """A page on this computer on which sliders move and everything follows.

    Listens on 127.0.0.1 only and needs no network. Control-C ends it.

    \b
    Example:
      meanfield explore
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"--port must be between 0 and 65535, got {port}")
    try:
        from meanfield.explorer.server import HOST, server
    except ModuleNotFoundError as error:
        if error.name not in ("dash", "plotly", "flask", "werkzeug"):
            raise
        raise ValueError("the explorer needs Plotly Dash: pip install 'dash>=4'") from None

    with server(port) as listening:
        address = f"http://{HOST}:{listening.port}/"
        print(f"Explorer at {address} (Control-C ends it)", flush=True)
        if not no_browser:
            import webbrowser

            webbrowser.open(address)
        try:
            BaseServer.serve_forever(listening)  # Werkzeug's own ends silently when interrupted
        except KeyboardInterrupt:
            print("Explorer ended.", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None
