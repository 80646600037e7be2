"""What the gateway reads and writes in SQL: machines, cursors, rule states, live status, quarantine, outbox."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from sys import intern
from typing import Any

from sqlalchemy import Column, Select, Text, bindparam, cast, func, insert, or_, select, update
from sqlalchemy.orm import Session

from domain.store import strangers
from domain.store.tables import (
    DetectorState,
    DeviceCommand,
    Equipment,
    EquipmentStatus,
    QuarantineRow,
    Site,
    SpoolCursor,
    StrangerRow,
    Ticket,
    UtcDateTime,
)
from domain.strangers import Stranger

HELD, REPLAY, REPLAYED, DROPPED = "held", "replay", "replayed", "dropped"
"""States of a quarantine row. ``replay`` is a wish that the gateway fulfils at its next tick."""
HELD_PER_SERIAL = 10_000
"""A machine that sends nothing but poison fills its own share of the quarantine and no more (EJ)."""
AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Machine:
    """What the gateway has to know of a registered machine."""

    serial: str
    type: str
    model: str
    site_id: int
    altitude_m: float
    convention: str
    topic: str
    zone: str
    interval_s: float | None
    simulated: bool
    last_seen_at: datetime | None = None


@dataclass(slots=True)
class Seen:
    """What a machine said since the last flush; None and empty mean 'nothing new'."""

    last_seen_at: datetime | None = None
    last_ts_ms: int | None = None
    online: bool | None = None
    run_state: str | None = None
    latest: dict[str, Any] = field(default_factory=dict)
    interval_s: float | None = None
    fw: str | None = None
    simulated: bool | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """Something for the quarantine; (``position``, ``part``) is its identity."""

    position: str
    part: int
    received_at: datetime
    topic: str
    payload: bytes
    reason: str
    explanation: str
    serial: str | None
    retained: bool = False
    stranger: Stranger | None = None
    """Who said it, where it is held because nobody knows them."""


def database_time(session: Session) -> datetime | None:
    """What the database's clock says; None where its clock is ours (SQLite)."""
    if session.get_bind().dialect.name == "sqlite":
        return None
    return session.scalar(select(func.clock_timestamp(type_=UtcDateTime())))


def machines(session: Session) -> Iterator[Machine]:
    """Every registered machine, read as they are taken; what most have in common is there once."""
    rows = session.execute(
        select(
            Equipment.serial,
            Equipment.type,
            Equipment.model,
            Equipment.site_id,
            Site.altitude_m,
            Equipment.binding_convention,
            Equipment.binding_topic,
            Equipment.binding_zone,
            EquipmentStatus.interval_s,
            EquipmentStatus.simulated,
            EquipmentStatus.last_seen_at,
        )
        .join(Site, Site.id == Equipment.site_id)
        .outerjoin(EquipmentStatus, EquipmentStatus.serial == Equipment.serial)
        .execution_options(yield_per=AT_ONCE)
    )
    for serial, kind, model, site, altitude, convention, topic, zone, interval, simulated, seen_at in rows:
        kind, model, convention, zone = map(intern, (kind, model, convention, zone))
        yield Machine(
            serial, kind, model, site, altitude, convention, topic or "", zone, interval, bool(simulated), seen_at
        )


def cursor(session: Session, spool: str) -> tuple[int, datetime | None]:
    """Up to where the findings of a spool are committed, and when that was; (0, None) at the very beginning."""
    row = session.get(SpoolCursor, spool)
    return (row.position, row.updated_at) if row else (0, None)


def save_cursor(session: Session, spool: str, position: int, now: datetime) -> None:
    """Move the cursor; belongs into the transaction that keeps the rule states of ``position``."""
    session.merge(SpoolCursor(spool=spool, position=position, updated_at=now))


def detector_dumps(session: Session, serials: Collection[str]) -> dict[str, bytes]:
    """Rule states of these machines, as whoever worked their shards last has left them: as JSON, ten times smaller than what
    it says."""
    columns = DetectorState.serial, cast(DetectorState.dump, Text)
    return {serial: dump.encode() for some in _slices(serials) for serial, dump in session.execute(_of(some, *columns))}


