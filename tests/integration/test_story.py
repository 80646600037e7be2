"""The closed loop on the production parts: mosquitto, InfluxDB 2, PostgreSQL (acceptance: every sample is in the bucket)."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cli.loop import play
from device_sim.scenario import load as load_scenario
from domain.settings import load
from domain.store.queries import tickets as query
from domain.store.session import Sessions, open_engine
from tests.servers import InfluxDB, Mosquitto, PostgreSQL

pytestmark = pytest.mark.integration


def _stored(influxdb: InfluxDB, measurement: str, serials: set[str]) -> set[tuple[str, int]]:
    """(serial, ts) of every point, asked of InfluxDB itself in InfluxQL."""
    found: set[tuple[str, int]] = set()
    for serial in serials:
        statement = f"SELECT * FROM \"{measurement}\" WHERE serial = '{serial}'"
        address = f"{influxdb.url}/query?" + urllib.parse.urlencode({"db": "telemetry", "epoch": "ms", "q": statement})
        request = urllib.request.Request(address, headers={"Authorization": f"Token {influxdb.token}"})
        with urllib.request.urlopen(request) as answer:
            results = json.load(answer)["results"]
        for series in results[0].get("series", []):
            found.update((serial, row[series["columns"].index("time")]) for row in series["values"])
    return found


def test_from_fault_to_closed_ticket_on_mosquitto_influxdb_postgresql(
    tmp_path: Path, mosquitto: Mosquitto, influxdb: InfluxDB, postgresql: PostgreSQL
) -> None:
    """Element open → ticket → incomplete repair → FAILED → second repair → PASSED, and no sample is missing."""
    token = tmp_path / "token"
    token.write_text(influxdb.token)
    settings = load(
        {
            "BREWAIR_DATA_DIR": str(tmp_path / "data"),
            "BREWAIR_DATABASE_URL": postgresql.fresh_database(),
            "BREWAIR_TELEMETRY_URL": influxdb.telemetry_url,
            "BREWAIR_INFLUX_TOKEN_FILE": str(token),
            "BREWAIR_MQTT_URL": mosquitto.url,
            "BREWAIR_SHARDS": "0-15",
        }
    )
    shipped = load_scenario("heater_two_visits")
    scenario = replace(
        shipped,
        start=datetime.now(UTC).replace(microsecond=0) - timedelta(days=1),
        machines=tuple(replace(spec, serial=f"STORY-{spec.serial}") for spec in shipped.machines),
        timeline=tuple(
            replace(happening, serials=tuple(f"STORY-{serial}" for serial in happening.serials))
            for happening in shipped.timeline
        ),
        expect=replace(
            shipped.expect,
            tickets=tuple(replace(one, machine=f"STORY-{one.machine}") for one in shipped.expect.tickets),
            verdicts=tuple(replace(one, machine=f"STORY-{one.machine}") for one in shipped.expect.verdicts),
        ),
    )
    acks = tmp_path / "acks.jsonl"

    outcome = play(scenario, settings, through_broker=True, acks=acks)

    assert outcome.differences == ()
    acknowledged = [json.loads(line) for line in acks.read_text().splitlines()]
    assert len(acknowledged) > 1000
    events = {(one["serial"], one["ts"]) for one in acknowledged}
    stored = _stored(influxdb, "soymilk", {spec.serial for spec in scenario.machines})
    missing = events - stored
    # An event (a fault code of the machine) is no sample of its own kind: it is stored as a point as well.
    assert not missing
    assert stored <= events
    print(f"\n{len(acknowledged)} objects acknowledged, {len(stored)} points stored, {len(missing)} missing")

    engine = open_engine(settings.database_url)
    with Sessions(engine).read() as session:
        outcomes = [row.outcome for row, _ in query.verdicts(session)]
        tickets = query.all_tickets(session)
    engine.dispose()
    assert outcomes == ["failed", "passed"]
    assert [ticket.family for ticket in tickets] == ["heating"]
