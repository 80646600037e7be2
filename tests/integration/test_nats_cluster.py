"""The same gateways on three real NATS nodes, with the configuration of production: a node dies in mid-stream, and shards
move from folder to folder (from machine to machine) while devices publish. Nothing acknowledged is lost, no ticket doubles."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from sqlalchemy import select

from domain import wire
from domain.store.session import Sessions
from domain.store.tables import FindingRow, QuarantineRow, Ticket
from tests.integration.gateway_fleet import GatewayProcess, Sample, now_ms, stored
from tests.servers import InfluxDB, NatsCluster, NatsNode, PostgreSQL, wait_until
from tests.unit.gateway.plant import prepare, register

pytestmark = pytest.mark.integration

SERIALS = [f"N-{number}" for number in range(24)]
LOW, HIGH = "0-7", "8-15"
ROUND_S = 0.05
STEP_MS = 5000


def ours(serials: list[str], shards: range) -> list[str]:
    return [serial for serial in serials if int(wire.shard_of(serial)) in shards]


class Devices:
    """Machines behind one connection that goes to the next node when its own is gone; ``acked`` holds what was PUBACKed."""

    def __init__(self, nodes: list[NatsNode], serials: list[str], name: str) -> None:
        self.acked: set[Sample] = set()
        self._serials = serials
        self._on_the_way: deque[tuple[int, Sample]] = deque()
        self._pubacks: set[int] = set()
        self._nodes = itertools.cycle(nodes)
        self._stop = threading.Event()
        self._client = client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"fleet-{name}", clean_session=False)
        client.username_pw_set("devices", NatsNode.passwords["NATS_DEVICES_PASSWORD"])
        client.max_inflight_messages_set(200)
        client.max_queued_messages_set(0)
        client.reconnect_delay_set(1, 2)
        client.on_publish = lambda _client, _data, mid, _reason, _properties: self._pubacks.add(mid)
        client.on_disconnect = self._on_disconnect
        node = next(self._nodes)
        client.connect(node.host, node.port)
        client.loop_start()
        wait_until(client.is_connected, what="the devices' connection")
        self._thread = threading.Thread(target=self._work, name=f"devices-{name}", daemon=True)
        self._thread.start()

    def _on_disconnect(self, client: mqtt.Client, *_rest: Any) -> None:
        node = next(self._nodes)
        client.connect_async(node.host, node.port)  # where the client's own thread tries next

    def _work(self) -> None:
        """Every machine says once a round that it has a fault, in event time that runs faster than the clock."""
        ts = now_ms() // 1000 * 1000 - 86_400_000
        for step in itertools.count():
            for serial in self._serials:
                at = ts + step * STEP_MS
                body = orjson.dumps({"ts": at, "boot": "b", "seq": step, "power_w": 6.0, "fault_code": "E4"})
                mid = self._client.publish(wire.up("soymilk", serial, "telemetry"), body, qos=1).mid
                self._on_the_way.append((mid, (serial, at)))
            self._collect()
            if self._stop.wait(ROUND_S):
                return

    def _collect(self) -> bool:
        """Note what was acknowledged so far; True when that is everything."""
        while self._on_the_way and self._on_the_way[0][0] in self._pubacks:
            mid, sample = self._on_the_way.popleft()
            self._pubacks.discard(mid)
            self.acked.add(sample)
        return not self._on_the_way

    def finish(self) -> None:
        """Stop publishing, and wait for every PUBACK."""
        self._stop.set()
        self._thread.join()
        wait_until(self._collect, timeout_s=90, what="all PUBACKs")
        self._client.disconnect()
        self._client.loop_stop()


@dataclass
class World:
    """Brokers, stores, and a folder for each machine that a gateway may run on."""

    nats: NatsCluster
    influxdb: InfluxDB
    bucket: str
    sessions: Sessions
    folder: Path
    settings: dict[str, str]
    stack: ExitStack
    devices: list[Devices] = field(default_factory=list)

    def gateway(self, machine: str, *options: str, **more: str) -> GatewayProcess:
        """A gateway on a machine; started when it is entered."""
        folder = self.folder / machine
        folder.mkdir(exist_ok=True)
        return GatewayProcess(folder, *options, **{**self.settings, **more})

    def drain(self, machine: str, *options: str) -> None:
        process = self.gateway(machine, *options)
        process.start()
        assert process.wait() == 0, process.log_path.read_text()[-3000:]

    def remembers(self, client_id: str) -> bool:
        """Whether the broker keeps a session of that name. Whoever has it loses the connection."""
        said: list[bool] = []
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=False)
        client.username_pw_set("service.gateway", NatsNode.passwords["NATS_GATEWAY_PASSWORD"])
        client.on_connect = lambda _client, _data, flags, _reason, _properties: said.append(flags.session_present)
        node = self.nats.nodes[1]
        client.connect(node.host, node.port)
        wait_until(lambda: client.loop(0.1) == mqtt.MQTT_ERR_SUCCESS and said, what="the broker's answer")
        client.disconnect()
        return said[0]

    def publish(self, serials: list[str], name: str) -> Devices:
        devices = Devices(list(self.nats.nodes), serials, f"{name}-{self.bucket[-6:]}")
        self.devices.append(devices)
        return devices

    def check(self) -> set[Sample]:
        """Everything acknowledged is stored; one ticket and one finding for each machine; nothing in quarantine."""
        for devices in self.devices:
            devices.finish()
        acked = set[Sample]().union(*(devices.acked for devices in self.devices))
        wait_until(
            lambda: acked <= stored(self.influxdb, self.bucket).keys(), timeout_s=90, every_s=0.5, what="all samples"
        )
        machines = sorted({serial for serial, _ in acked})

        def tickets() -> list[str | None]:
            with self.sessions.read() as session:
                return sorted(session.scalars(select(Ticket.serial)), key=str)

        wait_until(lambda: len(tickets()) >= len(machines), timeout_s=60, every_s=0.5, what="a ticket for each machine")
        assert tickets() == machines
        with self.sessions.read() as session:
            assert sorted(session.scalars(select(FindingRow.serial))) == machines
            assert session.scalars(select(QuarantineRow.reason)).all() == []
        return acked


@pytest.fixture
def world(tmp_path: Path, nats: NatsCluster, influxdb: InfluxDB, postgresql: PostgreSQL) -> Iterator[World]:
    nats.start()
    database = postgresql.fresh_database()
    sessions = prepare(database)
    for serial in SERIALS:
        register(sessions, serial)
    (tmp_path / "token").write_text(influxdb.token + "\n")
    (tmp_path / "password").write_text(NatsNode.passwords["NATS_GATEWAY_PASSWORD"])
    bucket = influxdb.fresh_bucket()
    settings = {
        "BREWAIR_MQTT_URL": nats.url,
        "BREWAIR_MQTT_USER": "service.gateway",
        "BREWAIR_MQTT_PASSWORD_FILE": str(tmp_path / "password"),
        "BREWAIR_DATABASE_URL": database,
        "BREWAIR_TELEMETRY_URL": f"influxdb+{influxdb.url}/{influxdb.org}/{bucket}",
        "BREWAIR_INFLUX_TOKEN_FILE": str(tmp_path / "token"),
    }
    with ExitStack() as stack:
        world = World(nats, influxdb, bucket, sessions, tmp_path, settings, stack)
        yield world
        for devices in world.devices:
            devices._stop.set()
    sessions.engine.dispose()


@pytest.mark.parametrize("receiver", ["native", "paho"])
def test_a_node_dies_in_mid_stream_and_nothing_acknowledged_is_lost(world: World, receiver: str) -> None:
    with world.gateway("one", "--shards", "0-15", BREWAIR_MQTT_RECEIVER=receiver) as gateway:
        gateway.wait_connected()
        devices = world.publish(SERIALS, receiver)
        wait_until(lambda: len(devices.acked) > 500, timeout_s=60, what="a stream")
        first = world.nats.nodes[0]  # both the gateway and the devices came to the node that is named first
        assert [line["port"] for line in gateway.events if line.get("event") == "broker_connected"] == [first.port]
        first.kill()
        before = len(devices.acked)
        wait_until(lambda: gateway.said("broker_connected") == 2, timeout_s=60, what="the gateway at another node")
        wait_until(lambda: len(devices.acked) > before + 1000, timeout_s=90, what="the stream through another node")
        assert gateway.events[-1].get("event") == "broker_connected"
        assert gateway.events[-1]["port"] != first.port
        acked = world.check()
        assert len(acked) > 1500
        first.start()
        assert gateway.stop() == 0


def test_shards_move_between_two_machines_while_devices_publish(world: World) -> None:
    low, high = world.gateway("one", "--shards", LOW), world.gateway("two", "--shards", HIGH)
    with low, high:
        for gateway in (low, high):
            gateway.wait_connected()
        devices = [
            world.publish(ours(SERIALS, range(8)), "low"), world.publish(ours(SERIALS, range(8, 16)), "high"),
        ]  # fmt: skip
        for each in devices:
            wait_until(lambda each=each: len(each.acked) > 300, timeout_s=60, what="a stream")
        # stop, drain, start elsewhere: each to the other's machine
        for gateway in (low, high):
            assert gateway.stop() == 0
        world.drain("one", "--shards", LOW, "--drain")
        world.drain("two", "--shards", HIGH, "--drain")
        low_moved, high_moved = world.gateway("two", "--shards", LOW), world.gateway("one", "--shards", HIGH)
        with low_moved, high_moved:
            before = [len(each.acked) for each in devices]
            for each, had in zip(devices, before, strict=True):
                wait_until(lambda each=each, had=had: len(each.acked) > had + 300, timeout_s=60, what="the stream")
            world.check()
            assert low_moved.said("client_id_taken_over") == high_moved.said("client_id_taken_over") == 0


def test_shards_are_cut_otherwise_while_devices_publish(world: World) -> None:
    """Make before break: the new gateways hear everything, fold nothing, and go on when the old one is worked off."""
    with world.gateway("one", "--shards", "0-15") as old:
        old.wait_connected()
        devices = world.publish(SERIALS, "cut")
        wait_until(lambda: len(devices.acked) > 300, timeout_s=60, what="a stream")
        low, high = world.gateway("two", "--shards", LOW), world.gateway("three", "--shards", HIGH)
        with low, high:
            for gateway in (low, high):
                gateway.wait_connected()
                wait_until(lambda one=gateway: one.said("shards_held_elsewhere"), what="that the shards are another's")
            had = len(devices.acked)
            wait_until(lambda: len(devices.acked) > had + 100, timeout_s=60, what="what both have")
            assert old.stop() == 0
            world.drain("one", "--shards", "0-15", "--drain", "--forget")
            had = len(devices.acked)
            wait_until(lambda: len(devices.acked) > had + 300, timeout_s=60, what="the stream")
            world.check()
            assert not world.remembers("brewair-gw-0-15")
            assert world.remembers("brewair-gw-0-7")
