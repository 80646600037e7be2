"""A small service organisation on a database of its own, for tests of the desk: people, two sites, machines, a clock."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from domain.clock import to_ms
from domain.desk import watch
from domain.desk.actor import Actor
from domain.desk.intake import record_findings
from domain.desk.perform import perform
from domain.desk.verification import append_samples
from domain.findings import Finding, Kind, Severity
from domain.readings import Reading
from domain.store import schema
from domain.store.queries import tickets as query
from domain.store.session import Sessions, open_engine
from domain.store.tables import Customer, Equipment, EquipmentStatus, Person, Site, TestRun, Ticket
from domain.tickets.states import Action, Role, State

START = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
MACHINES = (("SMM-1", "soymilk", "SMM-10", 0), ("SMM-2", "soymilk", "SMM-10", 0), ("FAU-1", "freshair", "FAU-300", 1))
PEOPLE: tuple[tuple[str, tuple[Role, ...]], ...] = (
    ("operator", (Role.OPERATOR,)),
    ("dispatcher", (Role.DISPATCHER,)),
    ("wang", (Role.TECHNICIAN,)),
    ("li", (Role.TECHNICIAN,)),
    ("manager", (Role.MANAGER,)),
    ("clerk", (Role.PARTS_CLERK,)),
    ("foreman", (Role.TECHNICIAN, Role.DISPATCHER)),
)
FORM = {
    "reason": "因为", "estimate": "300", "consent_by": "刘老板", "consent_how": "By phone", "part": "加热管",
    "promised_on": "2026-12-01", "fault": "S-T1", "cause": "element_open", "measure": "replace_element",
}  # fmt: skip
FRESHAIR_FORM = FORM | {"fault": "A-T1", "cause": "fan_motor", "measure": "replace_fan"}


@cache
def _template() -> sqlite3.Connection:
    engine = open_engine("sqlite://")
    schema.upgrade(engine)
    made: sqlite3.Connection = engine.raw_connection().driver_connection  # type: ignore[assignment]
    return made


def empty_memory() -> Engine:
    """An SQLite database in memory, of one thread, with the schema."""
    engine = open_engine("sqlite://")
    with engine.connect() as connection:
        _template().backup(connection.connection.driver_connection)  # type: ignore[arg-type]
    return engine


class World:
    """The organisation; ``now`` is its clock. Each method that acts is one transaction."""

    def __init__(self, engine: Engine | None = None, *, start: datetime = START, demo: bool = False) -> None:
        self.engine = engine or empty_memory()
        self.sessions, self.now = Sessions(self.engine), start
        with self.command() as session:
            customer = Customer(name="豆香园", contact="刘老板", phone="13800138000", created_at=start)
            sites = [
                Site(customer=customer, name=name, region=region, demo=demo, created_at=start)
                for name, region in (("一店", "城东"), ("二店", "城西"))
            ]
            session.add_all(sites)
            session.flush()
            session.add_all(
                Equipment(serial=serial, type=kind, model=model, site_id=sites[site].id, created_at=start)
                for serial, kind, model, site in MACHINES
            )
            people = [
                Person(
                    login=login, name=login, roles=[role.value for role in roles], skills=["soymilk", "freshair"],
                    region="城东", created_at=start,
                )
                for login, roles in PEOPLE
            ]  # fmt: skip
            session.add_all(people)
        self.actors = {
            login: Actor(login, frozenset(roles), person.id)
            for (login, roles), person in zip(PEOPLE, people, strict=True)
        }

    @contextmanager
    def command(self) -> Iterator[Session]:
        """One write transaction."""
        with self.sessions.command() as session:
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One read transaction."""
        with self.sessions.read() as session:
            yield session

    def restarted(self) -> World:
        """The same database and clock, as a program sees them that has just started."""
        again = object.__new__(World)
        again.engine = open_engine(self.engine.url.render_as_string(hide_password=False))
        again.sessions, again.now, again.actors = Sessions(again.engine), self.now, self.actors
        return again

    def advance(self, **span: float) -> datetime:
        """Let time pass, without a tick."""
        self.now += timedelta(**span)
        return self.now

    def tick(self, **span: float) -> None:
        """Let time pass, then do all that time brings about."""
        self.advance(**span)
        for watched in watch.WATCHES:
            with self.command() as session:
                watched(session, self.now)

    def finding(
        self,
        serial: str = "SMM-1",
        family: str = "heating",
        rule: str = "R04",
        *,
        severity: Severity = Severity.P2,
        kind: Kind = Kind.UNDECIDED,
        cause: str = "",
    ) -> Finding:
        """A finding raised now, not yet told to the desk."""
        return Finding(rule, family, severity, serial, to_ms(self.now), kind, cause=cause, evidence={"pn_w": 12.0})

    def tell(self, *findings: Finding) -> None:
        """Tell the desk of findings."""
        with self.command() as session:
            record_findings(session, findings, self.now)

    def raised(self, **given: object) -> tuple[Finding, int]:
        """A finding that the desk has been told of, and the ticket it belongs to now."""
        finding = self.finding(**given)  # type: ignore[arg-type]
        self.tell(finding)
        with self.read() as session:
            row = query.finding_by_key(session, finding.episode_key)
            assert row is not None
            return finding, row.ticket_id or 0

    def clear(self, finding: Finding) -> None:
        """The finding is over now."""
        self.tell(dataclasses.replace(finding, cleared_at=to_ms(self.now)))

    def seen(self, serial: str = "SMM-1", *, online: bool = True) -> None:
        """The machine has just reported."""
        with self.command() as session:
            row = session.get(EquipmentStatus, serial)
            if row is None:
                row = EquipmentStatus(serial=serial, latest={}, run_state="", fw="", simulated=False)
                session.add(row)
            row.last_seen_at, row.last_ts_ms, row.online = self.now, to_ms(self.now), online

    def do(self, who: str, action: Action, ticket_id: int, /, *, version: int | None = None, **form: str) -> Ticket:
        """Somebody takes an action; every field that it asks for is filled in unless given."""
        with self.command() as session:
            ticket = query.ticket(session, ticket_id)
            filled = FRESHAIR_FORM if (ticket.serial or "").startswith("FAU") else FORM
            assignee = {"assignee": str(self.actors["wang"].person_id)}
            return perform(
                session, self.actors[who], ticket_id, action, {**filled, **assignee, **form}, self.now, version=version
            )

    def at_the_machine(self, ticket_id: int, who: str = "wang") -> None:
        """Bring a ticket from ready (or reported) to repairing."""
        if self.ticket(ticket_id).state == State.REPORTED:
            self.do("operator", Action.VISIT_NEEDED, ticket_id)
        self.do("dispatcher", Action.ASSIGN, ticket_id, assignee=str(self.actors[who].person_id))
        for action in (Action.ACCEPT, Action.LEAVE, Action.ARRIVE):
            self.do(who, action, ticket_id)

    def ticket(self, ticket_id: int) -> Ticket:
        """The ticket as it stands."""
        with self.read() as session:
            return query.ticket(session, ticket_id)

    def tickets(self) -> list[Ticket]:
        """All tickets, oldest first."""
        with self.read() as session:
            return query.all_tickets(session)

    def runs(self, ticket_id: int) -> list[TestRun]:
        """Test runs, the latest first."""
        with self.read() as session:
            return query.runs(session, ticket_id)

    def actions(self, ticket_id: int) -> list[str]:
        """What the journal says happened, oldest first."""
        with self.read() as session:
            return [row.action for row in query.timeline(session, ticket_id)]

    def feed(self, readings: Iterable[Reading]) -> int:
        """Give samples to whatever run measures their machine."""
        with self.command() as session:
            return append_samples(session, readings, self.now)


def moved(readings: Sequence[Reading], serial: str, start: datetime, *, simulated: bool = False) -> list[Reading]:
    """A trace as ``serial`` would have sent it from ``start`` on, received as it was measured."""
    shift = to_ms(start) - readings[0].ts
    return [
        dataclasses.replace(
            reading, serial=serial, ts=reading.ts + shift, recv_ms=reading.ts + shift, simulated=simulated
        )
        for reading in readings
    ]
