"""A portal with people of every role, three sites and tickets in every state, for page and browser tests."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from argon2 import PasswordHasher
from fastapi import FastAPI
from httpx import Client, Response
from sqlalchemy import Engine, event, make_url
from sqlalchemy.orm import Session

from domain.clock import Clock, ManualClock
from domain.settings import Settings, load
from domain.store.session import Sessions, open_engine
from domain.store.tables import Base, Customer, Equipment, Journal, Person, Site, Ticket
from domain.telemetry.sqlite import SqliteTelemetry
from domain.tickets.states import STATES, Deadline, Role, State
from portal.app import create_app

NOW = datetime(2026, 3, 10, 6, 0, tzinfo=UTC)
PASSWORD = "hot-soy-milk-2026"
ROLES = tuple(role for role in Role if role not in (Role.CUSTOMER, Role.SYSTEM))
NAMES = dict(
    zip(ROLES, ("周晓兰", "陈立", "李敏", "吴桂芳", "郑洁", "王建国", "华东经销", "赵工", "系统管理员"), strict=True)
)
MACHINES = (
    ("SM-0001", "soymilk", "1号豆浆机", 0, "heating"),
    ("SM-0002", "soymilk", "2号豆浆机", 0, "water"),
    ("SM-0003", "soymilk", "早餐档口豆浆机", 1, "motor"),
    ("FA-0101", "freshair", "三楼会议室新风", 2, "filter"),
    ("FA-0102", "freshair", "大堂新风", 2, "fan"),
    ("FA-0103", "freshair", "二楼新风", 1, "sensor"),
)
SITES = (("永和豆浆·人民路店", "华东"), ("实验小学食堂", "华南"), ("滨江写字楼A座", "华东"))


class FakeWall:
    """Wall and monotonic time that a test moves."""

    def __init__(self) -> None:
        self.elapsed = timedelta(0)

    def now(self) -> datetime:
        return NOW + self.elapsed

    def monotonic(self) -> float:
        return self.elapsed.total_seconds()

    def advance(self, span: timedelta) -> None:
        self.elapsed += span


@cache
def password_hash() -> str:
    """Hashed with the least of work: the parameters stand in the hash, so that checking it is quick too."""
    return PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)


@dataclass
class PortalSite:
    """What a test works with."""

    app: FastAPI
    settings: Settings
    sessions: Sessions
    clock: Clock
    wall: FakeWall
    people: dict[Role, int] = field(default_factory=dict)


TOKEN = re.compile(r'name="csrf" value="([^"]+)"')


def token_in(page: Response) -> str:
    """The form token of a page."""
    found = TOKEN.search(page.text)
    assert found, "the page has no form token"
    return found[1]


def log_in(client: Client, login: str, password: str = PASSWORD) -> Response:
    """Logs in through the form, as a browser without JavaScript does."""
    csrf = token_in(client.get("/login"))
    return client.post("/login", data={"login": login, "password": password, "csrf": csrf}, follow_redirects=False)


def quick_engine(url: str) -> Engine:
    """An engine that does not wait for the disk: a test's database need not outlive a power cut."""
    engine = open_engine(url)
    event.listen(engine, "connect", lambda connection, _record: connection.execute("PRAGMA synchronous=OFF"))
    return engine


@dataclass(frozen=True)
class Template:
    """The files of a seeded portal, and the ids of its people by their key."""

    database: bytes
    telemetry: bytes
    people: Mapping[Any, int]

    def copy(self, database: str, telemetry: Path) -> None:
        """Lays the files where a test's own portal opens them."""
        Path(make_url(database).database or "").write_bytes(self.database)
        telemetry.write_bytes(self.telemetry)


def template(prepare: Callable[[Engine], None], seed: Callable[[Session], Mapping[Any, int]]) -> Template:
    """Makes the files once: ``prepare`` the schema, ``seed`` the rows."""
    with TemporaryDirectory() as folder:
        database, telemetry = Path(folder, "brewair.db"), Path(folder, "telemetry.db")
        engine = quick_engine(f"sqlite:///{database}")
        prepare(engine)
        with Sessions(engine).command() as session:
            people = seed(session)
        engine.dispose()  # the last connection writes the log back into the file
        store = SqliteTelemetry(telemetry)
        store.setup()
        store.close()
        return Template(database.read_bytes(), telemetry.read_bytes(), people)


@cache
def _seeded(now: datetime) -> Template:
    return template(Base.metadata.create_all, lambda session: _seed(session, now))


def build(folder: Path, clock: Clock | None = None, **settings: str) -> PortalSite:
    """A fresh portal on SQLite in ``folder``; keyword arguments are settings without the prefix."""
    environment = {"BREWAIR_DATA_DIR": str(folder), **{f"BREWAIR_{k.upper()}": v for k, v in settings.items()}}
    loaded = load(environment)
    wall, clock = FakeWall(), clock or ManualClock(NOW)
    telemetry, seeded = folder / "telemetry.db", _seeded(clock.now())
    seeded.copy(loaded.database_url, telemetry)
    sessions = Sessions(quick_engine(loaded.database_url))
    app = create_app(loaded, clock, sessions, SqliteTelemetry(telemetry), wall=wall)
    return PortalSite(app, loaded, sessions, clock, wall, dict(seeded.people))


def _seed(session: Session, now: datetime) -> dict[Role, int]:
    people: dict[Role, int] = {}
    for role in ROLES:
        person = Person(
            login=role.value, name=NAMES[role], phone="13800001234", roles=[role.value], region="华东",
            skills=["soymilk", "freshair"], password_hash=password_hash(), active=True, created_at=NOW,
        )  # fmt: skip
        session.add(person)
        session.flush()
        people[role] = person.id
    customer = Customer(name="永和餐饮", contact="孙经理", phone="13912345678", created_at=NOW)
    session.add(customer)
    session.flush()
    sites = [Site(customer_id=customer.id, name=name, region=region, created_at=NOW) for name, region in SITES]
    session.add_all(sites)
    session.flush()
    for serial, kind, name, at, _family in MACHINES:
        model = "SMM-60" if kind == "soymilk" else "FAU-350"
        session.add(Equipment(serial=serial, type=kind, model=model, name=name, site_id=sites[at].id, created_at=NOW))
    session.flush()
    for number, state in enumerate(STATES):
        serial, _kind, _name, at, family = MACHINES[number % len(MACHINES)]
        facts = STATES[state]
        assigned = state not in (State.REPORTED, State.GUIDED, State.AWAITING_CONSENT, State.READY)
        ticket = Ticket(
            kind="repair", state=state.value, source="finding", serial=serial, site_id=sites[at].id,
            customer_id=customer.id, family=family, severity=1 + number % 4, occurrences=1 + number % 3,
            assignee_id=people[Role.TECHNICIAN] if assigned else None,
            rework_of_id=None, opened_at=now - timedelta(hours=number * 2),
            due_at=now + timedelta(hours=24 - number * 2.7, minutes=7),
            paused_at=now - timedelta(hours=1) if facts.deadline is Deadline.PAUSED else None,
            ended_at=now - timedelta(hours=1) if facts.deadline is Deadline.ENDED else None,
        )  # fmt: skip
        if number >= len(MACHINES):
            ticket.family = f"{family}" if facts.deadline is Deadline.ENDED else ("code" if number < 12 else family)
        session.add(ticket)
        session.flush()
        session.add(Journal(at=now, ticket_id=ticket.id, serial=serial, actor_name="brewair", action="guide"))
    return people
