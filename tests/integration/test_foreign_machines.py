"""Machines with foreign conventions, bound in the registry, through a real broker and a gateway of its own process."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import orjson
import pytest

from domain.telemetry.sqlite import SqliteTelemetry
from tests.integration.gateway_fleet import GatewayProcess, Publisher, now_ms
from tests.servers import Mosquitto, wait_until
from tests.unit.gateway.plant import prepare, register

pytestmark = pytest.mark.integration


def test_a_tasmota_and_a_shelly_end_as_rows_under_their_serials(tmp_path: Path, mosquitto: Mosquitto) -> None:
    (tmp_path / "data").mkdir()
    sessions = prepare(f"sqlite:///{tmp_path / 'data' / 'brewair.db'}")
    register(
        sessions, "TA-1", "freshair", "FAU-150", binding_convention="tasmota", binding_topic="foreign-room",
        binding_zone="Asia/Shanghai",
    )  # fmt: skip
    register(sessions, "SH-1", "soymilk", "SMM-10", binding_convention="shelly", binding_topic="foreign-plug")
    ts = now_ms() // 1000 * 1000 - 60_000
    local = datetime.fromtimestamp(ts / 1000, ZoneInfo("Asia/Shanghai")).strftime("%Y-%m-%dT%H:%M:%S")
    shelly = [
        (0, {"apower": 1800.5, "voltage": 229.0}),
        (30_000, {"aenergy": {"total": 1956.0}}),
        (45_000, {"apower": -3.0}),
    ]
    with GatewayProcess(tmp_path, BREWAIR_MQTT_URL=mosquitto.url) as gateway:
        gateway.wait_connected()
        publisher = Publisher(mosquitto, "foreign")
        publisher.publish(
            "tele/foreign-room/SENSOR", orjson.dumps({"Time": local, "PMS5003": {"CF2.5": 40, "PM2.5": 32}})
        )
        for at_ms, switch in shelly:
            params = {"ts": (ts + at_ms) / 1000, "switch:0": switch}
            publisher.publish("foreign-plug/events/rpc", orjson.dumps({"method": "NotifyStatus", "params": params}))
        publisher.flush()
        telemetry = SqliteTelemetry(tmp_path / "data" / "telemetry.db")
        telemetry.setup()

        def rows(serial: str, kind: str) -> list[tuple[int, dict[str, object]]]:
            return [(row.ts - ts, dict(row.values)) for row in telemetry.range(serial, kind, ts, ts + 60_000)]

        wait_until(lambda: len(rows("SH-1", "soymilk")) == 3 and rows("TA-1", "freshair"), timeout_s=60, what="rows")
        assert rows("TA-1", "freshair") == [(0, {"pm25_out_ugm3": 32.0})]
        assert rows("SH-1", "soymilk") == [
            (0, {"power_w": 1800.5, "voltage_v": 229.0}),
            (30_000, {"power_w": 1800.5, "voltage_v": 229.0, "energy_kwh": 1.956}),
            (45_000, {"voltage_v": 229.0, "energy_kwh": 1.956}),
        ]
        publisher.close()
        assert gateway.stop() == 0
    sessions.engine.dispose()
