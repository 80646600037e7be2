"""The network between gateway and broker: cut, reset, silent, in single bytes, slow, narrow."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fault_proxy import FaultProxy
from tests.faults.conftest import Open
from tests.faults.place import FULL, Place
from tests.servers import Mosquitto, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.fault]

KEEPALIVE_S, LONGEST_DELAY_S = 30.0, 15.0
IDLE_S = 20 if FULL else 5


@pytest.fixture
def proxy(mosquitto: Mosquitto) -> Iterator[FaultProxy]:
    with FaultProxy(mosquitto.host, mosquitto.port) as proxy:
        yield proxy


@pytest.fixture(params=["native", "paho"])
def place(request: pytest.FixtureRequest, open_place: Open, proxy: FaultProxy) -> Place:
    """The gateway reaches the broker through the proxy; the machines do not."""
    return open_place(BREWAIR_MQTT_URL=proxy.url, BREWAIR_MQTT_RECEIVER=request.param)


def test_fault_06_reset_cut_and_half_open_connections(place: Place, proxy: FaultProxy) -> None:
    fleet = place.fleet()
    for life, fault in enumerate((proxy.reset, proxy.cut, proxy.reset, proxy.cut), start=2):
        fleet.publish(15, rate=1000)
        fault()
        # Told apart from a takeover or not, it is back within the longest delay.
        fleet.publish_until(lambda life=life: place.gateway.said("broker_connected") >= life, rate=100)
    fleet.publish(5)
    proxy.half_open()
    gone = place.gateway.said("broker_disconnected")
    began = time.monotonic()
    fleet.publish_until(lambda: place.gateway.said("broker_disconnected") > gone, rate=20, timeout_s=4 * KEEPALIVE_S)
    noticed_s = time.monotonic() - began
    place.see(f"a dead peer is noticed after {noticed_s:.0f} s; 1.5 keepalives are {1.5 * KEEPALIVE_S:.0f} s")
    proxy.heal()
    healed = time.monotonic()
    fleet.publish_until(lambda: place.gateway.said("broker_connected") >= 6, rate=100)
    place.see(f"back {time.monotonic() - healed:.1f} s after the network; {LONGEST_DELAY_S:.0f} s at most")
    fleet.publish(5)
    place.prove()
    assert fleet.publisher.acked == fleet.sent


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_fault_07_single_bytes_latency_and_a_narrow_line(place: Place, proxy: FaultProxy) -> None:
    fleet = place.fleet()
    proxy.piece_bytes = 1
    fleet.publish(25)
    place.wait_stored(fleet.sent)
    proxy.piece_bytes, proxy.latency_s = 7, 0.2
    fleet.publish(25)
    place.wait_stored(fleet.sent)
    proxy.piece_bytes, proxy.bytes_per_s = 500, 256_000 / 8
    fleet.publish(60, rate=1000)
    place.prove()
    assert place.gateway.said("broker_connected") == 1, "a slow line is no dead line"
    before, began = cpu_s(place.gateway.pid), time.monotonic()
    wait_until(lambda: time.monotonic() - began >= IDLE_S, timeout_s=IDLE_S + 60)
    idle = (cpu_s(place.gateway.pid) - before) / (time.monotonic() - began)
    assert idle < 0.2, f"{idle:.0%} of a CPU for nothing"
