"""Every table. Times are aware UTC (business time) unless the name ends in ``_ms`` (device time, ms since 1970)."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC in, aware UTC out, on databases with and without time zones. Refuses naive times."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("naive time; brewair stores aware UTC")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Json = dict[str, Any]
JsonList = list[Any]
BigId = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """Naming convention: constraints have names, so that migrations can drop them on every database."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 — SQLAlchemy's own declaration
        datetime: UtcDateTime,
        Json: JSON,
        JsonList: JSON,
        str: String,
    }


class Customer(Base):
    """Who owns machines. ``dealer_id``: the regional partner who looks after this customer, and sees it."""

    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(index=True)
    contact: Mapped[str] = mapped_column(default="")
    phone: Mapped[str] = mapped_column(default="", index=True)
    note: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[datetime]
    dealer_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"), index=True)


class Site(Base):
    """Where machines stand. Only a demo site counts simulated readings as real."""

    __tablename__ = "site"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"), index=True)
    name: Mapped[str]
    address: Mapped[str] = mapped_column(default="")
    region: Mapped[str] = mapped_column(default="", index=True)
    altitude_m: Mapped[float] = mapped_column(default=0.0)
    demo: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime]
    customer: Mapped[Customer] = relationship()


class Equipment(Base):
    """One machine. ``binding_*`` says which foreign convention and topic it speaks; empty means native."""

    __tablename__ = "equipment"
    id: Mapped[int] = mapped_column(primary_key=True)
    serial: Mapped[str] = mapped_column(String(64), unique=True)
    type: Mapped[str] = mapped_column(String(32))
    model: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(default="")
    site_id: Mapped[int] = mapped_column(ForeignKey("site.id"), index=True)
    installed_on: Mapped[date | None]
    warranty_until: Mapped[date | None]
    binding_convention: Mapped[str] = mapped_column(String(32), default="")
    binding_topic: Mapped[str | None] = mapped_column(unique=True)
    binding_zone: Mapped[str] = mapped_column(String(64), default="")
    created_at: Mapped[datetime]
    site: Mapped[Site] = relationship()


class EquipmentStatus(Base):
    """What a machine last said; written by the gateway once per tick. ``interval_s`` comes from its birth."""

    __tablename__ = "equipment_status"
    serial: Mapped[str] = mapped_column(ForeignKey("equipment.serial"), primary_key=True)
    last_seen_at: Mapped[datetime | None]
    last_ts_ms: Mapped[int | None] = mapped_column(BigInteger)
    online: Mapped[bool | None]
    run_state: Mapped[str] = mapped_column(String(32), default="")
    latest: Mapped[Json] = mapped_column(default=dict)
    interval_s: Mapped[float | None]
    fw: Mapped[str] = mapped_column(String(64), default="")
    simulated: Mapped[bool] = mapped_column(default=False)


class Person(Base):
    """Staff who log in. ``roles`` and ``skills`` (equipment types) are lists of keys; no hash, no log-in."""

    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    login: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str]
    phone: Mapped[str] = mapped_column(default="")
    roles: Mapped[JsonList] = mapped_column(default=list)
    skills: Mapped[JsonList] = mapped_column(default=list)
    region: Mapped[str] = mapped_column(default="")
    locale: Mapped[str] = mapped_column(String(8), default="")
    password_hash: Mapped[str] = mapped_column(default="")
    active: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime]


class LoginSession(Base):
    """A server-side log-in session; only the SHA-256 of the cookie is kept. Wall-clock times."""

    __tablename__ = "login_session"
    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("person.id"), index=True)
    csrf: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    person: Mapped[Person] = relationship()


OPEN = "state NOT IN ('closed', 'solved_by_phone', 'cancelled')"


