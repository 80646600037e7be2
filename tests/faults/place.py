"""Where faults happen: a broker, an InfluxDB bucket, an SQL database, the gateway as a process between them, machines that
publish, and the rule that every fault test ends with (``Place.prove``): nothing lost, nothing doubled."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import func, select

from domain import wire
from domain.store.session import Sessions
from domain.store.tables import FindingRow, QuarantineRow, Ticket
from gateway.ingest.spool import scan
from gateway.messages import Message
from tests.faults.summary import PROPERTY
from tests.integration.gateway_fleet import GatewayProcess, Publisher, Sample, figures, now_ms, stored
from tests.servers import InfluxDB, Mosquitto, free_port, wait_until
from tests.unit.gateway.plant import prepare, register

FULL = bool(os.environ.get("BREWAIR_FULL"))
SERIALS = tuple(f"K-{number}" for number in range(8))
STEP_MS = 5000
RSS_MIB = 300


def power_w(number: int) -> float:
    """What a machine in standby takes; never quite the same, or its meter would seem stuck."""
    return 6.0 + number % 7 / 10


class Fleet:
    """Machines that report a fault code all the time: one ticket each, whatever happens."""

    def __init__(self, publisher: Publisher, serials: Sequence[str], start_ms: int, **values: Any) -> None:
        self.publisher, self.serials, self.start_ms = publisher, serials, start_ms
        self.rounds, self.step_ms = 0, STEP_MS
        self.values = {"voltage_v": 380.0, "fault_code": "E4", **values}

    def publish(self, rounds: int, rate: float = 400.0, copies: int = 1) -> None:
        """So many samples of every machine at ``rate`` samples/s."""
        for _ in range(rounds):
            ts = self.start_ms + self.rounds * self.step_ms
            for serial in self.serials:
                for _ in range(copies):
                    self.publisher.sample(serial, ts, self.rounds, power_w=power_w(self.rounds), **self.values)
            self.rounds += 1
            time.sleep(len(self.serials) / rate)

    def publish_together(self, messages: int, samples: int) -> None:
        """As fast as it goes: every machine sends ``messages``, each an array of so many samples."""
        for _ in range(messages):
            times = [(n, self.start_ms + n * self.step_ms) for n in range(self.rounds, self.rounds + samples)]
            for serial in self.serials:
                body = [{"ts": ts, "boot": "b", "seq": n, "power_w": power_w(n), **self.values} for n, ts in times]
                self.publisher.publish(
                    wire.up("soymilk", serial, "telemetry"), orjson.dumps(body), [(serial, ts) for _, ts in times]
                )
            self.rounds += samples

    def publish_until(self, condition: Callable[[], object], rate: float = 400.0, timeout_s: float = 120.0) -> None:
        """Go on at ``rate`` until the condition holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, "published and waited in vain"
            self.publish(1, rate)

    @property
    def sent(self) -> set[Sample]:
        return {(serial, self.start_ms + n * self.step_ms) for serial in self.serials for n in range(self.rounds)}


