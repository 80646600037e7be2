"""Device commands from the SQL outbox to the broker, in the words of each machine's convention."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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
ASK_EVERY = timedelta(seconds=30)
"""A machine that was asked to say something again has so long to do it."""

log = structlog.get_logger()


class Requests:
    """What adapters have to ask machines for, each at most once in ``ASK_EVERY``; nobody waits for it in the outbox, as it is
    asked for again as long as it is needed."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._asked: dict[str, datetime] = {}

    def send(self, wanted: Iterable[Publication], now: datetime) -> None:
        """Publish what was not asked for of late; nothing while the broker is away."""
        self._asked = {topic: at for topic, at in self._asked.items() if abs(now - at) < ASK_EVERY}
        for one in wanted:
            if one.topic in self._asked:
                continue
            try:
                self._publish(one.topic, one.payload)
            except UnavailableError:
                return
            self._asked[one.topic] = now
            log.info("machine_asked", topic=one.topic)


def send_due(
    sessions: Sessions, registry: Registry, adapters: Mapping[str, Adapter], publish: Publish, now: datetime
) -> int:
    """Publish what is due and note it; returns how much was sent.

    Handed to the connection's thread first, noted after. A crash between the two may send a command twice, which changes
    nothing. A gateway that ends after the note loses what the broker does not have yet: such a command, like one that the
    broker refuses, shows as unanswered once it has expired, or as done where its machine never answers. While the broker is
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
