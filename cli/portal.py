"""``brewair portal``: the portal with production settings."""

from __future__ import annotations

import typer

from domain.settings import load
from portal.__main__ import main

app = typer.Typer(help="Serve the portal (settings: BREWAIR_…).")


@app.callback(invoke_without_command=True)
def portal() -> None:
    """Serves until Ctrl-C or SIGTERM."""
    settings = load()
    host, port = settings.portal_bind
    typer.echo(f"brewair portal: http://{host}:{port}", err=True)
    main(settings)
