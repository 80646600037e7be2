"""Who works what when several gateways share the machines: shards, leases, foreign topics, what moves along."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import NoReturn
from zoneinfo import ZoneInfo

import orjson
import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from cli.main import main
from domain import wire
from domain.clock import ManualClock, SystemClock
from domain.desk import device_commands
from domain.errors import SettingsError, TakenError, UnavailableError
from domain.settings import load
from domain.store import ingest as store
from domain.store.ingest import Machine
from domain.store.leases import KEPT, LEASE
from domain.store.session import Sessions
from domain.store.tables import Equipment, EquipmentStatus, QuarantineRow, ShardLease, SpoolCursor, Ticket
from domain.telemetry.sqlite import SqliteTelemetry
from gateway.ingest.spool import Checkpoint, Spool
from gateway.leases import Leases
from gateway.machines import registry_of
from gateway.messages import Message
from gateway.pipeline import Pipeline
from gateway.service import Gateway, gateway_name, subscriptions
from tests.servers import NATS_CONFIGURATION, wait_until
from tests.unit.gateway.plant import START, T0, prepare, register

ZERO, REST = frozenset({0}), frozenset(range(1, 16))
ZONE = ZoneInfo("Asia/Shanghai")


def serial_in(shard: int, prefix: str = "M") -> str:
    return next(name for n in range(10_000) if int(wire.shard_of(name := f"{prefix}-{n}")) == shard)


def machine(serial: str, convention: str = "", site: int = 1) -> Machine:
    return Machine(
        serial, "soymilk", "SMM-60", site, 0.0, convention, f"t-{serial}" if convention else "", "", None, False
    )


# --- who hears whom


def test_every_topic_and_every_machine_has_exactly_one_gateway() -> None:
    machines = [machine(serial_in(shard)) for shard in range(16)]
    machines += [machine(serial_in(shard, "F"), "tasmota") for shard in range(16)]
    parts = [frozenset({0, 1, 2}), frozenset({3, 9}), frozenset({4, 5, 6, 7, 8, *range(10, 16)})]
    heard = [set(registry_of(machines, part, ZONE).units) for part in parts]
    assert set.union(*heard) == {one.serial for one in machines}
    assert sum(map(len, heard)) == len(machines)
    filters = [one for part in parts for one in subscriptions(part)]
    assert len(filters) == len(set(filters))
    assert [one for one in subscriptions(parts[1]) if not one.startswith(wire.ROOT)] == []


def test_a_foreign_machine_belongs_to_the_gateway_that_hears_its_topic_whatever_its_serial_says() -> None:
    one = machine(serial_in(7), "tasmota")
    assert set(registry_of([one], ZERO, ZONE).units) == {one.serial}
    assert registry_of([one], REST, ZONE).units == {}


@pytest.mark.parametrize(
    ("topic", "shard"),
    [
        ("brewair/v1/07/soymilk/M-1/up/telemetry", 7),
        ("brewair/v1/99/soymilk/M-1/up/telemetry", 0),
        ("brewair/v1/7/soymilk/M-1/up/telemetry", 0),
        ("tele/room/SENSOR", 0),
        ("", 0),
    ],
)
def test_the_shard_of_a_topic(topic: str, shard: int) -> None:
    assert wire.shard_of_topic(topic) == shard


def test_the_nats_nodes_grant_every_filter_that_a_gateway_may_ask_for() -> None:
    """A client has 65,535 packet ids for all its filters together, and one that ends in # is two to a node."""
    said = re.search(r"max_ack_pending: (\d+)", (NATS_CONFIGURATION / "nats-server.conf").read_text(encoding="utf-8"))
    assert said is not None
    most = max(
        sum(2 if one.endswith("#") else 1 for one in subscriptions(frozenset(range(shards)))) for shards in range(1, 17)
    )
    assert most == 50
    assert int(said[1]) * most < 65_536


# --- two pipelines on one SQL database


