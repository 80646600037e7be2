"""``brewair spool``: what lies between the broker and the stores."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from typing import Annotated

import typer

from domain import settings
from domain.clock import SystemClock, from_ms, to_ms
from domain.errors import BrewairError, InvalidError, NotFoundError
from domain.settings import Settings
from domain.store import ingest as sql
from domain.store import schema
from domain.store.session import Sessions, open_engine
from domain.telemetry.port import RefusedPoint
from domain.telemetry.stores import open_telemetry
from gateway.adapters.registry import ADAPTERS
from gateway.ingest import dropped
from gateway.ingest.spool import RESERVE, Checkpoint, scan
from gateway.machines import registry_of
from gateway.messages import Message
from gateway.refill import refill
from gateway.service import DROPPED, STORED

app = typer.Typer(help="The gateway's spool on disk.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="JSON, one object a line.")]


@app.callback()
def spool() -> None:
    """The gateway's spool on disk."""


@app.command()
def inspect(as_json: AsJson = False) -> None:
    """Segments, records and damage, both cursors and how far they are behind; reads only, also while the gateway runs."""
    given = _given()
    folder = given.spool_dir
    cursors = {"stored": Checkpoint(folder / STORED).load(), "detected": _detected(given)}
    behind: dict[str, int | None] = dict.fromkeys(cursors)
    total = {"segments": 0, "records": 0, "damaged": 0, "bytes": 0}
    end = 0
    for segment, records, damaged in scan(folder):
        received = [Message.unpack(record).recv_ms for record in (records[:1] + records[-1:])]
        line = {
            "segment": segment.path.name, "bytes": segment.size, "records": len(records), "damaged": damaged,
            "written_at": _when(segment.path.stat().st_mtime * 1000),
            "oldest": _when(received[0]) if received else None, "latest": _when(received[-1]) if received else None,
            "stored": segment.end <= (cursors["stored"] or 0), "detected": segment.end <= (cursors["detected"] or 0),
        }  # fmt: skip
        total["segments"] += 1
        total["records"] += len(records)
        total["damaged"] += damaged
        total["bytes"] += segment.size
        end = segment.end
        for name, cursor in cursors.items():
            if cursor is not None and behind[name] is None and cursor < segment.end and received:
                behind[name] = received[0]  # not later than the first record that waits
        done = ", ".join(name for name in cursors if line[name]) or "waits"
        text = f"{segment.path.name}  {segment.size:>10} bytes  {len(records):>8} records  {damaged} damaged"
        typer.echo(json.dumps(line) if as_json else f"{text}  {line['oldest']} … {line['latest']}  {done}")
    now_ms = to_ms(SystemClock().now())
    summary = {
        "summary": True, **total, "end": end, **cursors,
        "behind_bytes": max(0, end - (cursors["stored"] or 0)),
        "detected_behind_bytes": None if cursors["detected"] is None else max(0, end - cursors["detected"]),
        "lag_s": {name: None if at is None else max(0.0, (now_ms - at) / 1000) for name, at in behind.items()},
        "max_bytes": given.spool_max_bytes, "policy": given.spool_policy, "keep_s": given.spool_keep_s,
        "free_bytes": shutil.disk_usage(folder).free, "reserve_held": (folder / RESERVE).exists(),
        "dropped": dict(dropped.load(folder / DROPPED)),
    }  # fmt: skip
    if as_json:
        typer.echo(json.dumps(summary, ensure_ascii=False))
        return
    typer.echo(
        f"{total['records']} records, {total['damaged']} damaged, {total['bytes']} of {given.spool_max_bytes} bytes"
    )
    for name, cursor in cursors.items():
        at = behind[name]
        wait = "nothing waits" if at is None else f"the oldest that may wait came {_when(at)}"
        typer.echo(f"{name} up to {cursor} of {end}; {wait}" if cursor is not None else f"{name}: unknown, SQL is away")
    for machine, messages in dropped.load(folder / DROPPED).most_common():
        typer.echo(f"given up (drop_oldest): {messages} messages of {machine}")


@app.command()
def replay(
    since: Annotated[str, typer.Option("--from", help="Receipt from here on, such as 2026-11-23T08:00.")] = "",
    until: Annotated[str, typer.Option("--to", help="… and before here. Default: everything that is kept.")] = "",
    as_json: AsJson = False,
) -> None:
    """Write kept telemetry into the telemetry store again, after the store lost data. Changes nothing where nothing is
    missing, opens no ticket, and may be done while the gateway runs."""
    given = _given()
    since_ms, until_ms = _moment("--from", since, given), _moment("--to", until, given)
    refused: list[RefusedPoint] = []
    sessions = _sessions(given)
    with sessions.read() as session:
        registry = registry_of(sql.machines(session), given.shards, given.timezone)
    telemetry = open_telemetry(given, refused.append)
    try:
        telemetry.setup()
        found = refill(given.spool_dir, ADAPTERS.values(), registry, telemetry, since_ms, until_ms)
    finally:
        telemetry.close()
        sessions.engine.dispose()
    oldest = None if found.oldest_ms is None else _when(found.oldest_ms)
    summary = {
        "summary": True, "messages": found.messages, "readings": found.readings, "refused": len(refused),
        "damaged": found.damaged, "kept_since": oldest,
    }  # fmt: skip
    if as_json:
        typer.echo(json.dumps(summary))
        return
    typer.echo(f"{found.readings} readings of {found.messages} messages written again, {len(refused)} refused")
    if found.oldest_ms is not None and since_ms is not None and since_ms < found.oldest_ms:
        typer.echo(f"older than {oldest} nothing is kept (BREWAIR_SPOOL_KEEP)")


def _given() -> Settings:
    given = settings.load()
    if not given.spool_dir.is_dir():
        raise NotFoundError("There is no spool in {path}", path=given.spool_dir)
    return given


def _sessions(given: Settings) -> Sessions:
    engine = open_engine(given.database_url)
    schema.upgrade(engine)
    return Sessions(engine)


def _detected(given: Settings) -> int | None:
    """The cursor that is kept in SQL; 0 at the very beginning, None where SQL does not answer."""
    identity = given.spool_dir / "id"
    engine = open_engine(given.database_url)
    try:
        if not identity.exists() or not schema.present(engine):
            return 0
        with Sessions(engine).read() as session:
            position, _ = sql.cursor(session, identity.read_text().strip())
    except BrewairError:
        return None
    finally:
        engine.dispose()
    return position


def _when(ms: float) -> str:
    return from_ms(round(ms)).isoformat(timespec="seconds")


def _moment(option: str, text: str, given: Settings) -> int | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidError("{option} must be a time such as 2026-11-23T08:00", option=option) from error
    return to_ms((moment if moment.tzinfo else moment.replace(tzinfo=given.timezone)).astimezone(UTC))
