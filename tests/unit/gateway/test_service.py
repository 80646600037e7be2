"""What the program around the pipeline promises: names, subscriptions, patience, clear words about bad settings."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from cli.main import main
from domain.clock import SystemClock
from domain.errors import SettingsError, UnavailableError
from domain.settings import Settings, load
from domain.telemetry.port import RefusedPoint
from gateway.adapters.registry import ADAPTERS
from gateway.ingest.receiver import Batch, Counts
from gateway.ingest.spool import Spool
from gateway.messages import Message
from gateway.service import NEVER, Gateway, _Patience, gateway_name, subscriptions
from tests.servers import wait_until
from tests.unit.gateway.plant import Plant

EVERY = frozenset(range(16))


def given(folder: Path, **more: str) -> Settings:
    return load({"BREWAIR_DATA_DIR": str(folder), "BREWAIR_MQTT_URL": "mqtt://127.0.0.1:9", **more})


@pytest.mark.parametrize(
    ("shards", "name"),
    [
        (EVERY, "brewair-gw-0-15"),
        (frozenset({3}), "brewair-gw-3"),
        (frozenset({0, 1, 2, 5, 8, 9}), "brewair-gw-0-2_5_8-9"),
    ],
)
def test_the_same_shards_are_the_same_gateway(shards: frozenset[int], name: str) -> None:
    assert gateway_name(shards) == name


def test_a_gateway_subscribes_to_its_shards_and_to_foreign_conventions() -> None:
    assert subscriptions(EVERY)[:3] == ["brewair/v1/+/+/+/up/#", "tele/+/SENSOR", "tele/+/LWT"]
    foreign = {one for adapter in ADAPTERS.values() if adapter.convention for one in adapter.filters}
    assert set(subscriptions(EVERY)[1:]) == foreign
    assert subscriptions(frozenset({5, 15}))[:2] == ["brewair/v1/05/+/+/up/#", "brewair/v1/15/+/+/up/#"]


def test_patience_says_each_change_once_and_waits_as_long_as_asked() -> None:
    patience = _Patience("store", random.Random(1))
    with capture_logs() as logs:
        for _ in range(5):
            with patience:
                raise UnavailableError("away", retry_after=7.0)
            assert not patience.well
            assert 7.0 <= patience.pause_s <= 30.0
        with patience:
            pass
        with patience:
            pass
    assert [line["event"] for line in logs] == ["store_unavailable", "store_available"]
    assert (patience.well, patience.pause_s) == (True, 0.0)


def test_patience_is_for_what_is_away_not_for_what_is_wrong() -> None:
    with pytest.raises(SettingsError), _Patience("store", random.Random(1)):
        raise SettingsError("wrong")


def test_a_data_folder_that_cannot_be_written_is_a_matter_of_settings(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot be written"):
        Gateway(given(tmp_path / "file" / "data"), SystemClock())


def test_an_influx_address_without_a_token_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="BREWAIR_INFLUX_TOKEN_FILE"):
        Gateway(given(tmp_path, BREWAIR_TELEMETRY_URL="influxdb+http://127.0.0.1:9/o/b"), SystemClock())


def test_it_runs_without_a_broker_says_so_once_and_stops_in_order(tmp_path: Path) -> None:
    stop = threading.Event()
    gateway = Gateway(given(tmp_path), SystemClock(), random.Random(1))
    thread = threading.Thread(target=gateway.run, args=(stop,))
    with capture_logs() as logs:
        thread.start()
        assert gateway._loaded.wait(20)
        stop.set()
        thread.join(20)
    assert not thread.is_alive()
    events = [line["event"] for line in logs]
    assert events.count("broker_unreachable") <= 1
    assert events[-1] == "gateway_stopped"
    Spool(tmp_path / "spool").close()  # the folder is free again


def test_a_broken_schema_ends_the_program_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "brewair.db").write_text("not a database, but long enough to be taken for one " * 20)
    gateway = Gateway(given(tmp_path), SystemClock(), random.Random(1))
    with pytest.raises(SettingsError, match=r"brewair\.db is not a database; name another file"):
        gateway.run(threading.Event())


@pytest.mark.parametrize("command", ["gateway", "portal"])
def test_a_file_that_is_no_database_is_one_line_and_exit_status_2(tmp_path: Path, command: str) -> None:
    (tmp_path / "brewair.db").write_text("not a database, but long enough to be taken for one " * 20)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BREWAIR_")}
    ended = subprocess.run(
        [sys.executable, "-m", "cli.main", command],
        env={**clean, "BREWAIR_DATA_DIR": str(tmp_path), "BREWAIR_MQTT_URL": "mqtt://127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert "is not a database" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


def test_the_quarantine_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plant = Plant(tmp_path)
    plant.samples("NEW-1", [0, 1])
    plant.send("SM-1", "telemetry", b"{broken", recv_ms=0)
    plant.tick(2)
    monkeypatch.setenv("BREWAIR_DATA_DIR", str(tmp_path))

    def brewair(*arguments: str) -> list[dict[str, object]]:
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--json"])
        assert not ended.value.code
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    *rows, summary = brewair("quarantine", "list")
    assert [row["reason"] for row in rows] == ["unreadable", "unknown_serial", "unknown_serial"]
    assert summary == {"summary": True, "held": 3, "reasons": {"unreadable": 1, "unknown_serial": 2}}
    (shown,) = brewair("quarantine", "show", str(rows[0]["id"]))
    assert shown["payload"] == "{broken"
    assert brewair("quarantine", "drop", str(rows[0]["id"]))[-1]["changed"] == 1
    assert brewair("quarantine", "replay", "--reason", "unknown_serial")[-1]["changed"] == 2
    assert brewair("quarantine", "list")[-1]["held"] == 0
    with pytest.raises(SystemExit) as ended:
        main(["quarantine", "drop"])
    assert ended.value.code == 2
    plant.pipeline.refused(RefusedPoint("unwritable", "field type conflict", b"soymilk,serial=SM-1 power_w=1 1"))
    assert brewair("quarantine", "replay", "--reason", "unwritable")[-1] == {
        "summary": True, "state": "replay", "changed": 0, "left": 1,
    }  # fmt: skip
    assert brewair("quarantine", "list")[-1]["reasons"] == {"unwritable": 1}, "it was never a message"


class Talkative:
    """A receiver with one message to tell, until it is acknowledged."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.connected = True
        self.acknowledged = self.idled = 0

    def receive(self, timeout_s: float) -> Batch:
        if self.acknowledged:
            time.sleep(min(timeout_s, 0.01))
            return Batch()
        return Batch.of([Message("brewair/v1/00/soymilk/SM-1/up/telemetry", b"{}", 0)])

    def ack(self, batch: Batch) -> None:
        self.acknowledged += batch.count

    def idle(self, timeout_s: float) -> None:
        self.idled += 1

    def publish(self, topic: str, payload: bytes) -> None: ...

    def close(self) -> None: ...


