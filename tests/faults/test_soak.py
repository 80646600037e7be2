"""A long run under load in which something breaks every few seconds; ``--soak SECONDS`` says how long."""

from __future__ import annotations

import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fault_proxy import FaultProxy
from tests.faults.conftest import Open
from tests.faults.place import Place
from tests.integration.gateway_fleet import stored
from tests.servers import Mosquitto, PostgreSQL, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.fault, pytest.mark.slow]

EVERY_S = 20.0
AWAY_S = 5.0
RATE = 200.0
SERIALS = tuple(f"K-{number}" for number in range(8))
FILES = 24
"""Of a gateway: spool, sockets, SQL connections; 14 when all is well and a few more while a store comes back."""
LEAK_MIB_PER_H, LEAK_FROM_S = 1.0, 3600.0
"""A slope is only one when it has had time to show: an hour; shorter runs print it."""


@pytest.fixture
def proxy(mosquitto: Mosquitto) -> Iterator[FaultProxy]:
    with FaultProxy(mosquitto.host, mosquitto.port) as proxy:
        yield proxy


@dataclass(slots=True)
class Life:
    """What one life of the gateway took: (seconds, MiB) and open files, now and then."""

    sizes: list[tuple[float, float]]
    files: list[int]

    def slope(self) -> float:
        """MiB per hour, of the second half: what grows at first is caches."""
        half = self.sizes[len(self.sizes) // 2 :]
        return 3600 * statistics.linear_regression(*zip(*half, strict=True)).slope if len(half) > 2 else 0.0


def look(place: Place, life: Life) -> None:
    """Note size and open files of the running gateway."""
    pid = place.gateway.pid
    status = Path(f"/proc/{pid}/status").read_text()
    life.sizes.append((time.monotonic(), int(status.partition("VmRSS:")[2].split()[0]) / 1024))
    life.files.append(len(os.listdir(f"/proc/{pid}/fd")))


def nemesis(place: Place, proxy: FaultProxy, postgresql: PostgreSQL) -> dict[str, Callable[[], None]]:
    """Everything that may happen, by name; each is over when it returns."""
    gateway, pause = place.gateway, threading.Event().wait

    def away(end: Callable[[], None], back: Callable[[], None]) -> Callable[[], None]:
        def happen() -> None:
            end()
            pause(AWAY_S)
            back()

        return happen

    def paused() -> None:
        os.kill(gateway.pid, signal.SIGSTOP)
        pause(AWAY_S)
        os.kill(gateway.pid, signal.SIGCONT)

    def stopped() -> None:
        assert gateway.stop() == 0
        gateway.start()

    def killed() -> None:
        gateway.kill()
        gateway.start()

    def sluggish() -> None:
        proxy.latency_s, proxy.piece_bytes = 0.2, 11
        pause(AWAY_S)
        proxy.latency_s, proxy.piece_bytes = 0.0, None

    return {
        "InfluxDB stopped": away(place.influxdb.stop, place.influxdb.start),
        "InfluxDB killed": away(place.influxdb.kill, place.influxdb.start),
        "broker restarted": away(place.broker.stop, place.broker.start),
        "SQL stopped": away(postgresql.stop, postgresql.start),
        "gateway killed": killed,
        "gateway stopped": stopped,
        "gateway paused": paused,
        "connection cut": proxy.cut,
        "connection reset": proxy.reset,
        "black hole": away(proxy.swallow, proxy.heal),
        "slow line": sluggish,
    }


@pytest.mark.timeout(0)  # --soak says how long; every wait in it has an end
def test_fault_25_soak_with_nemesis(
    request: pytest.FixtureRequest, open_place: Open, proxy: FaultProxy, postgresql: PostgreSQL
) -> None:
    span_s = float(request.config.getoption("--soak"))
    place = open_place(serials=SERIALS, database_url=postgresql.fresh_database(), BREWAIR_MQTT_URL=proxy.url)
    fleet, over = place.fleet(SERIALS), threading.Event()
    load = threading.Thread(target=lambda: fleet.publish_until(over.is_set, rate=RATE, timeout_s=span_s + 600))
    fleet.step_ms = round(
        min(fleet.step_ms, 72_000_000 / (span_s * RATE / len(SERIALS)))
    )  # a day back is enough for all
    evils, happened = nemesis(place, proxy, postgresql), []
    lives = [Life([], [])]
    began = time.monotonic()
    load.start()
    try:
        while time.monotonic() - began < span_s:
            until = time.monotonic() + EVERY_S
            while time.monotonic() < min(until, began + span_s):
                threading.Event().wait(1.0)
                look(place, lives[-1])
            if len(happened) % len(evils) == 0:
                order = list(evils)
                place.rng.shuffle(order)
            happened.append(order[len(happened) % len(evils)])
            evils[happened[-1]]()
            if happened[-1] in ("gateway killed", "gateway stopped"):
                lives.append(Life([], []))
    finally:
        over.set()
        load.join()
        proxy.heal()
    place.prove(timeout_s=300)
    assert fleet.publisher.acked == fleet.sent
    wait_until(lambda: place.figures()["brewair_spool_waiting_bytes"] == 0, timeout_s=60, what="nothing left to do")
    look(place, lives[-1])
    longest = max(lives, key=lambda life: len(life.sizes))
    found = stored(place.influxdb, place.bucket)
    files = max(longest.files)
    peak = max(size for life in lives for _, size in life.sizes)
    print(
        f"soak of {span_s:.0f} s, {len(happened)} faults: acknowledged {len(fleet.publisher.acked)}, stored {len(found)},"
        f" lost {len(fleet.publisher.acked - found.keys())}, doubled {sum(found.values()) - len(found)},"
        f" RSS {peak:.0f} MiB at most, slope {longest.slope():+.2f} MiB/h, {files} files open at most"
    )
    print("; ".join(happened))
    assert max(max(life.files, default=0) for life in lives) <= FILES, "open files pile up"
    if span_s >= LEAK_FROM_S:
        assert longest.slope() < LEAK_MIB_PER_H
