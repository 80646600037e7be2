"""The gateway as a process, on a real broker and a real InfluxDB, while things break: nothing acknowledged is lost, no
ticket doubles, and every refusal says why."""

from __future__ import annotations

import os
import random
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
from sqlalchemy import func, select

from domain import wire
from domain.store.session import Sessions
from domain.store.tables import FindingRow, QuarantineRow, Ticket
from tests.integration.gateway_fleet import GatewayProcess, Publisher, now_ms, stored
from tests.servers import InfluxDB, Mosquitto, wait_until
from tests.unit.gateway.plant import prepare, register

pytestmark = pytest.mark.integration

KILLS = 50 if os.environ.get("BREWAIR_FULL") else 20
SERIALS = [f"K-{number}" for number in range(8)]
STEP_MS = 5000


@dataclass(slots=True)
class Place:
    """A broker, a bucket, an SQL database, and the gateway between them."""

    broker: Mosquitto
    influxdb: InfluxDB
    bucket: str
    folder: Path
    sessions: Sessions
    gateway: GatewayProcess

    def tickets(self) -> list[tuple[str | None, str]]:
        with self.sessions.read() as session:
            return sorted((ticket.serial, ticket.rule) for ticket in session.scalars(select(Ticket)))

    def wait_tickets(self) -> None:
        """Exactly one ticket per machine of the fleet."""
        wait_until(lambda: len(self.tickets()) >= len(SERIALS), timeout_s=30, every_s=0.2, what="a ticket per machine")
        assert self.tickets() == [(serial, "R26") for serial in SERIALS]

    def held(self) -> dict[str, int]:
        with self.sessions.read() as session:
            rows = session.execute(select(QuarantineRow.reason, func.count()).group_by(QuarantineRow.reason))
            return {reason: count for reason, count in rows}  # noqa: C416

    def wait_stored(self, wanted: set[tuple[str, int]], timeout_s: float = 90.0) -> None:
        wait_until(
            lambda: wanted <= stored(self.influxdb, self.bucket), timeout_s=timeout_s, every_s=0.3, what="all samples"
        )


@pytest.fixture(params=["native", "paho"])
def place(request: pytest.FixtureRequest, tmp_path: Path, mosquitto: Mosquitto, influxdb: InfluxDB) -> Iterator[Place]:
    (tmp_path / "data").mkdir()
    sessions = prepare(f"sqlite:///{tmp_path / 'data' / 'brewair.db'}")
    for serial in SERIALS:
        register(sessions, serial)
    (tmp_path / "token").write_text(influxdb.token + "\n")
    bucket = influxdb.fresh_bucket()
    gateway = GatewayProcess(
        tmp_path,
        BREWAIR_MQTT_URL=mosquitto.url,
        BREWAIR_MQTT_RECEIVER=request.param,
        BREWAIR_TELEMETRY_URL=f"influxdb+{influxdb.url}/{influxdb.org}/{bucket}",
        BREWAIR_INFLUX_TOKEN_FILE=str(tmp_path / "token"),
    )
    with gateway:
        gateway.wait_connected()
        yield Place(mosquitto, influxdb, bucket, tmp_path, sessions, gateway)
        print(gateway.log_path.read_text(encoding="utf-8")[-4000:])
    sessions.engine.dispose()


class Fleet:
    """Eight machines that report a fault code all the time: one ticket each, whatever happens."""

    def __init__(self, broker: Mosquitto) -> None:
        self.publisher = Publisher(broker, "faults")
        self.start_ms = now_ms() - 86_400_000
        self.rounds = 0

    def publish(self, rounds: int, rate: float = 200.0) -> None:
        """So many samples of every machine at ``rate`` samples/s."""
        for _ in range(rounds):
            for serial in SERIALS:
                ts = self.start_ms + self.rounds * STEP_MS
                self.publisher.sample(
                    serial, ts, self.rounds, power_w=float(self.rounds), voltage_v=380.0, fault_code="E4"
                )
            self.rounds += 1
            time.sleep(len(SERIALS) / rate)

    @property
    def sent(self) -> set[tuple[str, int]]:
        return {(serial, self.start_ms + n * STEP_MS) for serial in SERIALS for n in range(self.rounds)}


