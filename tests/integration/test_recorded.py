"""Recorded data over MQTT into the real InfluxDB: a day of a real heater, and a winter month of Beijing's air.

The recordings lie in the folder named by ``BREWAIR_SAMPLES`` (default ../shared/data); without them the tests skip.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cli.loop import FOUNDER, Loop, open_loop
from device_sim import replay
from device_sim.fleet import Fleet, MachineSpec, build
from device_sim.site import Site
from domain.catalogue.freshair.efficiency import eta_min
from domain.catalogue.model import ModelCard
from domain.catalogue.registry import card_of
from domain.clock import ManualClock, from_ms, to_ms
from domain.desk import registry
from domain.detection.states import StateInference
from domain.readings import Reading
from domain.settings import load
from domain.store.queries import tickets as query
from tests.servers import InfluxDB, Mosquitto

pytestmark = pytest.mark.integration

SAMPLES = Path(os.environ.get("BREWAIR_SAMPLES", Path(__file__).parents[3] / "shared" / "data"))
DISHWASHER = SAMPLES / "tracebase-dishwasher-995BAC-2012-06-11.csv"
BEIJING = SAMPLES / "beijing-pm25-hourly-2010-2014.csv"
RECENT = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def _settings(tmp_path: Path, mosquitto: Mosquitto, influxdb: InfluxDB) -> dict[str, str]:
    token = tmp_path / "token"
    token.write_text(influxdb.token)
    return {
        "BREWAIR_DATA_DIR": str(tmp_path / "data"),
        "BREWAIR_MQTT_URL": mosquitto.url,
        "BREWAIR_TELEMETRY_URL": influxdb.telemetry_url,
        "BREWAIR_INFLUX_TOKEN_FILE": str(token),
    }


def _live(
    loop: Loop, fleet: Fleet, stack: ExitStack, serial: str, model: str, span: timedelta, step: timedelta
) -> None:
    """Register the machine and let it live for ``span``."""
    machine = fleet.machine(serial)
    now = loop.clock.now()
    with loop.sessions.command() as session:
        customer = registry.save_customer(session, FOUNDER, {"name": "record"}, now)
        site = registry.save_site(session, FOUNDER, {"name": "r", "customer_id": str(customer.id), "demo": "1"}, now)
        form = {"serial": serial, "type": machine.card.type, "model": model, "site_id": str(site.id)}
        registry.save_machine(session, FOUNDER, form, now)
    bus = loop.attach(fleet, stack)
    last_ts, begin = 0, from_ms(fleet.start_ms)
    for k in range(round(span / step)):
        to = to_ms(begin + (k + 1) * step)
        published = fleet.advance(to)
        if published:
            bus.publish(published)
            last_ts = max(last_ts, *(ts for one in published for ts, _ in one.objects), 0)
        loop.sync(last_ts, to)
    loop.pipeline.drain()


def _tickets(loop: Loop) -> list[str]:
    with loop.sessions.read() as session:
        return [f"{ticket.family} {ticket.rule}" for ticket in query.all_tickets(session)]


@pytest.mark.skipif(not DISHWASHER.exists(), reason=f"no recording at {DISHWASHER}")
def test_a_real_heater_raises_no_heater_fault(tmp_path: Path, mosquitto: Mosquitto, influxdb: InfluxDB) -> None:
    """One recorded day, 2083 W heater and 125 W pump: phases are found in what InfluxDB holds, no ticket is opened."""
    serial, span = "TRACEBASE-995BAC", timedelta(hours=24)
    trace = replay.read_tracebase(DISHWASHER)
    start = RECENT - timedelta(days=2)
    machine = replay.machine_of(trace, serial, card_of("soymilk", "SMM-10"), start_ms=to_ms(start), interval_s=10)
    with ExitStack() as stack:
        settings = load(_settings(tmp_path, mosquitto, influxdb))
        loop = stack.enter_context(open_loop(settings, ManualClock(start), through_broker=True))
        _live(loop, Fleet([machine], start_ms=to_ms(start)), stack, serial, "SMM-10", span, timedelta(minutes=1))
        rows = loop.telemetry.range(serial, "soymilk", to_ms(start), to_ms(start + span) + 1)
        tickets = _tickets(loop)

    card = ModelCard(key="995BAC", type="soymilk", p_heat_w=2083, p_motor_w=125, p_standby_w=2)
    states = StateInference(card)
    minutes: dict[str, float] = {}
    for row in rows:
        state = states.step(Reading(serial, "soymilk", row.ts, dict(row.values)))
        minutes[state] = minutes.get(state, 0.0) + 10 / 60
    shown = ", ".join(f"{state} {spent:.1f}" for state, spent in sorted(minutes.items()))
    print(f"\n{len(rows)} samples in InfluxDB; minutes by state: {shown}; tickets: {tickets}")
    assert len(rows) > 8000
    # The recording itself has holes of up to ten minutes late in the evening: that silence is rightly noticed, and nothing else.
    assert set(tickets) <= {"connection R01"}
    assert minutes["heating"] > 25
    assert minutes["grinding"] > 1
    assert minutes["standby"] + minutes.get("off", 0) > 600


@pytest.mark.skipif(not BEIJING.exists(), reason=f"no recording at {BEIJING}")
def test_a_healthy_unit_in_a_beijing_winter_opens_no_ticket(
    tmp_path: Path, mosquitto: Mosquitto, influxdb: InfluxDB
) -> None:
    """January 2013, the worst air on record: no ticket; η_min says which hours can be judged."""
    serial, model = "BEIJING-2013", "FAU-300"
    record = replay.read_beijing(BEIJING)
    recorded_from = datetime(2012, 12, 31, 16, tzinfo=UTC)
    start, span = RECENT - timedelta(days=40), timedelta(days=31)
    card = card_of("freshair", model)
    spec = MachineSpec(
        serial=serial, type="freshair", model=model, interval_s=60, level=2, site=Site(name="Beijing", outdoor_c=0.0),
        pm25=record.later(to_ms(start) - to_ms(recorded_from)),
    )  # fmt: skip
    machine = build(spec, seed=1, start_ms=to_ms(start))
    with ExitStack() as stack:
        settings = load(_settings(tmp_path, mosquitto, influxdb))
        loop = stack.enter_context(open_loop(settings, ManualClock(start), through_broker=True))
        _live(loop, Fleet([machine], start_ms=to_ms(start)), stack, serial, model, span, timedelta(minutes=30))
        hours = loop.telemetry.downsampled(
            serial, "freshair", to_ms(start), to_ms(start + span), ["pm25_in_ugm3", "pm25_out_ugm3"], 3600
        )
        tickets = _tickets(loop)

    strict = weak = clean = low = 0
    for row in hours:
        c_in, c_out = row.values.get("pm25_in_ugm3"), row.values.get("pm25_out_ugm3")
        if not isinstance(c_in, float) or not isinstance(c_out, float):
            continue
        if c_in < 35:
            clean += 1
        elif c_in < 75:
            weak += 1
        else:
            strict += 1
            low += 1 - c_out / c_in < eta_min(c_in, card.eta_pm25, card.sensor_err_abs, card.sensor_err_rel)
    print(
        f"\n{len(hours)} hours: strict {strict}, weak {weak}, not assessable {clean}; below η_min {low}; tickets: {tickets}"
    )
    assert tickets == []
    assert strict > 200
    assert clean > 20
    assert low == 0
