"""``brewair gateway``: MQTT in, telemetry and tickets out; production settings."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.__main__ import main

app = typer.Typer(help="Run the gateway until it is told to stop.")


@app.callback(invoke_without_command=True)
def gateway(
    shards: Annotated[str, typer.Option(help="Shards of this gateway, such as 0-7; wins over BREWAIR_SHARDS.")] = "",
    drain: Annotated[
        bool, typer.Option("--drain", help="Bring what the spool holds into both stores, and end.")
    ] = False,
    forget: Annotated[
        bool, typer.Option("--forget", help="After --drain the broker keeps nothing more for these shards' gateway.")
    ] = False,
) -> None:
    """Receive from the broker, keep, detect, open tickets. Settings come from the environment; see brewair doctor.

    Exit status of --drain: 0 when everything is stored, 1 when it was stopped before.
    """
    if forget and not drain:
        raise typer.BadParameter("--forget goes with --drain")
    main({"BREWAIR_SHARDS": shards} if shards else {}, drain=drain, forget=forget)
