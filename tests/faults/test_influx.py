"""What InfluxDB may answer: later, never, in part, too much, not you; a scripted server stands before the real one."""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import pytest
from sqlalchemy import select

from domain.store.tables import QuarantineRow
from tests.fake_influx import PASS, Answer, FakeInflux, Script
from tests.faults.conftest import Open
from tests.faults.place import FULL, Fleet, Place
from tests.integration.gateway_fleet import stored
from tests.servers import InfluxDB, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.fault]

RETRY_AFTER_S = 7 if FULL else 2
TOO_SLOW_S = 11.0
"""Longer than the gateway waits for an answer."""
ERRORS = 20 if FULL else 4
LATE_S = 5.0
"""The design's second, five times: the machine has other work."""
LARGE_BYTES = 100_000
"""The 413 of a megabyte, scaled to the five thousand samples that come together."""


@pytest.fixture
def front(influxdb: InfluxDB) -> Iterator[FakeInflux]:
    with FakeInflux(influxdb) as front:
        yield front


@pytest.fixture
def place(open_place: Open, front: FakeInflux) -> Place:
    return open_place(influx_url=front.url)


def message(code: str, text: str) -> str:
    return json.dumps({"code": code, "message": text})


def says(front: FakeInflux, *answers: Answer | None) -> list[float]:
    """The next writes get these answers, later ones what the real InfluxDB says; the times of the writes, as they come."""
    waiting, times = list(answers), []

    def script(lines: list[bytes]) -> Answer | None:
        times.append(front.times[-1])
        return waiting.pop(0) if waiting else PASS

    front.script = script
    return times


def waited(times: list[float]) -> list[float]:
    return [after - before for before, after in pairwise(times)]


def drained(place: Place, fleet: Fleet) -> None:
    fleet.publisher.flush()
    place.wait_stored(fleet.publisher.acked)


def test_fault_08_busy_broken_slow_and_cut_answers(place: Place, front: FakeInflux) -> None:
    fleet = place.fleet()
    fleet.publish(10)
    drained(place, fleet)

    asked = {"Retry-After": str(RETRY_AFTER_S)}
    times = says(front, Answer(503, asked, "busy"), Answer(429, asked, "slow down"))
    fleet.publish(5)
    drained(place, fleet)
    waits = waited(times)[:2]
    assert all(gap >= RETRY_AFTER_S for gap in waits), "it waits as long as it was asked to"
    assert all(gap <= RETRY_AFTER_S + LATE_S for gap in waits), "and no longer"
    place.see(f"asked to wait {RETRY_AFTER_S} s it waited {' and '.join(f'{gap:.2f}' for gap in waits)} s")

    says(front, *[Answer(500, {}, message("internal error", "cache-max-memory-size exceeded"))] * ERRORS)
    fleet.publish(5)
    drained(place, fleet)

    seen = len(front.writes)
    says(front, Answer(204, commit=True, delay_s=TOO_SLOW_S), None, Answer(204, commit=True), None)
    fleet.publish(5)
    drained(place, fleet)
    wait_until(lambda: len(front.writes) >= seen + 2, timeout_s=60, what="another attempt")
    assert set(front.writes[seen]) <= set(front.writes[seen + 1]), (
        "what may be written already is the same points again"
    )

    front.cut_bodies = 2
    says(
        front,
        Answer(200, {}, "x" * 100, commit=True, slow=True),
        Answer(500, {}, message("internal error", "x" * 100), half=True),
    )
    fleet.publish(30, rate=100)
    place.prove()
    assert not front.cut_bodies
    assert place.held() == {}
    assert fleet.publisher.acked == fleet.sent


def released_at_once(place: Place, front: FakeInflux, fleet: Fleet, then: Script) -> None:
    """Let five thousand samples come together behind a 503, then write them under ``then``."""
    front.script = lambda lines: Answer(503, {}, "busy")
    fleet.publish_together(1, 625)
    fleet.publisher.flush()
    wait_until(
        lambda: place.figures()["brewair_messages_accepted_total"] >= len(fleet.serials), timeout_s=60, what="the spool"
    )
    front.writes.clear()
    front.script = then


