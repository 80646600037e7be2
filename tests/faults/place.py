"""Where faults happen: a broker, an InfluxDB bucket, an SQL database, the gateway as a process between them, machines that
publish, and the rule that every fault test ends with (``Place.prove``): nothing lost, nothing doubled."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
from sqlalchemy import func, select

from domain import wire
from domain.catalogue.registry import EQUIPMENT, card_of
from domain.detection.engine import Detector
from domain.readings import Reading
from domain.store.session import Sessions
from domain.store.tables import DetectorState, FindingRow, QuarantineRow, Ticket
from gateway.ingest.spool import scan
from gateway.messages import Message
from tests.faults.summary import PROPERTY, RSS, SEEN
from tests.integration.gateway_fleet import GatewayProcess, Publisher, Said, Sample, figures, now_ms
from tests.servers import InfluxDB, Mosquitto, free_port, wait_until
from tests.unit.gateway.plant import prepare, register

FULL = bool(os.environ.get("BREWAIR_FULL"))
SERIALS = tuple(f"K-{number}" for number in range(8))
STEP_MS = 5000
RSS_MIB = 300
CHANNELS = EQUIPMENT["soymilk"].channels
SILENCE = "R01"


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
                given = [(n, ts, {"power_w": power_w(n), **self.values}) for n, ts in times]
                self.publisher.said += [(serial, ts, n, values) for n, ts, values in given]
                body = [{"ts": ts, "boot": "b", "seq": n, **values} for n, ts, values in given]
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

    def figure(self, name: str, **labels: str) -> float:
        """One figure with exactly these labels."""
        return figures(self.metrics, labels).get(name, 0.0)

    def see(self, text: str) -> None:
        """For the last column of the table: what was measured and decides nothing."""
        self.note(SEEN, text)

    def wait_settled(self) -> None:
        """Until all that the gateway has taken in has had its consequences: only then their absence says something."""
        wait_until(
            lambda: self.figures()["brewair_sql_lag_seconds"] == 0 == self.figures()["brewair_spool_lag_seconds"],
            timeout_s=60,
            every_s=0.2,
            what="everything to be committed",
        )

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

    def points(self, serial: str) -> dict[Sample, list[Mapping[str, Any]]]:
        """The fields of every point of a machine by query, whatever measurement and tags it is under."""
        query = quote(f"SELECT * FROM /.*/ WHERE serial = '{serial}' GROUP BY *")
        answer = self.influxdb.call("GET", f"/query?db={self.bucket}&epoch=ms&q={query}")
        found: dict[Sample, list[Mapping[str, Any]]] = {}
        for series in answer["results"][0].get("series", ()):
            names = series["columns"]
            for row in series["values"]:
                fields = {name: value for name, value in zip(names, row, strict=True) if value is not None}
                found.setdefault((serial, fields.pop("time")), []).append(fields)
        return found

    def wait_stored(self, wanted: set[Sample], timeout_s: float = 120.0) -> None:
        """Machine by machine: of all together an answer may be too long."""
        for serial in sorted({serial for serial, _ in wanted}):
            of_it = {sample for sample in wanted if sample[0] == serial}
            wait_until(
                lambda serial=serial, of_it=of_it: of_it <= self.points(serial).keys(),
                timeout_s=timeout_s,
                every_s=0.5,
                what=f"all samples of {serial}",
            )

    def prove(
        self,
        *,
        tickets: Sequence[str] = SERIALS,
        rule: str = "R26",
        may_miss: Iterable[Sample] = (),
        unheard: Iterable[Sample] = (),
        timeout_s: float = 120.0,
    ) -> None:
        """The common rule: every acknowledged sample is stored exactly once and as it was said, the rules got each machine's
        samples in order, every episode is there once and began when the machine was ill, nobody has two tickets, no life of the
        gateway grew.

        ``may_miss`` is what others lost (a broker) or what was damaged on purpose, or is in quarantine; it is shown as
        excused. ``unheard`` is that part of it which never reached the gateway or was damaged in its spool.
        """
        for publisher in self.publishers:
            publisher.flush(timeout_s)
        acknowledged = set().union(*(publisher.acked for publisher in self.publishers))
        owed = acknowledged - set(may_miss)
        late = ""
        try:
            self.wait_stored(owed, timeout_s)
        except TimeoutError as error:
            late = str(error)
        said = [one for publisher in self.publishers for one in publisher.said]
        tally, wrong = self._compare(said, acknowledged, owed)
        self.note(PROPERTY, tally)
        assert not tally["lost"], f"{tally['lost']} of {len(owed)} lost: {late}"
        assert not tally["doubled"], "stored twice"
        assert not tally["wrong"], f"stored otherwise than said: {wrong}"
        self.wait_tickets(tickets, rule)
        self._prove_rules([one for one in said if (one[0], one[1]) not in set(unheard)], tickets)
        self.note(RSS, round(self.gateway.peak_mib()))
        assert self.gateway.peak_mib() <= RSS_MIB

    def _compare(
        self, said: Iterable[Said], acknowledged: set[Sample], owed: set[Sample]
    ) -> tuple[dict[str, int], Any]:
        """What was said against what is stored: the counts, and the first points that are not as they were said."""
        contents: dict[str, dict[Sample, list[Mapping[str, Any]]]] = {}
        for serial, ts, _, values in said:
            known = {name: value for name, value in values.items() if name in CHANNELS}
            contents.setdefault(serial, {}).setdefault((serial, ts), []).append(known)
        tally = {"acknowledged": len(acknowledged), "stored": 0, "excused": 0, "lost": 0, "doubled": 0, "wrong": 0}
        wrong: list[Any] = []
        there: set[Sample] = set()
        for serial, expected in contents.items():
            found = self.points(serial)
            there |= found.keys()
            tally["doubled"] += sum(len(points) - 1 for points in found.values())
            wrong += [
                (sample, points, expected[sample])
                for sample, points in found.items()
                if sample in expected and not all(point in expected[sample] for point in points)
            ]
        tally["stored"], tally["wrong"] = len(there), len(wrong)
        tally["excused"], tally["lost"] = len(acknowledged - owed - there), len(owed - there)
        return tally, wrong[:3]

    def _prove_rules(self, said: Iterable[Said], tickets: Sequence[str]) -> None:
        """What the machines' rules remember is what a detector remembers that heard all of it once and in order; so are the
        episodes, but for silence, which is nobody's sample."""
        heard: dict[str, Detector] = {}
        expected: set[tuple[Any, ...]] = set()
        for serial, ts, seq, values in said:
            known = {name: value for name, value in values.items() if name in CHANNELS}
            detector = heard.setdefault(serial, Detector(card_of("soymilk", "SMM-60"), serial))
            reading = Reading(serial, "soymilk", ts, known, values.get("boot", "b"), seq, values.get("backfill", False))
            for finding in detector.fold(reading):
                one = (serial, finding.rule, finding.raised_at)
                expected.discard((*one, None))
                expected.add((*one, finding.cleared_at))
        story = {serial: list(detector.dump()["remembered"]) for serial, detector in heard.items()}
        try:
            wait_until(lambda: story == self._remembered(story), timeout_s=60, every_s=0.5)
        except TimeoutError:
            assert self._remembered(story) == story, "the rules did not hear everything, once and in order"
        with self.sessions.read() as session:
            found = list(session.scalars(select(FindingRow).where(FindingRow.rule != SILENCE)))
            episodes = [(row.serial, row.rule, row.raised_at_ms, row.cleared_at_ms) for row in found]
            times = {ticket.occurrences for ticket in session.scalars(select(Ticket))}
        assert sorted(episodes, key=str) == sorted((one for one in expected if one[0] in tickets), key=str), (
            "episodes are not those that the samples tell of"
        )
        assert times <= {1}, "one episode counted twice"

    def _remembered(self, serials: Iterable[str]) -> dict[str, list[str]]:
        """The identities of the last samples that each machine's rules heard, as kept in SQL."""
        with self.sessions.read() as session:
            states = {row.serial: row.dump for row in session.scalars(select(DetectorState))}
        return {serial: states[serial].get("remembered", []) for serial in serials if serial in states}


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