def test_influxdb_away_under_load_loses_nothing_and_delays_no_ticket(place: Place) -> None:
    fleet = Fleet(place.broker)
    fleet.publish(15)
    fleet.publisher.flush()
    place.influxdb.kill()
    fleet.publish(60)
    fleet.publisher.flush()
    place.wait_tickets()
    wait_until(lambda: place.gateway.said("telemetry_unavailable") == 1, what="one line about it")
    place.influxdb.start()
    fleet.publish(15)
    fleet.publisher.flush()
    assert fleet.publisher.acked == fleet.sent
    place.wait_stored(fleet.sent)
    assert stored(place.influxdb, place.bucket) == fleet.sent
    place.wait_tickets()
    assert place.gateway.said("telemetry_available") == 1
    fleet.publisher.close()


def test_killed_anywhere_under_load_it_loses_nothing_acknowledged_and_doubles_no_ticket(place: Place) -> None:
    rng = random.Random(20261123)
    fleet = Fleet(place.broker)
    for life in range(1, KILLS + 1):
        while place.gateway.said("broker_connected") < life:
            fleet.publish(1)
        deadline = time.monotonic() + rng.uniform(0.0, 0.8)
        while time.monotonic() < deadline:
            fleet.publish(1)
        place.gateway.kill()
        place.gateway.start()
    fleet.publish(10)
    fleet.publisher.flush()
    assert fleet.publisher.acked == fleet.sent
    place.wait_stored(fleet.sent)
    place.wait_tickets()
    assert stored(place.influxdb, place.bucket) == fleet.sent
    with place.sessions.read() as session:
        findings = list(session.scalars(select(FindingRow.episode_key)))
    assert len(findings) == len(set(findings)) == len(SERIALS)
    with place.sessions.read() as session:
        assert {ticket.occurrences for ticket in session.scalars(select(Ticket))} == {1}
    fleet.publisher.close()


def test_the_broker_restarting_under_load_loses_nothing(place: Place) -> None:
    fleet = Fleet(place.broker)
    for _ in range(3):
        fleet.publish(10)
        fleet.publisher.flush()
        place.broker.stop()
        place.broker.start()
    fleet.publish(10)
    fleet.publisher.flush()
    place.wait_stored(fleet.sent)
    place.wait_tickets()
    assert place.gateway.said("broker_connected") == 4
    fleet.publisher.close()


def test_sigterm_ends_it_in_order_with_nothing_left_to_repeat(place: Place) -> None:
    fleet = Fleet(place.broker)
    fleet.publish(20)
    fleet.publisher.flush()
    place.wait_stored(fleet.sent)
    began = time.monotonic()
    assert place.gateway.stop() == 0
    assert time.monotonic() - began < 10
    assert place.gateway.events[-1]["event"] == "gateway_stopped"
    spool = place.folder / "data" / "spool"
    assert int((spool / "stored").read_text()) == sum(segment.stat().st_size for segment in spool.glob("*.seg"))
    fleet.publisher.close()


def test_a_wrong_token_is_said_once_and_a_new_token_file_heals_without_a_restart(place: Place) -> None:
    place.gateway.stop()
    (place.folder / "token").write_text("wrong")
    place.gateway.start()
    fleet = Fleet(place.broker)
    fleet.publish(15)
    fleet.publisher.flush()
    wait_until(lambda: place.gateway.said("telemetry_unavailable"), timeout_s=20, what="a word about the token")
    (why,) = [line["why"] for line in place.gateway.events if line["event"] == "telemetry_unavailable"]
    assert "401" in why
    assert "token" in why
    (place.folder / "token").write_text(place.influxdb.token)
    place.wait_stored(fleet.sent)
    fleet.publisher.close()


