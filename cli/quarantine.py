"""``brewair quarantine``: what the gateway could not use."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from domain import settings
from domain.clock import SystemClock
from domain.errors import InvalidError, NotFoundError
from domain.store import ingest as store
from domain.store.schema import upgrade
from domain.store.session import Sessions, open_engine
from domain.store.tables import QuarantineRow

app = typer.Typer(help="Payloads that could not be used: list, show, replay, drop.", no_args_is_help=True)

Ids = Annotated[list[int] | None, typer.Argument(metavar="ID…", help="Numbers from the list.")]
Reason = Annotated[str, typer.Option(help="Only this reason, such as unknown_serial.")]
Serial = Annotated[str, typer.Option(help="Only this machine.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON, one object a line.")]


@app.command("list")
def show_list(
    reason: Reason = "",
    serial: Serial = "",
    limit: Annotated[int, typer.Option(min=1)] = 50,
    as_json: AsJson = False,
) -> None:
    """What is held, the latest first."""
    with _sessions().read() as session:
        rows = store.quarantine(session, reason=reason, serial=serial, limit=limit)
        counts = store.quarantine_counts(session)
    if as_json:
        for row in rows:
            _say(_facts(row))
        _say({"summary": True, "held": sum(counts.values()), "reasons": counts})
        return
    for row in rows:
        typer.echo(
            f"{row.id:>6}  {row.received_at:%Y-%m-%d %H:%M:%S}  {row.reason:<15} {row.serial or '-':<20} {row.topic}"
        )
    typer.echo(f"{sum(counts.values())} held" + "".join(f", {n} {reason}" for reason, n in sorted(counts.items())))


@app.command()
def show(number: Annotated[int, typer.Argument(metavar="ID")], as_json: AsJson = False) -> None:
    """One of them, with its payload."""
    with _sessions().read() as session:
        row = session.get(QuarantineRow, number)
        if row is None:
            raise NotFoundError("There is nothing number {id} in quarantine", id=number)
    facts = {**_facts(row), "payload": row.payload.decode("utf-8", "backslashreplace")}
    if as_json:
        _say(facts)
        return
    for key, value in facts.items():
        typer.echo(f"{key:<12} {value}")


@app.command()
def replay(ids: Ids = None, reason: Reason = "", serial: Serial = "", as_json: AsJson = False) -> None:
    """Send them through the gateway again, at its next tick: after a machine was registered, for instance."""
    _settle(ids, reason, serial, store.REPLAY, as_json)


@app.command()
def drop(ids: Ids = None, reason: Reason = "", serial: Serial = "", as_json: AsJson = False) -> None:
    """Take them off the list for good; the rows stay for the record."""
    _settle(ids, reason, serial, store.DROPPED, as_json)


def _settle(ids: list[int] | None, reason: str, serial: str, state: str, as_json: bool) -> None:
    if not ids and not reason and not serial:
        raise InvalidError("Say which: numbers, --reason or --serial")
    with _sessions().command() as session:
        chosen = ids or [row.id for row in store.quarantine(session, reason=reason, serial=serial, limit=100_000)]
        changed = len(store.settle(session, chosen, state, SystemClock().now()))
        left = len(chosen) - changed
    if as_json:
        _say({"summary": True, "state": state, "changed": changed, "left": left})
    else:
        typer.echo(
            f"{changed} marked: {state}" + (f", {left} left: handled before, or never a message" if left else "")
        )


def _facts(row: QuarantineRow) -> dict[str, object]:
    return {
        "id": row.id, "received_at": row.received_at.isoformat(), "reason": row.reason, "explanation": row.explanation,
        "serial": row.serial, "topic": row.topic, "part": row.part, "state": row.state, "bytes": len(row.payload),
    }  # fmt: skip


def _sessions() -> Sessions:
    engine = open_engine(settings.load().database_url)
    upgrade(engine)
    return Sessions(engine)


def _say(line: dict[str, object]) -> None:
    typer.echo(json.dumps(line, ensure_ascii=False))