def save_dumps(session: Session, position: str, dumps: Mapping[str, Any]) -> None:
    """Keep the rule states of machines that changed; each is whatever becomes JSON."""
    for some in _slices(dumps):
        present = {serial for (serial,) in session.execute(_of(some, DetectorState.serial))}
        rows = [{"serial": serial, "position": position, "dump": dumps[serial]} for serial in some]
        _write(session, DetectorState, rows, present)


def save_seen(session: Session, seen: Mapping[str, Seen]) -> None:
    """Bring the live status of machines up to date; machines that are no longer registered are left out."""
    columns = EquipmentStatus.__table__.columns
    blank: dict[str, Any] = {column.key: None for column in columns}
    blank |= {"latest": {}, "run_state": "", "fw": "", "simulated": False}
    for some in _slices(seen):
        known = {serial for (serial,) in session.execute(_of(some, Equipment.serial))}
        present = {row.serial: row._asdict() for row in session.execute(_of(some, *columns))}
        rows = []
        for serial in known:
            row = {**blank, "serial": serial, **present.get(serial, {})}
            news = seen[serial]
            for name in ("last_seen_at", "last_ts_ms", "online", "run_state", "interval_s", "fw", "simulated"):
                value = getattr(news, name)
                if value is not None:
                    row[name] = value
            row["latest"] = {**row["latest"], **news.latest}
            rows.append(row)
        _write(session, EquipmentStatus, rows, present.keys())


def _write(session: Session, table: type[Any], rows: Sequence[dict[str, Any]], present: Collection[str]) -> None:
    """Insert rows, or update those of serials that are ``present``: one statement each for all of them."""
    given = table.__table__
    updates = [{**row, "old_serial": row["serial"]} for row in rows if row["serial"] in present]
    if updates:
        names = [name for name in updates[0] if name not in ("serial", "old_serial")]
        change = update(given).where(given.c.serial == bindparam("old_serial"))
        session.connection().execute(change.values({name: bindparam(name) for name in names}), updates)
    inserts = [row for row in rows if row["serial"] not in present]
    if inserts:
        session.connection().execute(insert(given), inserts)


def hold(session: Session, held: Sequence[Held]) -> int:
    """Put things into quarantine, each once for ever; of a machine's poison no more than ``HELD_PER_SERIAL``, and of what
    strangers say as much as ``strangers`` keeps. Returns how much poison there was no room for: it is given up."""
    given_up = 0
    positions = sorted({one.position for one in held})
    known: set[tuple[str, int]] = set()
    for start in range(0, len(positions), AT_ONCE):
        rows = session.execute(
            select(QuarantineRow.spool_position, QuarantineRow.part).where(
                QuarantineRow.spool_position.in_(positions[start : start + AT_ONCE])
            )
        )
        known.update((position, part) for position, part in rows)
    room = _room(session, {one.serial for one in held if one.stranger is None})
    keeper = strangers.Keeper(session, [one.stranger for one in held if one.stranger is not None])
    for one in held:
        if (one.position, one.part) in known:
            continue
        known.add((one.position, one.part))
        who: StrangerRow | None = None
        if one.stranger is not None:
            who = keeper.room(one)
            if who is None:
                continue
        elif room[one.serial] <= 0:
            given_up += 1
            continue
        else:
            room[one.serial] -= 1
        session.add(
            QuarantineRow(
                spool_position=one.position,
                part=one.part,
                received_at=one.received_at,
                topic=one.topic.encode("utf-8", "replace").decode().replace("\0", "\ufffd"),
                payload=one.payload,
                reason=one.reason,
                explanation=one.explanation.encode("utf-8", "replace").decode().replace("\0", "\ufffd"),
                serial=one.serial,
                state=HELD,
                retained=one.retained,
                stranger_id=None if who is None else who.id,
            )
        )
    return given_up


def _room(session: Session, serials: set[str | None]) -> dict[str | None, int]:
    rows = session.execute(
        select(QuarantineRow.serial, func.count())
        .where(
            QuarantineRow.state == HELD,
            QuarantineRow.stranger_id.is_(None),
            or_(QuarantineRow.serial.in_([s for s in serials if s is not None]), QuarantineRow.serial.is_(None)),
        )
        .group_by(QuarantineRow.serial)
    )
    room = dict.fromkeys(serials, HELD_PER_SERIAL)
    for serial, count in rows:
        room[serial] = HELD_PER_SERIAL - count
    return room


