"""What the gateway stands on is away: InfluxDB, the broker, SQL."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select, text

from domain.store.tables import DetectorState, FindingRow
from tests.faults.conftest import Open, every_variant
from tests.faults.place import FULL, SERIALS, Place
from tests.integration.gateway_fleet import stored
from tests.servers import PostgreSQL, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.fault]

MANY = tuple(f"N-{number:03d}" for number in range(100))


def test_fault_01_influxdb_down_under_load_loses_nothing_and_delays_no_ticket(place: Place) -> None:
    fleet = place.fleet()
    fleet.publish(15)
    fleet.publisher.flush()
    place.influxdb.kill()
    if FULL:
        fleet.step_ms = 100  # or the last samples would be of times to come
        fleet.publish(600 * 5000 // len(SERIALS), rate=5000)
    else:
        fleet.publish(400, rate=800)
    fleet.publisher.flush()
    place.wait_tickets()
    wait_until(
        lambda: place.figures()["brewair_messages_acked_total"] >= len(fleet.publisher.acked),
        timeout_s=60,
        what="the broker to have nothing left",
    )
    assert place.gateway.said("telemetry_unavailable") == 1
    place.influxdb.start()
    began, waiting = time.monotonic(), len(fleet.sent) - place.figures()["brewair_readings_stored_total"]
    sent = fleet.rounds
    fleet.publish_until(lambda: place.figures()["brewair_spool_lag_seconds"] < 2, rate=200)
    took_s = time.monotonic() - began
    live = (fleet.rounds - sent) * len(SERIALS)
    place.see(f"backlog of {waiting:.0f} gone {took_s:.1f} s after InfluxDB was back; {live} came meanwhile")
    assert waiting + live >= 5 * live, "the backlog goes at five times the rate of what comes"
    place.prove()
    assert place.gateway.said("telemetry_available") == 1


def test_fault_04_broker_restarts_under_load_lose_nothing(place: Place) -> None:
    fleet = place.fleet()
    restarts, back = 10 if FULL else 4, [0.0]
    for life in range(2, restarts + 2):
        fleet.publish(20)
        place.broker.stop()
        place.broker.start()
        began = time.monotonic()
        fleet.publish_until(lambda life=life: place.gateway.said("broker_connected") >= life, rate=100)
        back.append(time.monotonic() - began)
    place.see(f"back after {max(back):.1f} s at most; 15 s may be")
    fleet.publish(10)
    place.prove()
    assert fleet.publisher.acked == fleet.sent
    assert place.gateway.said("broker_connected") == restarts + 1
    # A broker that is back before anybody has found it away looks like a takeover (MQTT 3.1.1 does not say why it closes):
    # that costs a line in the log and at most 15 s, and is no fault.


@every_variant
def test_fault_05_a_broker_that_is_killed_loses_only_its_own(place: Place) -> None:
    fleet = place.fleet()
    for life in (2, 3):
        fleet.publish(25, rate=2000)
        place.broker.kill()
        place.broker.start()
        fleet.publish_until(lambda life=life: place.gateway.said("broker_connected") >= life, rate=100)
    fleet.publish(20)
    fleet.publisher.flush()
    last = {(serial, max(ts for _, ts in fleet.sent)) for serial in SERIALS}
    place.wait_stored(last & fleet.publisher.acked)
    taken_in = {(serial, ts) for serial, samples in place.in_spool().items() for _, ts in samples}
    lost = fleet.publisher.acked - taken_in
    print(f"the broker acknowledged {len(fleet.publisher.acked)} and lost {len(lost)} of them when it was killed")
    place.prove(may_miss=lost, unheard=lost)
    assert taken_in <= stored(place.influxdb, place.bucket).keys(), "the gateway lost what it had acknowledged"


def episodes(place: Place) -> dict[str, int]:
    """When each machine's fault began, by its own clock (ms)."""
    with place.sessions.read() as session:
        return {row.serial: row.raised_at_ms for row in session.scalars(select(FindingRow))}


def alarm_while_sql_is_away(place: Place, away: Callable[[], None], back: Callable[[], None]) -> None:
    fleet = place.fleet(MANY, fault_code="")
    fleet.publish(3, rate=1000)
    fleet.publisher.flush()
    place.wait_stored(fleet.sent)
    away()
    began_ms = fleet.start_ms + fleet.rounds * 5000
    fleet.values["fault_code"] = "E4"
    began = time.monotonic()
    fleet.publish(40, rate=1000)
    fleet.publisher.flush()
    place.wait_stored(fleet.sent)  # ingest does not care
    place.see(f"{40 * len(MANY)} samples in {time.monotonic() - began:.1f} s without SQL")
    wait_until(lambda: place.gateway.said("sql_unavailable"), timeout_s=60, what="a word about SQL")
    back()
    fleet.publish(5, rate=1000)
    place.prove(tickets=MANY)
    assert place.gateway.said("sql_available")
    raised = episodes(place)
    assert set(raised) == set(MANY)
    assert all(began_ms <= at <= began_ms + 40 * 5000 for at in raised.values()), "episodes begin when they began"


def test_fault_21_postgresql_down_while_alarms_fire(open_place: Open, postgresql: PostgreSQL) -> None:
    place = open_place(serials=MANY, database_url=postgresql.fresh_database())
    alarm_while_sql_is_away(place, postgresql.stop, postgresql.start)


def test_fault_21_sqlite_locked_while_alarms_fire(open_place: Open, tmp_path: Path) -> None:
    place = open_place(serials=MANY)
    with closing(sqlite3.connect(tmp_path / "data" / "brewair.db", isolation_level=None)) as other:
        alarm_while_sql_is_away(place, lambda: other.execute("BEGIN EXCLUSIVE"), lambda: other.execute("ROLLBACK"))


BROKEN_FINDING = """
CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'injected'; END $$;
CREATE TRIGGER broken BEFORE INSERT ON finding FOR EACH ROW WHEN (NEW.serial = 'K-3') EXECUTE FUNCTION broken();
"""


def test_fault_16_an_exception_for_one_machine_leaves_the_others_alone(
    open_place: Open, postgresql: PostgreSQL
) -> None:
    place = open_place(start=False, database_url=postgresql.fresh_database())
    with place.sessions.command() as session:
        session.execute(text(BROKEN_FINDING))
        # A rule state that no rule can go on with.
        session.add(DetectorState(serial="K-5", position="", dump={"?": "?"}))
    place.gateway.start()
    place.gateway.wait_connected()
    fleet = place.fleet()
    fleet.publish(40)
    place.prove(tickets=[serial for serial in SERIALS if serial != "K-3"])
    wait_until(lambda: place.held() == {"internal_error": 1}, timeout_s=30, what="the broken finding in quarantine")
    assert place.gateway.said("rule_state_unusable") == 1
