"""When the receiver lets a little more come together, and when it must not."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from domain.clock import SystemClock
from domain.settings import load
from gateway.ingest import mqtt_codec as codec
from gateway.ingest.native_receiver import COALESCE_S, NativeReceiver
from gateway.ingest.receiver import Batch
from tests.fake_broker import FakeBroker


class Counted(threading.Event):
    """An event that notes the waits instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        return False


def receiver(folder: Path, url: str) -> NativeReceiver:
    return NativeReceiver(
        load({"BREWAIR_DATA_DIR": str(folder), "BREWAIR_MQTT_URL": url}),
        client_id="gw",
        filters=["a/#"],
        memory=folder / "subscriptions",
        clock=SystemClock(),
        rng=random.Random(1),
    )


@pytest.mark.parametrize(
    ("query", "rate_hz", "last", "largest", "waits"),
    [
        ("", 0.0, 0, 5000, False),  # idle
        ("", 999.0, 5, 5000, False),
        ("", 1000.0, 5, 5000, True),
        ("", 90_000.0, 1999, 5000, True),
        ("", 90_000.0, 2000, 5000, False),  # enough as it is
        ("", 4000.0, 5, 64, False),  # a broker that never had more than 64 on the way waits for us
        ("", 4000.0, 5, 65, True),
        ("?version=5", 90_000.0, 1999, 1999, True),  # the broker was granted 5000
    ],
)
def test_more_is_waited_for_under_load_only_and_never_where_the_broker_waits(
    tmp_path: Path, query: str, rate_hz: float, last: int, largest: int, waits: bool
) -> None:
    one = receiver(tmp_path, f"mqtt://127.0.0.1:9{query}")
    one._closed = counted = Counted()
    one._time = lambda: 1000.0
    one._last_read, one._largest_read, one._rate_hz, one._counted_since = last, largest, rate_hz, 1000.0
    one._coalesce()
    assert counted.waits == ([COALESCE_S] if waits else [])


def test_the_rate_is_counted_over_a_tenth_of_a_second(tmp_path: Path) -> None:
    one = receiver(tmp_path, "mqtt://127.0.0.1:9")
    one._closed = counted = Counted()
    one._last_read, one._largest_read = 60, 5000
    for now in (1000.0, 1000.04, 1000.08):
        one._time = lambda now=now: now
        one._coalesce()
    assert counted.waits == []
    one._time = lambda: 1000.12
    one._coalesce()
    assert one._rate_hz == pytest.approx(3 * 60 / 0.12)
    assert counted.waits == [COALESCE_S]


def test_every_message_of_a_batch_is_acknowledged_and_nothing_waits_when_idle(tmp_path: Path) -> None:
    with FakeBroker() as broker:
        one = receiver(tmp_path, broker.url)
        while not one.connected:
            one.receive(0.05)
        broker.send(b"".join(codec.publish("a/b", b"x", n.to_bytes(2, "big")) for n in range(1, 51)))
        batches: list[Batch] = []
        while sum(len(batch.messages) for batch in batches) < 50:
            batches.append(one.receive(0.5))
        one._closed = counted = Counted()
        for batch in batches:
            one.ack(batch)
        assert one.receive(0.01).messages == []
        assert counted.waits == []
        one.close()
    assert [mid for _, mid in broker.acknowledged] == [n.to_bytes(2, "big") for n in range(1, 51)]


def test_every_refused_command_is_said_and_the_connection_stands(tmp_path: Path) -> None:
    one = receiver(tmp_path, "mqtt://127.0.0.1:9?version=5")
    with capture_logs() as logs:
        for event, details in (
            ("broker_connected", {}),
            ("command_refused", {"topic": "t", "why": "Not authorized"}),
            ("command_refused", {"topic": "t", "why": "Not authorized"}),
            ("broker_connected", {}),
        ):
            one._tell(event, **details)
    assert [line["event"] for line in logs] == ["broker_connected", "command_refused", "command_refused"]
    assert logs[1]["log_level"] == "warning"
    assert one.counts.connections == 1