class Ticket(Base):
    """A service case. ``version`` makes every change a compare-and-set."""

    __tablename__ = "ticket"
    __table_args__ = (
        Index(
            "uq_ticket_open_serial_family",
            "serial",
            "family",
            unique=True,
            sqlite_where=text(OPEN),
            postgresql_where=text(OPEN),
        ),
        Index("ix_ticket_serial_state", "serial", "state"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column()
    kind: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(20), index=True)
    source: Mapped[str] = mapped_column(String(16))
    serial: Mapped[str | None] = mapped_column(ForeignKey("equipment.serial"))
    site_id: Mapped[int | None] = mapped_column(ForeignKey("site.id"), index=True)
    customer_id: Mapped[int | None] = mapped_column(ForeignKey("customer.id"), index=True)
    family: Mapped[str] = mapped_column(String(32))
    rule: Mapped[str] = mapped_column(String(16), default="")
    severity: Mapped[int] = mapped_column(default=3)
    fault_kind: Mapped[str] = mapped_column(String(16), default="undecided")
    occurrences: Mapped[int] = mapped_column(default=1)
    customer_words: Mapped[str] = mapped_column(Text, default="")
    caller_name: Mapped[str] = mapped_column(default="")
    caller_phone: Mapped[str] = mapped_column(default="")
    triage: Mapped[Json] = mapped_column(default=dict)
    assignee_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"), index=True)
    window_from: Mapped[datetime | None]
    window_to: Mapped[datetime | None]
    rework_of_id: Mapped[int | None] = mapped_column(ForeignKey("ticket.id"))
    opened_at: Mapped[datetime]
    due_at: Mapped[datetime]
    deadline_extended: Mapped[bool] = mapped_column(default=False)
    paused_at: Mapped[datetime | None]
    paused_s: Mapped[float] = mapped_column(default=0.0)
    warned_at: Mapped[datetime | None]
    escalated_at: Mapped[datetime | None]
    guided_at: Mapped[datetime | None]
    dispatched_at: Mapped[datetime | None]
    repair_started_at: Mapped[datetime | None]
    muted_until: Mapped[datetime | None]
    last_repair_at: Mapped[datetime | None]
    verified_at: Mapped[datetime | None]
    waived_at: Mapped[datetime | None]
    rearm_at: Mapped[datetime | None] = mapped_column(index=True)
    probation_until: Mapped[datetime | None] = mapped_column(index=True)
    ended_at: Mapped[datetime | None] = mapped_column(index=True)
    equipment: Mapped[Equipment | None] = relationship()
    site: Mapped[Site | None] = relationship()
    customer: Mapped[Customer | None] = relationship()
    assignee: Mapped[Person | None] = relationship()

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012


class Journal(Base):
    """What happened, who did it and why: append-only (a trigger refuses UPDATE and DELETE). The live pages follow its id."""

    __tablename__ = "journal"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    at: Mapped[datetime]
    ticket_id: Mapped[int | None] = mapped_column(ForeignKey("ticket.id"), index=True)
    serial: Mapped[str | None] = mapped_column(String(64), index=True)
    actor_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    actor_name: Mapped[str]
    action: Mapped[str] = mapped_column(String(32))
    from_state: Mapped[str] = mapped_column(String(20), default="")
    to_state: Mapped[str] = mapped_column(String(20), default="")
    reason: Mapped[str] = mapped_column(Text, default="")
    detail: Mapped[Json] = mapped_column(default=dict)


class FindingRow(Base):
    """An episode of a fault rule; ``episode_key`` is unique for ever, so replay changes nothing."""

    __tablename__ = "finding"
    id: Mapped[int] = mapped_column(primary_key=True)
    episode_key: Mapped[str] = mapped_column(String(160), unique=True)
    serial: Mapped[str] = mapped_column(String(64), index=True)
    rule: Mapped[str] = mapped_column(String(16))
    family: Mapped[str] = mapped_column(String(32))
    severity: Mapped[int]
    kind: Mapped[str] = mapped_column(String(16))
    cause: Mapped[str] = mapped_column(String(32), default="")
    raised_at_ms: Mapped[int] = mapped_column(BigInteger)
    cleared_at_ms: Mapped[int | None] = mapped_column(BigInteger)
    evidence: Mapped[Json] = mapped_column(default=dict)
    ticket_id: Mapped[int | None] = mapped_column(ForeignKey("ticket.id"), index=True)
    recorded_at: Mapped[datetime]


class Repair(Base):
    """One repair attempt of a visit: fault → cause → measure, by code."""

    __tablename__ = "repair"
    id: Mapped[int] = mapped_column(primary_key=True)
    ticket_id: Mapped[int] = mapped_column(ForeignKey("ticket.id"), index=True)
    person_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    finished_at: Mapped[datetime]
    fault: Mapped[str] = mapped_column(String(64))
    cause: Mapped[str] = mapped_column(String(64))
    measure: Mapped[str] = mapped_column(String(64))
    note: Mapped[str] = mapped_column(Text, default="")
    person: Mapped[Person | None] = relationship()


class TestRun(Base):
    """One measured run, with its own copy of plan and card. ``progress`` is the live verdict; ``purpose`` as in verdicts.

    By trigger no row goes, and what the run is judged by stays: from its beginning, entries and outcome from the verdict on.
    """

    __test__ = False
    __tablename__ = "test_run"
    id: Mapped[int] = mapped_column(primary_key=True)
    ticket_id: Mapped[int] = mapped_column(ForeignKey("ticket.id"), index=True)
    serial: Mapped[str] = mapped_column(String(64), index=True)
    attempt: Mapped[int]
    purpose: Mapped[str] = mapped_column(String(16), default="repair", server_default="repair")
    plan: Mapped[Json]
    card: Mapped[Json]
    original_rule: Mapped[str] = mapped_column(String(16), default="")
    entries: Mapped[Json] = mapped_column(default=dict)
    target_l: Mapped[float | None]
    demo_site: Mapped[bool] = mapped_column(default=False)
    started_by_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    started_at: Mapped[datetime]
    samples: Mapped[int] = mapped_column(default=0)
    last_sample_at: Mapped[datetime | None]
    judged_samples: Mapped[int] = mapped_column(default=0)
    progress: Mapped[Json] = mapped_column(default=dict)
    outcome: Mapped[str] = mapped_column(String(16), default="pending", index=True)
    decided_at: Mapped[datetime | None]
    voided_at: Mapped[datetime | None]


class EvidenceSample(Base):
    """A sample of a run that is still being measured; ``identity`` makes redelivery harmless."""

    __tablename__ = "evidence_sample"
    run_id: Mapped[int] = mapped_column(ForeignKey("test_run.id"), primary_key=True)
    identity: Mapped[str] = mapped_column(String(96), primary_key=True)
    ts_ms: Mapped[int] = mapped_column(BigInteger)
    body: Mapped[Json]


class VerdictRow(Base):
    """The verdict with the terms of its run, its evidence as zlib-compressed samples, the SHA-256 of all. Sealed by trigger."""

    __tablename__ = "verdict"
    run_id: Mapped[int] = mapped_column(ForeignKey("test_run.id"), primary_key=True)
    outcome: Mapped[str] = mapped_column(String(16))
    recorded_at: Mapped[datetime]
    body: Mapped[Json]
    evidence: Mapped[bytes] = mapped_column(LargeBinary)
    evidence_sha256: Mapped[str] = mapped_column(String(64))
    evidence_samples: Mapped[int]


class DeviceCommand(Base):
    """Outbox of commands to machines; the gateway publishes rows with no ``sent_at`` and matches replies by id."""

    __tablename__ = "device_command"
    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    serial: Mapped[str] = mapped_column(String(64), index=True)
    name: Mapped[str] = mapped_column(String(32))
    params: Mapped[Json] = mapped_column(default=dict)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    sent_at: Mapped[datetime | None] = mapped_column(index=True)
    replied_at: Mapped[datetime | None]
    ok: Mapped[bool | None]
    error: Mapped[str] = mapped_column(default="")


class QuarantineRow(Base):
    """A payload (or one object of a batch) that could not be used; kept until replayed or dropped."""

    __tablename__ = "quarantine"
    __table_args__ = (UniqueConstraint("spool_position", "part"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    spool_position: Mapped[str] = mapped_column(String(64))
    part: Mapped[int] = mapped_column(default=0)
    received_at: Mapped[datetime]
    topic: Mapped[str] = mapped_column(Text)
    payload: Mapped[bytes] = mapped_column(LargeBinary)
    reason: Mapped[str] = mapped_column(String(32), index=True)
    explanation: Mapped[str] = mapped_column(Text, default="")
    serial: Mapped[str | None] = mapped_column(String(64), index=True)
    state: Mapped[str] = mapped_column(String(16), default="held", index=True)
    handled_at: Mapped[datetime | None]
    retained: Mapped[bool] = mapped_column(default=False)
    stranger_id: Mapped[int | None] = mapped_column(ForeignKey("stranger.id"), index=True)


class StrangerRow(Base):
    """Somebody who speaks and is not registered: what was heard of it, and how much of that is held in ``quarantine``."""

    __tablename__ = "stranger"
    __table_args__ = (UniqueConstraint("convention", "name"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    convention: Mapped[str] = mapped_column(String(32))
    name: Mapped[str] = mapped_column(String(200))
    serial: Mapped[str] = mapped_column(String(64), default="")
    type: Mapped[str] = mapped_column(String(32), default="")
    model: Mapped[str] = mapped_column(Text, default="")
    fw: Mapped[str] = mapped_column(Text, default="")
    first_heard_at: Mapped[datetime]
    last_heard_at: Mapped[datetime]
    position: Mapped[str] = mapped_column(String(64), default="")
    state: Mapped[str] = mapped_column(String(16), default="waiting", index=True)
    machine: Mapped[str | None] = mapped_column(String(64), index=True)
    handled_at: Mapped[datetime | None]
    heard: Mapped[int] = mapped_column(default=0)
    held: Mapped[int] = mapped_column(default=0)
    held_bytes: Mapped[int] = mapped_column(default=0)
    beyond: Mapped[int] = mapped_column(default=0)
    taken: Mapped[int] = mapped_column(default=0)
    dismissed: Mapped[int] = mapped_column(default=0)


class Notice(Base):
    """Something a role or a person should see in the portal: warnings, escalations, reworks."""

    __tablename__ = "notice"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    role: Mapped[str] = mapped_column(String(16), default="", index=True)
    person_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"), index=True)
    ticket_id: Mapped[int | None] = mapped_column(ForeignKey("ticket.id"))
    level: Mapped[str] = mapped_column(String(16))
    message_id: Mapped[str] = mapped_column(Text)
    params: Mapped[Json] = mapped_column(default=dict)
    read_at: Mapped[datetime | None]
    read_by_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))


class SpoolCursor(Base):
    """The *detected* cursor of a gateway's spool, committed together with what the readings before it caused."""

    __tablename__ = "spool_cursor"
    spool: Mapped[str] = mapped_column(String(64), primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger)
    updated_at: Mapped[datetime]


class ShardLease(Base):
    """Who works a shard. ``holder`` is the spool of the gateway called ``gateway``; nobody's after ``until``."""

    __tablename__ = "shard_lease"
    shard: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    holder: Mapped[str] = mapped_column(String(64))
    gateway: Mapped[str] = mapped_column(String(64))
    until: Mapped[datetime]


class DetectorState(Base):
    """Rule state of one machine as of ``position`` in the spool."""

    __tablename__ = "detector_state"
    serial: Mapped[str] = mapped_column(String(64), primary_key=True)
    position: Mapped[str] = mapped_column(String(64))
    dump: Mapped[Json]