class Half:
    """A pipeline with a spool folder of its own on stores that it shares."""

    def __init__(self, folder: Path, sessions: Sessions, shards: frozenset[int], clock: ManualClock) -> None:
        self.published: list[str] = []
        self.clock = clock
        telemetry = SqliteTelemetry(folder.parent / "telemetry.db")
        telemetry.setup()
        self.pipeline = Pipeline(
            gateway=gateway_name(shards),
            spool=Spool(folder),
            checkpoint=Checkpoint(folder / "stored"),
            sessions=sessions,
            telemetry=telemetry,
            clock=clock,
            publish=lambda topic, _payload: self.published.append(topic),
            zone=ZONE,
            shards=shards,
        )
        self.pipeline.load()

    def faults(self, serial: str, seconds: range) -> None:
        for at_s in seconds:
            ts = T0 + at_s * 1000
            body = {"ts": ts, "boot": "b", "seq": at_s, "power_w": 6.0, "voltage_v": 380.0, "fault_code": "E4"}
            self.pipeline.ingest([(wire.up("soymilk", serial, "telemetry"), orjson.dumps(body), ts)])

    def tick(self, at_s: int) -> None:
        self.clock.set(START + timedelta(seconds=at_s))
        self.pipeline.tick(self.clock.now())


@pytest.fixture
def sessions(tmp_path: Path) -> Iterator[Sessions]:
    made = prepare(f"sqlite:///{tmp_path / 'brewair.db'}")
    register(made, serial_in(0))
    register(made, serial_in(5))
    yield made
    made.engine.dispose()


def tickets(sessions: Sessions) -> list[str | None]:
    with sessions.read() as session:
        return sorted(session.scalars(select(Ticket.serial)), key=str)


def test_cursors_of_two_gateways_stay_apart(tmp_path: Path, sessions: Sessions) -> None:
    clock = ManualClock(START)
    halves = [Half(tmp_path / name, sessions, part, clock) for name, part in (("a", ZERO), ("b", REST))]
    halves[0].faults(serial_in(0), range(0, 30, 5))
    halves[1].faults(serial_in(5), range(0, 60, 5))
    for half in halves:
        half.pipeline.detection.flush(clock.now(), snapshot=True)
    with sessions.read() as session:
        kept = {row.spool: row.position for row in session.scalars(select(SpoolCursor))}
    assert kept == {half.pipeline.spool.id: half.pipeline.spool.end for half in halves}


def test_a_moved_shard_takes_its_rule_states_along(tmp_path: Path, sessions: Sessions) -> None:
    """Half of the time that a fault needs passes on one machine, half on the other."""
    clock, serial = ManualClock(START), serial_in(5)
    Half(tmp_path / "c", sessions, ZERO, clock)
    before = Half(tmp_path / "a", sessions, REST, clock)
    before.faults(serial, range(0, 40, 5))
    assert tickets(sessions) == []
    before.pipeline.drain()
    before.pipeline.close()
    after = Half(tmp_path / "b", sessions, REST, clock)
    after.faults(serial, range(40, 75, 5))
    assert tickets(sessions) == [serial]


def test_a_machine_that_comes_from_another_gateway_brings_its_rule_state(tmp_path: Path, sessions: Sessions) -> None:
    """Its convention changes, so the other gateway hears it from now on, without a restart of either."""
    clock, serial = ManualClock(START), serial_in(5)
    native, foreign = Half(tmp_path / "a", sessions, REST, clock), Half(tmp_path / "b", sessions, ZERO, clock)
    native.faults(serial, range(0, 75, 5))
    assert tickets(sessions) == [serial]
    native.pipeline.detection.flush(clock.now(), snapshot=True)
    with sessions.command() as session:
        row = session.scalars(select(Equipment).where(Equipment.serial == serial)).one()
        row.binding_convention, row.binding_topic = "tasmota", "room"
    for half in (native, foreign):
        half.pipeline.refresh_registry()
    assert serial not in native.pipeline.registry.units
    detector = foreign.pipeline.machines._detector(serial)
    assert detector is not None
    assert [finding.rule for finding in detector.open_findings] == ["R26"]


