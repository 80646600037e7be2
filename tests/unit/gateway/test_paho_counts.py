"""What a lost connection takes with it: QoS 1 comes again, QoS 0 is counted, the next connection subscribes anew."""

from __future__ import annotations

import random
from pathlib import Path

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from domain.clock import SystemClock
from domain.settings import load
from gateway.ingest.paho_receiver import PahoReceiver
from gateway.messages import Message


def receiver(folder: Path) -> PahoReceiver:
    return PahoReceiver(
        load({"BREWAIR_DATA_DIR": str(folder), "BREWAIR_MQTT_URL": "mqtt://127.0.0.1:9"}),
        client_id="counts",
        filters=["#"],
        memory=folder / "subscriptions",
        clock=SystemClock(),
        rng=random.Random(1),
    )


def test_qos_0_messages_that_are_lost_with_a_connection_are_counted(tmp_path: Path) -> None:
    one = receiver(tmp_path)
    one._arrived = [Message("t", b"", n) for n in range(5)]
    one._to_ack = [7, 8]
    one._new_epoch()
    assert one.counts.dropped_qos0 == 3
    one._new_epoch()
    assert one.counts.dropped_qos0 == 3


def test_another_attempt_to_subscribe_is_lost_with_its_connection(tmp_path: Path) -> None:
    one = receiver(tmp_path)
    one._on_subscribe(one._client, None, 1, [ReasonCode(PacketTypes.SUBACK, identifier=0)], None)
    assert one._retry_subscription is not None
    one._new_epoch()
    assert one._retry_subscription is None
