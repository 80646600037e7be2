"""``brewair doctor`` on a real mosquitto and a real InfluxDB: it sees what is wrong, and each red line has its cure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from cli.devices import GATEWAY, gateway_role
from cli.dynsec import Role
from cli.main import main
from domain.store.schema import NEWEST, upgrade
from domain.store.session import open_engine
from domain.telemetry.influx import InfluxTelemetry
from gateway.ingest.dropped import Dropped
from gateway.ingest.spool import Spool
from gateway.messages import Message
from tests.guarded_broker import GATEWAY_PASSWORD, GuardedMosquitto
from tests.servers import InfluxDB, Mosquitto, PostgreSQL, ServerMissingError, do_without, free_port

pytestmark = pytest.mark.integration

Line = SimpleNamespace


@dataclass
class Doctor:
    """Settings that are well; a test breaks one."""

    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch
    given: dict[str, str] = field(default_factory=dict)
    bucket: str = ""

    def __call__(self, **broken: str) -> tuple[int, dict[str, Line]]:
        """Exit status and the lines of the checks."""
        for name, value in {**self.given, **broken}.items():
            self.monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main(["doctor", "--json"])
        lines = [json.loads(line) for line in self.capsys.readouterr().out.splitlines()]
        checks = {line["check"]: Line(**line) for line in lines if "check" in line}
        assert lines[-1]["failures"] == sum(not line.ok for line in checks.values())
        assert lines[-1]["doubts"] == sum(line.doubt for line in checks.values())
        for line in checks.values():
            assert bool(line.cure) == (not line.ok or line.doubt), f"{line.check}: {line.found}"
        assert isinstance(ended.value.code, int)
        return ended.value.code, checks


def red(checks: dict[str, Line]) -> set[str]:
    return {title for title, line in checks.items() if not line.ok}


@pytest.fixture(scope="module")
def guarded_broker() -> Iterator[GuardedMosquitto]:
    """The production configuration."""
    try:
        server = GuardedMosquitto()
    except ServerMissingError as error:
        do_without("mosquitto", error)
    with server:
        listener = Role("listener", read=tuple(one for one in gateway_role().read if not one.startswith("$SYS")))
        with server.control() as control:
            control.save_role(listener)
            roles = [{"rolename": listener.name}]
            control.do("createClient", username="service.listener", password="pass-listener", roles=roles)
        yield server


@pytest.fixture
def doctor(
    tmp_path: Path,
    guarded_broker: GuardedMosquitto,
    influxdb: InfluxDB,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Doctor:
    (tmp_path / "token").write_text(influxdb.token)
    (tmp_path / "password").write_text(GATEWAY_PASSWORD)
    bucket = influxdb.fresh_bucket()
    url = f"influxdb+{influxdb.url}/{influxdb.org}/{bucket}"
    InfluxTelemetry(url, lambda: influxdb.token).setup()
    engine = open_engine(f"sqlite:///{tmp_path / 'data' / 'brewair.db'}")
    upgrade(engine)
    engine.dispose()
    given = {
        "BREWAIR_DATA_DIR": str(tmp_path / "data"),
        "BREWAIR_SPOOL_MAX_BYTES": "1MiB",
        "BREWAIR_TELEMETRY_URL": url,
        "BREWAIR_INFLUX_TOKEN_FILE": str(tmp_path / "token"),
        "BREWAIR_MQTT_URL": guarded_broker.url,
        "BREWAIR_MQTT_USER": GATEWAY,
        "BREWAIR_MQTT_PASSWORD_FILE": str(tmp_path / "password"),
    }
    return Doctor(capsys, monkeypatch, given, bucket)


def test_all_is_well_and_says_what_was_looked_at(doctor: Doctor) -> None:
    status, checks = doctor()
    assert (status, red(checks)) == (0, set())
    assert checks["database"].found == f"answers, schema {NEWEST}"
    assert "retention" in checks["telemetry store"].found
    assert "a message came back" in checks["rights at the broker"].found
    assert "commands may be sent" in checks["rights at the broker"].found
    assert "dropped nothing" in checks["queues of the broker"].found
    assert "InfluxDB" in checks["clocks"].found


def test_a_broker_that_has_dropped_nothing_for_so_long_that_it_no_longer_says_so(doctor: Doctor) -> None:
    doctor.monkeypatch.setattr("cli.doctor_broker.DROPPED", "$SYS/broker/never/told")
    _, checks = doctor()
    assert "dropped nothing" in checks["queues of the broker"].found
    doctor.monkeypatch.setattr("cli.doctor_broker.UPTIME", "$SYS/broker/never/told")
    doctor.monkeypatch.setattr("cli.doctor_broker.BACK_S", 0.2)
    _, checks = doctor()
    assert "cannot be read" in checks["queues of the broker"].found


def test_people_read_the_same(doctor: Doctor, tmp_path: Path) -> None:
    for name, value in doctor.given.items():
        doctor.monkeypatch.setenv(name, value)
    (tmp_path / "token").write_text("wrong")
    with pytest.raises(SystemExit):
        main(["doctor"])
    text = doctor.capsys.readouterr().out
    assert "✗ telemetry store" in text
    assert "    → write a valid token" in text
    assert GATEWAY_PASSWORD not in text
    assert "✓ MQTT broker" in text


def test_a_wrong_token(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("wrong")
    status, checks = doctor()
    assert (status, red(checks)) == (1, {"telemetry store"})
    assert "401" in checks["telemetry store"].found
    assert "BREWAIR_INFLUX_TOKEN_FILE" in checks["telemetry store"].cure


def test_a_closed_port_of_each_server(doctor: Doctor) -> None:
    port = free_port()
    status, checks = doctor(
        BREWAIR_MQTT_URL=f"mqtt://127.0.0.1:{port}", BREWAIR_TELEMETRY_URL=f"influxdb+http://127.0.0.1:{port}/o/b"
    )
    assert status == 1
    assert red(checks) == {"telemetry store", "MQTT broker", "rights at the broker", "queues of the broker"}
    assert "start the broker" in checks["MQTT broker"].cure
    assert "nothing is lost" in checks["telemetry store"].cure


def test_a_bucket_or_organisation_that_is_not_there(doctor: Doctor, influxdb: InfluxDB) -> None:
    _, checks = doctor(BREWAIR_TELEMETRY_URL=f"influxdb+{influxdb.url}/{influxdb.org}/nowhere")
    assert red(checks) == {"telemetry store"}
    assert "there is no bucket nowhere" in checks["telemetry store"].found
    assert "start the gateway" in checks["telemetry store"].cure
    _, checks = doctor(BREWAIR_TELEMETRY_URL=f"influxdb+{influxdb.url}/nobody/{doctor.bucket}")
    assert red(checks) == {"telemetry store"}
    assert "BREWAIR_TELEMETRY_URL" in checks["telemetry store"].cure


def test_a_bucket_that_forgets_too_soon_and_a_task_that_sleeps_is_another_or_gone(
    doctor: Doctor, influxdb: InfluxDB
) -> None:
    def found(change: str, body: dict[str, str] | None = None) -> str:
        influxdb.call(change, f"/api/v2/tasks/{task['id']}", body)
        _, checks = doctor()
        assert red(checks) == {"telemetry store"}
        return checks["telemetry store"].found

    (task,) = [one for one in influxdb.call("GET", "/api/v2/tasks?limit=500")["tasks"] if doctor.bucket in one["name"]]
    assert "is not what it should be" in found("PATCH", {"flux": task["flux"].replace("-724h", "-721h")})
    assert "is inactive" in found("PATCH", {"status": "inactive"})
    assert "there is no task" in found("DELETE")
    bucket = influxdb.call("GET", f"/api/v2/buckets?name={doctor.bucket}")["buckets"][0]
    rule = {"retentionRules": [{"type": "expire", "everySeconds": 86_400, "shardGroupDurationSeconds": 3600}]}
    influxdb.call("PATCH", f"/api/v2/buckets/{bucket['id']}", rule)
    _, checks = doctor()
    assert "keeps 1.0 days of 180" in checks["telemetry store"].found
    assert f"influx bucket update --id {bucket['id']} --retention 180d" in checks["telemetry store"].cure


def test_a_folder_that_cannot_be_written(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")  # root may write any folder, but no file is one
    _, checks = doctor(BREWAIR_SPOOL_DIR=str(tmp_path / "file" / "spool"))
    assert red(checks) == {"room for the spool"}
    assert "BREWAIR_SPOOL_DIR" in checks["room for the spool"].cure
    _, checks = doctor(BREWAIR_DATA_DIR=str(tmp_path / "file" / "data"), BREWAIR_SPOOL_DIR=str(tmp_path / "spool"))
    assert {"data folder", "database"} <= red(checks)


def test_a_typo_in_a_setting_is_one_line_with_the_right_name(doctor: Doctor) -> None:
    for name, value in {**doctor.given, "BREWAIR_MQTT_URI": "mqtt://x"}.items():
        doctor.monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 2
    (line,) = doctor.capsys.readouterr().err.splitlines()
    assert "BREWAIR_MQTT_URI" in line
    assert "did you mean BREWAIR_MQTT_URL?" in line


def test_a_wrong_password_at_the_broker(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("wrong")
    _, checks = doctor()
    assert red(checks) == {"MQTT broker", "rights at the broker", "queues of the broker"}
    assert "BREWAIR_MQTT_PASSWORD_FILE" in checks["MQTT broker"].cure


def test_a_user_who_may_not_command_machines(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("pass-listener")
    _, checks = doctor(BREWAIR_MQTT_USER="service.listener")
    assert red(checks) == {"rights at the broker"}
    assert "down/#" in checks["rights at the broker"].cure
    assert checks["queues of the broker"].doubt


def test_a_broker_whose_queues_are_those_of_its_defaults(doctor: Doctor) -> None:
    with Mosquitto("listener {port} 127.0.0.1\nallow_anonymous true\n") as broker:
        status, checks = doctor(BREWAIR_MQTT_URL=broker.url)
    assert status == 0, "a doubt is no failure"
    assert checks["queues of the broker"].doubt
    assert "max_inflight_messages" in checks["queues of the broker"].found
    assert "mosquitto.conf" in checks["queues of the broker"].cure


@pytest.mark.parametrize("content", ["no database at all, but long enough to look like a page of one " * 20])
def test_a_file_that_is_no_database(doctor: Doctor, tmp_path: Path, content: str) -> None:
    (tmp_path / "other.db").write_text(content)
    _, checks = doctor(BREWAIR_DATABASE_URL=f"sqlite:///{tmp_path / 'other.db'}")
    assert red(checks) == {"database"}
    assert "not a database" in checks["database"].found


def test_a_database_that_is_new_is_not_a_fault(doctor: Doctor, tmp_path: Path) -> None:
    _, checks = doctor(BREWAIR_DATABASE_URL=f"sqlite:///{tmp_path / 'new.db'}")
    assert checks["database"].ok
    assert f"to {NEWEST}" in checks["database"].found


def test_postgresql_and_its_clock(doctor: Doctor, postgresql: PostgreSQL) -> None:
    status, checks = doctor(BREWAIR_DATABASE_URL=postgresql.fresh_database())
    assert status == 0, checks
    assert "SQL 0." in checks["clocks"].found


def test_clocks_that_differ(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = InfluxTelemetry.clock

    def late(self: InfluxTelemetry) -> object:
        said = clock(self)
        return said and said.replace(year=said.year - 1)

    monkeypatch.setattr(InfluxTelemetry, "clock", late)
    _, checks = doctor()
    assert red(checks) == {"clocks"}
    assert "chrony" in checks["clocks"].cure


Fill = Callable[[Spool], object]


@pytest.mark.parametrize(
    ("fill", "expected"),
    [
        (lambda spool: spool.append([Message("t", b"", 1000).pack()]), "the oldest for"),
        (
            lambda spool: [spool.append([Message("t", bytes(1000), 1000).pack()]) for _ in range(800)],
            "wait to be stored",
        ),
    ],
    ids=["late", "nearly full"],
)
def test_a_spool_that_nobody_drains(doctor: Doctor, tmp_path: Path, fill: Fill, expected: str) -> None:
    spool = Spool(tmp_path / "data" / "spool", durable=False)
    fill(spool)
    spool.close()
    _, checks = doctor()
    assert red(checks) == {"backlog of the spool"}
    assert expected in checks["backlog of the spool"].found


def test_what_was_given_up_is_not_forgotten(doctor: Doctor, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "data" / "spool")
    Dropped(tmp_path / "data" / "spool" / "dropped.json")([Message("brewair/v1/00/x/SM-9/up/telemetry", b"", 1).pack()])
    spool.close()
    doctor.capsys.readouterr()
    status, checks = doctor()
    assert status == 0
    assert "1 messages of 1 machines" in checks["backlog of the spool"].found


def test_a_broker_that_hides_foreign_machines(doctor: Doctor, guarded_broker: GuardedMosquitto) -> None:
    whole = gateway_role()
    hidden = tuple(one for one in whole.read if not one.startswith("zigbee2mqtt/"))
    with guarded_broker.control() as control:
        control.save_role(replace(whole, read=hidden))
        try:
            status, checks = doctor()
            doctor.given["BREWAIR_SHARDS"] = "1-15"
            native_only, _ = doctor()
        finally:
            control.save_role(whole)
    assert (status, red(checks)) == (1, {"rights at the broker"})
    assert "zigbee2mqtt/+" in checks["rights at the broker"].found
    assert "tele/" not in checks["rights at the broker"].found
    assert native_only == 0, "shard 0 hears foreign machines, and no other does"