def test_a_command_is_sent_by_the_gateway_that_hears_the_machine_and_by_no_other(
    tmp_path: Path, sessions: Sessions
) -> None:
    clock, foreign = ManualClock(START), serial_in(5, "F")
    register(sessions, foreign, binding_convention="tasmota", binding_topic="room")
    halves = [Half(tmp_path / name, sessions, part, clock) for name, part in (("a", REST), ("b", ZERO))]
    with sessions.command() as session:
        for serial in (serial_in(5), foreign):
            device_commands.queue(session, serial, "set_interval", {"interval_s": 10, "ttl_s": 900}, START)
    for half in halves:
        half.tick(1)
    assert halves[0].published == [wire.down_command("soymilk", serial_in(5))]
    assert halves[1].published == ["cmnd/room/TelePeriod"]


def test_silence_is_noticed_by_the_gateway_that_hears_the_machine_and_neighbours_of_another_count(
    tmp_path: Path, sessions: Sessions
) -> None:
    clock, here, there = ManualClock(START), serial_in(0), serial_in(5)
    halves = [Half(tmp_path / name, sessions, part, clock) for name, part in (("a", ZERO), ("b", REST))]
    halves[0].faults(here, range(0, 10, 5))
    halves[1].faults(there, range(0, 2000, 60))
    halves[1].tick(2000)
    halves[0].pipeline.refresh_registry()
    (neighbour,) = halves[0].pipeline.registry.neighbours
    assert neighbour.heard_ms == T0 + 1_980_000
    halves[0].tick(2010)
    with sessions.read() as session:
        found = {row.serial: row.online for row in session.scalars(select(EquipmentStatus))}
    assert found[here] is False
    assert found[there] is True
    detector = halves[0].pipeline.machines._detector(here)
    assert detector is not None
    (silence,) = [finding for finding in detector.open_findings if finding.rule == "R01"]
    assert silence.cause == "no_power"  # others of the site are heard, if by another gateway: it is not the network