def quarantine(
    session: Session, *, state: str = HELD, reason: str = "", serial: str = "", limit: int = 500
) -> list[QuarantineRow]:
    """Quarantined things, the latest first."""
    query = select(QuarantineRow).where(QuarantineRow.state == state).order_by(QuarantineRow.id.desc()).limit(limit)
    if reason:
        query = query.where(QuarantineRow.reason == reason)
    if serial:
        query = query.where(QuarantineRow.serial == serial)
    return list(session.scalars(query))


def to_replay(session: Session) -> list[tuple[int, str]]:
    """Id and topic of what somebody wants replayed, in the order in which it came."""
    query = (
        select(QuarantineRow.id, QuarantineRow.topic).where(QuarantineRow.state == REPLAY).order_by(QuarantineRow.id)
    )
    return [(number, topic) for number, topic in session.execute(query)]


def quarantine_counts(session: Session) -> dict[str, int]:
    """Held things by reason."""
    rows = session.execute(
        select(QuarantineRow.reason, func.count()).where(QuarantineRow.state == HELD).group_by(QuarantineRow.reason)
    )
    return {str(reason): int(count) for reason, count in rows}


def settle(session: Session, ids: Iterable[int], state: str, now: datetime) -> list[int]:
    """Mark held things as to be replayed, replayed or dropped; returns which were. What has no topic (a point of the telemetry
    store) was never a message: it cannot be replayed."""
    changed = []
    for number in ids:
        row = session.get(QuarantineRow, number)
        if row is None or (state == REPLAY and not row.topic):
            continue
        if row.state in (HELD, REPLAY) and row.state != state:
            who = session.get(StrangerRow, row.stranger_id) if row.stranger_id and row.state == HELD else None
            if who is not None:
                strangers.released(who, row, dropped=state == DROPPED)
            row.state, row.handled_at = state, now
            changed.append(number)
    return changed


def commands_due(session: Session, now: datetime) -> list[DeviceCommand]:
    """Commands to be sent now, oldest first."""
    return list(
        session.scalars(
            select(DeviceCommand)
            .where(
                DeviceCommand.sent_at.is_(None),
                DeviceCommand.replied_at.is_(None),
                DeviceCommand.created_at <= now,
                DeviceCommand.expires_at > now,
            )
            .order_by(DeviceCommand.created_at)
            .limit(AT_ONCE)
        )
    )


def commands_overdue(session: Session, now: datetime) -> list[DeviceCommand]:
    """Commands that nobody sent or answered in time."""
    return list(
        session.scalars(
            select(DeviceCommand).where(DeviceCommand.replied_at.is_(None), DeviceCommand.expires_at <= now)
        )
    )


def command_answered(session: Session, command_id: str, serial: str, ok: bool, error: str, now: datetime) -> None:
    """Match a machine's reply; replies to unknown commands and of other machines change nothing."""
    command = session.get(DeviceCommand, command_id)
    if command is not None and command.serial == serial:
        command.replied_at, command.ok, command.error = now, ok, error


def verified_after(session: Session, moment: datetime) -> list[tuple[str, datetime]]:
    """Machines whose repair was verified, or waived, after ``moment``, and when."""
    rows = session.execute(
        select(Ticket.serial, Ticket.verified_at).where(Ticket.verified_at > moment, Ticket.serial.is_not(None))
    )
    return [(serial, at) for serial, at in rows if serial is not None and at is not None]


def _slices(serials: Iterable[str]) -> Iterator[list[str]]:
    """All of them, a statement's worth at a time: ten thousand rows at once are a hundred megabytes."""
    wanted = sorted(serials)
    for start in range(0, len(wanted), AT_ONCE):
        yield wanted[start : start + AT_ONCE]


def _of(serials: Sequence[str], *columns: Any) -> Select[Any]:
    """``columns`` of a table, the first one or another its serial, of these machines."""
    key = columns[0].table.c.serial if isinstance(columns[0], Column) else columns[0]
    return select(*columns).where(key.in_(serials))
