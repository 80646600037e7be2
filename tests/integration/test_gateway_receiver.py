"""The paho receiver on a real broker: what was not acknowledged comes again, and nothing old is acknowledged on a new line."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from domain import wire
from domain.clock import SystemClock
from domain.settings import load
from gateway.ingest.paho_receiver import PahoReceiver
from gateway.ingest.receiver import Batch
from tests.integration.gateway_fleet import Publisher
from tests.servers import Mosquitto, wait_until

pytestmark = pytest.mark.integration

TOPIC = wire.up("soymilk", "R-1", "telemetry")
Open = Callable[..., "Tapped"]


@pytest.fixture
def broker(mosquitto: Mosquitto) -> Mosquitto:
    return mosquitto


@pytest.fixture
def open_receiver(broker: Mosquitto, tmp_path: Path) -> Open:
    def make(*filters: str) -> Tapped:
        receiver = Tapped(
            load({"BREWAIR_DATA_DIR": str(tmp_path), "BREWAIR_MQTT_URL": broker.url}),
            client_id="receiver-test",
            filters=filters or (wire.UP_FILTER,),
            memory=tmp_path / "subscriptions",
            clock=SystemClock(),
            rng=random.Random(1),
        )
        receiver.connect()
        return receiver

    return make


class Tapped(PahoReceiver):
    """Remembers what came while it was connecting."""

    def connect(self) -> None:
        self.early: list[Batch] = []

        def connected() -> bool:
            if not self.connected:
                self.early.append(self.receive(0.05))
            return self.connected

        wait_until(connected, timeout_s=20, what="the connection")


def collect(receiver: Tapped, count: int) -> list[Batch]:
    batches, receiver.early = receiver.early, []

    def enough() -> bool:
        if sum(len(batch.messages) for batch in batches) < count:
            batches.append(receiver.receive(0.1))
        return sum(len(batch.messages) for batch in batches) >= count

    wait_until(enough, timeout_s=20, what=f"{count} messages")
    return batches


def payloads(batches: list[Batch]) -> list[bytes]:
    return [message.payload for batch in batches for message in batch.messages]


def publish(broker: Mosquitto, *bodies: bytes) -> None:
    publisher = Publisher(broker, "receiver")
    for body in bodies:
        publisher.publish(TOPIC, body)
    publisher.flush()
    publisher.close()


def test_in_order_and_acknowledged_once(broker: Mosquitto, open_receiver: Open) -> None:
    receiver = open_receiver()
    wanted = [str(number).encode() for number in range(300)]
    publish(broker, *wanted)
    batches = collect(receiver, 300)
    assert payloads(batches) == wanted
    for batch in batches:
        receiver.ack(batch)
    receiver.close()
    # A client of the same id that came at once would push the old connection out with its acknowledgements unread.
    wait_until(lambda: "receiver-test disconnected" in broker.log, what="the broker to have read everything")
    again = open_receiver()
    publish(broker, b"next")
    assert payloads(collect(again, 1)) == [b"next"]
    again.close()


def test_what_was_not_acknowledged_comes_again(broker: Mosquitto, open_receiver: Open) -> None:
    receiver = open_receiver()
    publish(broker, b"a", b"b")
    assert payloads(collect(receiver, 2)) == [b"a", b"b"]
    receiver.close()
    again = open_receiver()
    assert payloads(collect(again, 2)) == [b"a", b"b"]
    again.close()


def test_a_batch_of_a_former_connection_is_never_acknowledged_on_the_next(
    broker: Mosquitto, open_receiver: Open
) -> None:
    receiver = open_receiver()
    publish(broker, b"old")
    old = collect(receiver, 1)
    broker.stop()
    wait_until(lambda: not receiver.receive(0.05).messages and not receiver.connected, timeout_s=20, what="the loss")
    broker.start()
    receiver.connect()
    for batch in old:
        receiver.ack(batch)
    publish(broker, b"new")
    came = payloads(collect(receiver, 2))
    assert sorted(came) == [b"new", b"old"], "the broker still holds what only the old connection had seen"
    receiver.close()


def test_filters_that_are_no_longer_wanted_are_taken_back(broker: Mosquitto, open_receiver: Open) -> None:
    receiver = open_receiver(wire.UP_FILTER, "tele/+/SENSOR")
    receiver.close()
    receiver = open_receiver(wire.UP_FILTER)
    publisher = Publisher(broker, "filters")
    publisher.publish("tele/x/SENSOR", b"unwanted")
    publisher.publish(TOPIC, b"wanted")
    publisher.flush()
    assert payloads(collect(receiver, 1)) == [b"wanted"]
    assert payloads([receiver.receive(0.3)]) == []
    publisher.close()
    receiver.close()


def test_retained_is_told_from_live(broker: Mosquitto, open_receiver: Open) -> None:
    publisher = Publisher(broker, "retained")
    publisher._client.publish(wire.up("soymilk", "R-1", "status"), b"online", qos=1, retain=True).wait_for_publish(5)
    receiver = open_receiver()
    (retained,) = [message for batch in collect(receiver, 1) for message in batch.messages]
    assert retained.retained
    publisher._client.publish(wire.up("soymilk", "R-1", "status"), b"offline", qos=1, retain=True).wait_for_publish(5)
    (live,) = [message for batch in collect(receiver, 1) for message in batch.messages]
    assert (live.retained, live.payload) == (False, b"offline")
    publisher.close()
    receiver.close()


def test_commands_go_out_while_the_broker_is_there(broker: Mosquitto, open_receiver: Open) -> None:
    receiver = open_receiver(wire.UP_FILTER, "brewair/v1/+/+/+/down/command")
    receiver.publish(wire.down_command("soymilk", "R-1"), b"{}")
    assert payloads(collect(receiver, 1)) == [b"{}"]
    receiver.close()