def test_running_tests_are_judged_by_who_holds_their_samples_and_the_rest_is_watched_once(
    tmp_path: Path, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[set[str]] = []
    watched: list[str] = []

    def judge(_session: object, _now: datetime, *, ours: dict[str, object]) -> None:
        judged.append(set(ours))

    def deadlines(_session: object, now: datetime) -> None:
        watched.append(now.isoformat())

    monkeypatch.setattr("gateway.pipeline.judge_running", judge)
    monkeypatch.setattr("gateway.pipeline.WATCHES", (judge, deadlines))
    clock = ManualClock(START)
    for name, part in (("a", ZERO), ("b", REST)):
        Half(tmp_path / name, sessions, part, clock).tick(1)
    assert [serial_in(0) in one for one in judged] == [True, False]
    assert [serial_in(5) in one for one in judged] == [False, True]
    assert len(watched) == 1


def test_what_is_replayed_goes_to_the_gateway_of_its_topic(tmp_path: Path, sessions: Sessions) -> None:
    clock, late = ManualClock(START), serial_in(5, "L")
    halves = [Half(tmp_path / name, sessions, part, clock) for name, part in (("a", ZERO), ("b", REST))]
    halves[1].faults(late, range(0, 10, 5))  # nobody knows it yet
    halves[1].tick(10)
    register(sessions, late)
    with sessions.command() as session:
        numbers = list(session.scalars(select(QuarantineRow.id)))
        assert store.settle(session, numbers, store.REPLAY, START) == numbers
    halves[0].tick(20)
    assert halves[0].pipeline.accepted == 0
    halves[1].tick(20)
    assert halves[1].pipeline.accepted == 4


# --- leases


@pytest.fixture
def lease(sessions: Sessions) -> Callable[[str, frozenset[int]], Leases]:
    return lambda holder, shards: Leases(sessions, shards, holder=holder, gateway=f"gw-{holder}")


def test_two_gateways_never_hold_one_shard_at_once(lease: Callable[[str, frozenset[int]], Leases]) -> None:
    first, second = lease("a", frozenset({1, 2})), lease("b", frozenset({2, 3}))
    assert first.take(START) is None
    assert second.take(START) == "gw-a"
    assert second.held == frozenset()
    assert lease("c", frozenset({3})).take(START) is None  # nothing was taken by halves
    assert first.take(START + LEASE / 2) is None
    assert second.take(START + LEASE) == "gw-a"  # it was renewed


def test_a_restart_in_the_same_folder_waits_for_nobody_and_a_stop_in_order_lets_the_next_one_in(
    lease: Callable[[str, frozenset[int]], Leases],
) -> None:
    first = lease("a", ZERO)
    assert first.take(START) is None
    assert lease("a", ZERO).take(START) is None
    first.give_back(START)
    assert lease("b", ZERO).take(START) is None


def test_who_was_away_too_long_commits_nothing_more(
    lease: Callable[[str, frozenset[int]], Leases], sessions: Sessions
) -> None:
    first, second = lease("a", ZERO), lease("b", ZERO)
    assert first.take(START) is None
    late = START + LEASE + timedelta(seconds=1)
    with sessions.command() as session:
        first.check(session)  # late, but nobody has asked for it
    assert second.take(late) is None
    with pytest.raises(TakenError), sessions.command() as session:
        first.check(session)
    with pytest.raises(TakenError, match="gw-b"):
        first.renew(late)


def sql_is_away() -> NoReturn:
    raise UnavailableError("SQL is away")


def test_long_work_keeps_the_shards_by_the_time_that_passes_and_loses_nothing_while_sql_is_away(
    sessions: Sessions, lease: Callable[[str, frozenset[int]], Leases], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other, passed_s = lease("a", ZERO), lease("b", ZERO), [0.0]
    monkeypatch.setattr(mine, "_time", lambda: passed_s[-1])
    mine.keep()
    assert mine.held == frozenset(), "what was never taken is not taken by the way"
    assert mine.take(START) is None
    for seconds in (5.0, 15.0, 25.0, 35.0):
        passed_s.append(seconds)
        mine.keep()
    assert other.take(START + timedelta(seconds=40)) == "gw-a"
    with monkeypatch.context() as away:
        away.setattr(sessions, "command", sql_is_away)
        passed_s.append(60.0)
        mine.keep()
    assert other.take(START + timedelta(seconds=70)) is None
    with pytest.raises(TakenError):
        mine.keep()


def test_what_a_gateway_folded_after_its_shards_were_taken_is_not_committed(tmp_path: Path, sessions: Sessions) -> None:
    clock = ManualClock(START)
    half = Half(tmp_path / "a", sessions, ZERO, clock)
    assert half.pipeline.leases.take(START) is None
    other = Leases(sessions, ZERO, holder="b", gateway="gw-b")
    assert other.take(START + 2 * LEASE) is None
    with pytest.raises(TakenError):
        half.faults(serial_in(0), range(0, 120, 5))
    assert tickets(sessions) == []


# --- the program


@contextmanager
def at_work(gateway: Gateway) -> Iterator[None]:
    stop = threading.Event()
    failure: list[BaseException] = []

    def work() -> None:
        try:
            gateway.run(stop)
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
    if failure:
        raise failure[0]


def given(folder: Path, **more: str) -> dict[str, str]:
    return {
        "BREWAIR_DATA_DIR": str(folder),
        "BREWAIR_DATABASE_URL": f"sqlite:///{folder.parent / 'brewair.db'}",
        "BREWAIR_MQTT_URL": "mqtt://127.0.0.1:9",
        **more,
    }


def hold_by(sessions: Sessions, gateway: str) -> Leases:
    other = Leases(sessions, frozenset(range(16)), holder="other", gateway=gateway)
    assert other.take(SystemClock().now()) is None
    return other


def test_a_standby_with_the_same_shards_does_not_even_connect_until_they_are_free(
    tmp_path: Path, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.service.LEASES_EVERY_S", 0.05)
    other = hold_by(sessions, "brewair-gw-0-15")
    gateway = Gateway(load(given(tmp_path / "a")), SystemClock())
    looks: list[str | None] = []
    take = gateway.pipeline.leases.take

    def counted(now: datetime, *span: timedelta) -> str | None:
        looks.append(take(now, *span))
        return looks[-1]

    monkeypatch.setattr(gateway.pipeline.leases, "take", counted)
    with capture_logs() as logs, at_work(gateway):
        wait_until(lambda: len(looks) > 1, what="a first look")
        clock = gateway._time
        monkeypatch.setattr(gateway, "_time", lambda: clock() + 1000.0)  # longer than any patience with SQL
        wait_until(lambda: len(looks) > 10, what="more looks")
        assert not gateway._connect.is_set()
        assert not any(line["event"].startswith("broker_") for line in logs)
        other.give_back(SystemClock().now())
        assert gateway._connect.wait(20)
        assert len(gateway.pipeline.leases.held) == 16
    assert [line["by"] for line in logs if line["event"] == "shards_held_elsewhere"] == ["brewair-gw-0-15"]


def test_a_gateway_with_other_shards_connects_and_keeps_what_comes_but_folds_nothing(
    tmp_path: Path, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.service.LEASES_EVERY_S", 0.05)
    hold_by(sessions, "brewair-gw-0-7")
    gateway = Gateway(load(given(tmp_path / "a")), SystemClock())
    with at_work(gateway):
        assert gateway._connect.wait(20)
        assert gateway.pipeline.leases.held == frozenset()
        assert gateway._loaded.is_set()  # telemetry does not wait


def test_a_gateway_whose_shards_are_taken_ends_and_says_so(tmp_path: Path, sessions: Sessions) -> None:
    gateway = Gateway(load(given(tmp_path / "a")), SystemClock())
    with pytest.raises(TakenError, match="taken over"), at_work(gateway):  # noqa: PT012 - it is the end that raises
        assert gateway._connect.wait(20)
        with sessions.command() as session:
            for row in session.scalars(select(ShardLease)):
                row.holder = "other"
        gateway.pipeline.accept([_message(serial_in(0), 0)])
        wait_until(lambda: gateway._failure, timeout_s=30, what="the end")


def _message(serial: str, at_s: int) -> Message:
    body = {"ts": T0 + at_s * 1000, "boot": "b", "seq": at_s, "power_w": 6.0, "voltage_v": 380.0, "fault_code": "E4"}
    return Message(wire.up("soymilk", serial, "telemetry"), orjson.dumps(body), T0 + at_s * 1000)


def fill(folder: Path, serial: str, seconds: range) -> None:
    spool = Spool(folder / "spool")
    spool.append([_message(serial, at_s).pack() for at_s in seconds])
    spool.close()


def command_line(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], *arguments: str) -> int:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    # What the program does to its process must not outlive the test.
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("gateway.__main__.log_lines", lambda: None)
    monkeypatch.setattr("gateway.__main__.spare_the_collector", lambda: None)
    try:
        main(["gateway", *arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_drain_brings_everything_into_both_stores_without_a_broker_and_ends(
    tmp_path: Path, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, serial = tmp_path / "a", serial_in(5)
    fill(folder, serial, range(0, 120, 5))
    assert command_line(monkeypatch, given(folder), "--drain", "--shards", "1-15") == 0
    assert tickets(sessions) == [serial]
    telemetry = SqliteTelemetry(folder / "telemetry.db")
    assert len(telemetry.range(serial, "soymilk", T0, T0 + 120_000)) == 24
    with sessions.read() as session:
        assert {row.holder for row in session.scalars(select(ShardLease))} == {""}
        (cursor,) = session.scalars(select(SpoolCursor))
    assert cursor.position == int((folder / "spool" / "stored").read_text())


def test_drain_that_is_stopped_before_the_end_says_so_by_its_exit_status(
    tmp_path: Path, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a"
    fill(folder, serial_in(5), range(0, 10, 5))
    hold_by(sessions, "brewair-gw-0-7")

    class Stopped(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            return super().wait(0.01) or True

    gateway = Gateway(load(given(folder)), SystemClock())
    assert gateway.run(Stopped(), drain=True) is False


def test_the_spool_of_a_machine_that_came_back_too_late_still_reaches_the_telemetry_store(
    tmp_path: Path, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, serial = tmp_path / "a", serial_in(5)
    fill(folder, serial, range(0, 120, 5))
    hold_by(sessions, "brewair-gw-0-15")
    assert command_line(monkeypatch, given(folder), "--drain") == 1  # what the rules did not see is said
    assert tickets(sessions) == []
    telemetry = SqliteTelemetry(folder / "telemetry.db")
    assert len(telemetry.range(serial, "soymilk", T0, T0 + 120_000)) == 24


def test_drain_of_a_spool_that_is_worked_off_is_done_whoever_has_the_shards_by_then(
    tmp_path: Path, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a"
    fill(folder, serial_in(5), range(0, 120, 5))
    assert command_line(monkeypatch, given(folder), "--drain") == 0
    hold_by(sessions, "brewair-gw-0-7")
    assert command_line(monkeypatch, given(folder), "--drain") == 0


def test_a_gateway_that_is_stopped_with_a_backlog_keeps_its_shards_until_there_was_time_to_drain(
    tmp_path: Path, sessions: Sessions
) -> None:
    gateway = Gateway(load(given(tmp_path / "a")), SystemClock())
    with at_work(gateway):
        assert gateway._connect.wait(20)
        gateway.pipeline.detection.step = lambda *_: False  # type: ignore[method-assign]
        gateway.pipeline.accept([_message(serial_in(0), 0)])
    now = SystemClock().now()
    other = Leases(sessions, ZERO, holder="other", gateway="other")
    assert other.take(now + 2 * LEASE) == "brewair-gw-0-15"
    assert other.take(now + KEPT + LEASE) is None


def test_a_gateway_that_is_stopped_under_load_works_off_what_it_acknowledged_and_lets_the_next_one_in(
    tmp_path: Path, sessions: Sessions
) -> None:
    gateway = Gateway(load(given(tmp_path / "a")), SystemClock())
    serial = serial_in(0)
    with at_work(gateway):
        assert gateway._connect.wait(20)
        gateway.pipeline.accept([_message(serial, at_s) for at_s in range(0, 12_000, 5)])
    assert tickets(sessions) == [serial]
    assert gateway.pipeline.writer.position == gateway._found_until + gateway.pipeline.spool.size
    other = Leases(sessions, ZERO, holder="other", gateway="other")
    assert other.take(SystemClock().now()) is None


def test_a_spool_is_not_used_for_other_shards_before_it_is_worked_off(
    tmp_path: Path, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, serial = tmp_path / "a", serial_in(5)
    fill(folder, serial, range(0, 120, 5))
    (folder / "spool" / "gateway").write_text("brewair-gw-1-15")
    gateway = Gateway(load(given(folder, BREWAIR_SHARDS="0")), SystemClock())
    with pytest.raises(SettingsError, match="brewair-gw-1-15: first run brewair gateway --drain"), at_work(gateway):
        wait_until(lambda: gateway._failure, timeout_s=30, what="the refusal")
    assert command_line(monkeypatch, given(folder), "--drain", "--shards", "1-15") == 0
    assert command_line(monkeypatch, given(folder), "--drain", "--shards", "0") == 0
    assert tickets(sessions) == [serial]


def test_the_option_wins_over_the_setting_and_nonsense_is_refused(
    tmp_path: Path, sessions: Sessions, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a"
    environment = given(folder, BREWAIR_SHARDS="3")
    assert command_line(monkeypatch, environment, "--drain", "--shards", "0-7") == 0
    assert (folder / "spool" / "gateway").read_text() == "brewair-gw-0-7"
    assert command_line(monkeypatch, environment, "--shards", "0-16") == 2
    assert "shards go from 0 to 15" in capsys.readouterr().err
    assert command_line(monkeypatch, environment, "--forget") == 2
