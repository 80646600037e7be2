"""The gateway on a disk that fills up while InfluxDB is away: it stops acknowledging, and goes on by itself."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import orjson
import pytest

from domain import wire
from tests.integration.gateway_fleet import GatewayProcess, Publisher, now_ms, stored
from tests.servers import InfluxDB, Mosquitto, wait_until
from tests.unit.gateway.plant import prepare

pytestmark = pytest.mark.integration

DISK = "24m"
MESSAGES, FILLER = 700, "x" * 50_000
"""35 MB: more than the disk; unknown keys stay in the spool and are not stored."""


def small_disk(folder: Path) -> list[str]:
    """A wrapper that gives a program a small disk of its own at ``folder``; skips where that is not allowed."""
    wrapper = ["unshare", "-m", "sh", "-c", f'mount -t tmpfs -o size={DISK} tmpfs "{folder}" && exec "$@"', "sh"]
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root can mount a small disk")
    if subprocess.run([*wrapper, "true"], capture_output=True, check=False, timeout=30).returncode:
        pytest.skip("no disk may be mounted here")
    return wrapper


def test_a_full_disk_stops_the_acknowledging_and_heals_by_itself(
    tmp_path: Path, mosquitto: Mosquitto, influxdb: InfluxDB
) -> None:
    (tmp_path / "data").mkdir()
    spool = tmp_path / "spool"
    spool.mkdir()
    wrapper = small_disk(spool)
    prepare(f"sqlite:///{tmp_path / 'data' / 'brewair.db'}").engine.dispose()
    (tmp_path / "token").write_text(influxdb.token)
    bucket = influxdb.fresh_bucket()
    gateway = GatewayProcess(
        tmp_path,
        BREWAIR_MQTT_URL=mosquitto.url,
        BREWAIR_SPOOL_DIR=str(spool),
        BREWAIR_TELEMETRY_URL=f"influxdb+{influxdb.url}/{influxdb.org}/{bucket}",
        BREWAIR_INFLUX_TOKEN_FILE=str(tmp_path / "token"),
    )
    gateway.start(*wrapper)
    publisher = Publisher(mosquitto, "full")
    try:
        gateway.wait_connected()
        influxdb.kill()
        start = now_ms() - MESSAGES * 1000
        for number in range(MESSAGES):
            body = {"ts": start + number * 1000, "boot": "b", "seq": number, "power_w": 6.0, "filler": FILLER}
            topic = wire.up("soymilk", "SM-1", "telemetry")
            publisher.publish(topic, orjson.dumps(body), [("SM-1", start + number * 1000)])
        publisher.flush()
        wait_until(lambda: gateway.said("spool_unavailable") == 1, timeout_s=60, what="the disk to be full")
        influxdb.start()
        wait_until(lambda: publisher.acked <= stored(influxdb, bucket), timeout_s=150, every_s=0.5, what="every sample")
        assert len(publisher.acked) == MESSAGES
        wait_until(lambda: gateway.said("spool_available") == 1, timeout_s=60, what="a word that it is over")
        assert gateway.stop() == 0
    finally:
        publisher.close()
        influxdb.start()
        gateway.kill()
        print(gateway.log_path.read_text(encoding="utf-8")[-3000:])