@dataclass(slots=True)
class Place:
    """All parts, started; ``note`` hands figures to the table at the end of the run."""

    broker: Mosquitto
    influxdb: InfluxDB
    bucket: str
    folder: Path
    sessions: Sessions
    gateway: GatewayProcess
    metrics: str
    rng: random.Random
    note: Callable[[str, object], None]
    publishers: list[Publisher] = field(default_factory=list)

    def fleet(self, serials: Sequence[str] = SERIALS, name: str = "faults", **values: Any) -> Fleet:
        publisher = Publisher(self.broker, name)
        self.publishers.append(publisher)
        return Fleet(publisher, serials, now_ms() - 86_400_000, **values)

    @property
    def spool(self) -> Path:
        return self.folder / "data" / "spool"

    def figures(self) -> dict[str, float]:
        return figures(self.metrics)

    def tickets(self) -> list[tuple[str | None, str]]:
        with self.sessions.read() as session:
            return sorted((ticket.serial, ticket.rule) for ticket in session.scalars(select(Ticket)))

    def wait_tickets(self, serials: Sequence[str] = SERIALS, rule: str = "R26") -> None:
        """Exactly one ticket for each of these machines, and no other."""
        wanted = sorted((serial, rule) for serial in serials)
        wait_until(lambda: len(self.tickets()) >= len(wanted), timeout_s=60, every_s=0.2, what="a ticket per machine")
        assert self.tickets() == wanted

    def held(self) -> dict[str, int]:
        """What is in quarantine, by reason."""
        with self.sessions.read() as session:
            rows = session.execute(select(QuarantineRow.reason, func.count()).group_by(QuarantineRow.reason))
            return {reason: count for reason, count in rows}  # noqa: C416

    def in_spool(self, folder: Path | None = None) -> dict[str, list[tuple[int, int]]]:
        """What the gateway made durable, by serial and in order: (seq, ts) of every sample."""
        found: dict[str, list[tuple[int, int]]] = {}
        for _, records, _ in scan(folder or self.spool):
            for record in records:
                message = Message.unpack(record)
                topic = wire.parse_up(message.topic)
                if topic is None or topic.kind != "telemetry" or message.payload[:1] not in (b"{", b"["):
                    continue
                try:
                    body = orjson.loads(message.payload)
                except ValueError:
                    continue
                for one in body if isinstance(body, list) else [body]:
                    if isinstance(one, dict) and isinstance(one.get("seq"), int) and isinstance(one.get("ts"), int):
                        found.setdefault(topic.serial, []).append((one["seq"], one["ts"]))
        return found

    def wait_stored(self, wanted: set[Sample], timeout_s: float = 120.0) -> None:
        wait_until(
            lambda: wanted <= stored(self.influxdb, self.bucket).keys(),
            timeout_s=timeout_s,
            every_s=0.5,
            what="all samples",
        )

    def prove(
        self,
        *,
        tickets: Sequence[str] = SERIALS,
        rule: str = "R26",
        may_miss: Iterable[Sample] = (),
        timeout_s: float = 120.0,
        running: bool = True,
        in_order: bool = True,
        episodes_once: bool = True,
    ) -> None:
        """The common rule: every acknowledged sample is stored exactly once, the rules got each machine's samples in order,
        nobody has two tickets, the gateway stayed small. ``may_miss`` is what others lost (a broker) or what was damaged on
        purpose, or is in quarantine; it is shown as excused. ``in_order`` is for machines
        that publish so, ``episodes_once`` for a single gateway: two that share the samples each see a beginning."""
        for publisher in self.publishers:
            publisher.flush(timeout_s)
        acknowledged = set().union(*(publisher.acked for publisher in self.publishers))
        owed = acknowledged - set(may_miss)
        try:
            self.wait_stored(owed, timeout_s)
        except TimeoutError:
            found = stored(self.influxdb, self.bucket)
            self._tell(acknowledged, owed, found)
            missing = sorted(owed - found.keys())
            raise AssertionError(f"{len(missing)} of {len(owed)} lost: {missing[:5]}") from None
        self.wait_tickets(tickets, rule)
        found = stored(self.influxdb, self.bucket)
        self._tell(acknowledged, owed, found)
        assert not [sample for sample, times in found.items() if times > 1], "stored twice"
        with self.sessions.read() as session:
            episodes = Counter(session.scalars(select(FindingRow.episode_key)))
            times = {ticket.occurrences for ticket in session.scalars(select(Ticket))}
            assert times <= {1} or not episodes_once, "one episode counted twice"
        assert not [key for key, times in episodes.items() if times > 1], "a finding twice"
        for serial, samples in self.in_spool().items() if in_order else ():
            first = list(dict.fromkeys(samples))
            assert first == sorted(first), f"{serial} reached the rules out of order"
        if running:
            assert self.gateway.peak_mib() <= RSS_MIB

    def _tell(self, acknowledged: set[Sample], owed: set[Sample], found: Counter[Sample]) -> None:
        tally = {
            "acknowledged": len(acknowledged),
            "stored": len(found),
            "excused": len(acknowledged - owed - found.keys()),
            "lost": len(owed - found.keys()),
            "doubled": sum(found.values()) - len(found),
        }
        self.note(PROPERTY, tally)


def build(
    folder: Path,
    broker: Mosquitto,
    influxdb: InfluxDB,
    note: Callable[[str, object], None],
    *,
    serials: Sequence[str] = SERIALS,
    database_url: str = "",
    influx_url: str = "",
    **settings: str,
) -> Place:
    """A place whose gateway is not started yet. ``settings`` win; ``influx_url`` is what stands before the real InfluxDB."""
    (folder / "data").mkdir()
    sessions = prepare(database_url or f"sqlite:///{folder / 'data' / 'brewair.db'}")
    for serial in serials:
        register(sessions, serial)
    (folder / "token").write_text(influxdb.token + "\n")
    bucket, metrics = influxdb.fresh_bucket(), f"127.0.0.1:{free_port()}"
    if database_url:
        settings["BREWAIR_DATABASE_URL"] = database_url
    gateway = GatewayProcess(
        folder,
        **{
            "BREWAIR_MQTT_URL": broker.url,
            "BREWAIR_TELEMETRY_URL": f"influxdb+{influx_url or influxdb.url}/{influxdb.org}/{bucket}",
            "BREWAIR_INFLUX_TOKEN_FILE": str(folder / "token"),
            "BREWAIR_METRICS_BIND": metrics,
            **settings,
        },
    )
    return Place(broker, influxdb, bucket, folder, sessions, gateway, metrics, random.Random(20261129), note)
