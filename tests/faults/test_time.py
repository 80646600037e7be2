"""Clocks that are wrong or are set, and three kinds of silence of which one is a fault."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

import pytest
from sqlalchemy import select

from domain import wire
from domain.clock import ScaledClock, SystemClock, to_ms
from domain.settings import load
from domain.store.tables import FindingRow
from gateway.pipeline import Pipeline
from gateway.service import running
from tests.faults.conftest import Open
from tests.faults.place import SERIALS, Place
from tests.integration.gateway_fleet import now_ms, stored
from tests.servers import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.fault]

HOUR = timedelta(hours=1)


class Ticks:
    """Counts the ticks of gateways in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        real = Pipeline.tick

        def counted(pipeline: Pipeline, now: datetime) -> None:
            real(pipeline, now)
            self.count += 1

        monkeypatch.setattr(Pipeline, "tick", counted)

    def wait(self, more: int) -> None:
        before = self.count
        wait_until(lambda: self.count >= before + more, timeout_s=60, what=f"{more} ticks")


def test_fault_19_a_step_of_the_wall_clock_opens_and_closes_nothing(
    open_place: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = open_place(start=False)
    ticks, step, honest = Ticks(monkeypatch), [timedelta(0)], SystemClock.now
    monkeypatch.setattr(SystemClock, "now", lambda clock: honest(clock) + step[0])
    ill, well = place.fleet(SERIALS[:1], "ill"), place.fleet(SERIALS[1:], "well", fault_code="")
    with running(
        load({"BREWAIR_DATA_DIR": str(place.folder / "data"), **place.gateway.settings}), SystemClock()
    ) as one:
        wait_until(lambda: one.receiver.connected, timeout_s=30, what="the connection")
        for fleet in (ill, well):
            fleet.publish(50, rate=1000)
        place.wait_stored(ill.sent | well.sent)
        place.wait_tickets(ill.serials)
        for to in (HOUR, timedelta(0), -HOUR, timedelta(0)):
            step[0] = to
            ticks.wait(3)
            for fleet in (ill, well):
                fleet.publish(5, rate=1000)
            ticks.wait(3)
        place.prove(tickets=ill.serials)
    with place.sessions.read() as session:
        assert list(session.scalars(select(FindingRow.rule))) == ["R26"], "nobody was silent"


def test_fault_19_device_clocks_far_ahead_of_1970_and_drifting(place: Place) -> None:
    fleet = place.fleet(fault_code="")
    wrong = {"K-0": 2 * 86_400_000, "K-1": -now_ms(), "K-2": 0}
    begin, count = now_ms(), 60
    for number in range(count):
        for serial, off_ms in wrong.items():
            drift = number * 500 if serial == "K-2" else 0
            ts = max(0, begin + off_ms) + number * 1000 + drift
            body = b'{"ts":%d,"boot":"b","seq":%d,"power_w":6.0,"voltage_v":380.0}' % (ts, number)
            fleet.publisher.publish(wire.up("soymilk", serial, "telemetry"), body)
        time.sleep(0.02)
    fleet.publisher.flush()

    def all_there() -> bool:
        found = stored(place.influxdb, place.bucket)
        of = Counter(serial for serial, _ in found)
        return of["K-2"] == count and of["K-0"] and of["K-1"]

    # Samples of one machine without a clock that come in one read share the time of receipt, and merge into one point.
    wait_until(all_there, timeout_s=60, every_s=0.3, what="what can be told apart")
    far = [at for _, at in stored(place.influxdb, place.bucket) if abs(at - begin) > 300_000]
    assert not far, "a clock that cannot be right gives way to the time of receipt"
    assert place.figures()["brewair_device_clock_skew_seconds"] > 86_400
    place.wait_settled()
    place.prove(tickets=())


FACTOR, INTERVAL_S, SILENCE_S = 30.0, 30, 12.0
"""Business time is so many times as fast; a machine of this interval is silent after 270 s of it, and 12 s are 360 s."""


class Talk:
    """Machines that say something every few business seconds, except those who are ``mute``."""

    def __init__(self, place: Place, clock: ScaledClock) -> None:
        self.publisher = place.fleet().publisher
        self.mute: set[str] = set()
        self._clock, self._stop = clock, threading.Event()
        for serial in SERIALS:
            birth = b'{"ts":%d,"boot":"b","seq":0,"type":"soymilk","interval_s":%d}' % (self._now(), INTERVAL_S)
            self.publisher.publish(wire.up("soymilk", serial, "birth"), birth)
        self._thread = threading.Thread(target=self._talk)

    def _now(self) -> int:
        return to_ms(self._clock.now())

    def _talk(self) -> None:
        number = 0
        while not self._stop.wait(0.25):
            number += 1
            for serial in set(SERIALS) - self.mute:
                self.publisher.sample(serial, self._now(), number, power_w=6.0, voltage_v=380.0)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()


def test_fault_20_only_a_silent_machine_is_silent(open_place: Open) -> None:
    epoch = SystemClock().now()
    clock = ScaledClock(epoch, epoch, FACTOR)
    place = open_place(start=False, EPOCH=epoch.isoformat(), FACTOR=str(FACTOR))
    place.gateway.program = ["tests.faults.scaled_gateway"]
    place.gateway.start()
    place.gateway.wait_connected()
    with Talk(place, clock) as talk:
        wait_until(lambda: len(stored(place.influxdb, place.bucket)) > 100, timeout_s=60, what="machines to be heard")
        place.broker.stop()
        pause(SILENCE_S)
        place.broker.start()
        wait_until(lambda: place.gateway.said("broker_connected") == 2, timeout_s=60, what="the connection")
        pause(SILENCE_S)
        os.kill(place.gateway.pid, signal.SIGSTOP)
        pause(SILENCE_S)
        os.kill(place.gateway.pid, signal.SIGCONT)
        pause(SILENCE_S)
        wait_until(lambda: place.figures()["brewair_sql_lag_seconds"] < 6 * FACTOR, timeout_s=60, what="no backlog")
        assert place.tickets() == []
        talk.mute.add("K-3")
        place.wait_tickets(["K-3"], "R01")
    place.prove(tickets=["K-3"], rule="R01")


def pause(span_s: float) -> None:
    """That nothing happens is the fault."""
    threading.Event().wait(span_s)
