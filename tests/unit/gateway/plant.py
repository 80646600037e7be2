"""A small service area for tests of the gateway: one customer, two sites, a few machines, stores in a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson
from sqlalchemy import func, select

from domain import wire
from domain.clock import ManualClock, from_ms
from domain.store.schema import upgrade
from domain.store.session import Sessions, open_engine
from domain.store.tables import Customer, Equipment, QuarantineRow, Site, Ticket
from domain.telemetry.port import Telemetry
from domain.telemetry.sqlite import SqliteTelemetry
from gateway.ingest.spool import Checkpoint, Spool
from gateway.pipeline import Pipeline

START = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
T0 = round(START.timestamp() * 1000)
MACHINES = (
    ("SM-1", "soymilk", "SMM-60", 1),
    ("SM-2", "soymilk", "SMM-60", 1),
    ("FA-1", "freshair", "FAU-300", 2),
)


def prepare(url: str) -> Sessions:
    """An SQL database with the machines of ``MACHINES``."""
    engine = open_engine(url)
    upgrade(engine)
    sessions = Sessions(engine)
    with sessions.command() as session:
        session.add(Customer(id=1, name="豆香早餐", created_at=START))
        session.flush()
        for number in (1, 2):
            session.add(Site(id=number, customer_id=1, name=f"site {number}", created_at=START))
        session.flush()
    for serial, kind, model, site in MACHINES:
        register(sessions, serial, kind, model, site)
    return sessions


def register(
    sessions: Sessions, serial: str, kind: str = "soymilk", model: str = "SMM-60", site: int = 1, **more: Any
) -> None:
    """Add a machine."""
    with sessions.command() as session:
        session.add(Equipment(serial=serial, type=kind, model=model, site_id=site, created_at=START, **more))


class Plant:
    """A pipeline without threads over stores in ``folder``; ``restart`` is what a crash leaves."""

    compiled = False
    """Whether ordinary messages go through the compiled core; the tests of this folder run both ways."""

    def __init__(self, folder: Path, sessions: Sessions | None = None, telemetry: Telemetry | None = None) -> None:
        self.folder = folder
        self.clock = ManualClock(START)
        self.sessions = sessions or prepare(f"sqlite:///{folder / 'brewair.db'}")
        self.telemetry = telemetry or SqliteTelemetry(folder / "telemetry.db")
        self.telemetry.setup()
        self.published: list[tuple[str, bytes]] = []
        self.publish: Callable[[str, bytes], None] = lambda topic, payload: self.published.append((topic, payload))
        self.pipeline = self.open()

    def open(self, **more: Any) -> Pipeline:
        pipeline = Pipeline(
            gateway="gw-test",
            spool=Spool(self.folder / "spool"),
            checkpoint=Checkpoint(self.folder / "spool" / "stored"),
            sessions=self.sessions,
            telemetry=self.telemetry,
            clock=self.clock,
            publish=lambda topic, payload: self.publish(topic, payload),
            zone=ZoneInfo("Asia/Shanghai"),
            compiled=self.compiled,
            **more,
        )
        pipeline.load()
        return pipeline

    def crash(self) -> None:
        """Lose everything that is only in memory, then start again."""
        self.pipeline.spool.close()
        self.pipeline = self.open()

    def send(self, serial: str, kind: str, body: Any, *, recv_ms: int, equipment_type: str = "soymilk") -> None:
        payload = body if isinstance(body, bytes) else orjson.dumps(body)
        self.pipeline.ingest([(wire.up(equipment_type, serial, kind), payload, recv_ms)])

    def samples(self, serial: str, times_s: Sequence[float], *, equipment_type: str = "soymilk", **values: Any) -> None:
        """Samples at seconds after ``START``, received at once."""
        for at_s in times_s:
            ts = T0 + round(at_s * 1000)
            body = {"ts": ts, "boot": "b", "seq": round(at_s * 10), "power_w": 6.0, "voltage_v": 380.0, **values}
            self.send(serial, "telemetry", body, recv_ms=ts, equipment_type=equipment_type)

    def tick(self, at_s: float) -> None:
        self.clock.set(from_ms(T0 + round(at_s * 1000)))
        self.pipeline.tick(self.clock.now())

    def tickets(self) -> list[Ticket]:
        with self.sessions.read() as session:
            return list(session.scalars(select(Ticket).order_by(Ticket.id)))

    def held(self) -> list[QuarantineRow]:
        with self.sessions.read() as session:
            return list(session.scalars(select(QuarantineRow).order_by(QuarantineRow.id)))

    def count(self, table: type[Any]) -> int:
        with self.sessions.read() as session:
            return session.scalar(select(func.count()).select_from(table)) or 0
