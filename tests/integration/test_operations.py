"""What an operator sees and does while a real gateway runs: its figures, and telemetry refilled from the spool."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.gateway_fleet import GatewayProcess, Publisher, figures, now_ms, stored
from tests.servers import InfluxDB, Mosquitto, free_port, wait_until
from tests.unit.gateway.plant import prepare

pytestmark = pytest.mark.integration

SAMPLES = 200


class House:
    """A gateway process on a broker and a bucket of its own."""

    def __init__(self, folder: Path, broker: Mosquitto, influxdb: InfluxDB) -> None:
        self.influxdb, self.broker, self.bucket = influxdb, broker, influxdb.fresh_bucket()
        (folder / "token").write_text(influxdb.token)
        self.metrics = f"127.0.0.1:{free_port()}"
        self.settings = {
            "BREWAIR_DATA_DIR": str(folder / "data"),
            "BREWAIR_MQTT_URL": broker.url,
            "BREWAIR_TELEMETRY_URL": f"influxdb+{influxdb.url}/{influxdb.org}/{self.bucket}",
            "BREWAIR_INFLUX_TOKEN_FILE": str(folder / "token"),
            "BREWAIR_METRICS_BIND": self.metrics,
        }
        self.gateway = GatewayProcess(folder, **self.settings)

    def figures(self) -> dict[str, float]:
        """Sums over all labels of what /metrics says now."""
        return figures(self.metrics)

    def brewair(self, *arguments: str) -> list[dict[str, Any]]:
        """A command of the operator, beside the running gateway."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("BREWAIR_")}
        said = subprocess.run(
            [sys.executable, "-m", "cli.main", *arguments, "--json"],
            env={**clean, **self.settings},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return [json.loads(line) for line in said.stdout.splitlines()]


@pytest.fixture
def house(tmp_path: Path, mosquitto: Mosquitto, influxdb: InfluxDB) -> Iterator[House]:
    (tmp_path / "data").mkdir()
    prepare(f"sqlite:///{tmp_path / 'data' / 'brewair.db'}").engine.dispose()
    house = House(tmp_path, mosquitto, influxdb)
    with house.gateway:
        house.gateway.wait_connected()
        yield house


def publish(house: House) -> set[tuple[str, int]]:
    """Good samples and one that is not; all acknowledged."""
    publisher = Publisher(house.broker, "operations")
    start = now_ms() - SAMPLES * 1000
    for number in range(SAMPLES):
        publisher.sample("SM-1", start + number * 1000, number, power_w=float(number), voltage_v=380.0)
    publisher.publish("brewair/v1/00/soymilk/SM-1/up/telemetry", b"{broken")
    publisher.flush()
    publisher.close()
    return publisher.acked


def test_the_figures_of_a_running_gateway_agree_with_what_was_sent(house: House) -> None:
    publish(house)
    wait_until(lambda: house.figures()["brewair_readings_stored_total"] >= SAMPLES, timeout_s=60, what="all samples")
    wait_until(lambda: house.figures()["brewair_sql_lag_seconds"] == 0, timeout_s=30, what="the cursor in SQL")
    found = house.figures()
    for name in ("messages_received", "messages_accepted", "messages_acked"):
        assert found[f"brewair_{name}_total"] == SAMPLES + 1, name
    assert found["brewair_quarantined_total"] == 1
    assert found["brewair_objects_decoded_total"] == found["brewair_readings_stored_total"] == SAMPLES
    assert found["brewair_http_answers_total"] >= found["brewair_writes_total"] >= 1
    assert found["brewair_rx_to_stored_seconds_count"] == SAMPLES + 1
    assert found["brewair_connected"] == found["brewair_broker_connections_total"] == 1
    assert found["brewair_dropped_qos0_messages_total"] == found["brewair_spool_lag_seconds"] == 0
    assert found["brewair_checkpoint_age_seconds"] < 30
    house.influxdb.kill()
    try:
        publish(house)
        wait_until(lambda: house.figures()["brewair_well"] == 2, timeout_s=30, what="the outage to show")
        assert house.figures()["brewair_spool_waiting_bytes"] > 0
    finally:
        house.influxdb.start()
    wait_until(lambda: house.figures()["brewair_spool_waiting_bytes"] == 0, timeout_s=90, what="the backlog to go")
    wait_until(lambda: house.figures()["brewair_well"] == 3, timeout_s=30, what="all to be well")


def test_a_store_that_lost_its_data_is_refilled_while_the_gateway_goes_on(house: House) -> None:
    sent = publish(house)
    wait_until(lambda: sent <= stored(house.influxdb, house.bucket).keys(), timeout_s=60, what="all samples")
    everything = {"start": "2020-01-01T00:00:00Z", "stop": "2040-01-01T00:00:00Z"}
    house.influxdb.call("POST", f"/api/v2/delete?org={house.influxdb.org}&bucket={house.bucket}", everything)
    assert stored(house.influxdb, house.bucket).keys() == set()
    for _ in range(2):
        (summary,) = house.brewair("spool", "replay")
        assert (summary["readings"], summary["refused"]) == (SAMPLES, 0)
        assert stored(house.influxdb, house.bucket).keys() == sent
    later = publish(house)
    wait_until(
        lambda: stored(house.influxdb, house.bucket).keys() == sent | later, timeout_s=60, what="what came afterwards"
    )
    *_, summary = house.brewair("spool", "inspect")
    assert summary["records"] == 2 * (SAMPLES + 1)
    assert summary["stored"] == summary["end"]
