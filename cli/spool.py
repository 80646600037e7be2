"""``brewair spool``: what lies between the broker and the stores."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from domain import settings
from domain.errors import NotFoundError
from gateway.ingest.spool import Checkpoint, scan

app = typer.Typer(help="The gateway's spool on disk.", no_args_is_help=True)


@app.callback()
def spool() -> None:
    """The gateway's spool on disk."""


@app.command()
def inspect(as_json: Annotated[bool, typer.Option("--json", help="JSON, one object a line.")] = False) -> None:
    """Segments, records, damage, and up to where telemetry is stored; reads only."""
    folder = settings.load().spool_dir
    if not folder.is_dir():
        raise NotFoundError("There is no spool in {path}", path=folder)
    stored = Checkpoint(folder / "stored").load()
    total = {"segments": 0, "records": 0, "damaged": 0, "bytes": 0}
    end = 0
    for segment, records, damaged in scan(folder):
        written = datetime.fromtimestamp(segment.path.stat().st_mtime, UTC).isoformat(timespec="seconds")
        line = {
            "segment": segment.path.name, "bytes": segment.size, "records": records, "damaged": damaged,
            "written_at": written, "stored": segment.end <= stored,
        }  # fmt: skip
        total["segments"] += 1
        total["records"] += records
        total["damaged"] += damaged
        total["bytes"] += segment.size
        end = segment.end
        typer.echo(
            json.dumps(line)
            if as_json
            else f"{segment.path.name}  {segment.size:>10} bytes  {records:>8} records  {damaged} damaged  {written}"
        )
    summary = {"summary": True, **total, "end": end, "stored": stored, "behind_bytes": max(0, end - stored)}
    typer.echo(
        json.dumps(summary)
        if as_json
        else f"{total['records']} records, {total['damaged']} damaged; telemetry stored up to {stored} of {end}"
    )
