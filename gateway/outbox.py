"""Device commands from the SQL outbox to the broker, in the words of each machine's convention."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from uuid import uuid4

import structlog

from domain.clock import to_ms
from domain.errors import UnavailableError
from domain.store import ingest as store
from domain.store.session import Sessions
from domain.store.tables import DeviceCommand
from gateway.adapters.port import Adapter, Command, Publication
from gateway.messages import Registry, Unit

Publish = Callable[[str, bytes], None]
USUAL_INTERVAL_S = 300.0
"""What a machine goes back to whose own interval nobody knows: Tasmota's default TelePeriod [S35]."""
REVERT_WITHIN = timedelta(days=1)

log = structlog.get_logger()


def send_due(
    sessions: Sessions, registry: Registry, adapters: Mapping[str, Adapter], publish: Publish, now: datetime
) -> int:
    """Publish what is due and note it; returns how much was sent.

    Published first, noted after: a crash between the two sends a command twice, which changes nothing. While the broker is
    away the commands wait in the outbox until they expire.
    """
    with sessions.read() as session:
        due = store.commands_due(session, now)
        overdue = store.commands_overdue(session, now)
    if not due and not overdue:
        return 0
    sent: dict[str, Publication | None] = {}
    for row in due:
        unit = registry.units.get(row.serial)
        adapter = adapters.get(unit.convention) if unit else None
        if unit is None or adapter is None:
            continue  # another gateway's machine
        publication = adapter.command(unit, Command(row.id, row.name, row.params, to_ms(row.expires_at)))
        if publication is not None:
            try:
                publish(publication.topic, publication.payload)
            except UnavailableError:
                break
        sent[row.id] = publication
    with sessions.command() as session:
        for number, publication in sent.items():
            command = session.get(DeviceCommand, number)
            if command is not None:
                _note(command, publication, now)
                unit = registry.units[command.serial]
                if publication is not None and not publication.answers and "ttl_s" in command.params:
                    session.add(_revert(command, unit, now))
        for late in store.commands_overdue(session, now):
            late.replied_at, late.ok = now, False
            late.error = "expired" if late.sent_at is None else "unanswered"
    return len(sent)


def _note(command: DeviceCommand, publication: Publication | None, now: datetime) -> None:
    command.sent_at = now
    if publication is None:
        command.replied_at, command.ok, command.error = now, False, "not offered by this machine"
    elif not publication.answers:
        command.replied_at, command.ok = now, True


def _revert(command: DeviceCommand, unit: Unit, now: datetime) -> DeviceCommand:
    """A machine that does not go back by itself is told to, when the time is up."""
    at = now + timedelta(seconds=float(command.params["ttl_s"]))
    return DeviceCommand(
        id=str(uuid4()),
        serial=command.serial,
        name="set_interval",
        params={"interval_s": unit.interval_s or USUAL_INTERVAL_S},
        created_at=at,
        expires_at=at + REVERT_WITHIN,
        error="",
    )
