"""From a message to a ticket, without threads: what follows from what, and what a crash or an outage changes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import orjson
import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from domain import wire
from domain.clock import from_ms
from domain.desk import device_commands
from domain.desk.intake import record_findings
from domain.errors import UnavailableError
from domain.findings import Finding
from domain.readings import Reading
from domain.store import ingest as store
from domain.store.tables import DetectorState, DeviceCommand, EquipmentStatus, FindingRow, Notice, Ticket
from domain.telemetry.sqlite import SqliteTelemetry
from gateway.messages import Message
from tests.unit.gateway.plant import START, T0, Plant, register

E4 = {"fault_code": "E4"}


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path)


def status(plant: Plant, serial: str) -> EquipmentStatus:
    with plant.sessions.read() as session:
        found = session.get(EquipmentStatus, serial)
        assert found is not None
        return found


def test_a_fault_becomes_one_ticket_and_every_sample_is_stored(plant: Plant) -> None:
    plant.samples("SM-1", range(0, 60, 5))
    assert plant.tickets() == []
    plant.samples("SM-1", range(60, 120, 5), **E4)
    (ticket,) = plant.tickets()
    assert (ticket.serial, ticket.rule) == ("SM-1", "R26")
    plant.pipeline.drain()
    rows = plant.telemetry.range("SM-1", "soymilk", T0, T0 + 120_000)
    assert [row.ts - T0 for row in rows] == list(range(0, 120_000, 5000))


def test_redelivery_changes_nothing(plant: Plant) -> None:
    for _ in range(2):
        plant.samples("SM-1", range(0, 120, 5), **E4)
    plant.pipeline.drain()
    assert len(plant.tickets()) == 1
    assert plant.count(FindingRow) == 1
    assert len(plant.telemetry.range("SM-1", "soymilk", T0, T0 + 120_000)) == 24


@pytest.mark.parametrize("kept", [True, False], ids=["after a snapshot", "before any snapshot"])
def test_a_crash_anywhere_doubles_and_loses_nothing(plant: Plant, kept: bool) -> None:
    plant.samples("SM-1", range(0, 30, 5))
    if kept:
        plant.pipeline.detection.flush(plant.clock.now(), snapshot=True)
    plant.samples("SM-1", range(30, 45, 5), **E4)
    plant.crash()
    plant.samples("SM-1", range(45, 120, 5), **E4)
    plant.crash()
    plant.samples("SM-1", [120], **E4)
    plant.pipeline.drain()
    (ticket,) = plant.tickets()
    assert ticket.occurrences == 1
    assert plant.count(FindingRow) == 1
    assert len(plant.telemetry.range("SM-1", "soymilk", T0, T0 + 200_000)) == 25


def test_the_cursor_moves_only_with_the_rule_states(plant: Plant) -> None:
    plant.samples("SM-1", range(0, 60, 5))
    plant.pipeline.detection.flush(START)
    assert plant.count(DetectorState) == 0
    assert plant.pipeline.detection.committed == 0
    plant.pipeline.detection.flush(START, snapshot=True)
    assert plant.count(DetectorState) == 1
    assert plant.pipeline.detection.committed == plant.pipeline.spool.end
    plant.crash()
    assert plant.pipeline.detection.position == plant.pipeline.spool.end


def test_another_spool_folder_is_read_from_its_beginning(plant: Plant) -> None:
    plant.samples("SM-1", range(0, 60, 5))
    plant.pipeline.close()
    for file in (plant.folder / "spool").iterdir():
        file.unlink()
    plant.pipeline = plant.open()
    plant.samples("SM-1", range(60, 120, 5), **E4)
    assert len(plant.tickets()) == 1


def test_poison_is_held_once_with_its_reason_and_hurts_nobody(plant: Plant) -> None:
    plant.samples("SM-2", range(0, 60, 5))
    plant.send("SM-1", "telemetry", b'[{"ts":%d,"power_w":1.0},{"ts":%d,"power_w":NaN}]' % (T0, T0), recv_ms=T0)
    plant.send("SM-1", "telemetry", b"{broken", recv_ms=T0)
    plant.samples("SM-2", range(60, 120, 5), **E4)
    plant.tick(130)
    assert [(row.serial, row.part, row.reason) for row in plant.held()] == [
        ("SM-1", 1, "not_finite"),
        ("SM-1", 0, "unreadable"),
    ]
    assert [ticket.serial for ticket in plant.tickets()] == ["SM-2"]
    plant.crash()
    plant.tick(140)
    assert len(plant.held()) == 2


def test_an_unknown_machine_is_held_and_can_be_replayed_once_it_is_registered(plant: Plant) -> None:
    plant.samples("NEW-1", range(0, 120, 5), **E4)
    plant.tick(121)
    held = plant.held()
    assert {row.reason for row in held} == {"unknown_serial"}
    assert len(held) == 24
    register(plant.sessions, "NEW-1")
    with plant.sessions.command() as session:
        assert len(store.settle(session, [row.id for row in held], store.REPLAY, START)) == 24
    plant.tick(122)
    plant.pipeline.ingest([])
    assert [ticket.serial for ticket in plant.tickets()] == ["NEW-1"]
    assert {row.state for row in plant.held()} == {store.REPLAYED}
    plant.pipeline.drain()
    assert len(plant.telemetry.range("NEW-1", "soymilk", T0, T0 + 120_000)) == 24


def test_a_machine_registered_just_now_is_known_at_once(plant: Plant) -> None:
    plant.samples("SM-1", [0])
    register(plant.sessions, "NEW-2")
    plant.samples("NEW-2", [1])
    plant.tick(2)
    assert plant.held() == []
    assert status(plant, "NEW-2").online


class Flaky(SqliteTelemetry):
    away = False

    def write(self, readings: Sequence[Reading]) -> None:
        if self.away:
            raise UnavailableError("away")
        super().write(readings)


def test_an_outage_of_the_telemetry_store_loses_nothing_and_delays_no_ticket(tmp_path: Path) -> None:
    flaky = Flaky(tmp_path / "telemetry.db")
    plant = Plant(tmp_path, telemetry=flaky)
    flaky.away = True
    plant.samples("SM-1", range(0, 120, 5), **E4)
    assert len(plant.tickets()) == 1
    with pytest.raises(UnavailableError):
        plant.pipeline.drain()
    plant.crash()
    flaky.away = False
    plant.pipeline.drain()
    assert len(flaky.range("SM-1", "soymilk", T0, T0 + 120_000)) == 24


def test_an_outage_of_sql_loses_nothing_and_holds_up_no_acceptance(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise UnavailableError("away")

    with monkeypatch.context() as broken:
        broken.setattr(plant.sessions, "command", away)
        broken.setattr(plant.sessions, "read", away)
        body = [
            Message(
                wire.up("soymilk", "SM-1", "telemetry"),
                orjson.dumps({"ts": T0 + s * 1000, "seq": s, **E4}),
                T0 + s * 1000,
            )
            for s in range(0, 120, 5)
        ]
        plant.pipeline.accept(body)
        with pytest.raises(UnavailableError):
            plant.pipeline.detect()
        with pytest.raises(UnavailableError):
            plant.pipeline.tick(plant.clock.now())
    plant.pipeline.ingest([])
    plant.tick(130)
    assert len(plant.tickets()) == 1


def test_an_effect_that_breaks_is_set_aside_and_the_others_happen(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gateway import detect

    real = detect.record_findings

    def broken(session: object, findings: list[object], now: object) -> None:
        if any(finding.serial == "SM-1" for finding in findings):  # type: ignore[attr-defined]
            raise ValueError("a bug in one command")
        real(session, findings, now)  # type: ignore[arg-type]

    monkeypatch.setattr(detect, "record_findings", broken)
    for at_s in range(0, 120, 5):
        ts = T0 + at_s * 1000
        body = orjson.dumps({"ts": ts, "seq": at_s, **E4})
        plant.pipeline.accept(
            [Message(wire.up("soymilk", serial, "telemetry"), body, ts) for serial in ("SM-1", "SM-2")]
        )
    plant.pipeline.ingest([])
    assert [ticket.serial for ticket in plant.tickets()] == ["SM-2"]
    assert [(row.reason, "SM-1" in row.payload.decode()) for row in plant.held()] == [("internal_error", True)]


def test_a_rule_that_breaks_on_one_machine_leaves_the_others_alone(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    from domain.detection.engine import Detector

    real = Detector.fold

    def broken(self: Detector, reading: Reading) -> object:
        if reading.serial == "SM-1" and reading.ts == T0 + 5000:
            raise ZeroDivisionError
        return real(self, reading)

    monkeypatch.setattr(Detector, "fold", broken)
    plant.samples("SM-1", range(0, 120, 5), **E4)
    plant.samples("SM-2", range(0, 120, 5), **E4)
    plant.tick(121)
    assert sorted(ticket.serial or "" for ticket in plant.tickets()) == ["SM-1", "SM-2"]
    assert [row.reason for row in plant.held()] == ["internal_error"]


@pytest.mark.parametrize("ts", [0, 1, 86_400_000, T0 - 400 * 86_400_000, T0 + 10 * 86_400_000, 1 << 52])
def test_a_wrong_device_clock_opens_no_ticket_and_its_samples_are_stored(plant: Plant, ts: int) -> None:
    for number in range(60):
        recv_ms = T0 + number * 5000
        body = {"ts": ts + number * 5000, "boot": "b", "seq": number, "power_w": 6.0, "voltage_v": 380.0}
        plant.send("SM-1", "telemetry", body, recv_ms=recv_ms)
        plant.tick(number * 5)
    assert plant.tickets() == []
    plant.pipeline.drain()
    rows = plant.telemetry.range("SM-1", "soymilk", T0 - 1000, T0 + 600_000)
    assert len(rows) == 60
    assert rows[0].values["device_ts"] == float(ts)


def test_a_spool_that_refuses_holds_up_neither_the_tick_nor_the_room_it_waits_for(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant.samples("NEW-1", [0])
    plant.samples("SM-1", range(0, 120, 5), **E4)
    plant.pipeline.drain()
    plant.tick(121)
    plant.pipeline.detection.flush(plant.clock.now(), snapshot=True)
    (held,) = plant.held()
    register(plant.sessions, "NEW-1")  # and so it is at the door, too
    with plant.sessions.command() as session:
        assert store.settle(session, [held.id], store.REPLAY, START) == [held.id]
    released: list[int] = []

    def full(_batch: object) -> None:
        raise UnavailableError("The spool is full")

    monkeypatch.setattr(plant.pipeline.spool, "release", lambda position, _before: released.append(position))
    with monkeypatch.context() as blocked:
        blocked.setattr(plant.pipeline, "take_in", full)
        plant.tick(130)
    assert released[-1] == plant.pipeline.spool.end
    assert [row.state for row in plant.held()] == ["replay"]
    plant.tick(140)
    assert [row.state for row in plant.held()] == ["replayed"]


@pytest.mark.parametrize("verified_s", [121, 119])
def test_a_verdict_dated_as_the_last_tick_or_before_it_closes_the_open_episodes(plant: Plant, verified_s: int) -> None:
    plant.samples("SM-1", range(0, 120, 5), **E4)
    plant.tick(121)
    with plant.sessions.command() as session:
        (finding,) = session.scalars(select(FindingRow))
        assert finding.cleared_at_ms is None
        session.execute(update(Ticket).values(verified_at=from_ms(T0 + verified_s * 1000)))
    plant.tick(122)
    with plant.sessions.read() as session:
        (finding,) = session.scalars(select(FindingRow))
    assert finding.cleared_at_ms == T0 + verified_s * 1000


def test_poison_beyond_what_the_quarantine_keeps_of_a_machine_is_counted_and_said(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "HELD_PER_SERIAL", 3)
    with capture_logs() as logs:
        for at_s in range(5):
            plant.send("SM-1", "telemetry", b"{broken", recv_ms=T0 + at_s)
        plant.tick(10)
    assert (len(plant.held()), plant.pipeline.detection.given_up) == (3, 2)
    assert [line["event"] for line in logs].count("quarantine_full") == 1


def test_keys_that_no_channel_has_are_counted_and_the_rest_is_used(plant: Plant) -> None:
    plant.samples("SM-1", range(0, 60, 5), wattage=5.0, smell="good")
    plant.tick(61)
    plant.pipeline.drain()
    assert plant.pipeline.detection.unknown_keys == 24
    assert {"power_w", "voltage_v"} == plant.telemetry.range("SM-1", "soymilk", T0, T0 + 1)[0].values.keys()


def test_what_machines_said_last_is_written_at_the_tick(plant: Plant) -> None:
    plant.samples("SM-1", [0], temp_c=20.0)
    plant.samples("SM-1", [5], run_state="standby")
    plant.send("SM-1", "birth", {"ts": T0, "model": "SMM-60", "fw": "1.4.2", "interval_s": 30}, recv_ms=T0 + 5000)
    plant.tick(6)
    row = status(plant, "SM-1")
    assert (row.online, row.run_state, row.fw, row.interval_s) == (True, "standby", "1.4.2", 30.0)
    assert row.last_seen_at == START + timedelta(seconds=5)
    assert row.last_ts_ms == T0 + 5000
    assert row.latest == {"power_w": 6.0, "voltage_v": 380.0, "temp_c": 20.0, "run_state": "standby"}
    plant.send("SM-1", "status", b"offline", recv_ms=T0 + 7000)
    plant.tick(8)
    assert status(plant, "SM-1").online is False
    assert status(plant, "SM-1").latest["temp_c"] == 20.0


def test_silence_is_a_ticket_unless_the_silence_was_ours(plant: Plant) -> None:
    for serial in ("SM-1", "SM-2"):
        plant.send(serial, "birth", {"ts": T0, "interval_s": 30}, recv_ms=T0)
        plant.samples(serial, range(0, 300, 30))
    plant.pipeline.listening_since = START + timedelta(seconds=500)
    plant.tick(760)
    assert plant.tickets() == [], "270 s of listening are not over"
    plant.samples("SM-2", [765])
    plant.tick(771)
    (ticket,) = plant.tickets()
    assert (ticket.serial, ticket.rule, ticket.triage["cause"]) == ("SM-1", "R01", "no_power")
    assert status(plant, "SM-1").online is False
    plant.samples("SM-1", [780])
    plant.tick(781)
    assert status(plant, "SM-1").online is True
    assert len(plant.tickets()) == 1


def test_many_that_fall_silent_at_once_are_committed_bit_by_bit_and_each_once(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    serials = [f"MANY-{number}" for number in range(8)]
    for number, serial in enumerate(serials):
        register(plant.sessions, serial, site=1 + number % 2)
    plant.pipeline.refresh_registry()
    for serial in serials:
        plant.samples(serial, range(0, 60, 10))
    plant.tick(61)
    committed: list[int] = []

    def fragile(session: Session, findings: Sequence[Finding], now: datetime) -> None:
        if len(committed) == 2:
            raise UnavailableError("SQL is away")
        committed.append(len(findings))
        record_findings(session, findings, now)

    with monkeypatch.context() as patch:
        patch.setattr("gateway.detect.AT_ONCE", 3)
        patch.setattr("gateway.machines.BORROWED", 2)
        patch.setattr("gateway.detect.record_findings", fragile)
        with pytest.raises(UnavailableError):
            plant.tick(2000)
    assert (committed, plant.count(FindingRow)) == ([3, 3], 6)
    plant.crash()
    plant.pipeline.ingest([])
    plant.tick(2010)
    with plant.sessions.read() as session:
        said = [(row.serial, row.rule) for row in session.scalars(select(FindingRow).order_by(FindingRow.serial))]
        told = sorted(row.params["site"] for row in session.scalars(select(Notice)))
    assert (said, plant.tickets()) == ([(serial, "R01") for serial in serials], [])
    assert told == ["site 1", "site 2"]


def test_no_silence_is_seen_behind_a_backlog(plant: Plant) -> None:
    plant.send("SM-1", "birth", {"ts": T0, "interval_s": 30}, recv_ms=T0)
    plant.samples("SM-1", range(0, 120, 30))
    topic = wire.up("soymilk", "SM-1", "telemetry")
    plant.pipeline.accept([Message(topic, orjson.dumps({"ts": T0 + 900_000, "seq": 9000}), T0 + 900_000)])
    plant.tick(901)
    assert plant.tickets() == []
    plant.pipeline.ingest([])
    plant.tick(902)
    assert plant.tickets() == []


def test_retained_messages_are_no_sign_of_life(plant: Plant) -> None:
    topic = wire.up("soymilk", "SM-1", "status")
    plant.pipeline.ingest([Message(topic, b"online", T0, retained=True)])
    plant.samples("SM-2", [0])
    plant.pipeline.ingest([Message(wire.up("soymilk", "SM-2", "status"), b"offline", T0 + 1, retained=True)])
    plant.tick(1)
    assert status(plant, "SM-2").online is True
    with plant.sessions.read() as session:
        assert session.get(EquipmentStatus, "SM-1") is None


def command(plant: Plant, number: str) -> DeviceCommand:
    with plant.sessions.read() as session:
        found = session.get(DeviceCommand, number)
        assert found is not None
        return found


def test_a_command_is_sent_once_and_its_reply_matched(plant: Plant) -> None:
    with plant.sessions.command() as session:
        number = device_commands.queue(session, "SM-1", "set_interval", {"interval_s": 5, "ttl_s": 60}, START).id
    plant.tick(1)
    plant.tick(2)
    ((topic, payload),) = plant.published
    assert topic == wire.down_command("soymilk", "SM-1")
    assert orjson.loads(payload) == {
        "id": number,
        "name": "set_interval",
        "params": {"interval_s": 5, "ttl_s": 60},
        "expires_at": T0 + 600_000,
    }
    plant.send("SM-2", "reply", {"id": number, "ok": False, "error": "not mine"}, recv_ms=T0 + 2500)
    assert command(plant, number).replied_at is None
    plant.send("SM-1", "reply", {"id": number, "ok": True}, recv_ms=T0 + 3000)
    assert command(plant, number).ok is True


def test_a_command_waits_for_the_broker_until_it_expires(plant: Plant) -> None:
    def away(topic: str, payload: bytes) -> None:
        raise UnavailableError("away")

    plant.publish = away
    with plant.sessions.command() as session:
        number = device_commands.queue(session, "SM-1", "stop", {}, START).id
    plant.tick(1)
    assert command(plant, number).sent_at is None
    plant.tick(601)
    assert (command(plant, number).ok, command(plant, number).error) == (False, "expired")


def test_a_crash_before_a_command_is_noted_sends_it_again(plant: Plant) -> None:
    def crash(topic: str, payload: bytes) -> None:
        plant.published.append((topic, payload))
        raise MemoryError

    publish, plant.publish = plant.publish, crash
    with plant.sessions.command() as session:
        number = device_commands.queue(session, "SM-1", "stop", {}, START).id
    with pytest.raises(MemoryError):
        plant.tick(1)
    assert command(plant, number).sent_at is None
    plant.publish = publish
    plant.crash()
    plant.tick(2)
    first, second = plant.published
    assert first == second
    assert command(plant, number).sent_at is not None


def test_a_command_lost_in_a_crash_after_it_was_noted_shows_as_unanswered(plant: Plant) -> None:
    with plant.sessions.command() as session:
        number = device_commands.queue(session, "SM-1", "stop", {}, START).id
    plant.tick(1)
    plant.published.clear()  # it was only handed over
    plant.crash()
    plant.tick(2)
    assert plant.published == []
    plant.tick(601)
    assert (command(plant, number).ok, command(plant, number).error) == (False, "unanswered")


def test_a_foreign_machine_gets_its_own_words_and_is_told_to_go_back(plant: Plant) -> None:
    register(plant.sessions, "PLUG-1", binding_convention="tasmota", binding_topic="kitchen", model="SMM-10")
    plant.pipeline.refresh_registry()
    with plant.sessions.command() as session:
        odd = device_commands.queue(session, "PLUG-1", "show_nonce", {"nonce": "1", "ttl_s": 60}, START).id
    plant.tick(1)
    assert command(plant, odd).error == "not offered by this machine"
    with plant.sessions.command() as session:
        device_commands.queue(session, "PLUG-1", "test_mode", {"interval_s": 5, "ttl_s": 60}, START)
    plant.tick(2)
    assert plant.published == [("cmnd/kitchen/TelePeriod", b"10")]
    plant.tick(63)
    assert plant.published[1:] == [("cmnd/kitchen/TelePeriod", b"300")]
    plant.tick(300)
    assert len(plant.published) == 2


def test_segments_are_freed_behind_the_lower_cursor_only(tmp_path: Path) -> None:
    flaky = Flaky(tmp_path / "telemetry.db")
    plant = Plant(tmp_path, telemetry=flaky)
    plant.pipeline.spool.close()
    plant.pipeline = plant.open(keep_s=-10.0)
    plant.pipeline.spool._segment_bytes = 2000
    flaky.away = True
    plant.samples("SM-1", range(60))
    plant.pipeline.detection.flush(START, snapshot=True)
    plant.tick(61)
    assert plant.pipeline.spool.start == 0
    flaky.away = False
    plant.pipeline.drain()
    plant.tick(62)
    assert plant.pipeline.spool.start > 0
    plant.pipeline.close()
    assert len(list((tmp_path / "spool").glob("*.seg"))) == 1


def test_registered_machines_of_other_shards_are_other_gateways_business(plant: Plant) -> None:
    plant.pipeline.spool.close()
    mine = frozenset({int(wire.shard_of("SM-1"))})
    plant.pipeline = plant.open(shards=mine)
    assert set(plant.pipeline.registry.units) == {
        serial for serial in ("SM-1", "SM-2", "FA-1") if int(wire.shard_of(serial)) in mine
    }


def test_findings_survive_in_sql(plant: Plant) -> None:
    plant.samples("SM-1", range(0, 120, 5), **E4)
    with plant.sessions.read() as session:
        (row,) = session.scalars(select(FindingRow))
    assert row.ticket_id == plant.tickets()[0].id