@pytest.mark.parametrize("quoted", [True, False])
def test_fault_09_400_for_one_line_of_five_thousand(place: Place, front: FakeInflux, quoted: bool) -> None:
    fleet = place.fleet()
    bad_ts = fleet.start_ms + 300 * 5000

    def refuses(lines: list[bytes]) -> Answer:
        bad = [line for line in lines if line.startswith(b"soymilk,serial=K-3 ") and line.endswith(b"%d" % bad_ts)]
        text = f"unable to parse '{bad[0].decode()}': missing field value" if bad and quoted else "cannot parse"
        return Answer(400, {}, message("invalid", text)) if bad else PASS

    released_at_once(place, front, fleet, refuses)
    place.prove(may_miss={("K-3", bad_ts)})
    assert len(fleet.sent - stored(place.influxdb, place.bucket).keys()) == 1
    assert place.held() == {"unwritable": 1}
    assert len(front.writes) <= 30
    front.script = lambda lines: PASS


def test_fault_10_422_is_not_repeated_and_the_rest_is_written(place: Place, front: FakeInflux) -> None:
    fleet = place.fleet()
    write(place.influxdb, place.bucket, f'soymilk,serial=OTHER temp_heater_c="hot" {fleet.start_ms}')
    fleet.publish(15)
    place.publishers[0].sample("K-3", fleet.start_ms - 5000, 1001, temp_heater_c=90.0)
    old = fleet.start_ms - 10 * 86_400_000
    retention(place.influxdb, place.bucket, days=8)
    place.publishers[0].sample("K-4", old, 1002, power_w=1.0)
    fleet.publish(40)
    place.prove(may_miss={("K-3", fleet.start_ms - 5000), ("K-4", old)})
    wait_until(lambda: place.held() == {"unwritable": 2}, timeout_s=30, what="both in quarantine")
    with place.sessions.read() as session:
        why = " ".join(session.scalars(select(QuarantineRow.explanation)))
    assert "field type conflict" in why
    assert "retention" in why
    wait_until(lambda: place.figures()["brewair_spool_waiting_bytes"] == 0, timeout_s=30, what="the end of it")
    times = Counter(tuple(lines) for lines in front.writes if len(lines) > 1)
    assert max(times.values()) == 1, "what was written in part is not sent again as it was"


def test_fault_11_413_401_and_404_are_held_until_all_is_written(place: Place, front: FakeInflux) -> None:
    fleet = place.fleet()
    released_at_once(
        place, front, fleet, lambda lines: Answer(413, {}, "too large") if size(lines) > LARGE_BYTES else PASS
    )
    drained(place, fleet)
    assert any(size(lines) > LARGE_BYTES for lines in front.writes), "nothing was too large"
    front.script = lambda lines: PASS

    def well() -> bool:
        return place.figure("brewair_well", part="telemetry") == 1

    def refused(with_status: str) -> bool:
        said = [line["why"] for line in place.gateway.events if line["event"] == "telemetry_unavailable"]
        return bool(said) and with_status in said[-1]

    (place.folder / "token").write_text("wrong")
    place.gateway.stop()
    place.gateway.start()
    fleet.publish(15)
    wait_until(lambda: refused("401"), timeout_s=60, what="a word about the token")
    assert not well()
    (place.folder / "token").write_text(place.influxdb.token)
    drained(place, fleet)
    wait_until(well, timeout_s=30, what="the alarm to be over")

    bucket = place.influxdb.call("GET", f"/api/v2/buckets?name={place.bucket}")["buckets"][0]["id"]
    before = stored(place.influxdb, place.bucket).keys()
    delete(place.influxdb, f"/api/v2/buckets/{bucket}")
    fleet.publish(15)
    wait_until(lambda: refused("404"), timeout_s=60, what="a word about the bucket")
    assert not well()
    # Nobody does anything: the gateway makes its bucket itself when it knocks again.
    place.prove(may_miss=before, timeout_s=120)
    wait_until(
        lambda: place.gateway.said("telemetry_available") == place.gateway.said("telemetry_unavailable"),
        timeout_s=30,
        what="every alarm to be over",
    )
    assert well()
    assert place.held() == {}


def size(lines: list[bytes]) -> int:
    """Bytes of a request's body."""
    return sum(len(line) + 1 for line in lines)


def write(influxdb: InfluxDB, bucket: str, line: str) -> None:
    request = urllib.request.Request(
        f"{influxdb.url}/api/v2/write?org={influxdb.org}&bucket={bucket}&precision=ms",
        data=line.encode(),
        headers={"Authorization": f"Token {influxdb.token}"},
    )
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10).close()


def delete(influxdb: InfluxDB, path: str) -> None:
    influxdb.call("DELETE", path)


def retention(influxdb: InfluxDB, bucket: str, days: int) -> None:
    found = influxdb.call("GET", f"/api/v2/buckets?name={bucket}")["buckets"][0]
    rules = [{"type": "expire", "everySeconds": days * 86_400}]
    influxdb.call("PATCH", f"/api/v2/buckets/{found['id']}", {"retentionRules": rules})