def test_while_the_spool_refuses_nobody_counts_as_silent_and_the_connection_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = Gateway(given(tmp_path), SystemClock(), random.Random(1))
    gateway.receiver = receiver = Talkative()
    take_in, stop = gateway.pipeline.take_in, threading.Event()

    def refused(batch: Batch) -> None:
        raise UnavailableError("The disk is full", retry_after=1.0)

    monkeypatch.setattr("gateway.service.IDLE_EVERY_S", 0.01)
    monkeypatch.setattr(gateway.pipeline, "take_in", refused)
    thread = threading.Thread(target=gateway.run, args=(stop,))
    thread.start()
    try:
        wait_until(lambda: receiver.idled > 20, what="pings in the second that the disk asked for")
        assert gateway.pipeline.listening_since == NEVER
        assert receiver.acknowledged == 0
        monkeypatch.setattr(gateway.pipeline, "take_in", take_in)
        wait_until(lambda: gateway.pipeline.listening_since != NEVER, timeout_s=60, what="the gateway to listen again")
        assert receiver.acknowledged == 1
    finally:
        stop.set()
        thread.join(20)


def test_the_spool_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spool = Spool(tmp_path / "spool")
    spool.append([Message("t", b"x", 1).pack(), Message("t", b"y", 2).pack()])
    monkeypatch.setenv("BREWAIR_DATA_DIR", str(tmp_path))
    with pytest.raises(SystemExit):
        main(["spool", "inspect", "--json"])
    segment, summary = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (segment["records"], segment["damaged"]) == (2, 0)
    assert (summary["end"], summary["stored"], summary["behind_bytes"]) == (spool.end, 0, spool.end)
