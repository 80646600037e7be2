"""The fleet's publishers against the real broker: every PUBACK logged, wills spoken by the broker, commands obeyed."""

from __future__ import annotations

import io
import json
import queue
from collections.abc import Iterator

import orjson
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from device_sim.fleet import Fleet, MachineSpec
from device_sim.publisher import Broker, Publisher
from device_sim.runner import run_freely
from device_sim.site import Site
from domain import wire
from domain.errors import UnavailableError
from tests.servers import Mosquitto, free_port, wait_until

pytestmark = pytest.mark.integration

START = 1_768_338_000_000
HOUR = 3_600_000


class Ear:
    """A subscriber that keeps everything below a filter."""

    def __init__(self, broker: Mosquitto, topic_filter: str) -> None:
        self.heard: queue.SimpleQueue[mqtt.MQTTMessage] = queue.SimpleQueue()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self.client.on_message = lambda client, userdata, message: self.heard.put(message)
        subscribed: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self.client.on_subscribe = lambda *_: subscribed.put(True)
        self.client.connect(broker.host, broker.port)
        self.client.loop_start()
        self.client.subscribe(topic_filter, 1)
        subscribed.get(timeout=10)

    def next(self) -> mqtt.MQTTMessage:
        return self.heard.get(timeout=10)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def fleet_of(*serials: str) -> Fleet:
    site = Site(name="here")
    specs = [MachineSpec(serial=serial, type="soymilk", model="SMM-60", site=site, batches=(60,)) for serial in serials]
    return Fleet.build(specs, seed=1, start_ms=START)


@pytest.fixture
def ear(mosquitto: Mosquitto, request: pytest.FixtureRequest) -> Iterator[Ear]:
    listener = Ear(mosquitto, wire.UP_FILTER)
    yield listener
    listener.close()


def identities(messages: list[mqtt.MQTTMessage], serials: set[str]) -> set[tuple[str, int, int]]:
    found = set()
    for message in messages:
        topic = wire.parse_up(message.topic)
        if topic and topic.serial in serials and topic.kind in ("telemetry", "event"):
            body = orjson.loads(message.payload)
            for thing in body if isinstance(body, list) else [body]:
                found.add((topic.serial, thing["ts"], thing["seq"]))
    return found


def drained(ear: Ear) -> list[mqtt.MQTTMessage]:
    return [ear.heard.get_nowait() for _ in range(ear.heard.qsize())]


def test_every_sample_is_acknowledged_logged_and_delivered(mosquitto: Mosquitto, ear: Ear) -> None:
    serials = {f"PUB-A{k}" for k in range(5)}
    fleet, log = fleet_of(*sorted(serials)), io.StringIO()
    with Publisher(Broker(url=mosquitto.url), fleet.machines.values(), connections=2, acks=log) as bus:
        tally = run_freely(fleet, bus, START + HOUR, step_ms=60_000, pace=lambda next_ms: False)
        assert bus.unacknowledged == 0
    acked = {(a["serial"], a["ts"], a["seq"]) for a in map(json.loads, log.getvalue().splitlines())}
    assert len(acked) == tally.samples
    messages: list[mqtt.MQTTMessage] = []

    def all_there() -> bool:
        messages.extend(drained(ear))
        return identities(messages, serials) >= acked

    wait_until(all_there, what="all samples")
    assert identities(messages, serials) == acked


def test_the_broker_says_the_will_of_a_machine_that_was_unplugged(mosquitto: Mosquitto, ear: Ear) -> None:
    fleet = fleet_of("PUB-B1", "PUB-B2")
    with Publisher(Broker(url=mosquitto.url), fleet.machines.values(), connections=0) as bus:
        bus.publish(fleet.advance(START + 60_000))
        bus.publish(fleet.inflict("PUB-B1", "unplugged", START + 60_000))
        bus.publish(fleet.advance(START + 300_000))
        statuses: list[tuple[str, bytes]] = []

        def offline() -> bool:
            statuses.extend((m.topic, m.payload) for m in drained(ear) if m.topic.endswith("/up/status"))
            return (wire.up("soymilk", "PUB-B1", "status"), b"offline") in statuses

        wait_until(offline, what="the will")
        assert (wire.up("soymilk", "PUB-B2", "status"), b"offline") not in statuses
        bus.publish(fleet.mend("PUB-B1", "unplugged", START + 300_000))
        bus.flush()
    late = Ear(mosquitto, wire.up("soymilk", "PUB-B1", "#"))
    kept = {m.topic.rsplit("/", 1)[1]: m for m in (late.next(), late.next())}
    late.close()
    assert kept["status"].payload == b"online"
    assert kept["status"].retain
    assert orjson.loads(kept["birth"].payload)["ts"] == START + 300_000


@pytest.mark.parametrize("connections", [0, 1])
def test_a_command_reaches_its_machine_and_is_answered(mosquitto: Mosquitto, ear: Ear, connections: int) -> None:
    serial = f"PUB-C{connections}"
    fleet = fleet_of(serial, f"{serial}x")
    broker = Broker(url=mosquitto.url)
    with Publisher(broker, fleet.machines.values(), connections=connections) as bus:
        bus.publish(fleet.advance(START + 60_000))
        order = orjson.dumps({"id": "o1", "name": "test_mode", "params": {"interval_s": 5, "ttl_s": 600}})

        def arrived() -> list[tuple[str, bytes]]:
            ear.client.publish(wire.down_command("soymilk", serial), order, 1)
            return bus.commands()

        commands = wait_until(arrived, what="the command", every_s=0.2)
        for topic, payload in commands:
            bus.publish(fleet.receive(topic, payload, START + 61_000))
        bus.flush()
        assert fleet.machines[serial].testing
        assert not fleet.machines[f"{serial}x"].testing

        def answered() -> bool:
            return any(m.topic == wire.up("soymilk", serial, "reply") for m in drained(ear))

        wait_until(answered, what="the reply")


def test_an_outage_of_the_broker_loses_nothing() -> None:
    serials = {"PUB-D1", "PUB-D2"}
    fleet, log = fleet_of(*sorted(serials)), io.StringIO()
    with Mosquitto() as server:
        keeper = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="keeper", clean_session=False)
        keeper.connect(server.host, server.port)
        keeper.loop_start()
        keeper.subscribe(wire.UP_FILTER, 1)
        got: queue.SimpleQueue[mqtt.MQTTMessage] = queue.SimpleQueue()
        keeper.on_message = lambda client, userdata, message: got.put(message)
        with Publisher(Broker(url=server.url), fleet.machines.values(), acks=log) as bus:
            bus.publish(fleet.advance(START + HOUR))
            bus.flush()
            server.stop()
            bus.publish(fleet.advance(START + 2 * HOUR))
            assert bus.unacknowledged > 0
            server.start()
            bus.flush()
        acked = {(a["serial"], a["ts"], a["seq"]) for a in map(json.loads, log.getvalue().splitlines())}
        messages: list[mqtt.MQTTMessage] = []

        def all_there() -> bool:
            messages.extend(got.get_nowait() for _ in range(got.qsize()))
            return identities(messages, serials) >= acked

        wait_until(all_there, timeout_s=20, what="all samples")
        keeper.disconnect()
        keeper.loop_stop()
    assert len(acked) >= 2 * 2 * 119


def test_no_broker_is_one_clear_error() -> None:
    fleet = fleet_of("PUB-E1")
    with (
        pytest.raises(UnavailableError, match="No broker at mqtt"),
        Publisher(Broker(url=f"mqtt://127.0.0.1:{free_port()}"), fleet.machines.values()),
    ):
        pass
