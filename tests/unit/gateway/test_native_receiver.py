"""When the receiver lets a little more come together, and when it must not."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

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
    ("query", "last", "largest", "waits"),
    [
        ("", 0, 5000, False),  # idle
        ("", 63, 5000, False),
        ("", 64, 5000, True),
        ("", 1999, 5000, True),
        ("", 2000, 5000, False),
        ("", 100, 200, False),  # half of what the broker sends ahead, as far as we have seen
        ("", 99, 200, True),
        ("?version=5", 1999, 1999, True),  # the broker was granted 5000
    ],
)
def test_more_is_waited_for_under_load_only_and_never_at_half_a_window(
    tmp_path: Path, query: str, last: int, largest: int, waits: bool
) -> None:
    one = receiver(tmp_path, f"mqtt://127.0.0.1:9{query}")
    one._closed = counted = Counted()
    one._last_read, one._largest_read = last, largest
    one._coalesce()
    assert counted.waits == ([COALESCE_S] if waits else [])


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