def test_bad_input_is_held_with_its_reason_and_good_input_lives(place: Place) -> None:
    fleet = Fleet(place.broker)
    publisher = fleet.publisher
    good = wire.up("soymilk", "SM-1", "telemetry")
    ts = now_ms()
    poison = {
        b"{broken": "unreadable",
        b'{"ts":%d,"power_w":"high"}' % ts: "wrong_type",
        b'{"ts":%d,"power_w":NaN}' % ts: "not_finite",
        b'{"power_w":1}': "missing_ts",
        b"[" * 5000: "too_deep",
        b"\x00" * (10 << 20): "oversize",
    }
    for payload in poison:
        publisher.publish(good, payload)
    publisher.publish(wire.up("soymilk", "STRANGER", "telemetry"), b'{"ts":%d,"power_w":1}' % ts)
    publisher.publish(wire.up("toaster", "T-1", "telemetry"), b'{"ts":%d,"power_w":1}' % ts)
    for number, wrong in enumerate((0, 1, ts + 10**10, -5, 1 << 52)):
        publisher.publish(
            good, orjson.dumps({"ts": wrong, "boot": "b", "seq": number, "power_w": 6.0, "voltage_v": 380.0})
        )
    fleet.publish(40)
    publisher.flush()
    place.wait_stored(fleet.sent)
    wait_until(lambda: sum(place.held().values()) == len(poison) + 2, timeout_s=20, what="everything in quarantine")
    assert place.held() == {**dict.fromkeys(poison.values(), 1), "unknown_serial": 1, "unknown_type": 1}
    place.wait_tickets()  # and none for a wrong clock
    odd = stored(place.influxdb, place.bucket) - fleet.sent
    assert {serial for serial, _ in odd} == {"SM-1", "STRANGER"}
    assert all(abs(at - ts) < 60_000 for _, at in odd), "a clock that cannot be right gives way to the time of receipt"
    fleet.publisher.close()


PUBACK = re.compile(r'sendto\(\d+, "@\\2.*, (\d+), \w+, NULL')
PUBACK_BYTES = 4
RECEIVED = re.compile(r"recvfrom\(.*= [1-9]\d*$|<\.\.\. recvfrom resumed>.*= [1-9]\d*$")
SYNCED = re.compile(r"fdatasync(\(\d+| resumed>)\) += 0")


def test_every_acknowledgement_is_sent_after_fdatasync_returned(place: Place) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not on this machine (Debian package strace)")
    place.gateway.stop()
    trace = place.folder / "trace"
    place.gateway.start("strace", "-D", "-f", "-s", "16", "-o", str(trace), "-e", "trace=recvfrom,sendto,fdatasync")
    wait_until(lambda: place.gateway.said("broker_connected") == 2, timeout_s=60, what="the traced gateway")
    fleet = Fleet(place.broker)
    fleet.publish(25)
    fleet.publisher.flush()
    place.wait_stored(fleet.sent)
    place.gateway.stop()
    wait_until(
        lambda: "+++ exited" in trace.read_text(errors="replace")[-200:], timeout_s=20, what="the end of the trace"
    )
    lines = trace.read_text(errors="replace").splitlines()
    receiver = next(line.split()[0] for line in lines if PUBACK.search(line))
    unsynced, acknowledged = False, 0
    for line in (line for line in lines if line.split()[0] == receiver):
        if RECEIVED.search(line):
            unsynced = True
        elif SYNCED.search(line):
            unsynced = False
        elif sent := PUBACK.search(line):
            acknowledged += int(sent[1]) // PUBACK_BYTES
            assert not unsynced, f"acknowledged before it was durable: {line}"
    assert acknowledged >= len(fleet.sent)
    fleet.publisher.close()
