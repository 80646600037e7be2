"""``brewair gateway``: MQTT in, telemetry and tickets out; production settings."""

from __future__ import annotations

import typer

from gateway.__main__ import main

app = typer.Typer(help="Run the gateway until it is told to stop.")


@app.callback(invoke_without_command=True)
def gateway() -> None:
    """Receive from the broker, keep, detect, open tickets. Settings come from the environment; see brewair doctor."""
    main()
