"""The one-minute means that outlive the raw samples: InfluxDB makes them by itself, by a task that the gateway keeps right."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import timedelta

import pytest

from domain.clock import SystemClock, to_ms
from domain.readings import Reading
from domain.telemetry.influx import InfluxTelemetry
from tests.servers import InfluxDB, wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def store(influxdb: InfluxDB) -> Iterator[InfluxTelemetry]:
    url = f"influxdb+{influxdb.url}/{influxdb.org}/means-{secrets.token_hex(4)}"
    telemetry = InfluxTelemetry(url, lambda: influxdb.token)
    telemetry.setup()
    yield telemetry
    telemetry.close()


def tasks_of(influxdb: InfluxDB, store: InfluxTelemetry) -> list[dict[str, str]]:
    bucket = store.minute_bucket.removesuffix("_1m")
    return [one for one in influxdb.call("GET", "/api/v2/tasks?limit=500")["tasks"] if bucket in one["name"]]


def test_the_task_makes_means_of_what_is_thirty_days_old(influxdb: InfluxDB, store: InfluxTelemetry) -> None:
    (task,) = tasks_of(influxdb, store)
    now = SystemClock().now()
    minute = to_ms(now - timedelta(days=30, hours=1)) // 60_000 * 60_000
    fresh = to_ms(now) - 60_000
    samples = [(minute, 10.0), (minute + 30_000, 30.0), (minute + 60_000, 50.0), (fresh, 70.0)]
    store.write(
        [
            Reading(serial="SM-1", type="soymilk", ts=ts, values={"power_w": power_w, "run_state": "standby"})
            for ts, power_w in samples
        ]
    )
    influxdb.call("POST", f"/api/v2/tasks/{task['id']}/runs", {})
    means = InfluxTelemetry(f"influxdb+{influxdb.url}/{influxdb.org}/{store.minute_bucket}", lambda: influxdb.token)
    means.setup()  # the mapping that reading needs
    wait_until(lambda: means.range("SM-1", "soymilk", 0, fresh), what="the means", timeout_s=30)
    rows = means.range("SM-1", "soymilk", 0, fresh + 1)
    means.close()
    assert [(row.ts, row.values) for row in rows] == [(minute, {"power_w": 20.0}), (minute + 60_000, {"power_w": 50.0})]


def test_a_task_of_an_older_brewair_is_brought_up_to_date_and_there_is_never_a_second(
    influxdb: InfluxDB, store: InfluxTelemetry
) -> None:
    (task,) = tasks_of(influxdb, store)
    influxdb.call("PATCH", f"/api/v2/tasks/{task['id']}", {"flux": task["flux"].replace("-724h", "-20m")})
    assert store.shortcomings()
    store.setup()
    store.setup()
    assert not store.shortcomings()
    assert [one["flux"] for one in tasks_of(influxdb, store)] == [task["flux"]]
