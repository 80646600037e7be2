"""What a lost connection takes with it: QoS 1 comes again, QoS 0 is counted."""

from __future__ import annotations

import random
from pathlib import Path

from domain.clock import SystemClock
from domain.settings import load
from gateway.ingest.paho_receiver import PahoReceiver
from gateway.messages import Message


def test_qos_0_messages_that_are_lost_with_a_connection_are_counted(tmp_path: Path) -> None:
    receiver = PahoReceiver(
        load({"BREWAIR_DATA_DIR": str(tmp_path), "BREWAIR_MQTT_URL": "mqtt://127.0.0.1:9"}),
        client_id="counts",
        filters=["#"],
        memory=tmp_path / "subscriptions",
        clock=SystemClock(),
        rng=random.Random(1),
    )
    receiver._arrived = [Message("t", b"", n) for n in range(5)]
    receiver._to_ack = [7, 8]
    receiver._new_epoch()
    assert receiver.counts.dropped_qos0 == 3
    receiver._new_epoch()
    assert receiver.counts.dropped_qos0 == 3
