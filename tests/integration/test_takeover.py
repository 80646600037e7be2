"""Two gateways with one client id: both say so and back off, instead of pushing each other out as fast as they can."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from domain import wire
from domain.clock import SystemClock
from domain.settings import load
from gateway.ingest.receiver import TAKEOVERS, TAKEOVERS_WITHIN_S, Closings, Receiver
from gateway.ingest.receivers import RECEIVERS
from tests.servers import Mosquitto, wait_until


def test_three_closings_in_a_minute_look_like_a_takeover() -> None:
    closings = Closings()
    assert [closings.closed(at) for at in (0.0, 10.0, 20.0)] == [False, False, True]
    assert closings.closed(30.0)
    assert not closings.closed(20.0 + TAKEOVERS_WITHIN_S + 11.0)


def test_a_broker_that_was_away_closed_for_its_own_reasons() -> None:
    closings = Closings()
    for at in range(TAKEOVERS - 1):
        assert not closings.closed(float(at))
    closings.clear()
    assert not closings.closed(float(TAKEOVERS))


@pytest.fixture
def broker(mosquitto: Mosquitto) -> Mosquitto:
    return mosquitto


def open_receiver(kind: str, broker: Mosquitto, folder: Path, seed: int) -> Receiver:
    folder.mkdir()
    return RECEIVERS[kind](
        load({"BREWAIR_DATA_DIR": str(folder), "BREWAIR_MQTT_URL": broker.url}),
        client_id="the-same",
        filters=[wire.UP_FILTER],
        memory=folder / "subscriptions",
        clock=SystemClock(),
        rng=random.Random(seed),
    )


@pytest.mark.integration
@pytest.mark.parametrize("kind", sorted(RECEIVERS))
def test_two_gateways_with_one_client_id_raise_the_alarm(broker: Mosquitto, tmp_path: Path, kind: str) -> None:
    two = [open_receiver(kind, broker, tmp_path / str(seed), seed) for seed in (1, 2)]
    stop = threading.Event()

    def drive(receiver: Receiver) -> None:
        while not stop.is_set():
            receiver.receive(0.05)
        receiver.close()

    threads = [threading.Thread(target=drive, args=(receiver,)) for receiver in two]
    with capture_logs() as logs:
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: any(one.counts.takeovers for one in two), timeout_s=60, what="the alarm")
        finally:
            stop.set()
            for thread in threads:
                thread.join(timeout=30)
    alarms = [line for line in logs if line["event"] == "client_id_taken_over"]
    assert alarms
    assert (alarms[0]["log_level"], alarms[0]["client_id"]) == ("error", "the-same")
    assert sum(one.counts.connections for one in two) >= TAKEOVERS
