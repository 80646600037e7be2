"""What machines send: poison, everything twice, everything late or out of order, and more than fits."""

from __future__ import annotations

import os
import signal

import pytest

from domain import wire
from tests.faults.conftest import every_variant
from tests.faults.place import FULL, SERIALS, Fleet, Place
from tests.integration.gateway_fleet import now_ms, stored
from tests.servers import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.fault]

DAY_MS = 86_400_000
TRIES = 20 if FULL else 5
UNACKED = 10_000
BURST_MESSAGES, BURST_SAMPLES = (400 if FULL else 80), 100
"""Of each machine; samples in one message."""


def poison(ts: int) -> dict[bytes, str]:
    """Payloads that no sample can be read from, with the reason."""
    return {
        b"": "unreadable",
        b"{broken": "unreadable",
        b'{"ts":%d,"power_w":1}\xff' % ts: "unreadable",
        b"\xff\xfe\x00": "unreadable",
        b'{"ts":%d,"power_w":"high"}' % ts: "wrong_type",
        b'{"ts":%d,"heater_on":1}' % ts: "wrong_type",
        b'{"ts":"soon","power_w":1}': "wrong_type",
        b"42": "wrong_type",
        b'{"ts":%d,"power_w":NaN}' % ts: "not_finite",
        b'{"ts":%d,"power_w":1e400}' % ts: "not_finite",
        b'{"ts":%d,"power_w":%d}' % (ts, 10**400): "not_finite",
        b'{"ts":%d,"power_w":1}' % 10**40: "wrong_type",
        b'{"power_w":1}': "missing_ts",
        b"[" * 5000: "too_deep",
        b'{"ts":%d,"power_w":' % ts + b"[" * 5000 + b"]" * 5000 + b"}": "too_deep",
        b"[" + b",".join([b'{"ts":1}'] * 1001) + b"]": "too_many",
        b"\x00" * (10 << 20): "oversize",
    }


@every_variant
def test_fault_15_poison_is_held_to_the_last_message_and_good_input_lives(place: Place) -> None:
    fleet = place.fleet()
    publisher, bad = fleet.publisher, wire.up("soymilk", "SM-1", "telemetry")
    held: dict[str, int] = {"unknown_serial": 1, "unknown_type": 1}
    for _ in range(TRIES):
        for payload, reason in poison(now_ms()).items():
            publisher.publish(bad, payload)
            held[reason] = held.get(reason, 0) + 1
            fleet.publish(1, rate=4000)
    publisher.publish(wire.up("soymilk", "STRANGER", "telemetry"), b'{"ts":%d,"power_w":1}' % now_ms())
    publisher.publish(wire.up("toaster", "T-1", "telemetry"), b'{"ts":%d,"power_w":1}' % now_ms())
    twice = now_ms() - 1000
    publisher.publish(bad, b'{"ts":1,"ts":%d,"boot":"b","seq":1,"power_w":1,"power_w":2}' % twice)
    place.prove()
    wait_until(lambda: sum(place.held().values()) >= sum(held.values()), timeout_s=60, what="all of it in quarantine")
    assert place.held() == held
    others = stored(place.influxdb, place.bucket).keys() - fleet.sent
    assert ("SM-1", twice) in others, "of a key that comes twice the last one counts, as everywhere"
    assert {serial for serial, _ in others} == {"SM-1", "STRANGER"}
    assert place.gateway.said("gateway_started") == 1


@every_variant
def test_fault_17_everything_twice_is_as_once(place: Place) -> None:
    fleet = place.fleet()
    fleet.publish(50, copies=2)
    # A stopped gateway acknowledges nothing; when it is killed, all of it comes again.
    os.kill(place.gateway.pid, signal.SIGSTOP)
    try:
        fleet.publish(UNACKED // len(SERIALS) if FULL else 150, rate=4000)
        fleet.publisher.flush()
    finally:
        place.gateway.kill()
    place.gateway.start()
    place.prove()
    assert stored(place.influxdb, place.bucket).keys() == fleet.sent


@every_variant
def test_fault_18_late_and_shuffled_samples_are_stored_and_judge_nothing(place: Place) -> None:
    healthy = place.fleet(fault_code="")
    healthy.start_ms = now_ms() - 600_000
    healthy.rounds = 20
    healthy.publish(30)
    # A day-old store of a machine comes in behind its newest samples, with a fault in it: once it says so itself, and once
    # nothing tells but an earlier number of the same boot.
    old = Fleet(healthy.publisher, SERIALS, now_ms() - DAY_MS, fault_code="E4", backfill=True, boot="a")
    old.publish(50)
    late = Fleet(healthy.publisher, SERIALS, now_ms() - DAY_MS // 2, fault_code="E4")
    late.publish(20)
    rounds = list(range(50, 110))
    for window in range(0, len(rounds), 6):  # 30 s
        shuffled = rounds[window : window + 6]
        place.rng.shuffle(shuffled)
        for number in shuffled:
            for serial in SERIALS:
                ts = healthy.start_ms + number * 5000
                healthy.publisher.sample(serial, ts, number, power_w=6.0, voltage_v=380.0)
    healthy.publisher.flush()
    place.wait_settled()
    place.prove(tickets=())
    assert len(stored(place.influxdb, place.bucket)) == len(SERIALS) * (30 + 50 + 20 + 60)


def test_fault_23_more_than_it_can_carry_waits_and_takes_no_memory(place: Place) -> None:
    fleet = place.fleet()
    fleet.step_ms = 1000 if FULL else fleet.step_ms
    at_once = len(SERIALS) * BURST_MESSAGES
    fleet.publish_together(BURST_MESSAGES, BURST_SAMPLES)
    behind = at_once - place.figures()["brewair_readings_stored_total"] / BURST_SAMPLES
    assert behind > 0, "it has kept up: that was no overload"
    place.see(f"{behind:.0f} of {at_once} messages behind at the end of the burst")
    fleet.publisher.flush(180)
    place.wait_stored(fleet.publisher.acked, timeout_s=200)
    wait_until(lambda: place.figures()["brewair_spool_waiting_bytes"] == 0, timeout_s=60, what="the backlog to go")
    fleet.publish(5)
    place.prove()
    place.wait_settled()
    assert place.figures()["brewair_dropped_qos0_messages_total"] == 0
    assert place.gateway.said("broker_connected") == 1
