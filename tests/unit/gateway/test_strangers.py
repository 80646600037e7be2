"""A machine that nobody has registered: everything it says is held, and taken in when it is claimed, in its order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import select

from cli.main import main
from domain.clock import from_ms
from domain.desk.actor import SHELL
from domain.desk.registry import save_machine
from domain.desk.strangers import dismiss
from domain.errors import UnavailableError
from domain.store import strangers
from domain.store.tables import DetectorState, EvidenceSample, QuarantineRow, StrangerRow
from tests.unit.gateway.plant import START, T0, Plant

E4 = {"run_state": "fault", "fault_code": "E4"}
FORM = {"serial": "NEW-1", "type": "soymilk", "model": "SMM-60", "site_id": "1"}


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path)


def claim(plant: Plant, at_s: float = 0, **more: str) -> None:
    """As the portal registers a machine."""
    with plant.sessions.command() as session:
        save_machine(session, SHELL, FORM | more, from_ms(T0 + round(at_s * 1000)))


def found(plant: Plant, name: str = "soymilk/NEW-1") -> StrangerRow:
    with plant.sessions.read() as session:
        return session.scalars(select(StrangerRow).where(StrangerRow.name == name)).one()


def folded(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """(serial, ts) of every reading from now on that the rules take in, in that order."""
    taken: list[tuple[str, int]] = []
    fold = plant.pipeline.machines.fold

    def noted(reading: Any) -> Any:
        taken.append((reading.serial, reading.ts))
        return fold(reading)

    monkeypatch.setattr(plant.pipeline.machines, "fold", noted)
    return taken


def stored(plant: Plant, serial: str = "NEW-1", kind: str = "soymilk") -> list[int]:
    plant.pipeline.drain()
    return [row.ts for row in plant.telemetry.range(serial, kind, T0, T0 + 100_000_000)]


def test_five_hundred_samples_of_a_stranger_are_all_stored_and_folded_once_it_is_registered(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    birth = {"ts": T0, "boot": "b", "model": "SMM-60", "fw": "1.4.2", "interval_s": 5}
    plant.send("NEW-1", "birth", birth, recv_ms=T0)
    plant.samples("NEW-1", range(0, 2400, 5))
    plant.tick(2400)
    plant.samples("NEW-1", range(2400, 2500, 5), **E4)
    plant.tick(2501)
    row = found(plant)
    assert (row.state, row.heard, row.held, row.beyond, row.model, row.fw) == (
        "waiting",
        501,
        501,
        0,
        "SMM-60",
        "1.4.2",
    )
    assert (row.first_heard_at, row.last_heard_at) == (START, from_ms(T0 + 2_495_000))
    assert plant.tickets() == []

    taken = folded(plant, monkeypatch)
    claim(plant, 2501)
    plant.pipeline.refresh_registry()
    plant.samples("NEW-1", range(2500, 2530, 5), **E4)  # what it says before the rest is taken in
    plant.tick(2530)
    plant.samples("NEW-1", range(2530, 2560, 5), **E4)
    plant.tick(2560)
    everything = [T0 + at_s * 1000 for at_s in range(0, 2560, 5)]
    assert taken == [("NEW-1", ts) for ts in everything], "each once, in its order"
    assert stored(plant) == everything
    (ticket,) = plant.tickets()
    assert (ticket.serial, plant.held()) == ("NEW-1", [])
    row = found(plant)
    assert (row.state, row.held, row.held_bytes, row.taken) == ("admitted", 0, 0, 507)
    plant.crash()
    plant.tick(2570)
    assert len(plant.tickets()) == 1
    assert not plant.pipeline.machines.changed, "nothing is folded again"


def test_a_foreign_machine_is_claimed_by_its_topic_and_only_then_stored(plant: Plant) -> None:
    def say(topic: str, at_s: int, watts: float, *, full: bool = False) -> None:
        ts = T0 + at_s * 1000
        method = "NotifyFullStatus" if full else "NotifyStatus"
        body = {"method": method, "params": {"ts": ts / 1000, "switch:0": {"apower": watts}}}
        plant.pipeline.ingest([(f"{topic}/events/rpc", orjson.dumps(body), ts)])

    say("plug-7", 0, 5.0, full=True)
    say("plug-8", 0, 5.0, full=True)
    say("plug-7", 30, 6.0)
    plant.tick(31)
    assert [(found(plant, name).convention, found(plant, name).held) for name in ("plug-7", "plug-8")] == [
        ("shelly", 2), ("shelly", 1),
    ]  # fmt: skip
    assert {row.serial for row in plant.held()} == {None}
    claim(plant, 32, model="SMM-10", binding_convention="shelly", binding_topic="plug-7")
    plant.pipeline.refresh_registry()
    plant.tick(33)
    say("plug-7", 60, 7.0)
    assert stored(plant) == [T0, T0 + 30_000, T0 + 60_000]
    assert [row.topic for row in plant.held()] == ["plug-8/events/rpc"]


def test_more_than_one_tick_takes_in_keeps_its_order(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.ingest.quarantine.REPLAYS_AT_ONCE", 7)
    taken = folded(plant, monkeypatch)
    plant.samples("NEW-1", range(0, 200, 10))
    plant.tick(200)
    claim(plant, 200)
    plant.pipeline.refresh_registry()
    for round_ in range(6):
        at_s = 200 + 10 * round_
        plant.samples("NEW-1", [at_s])
        plant.tick(at_s + 1)
    assert taken == [("NEW-1", T0 + at_s * 1000) for at_s in range(0, 260, 10)]
    assert found(plant).state == "admitted"


def test_a_machine_registered_before_its_first_messages_are_written_loses_none(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = folded(plant, monkeypatch)
    plant.samples("NEW-1", range(0, 50, 10))  # read, and not yet written
    claim(plant, 50)
    plant.samples("NEW-1", range(50, 100, 10))
    plant.tick(100)
    plant.tick(101)
    plant.samples("NEW-1", [110])
    assert taken == [("NEW-1", T0 + at_s * 1000) for at_s in (*range(0, 100, 10), 110)]


def test_a_crash_between_two_ticks_counts_and_holds_nothing_twice(plant: Plant) -> None:
    plant.samples("NEW-1", range(0, 100, 10))
    plant.tick(100)
    plant.crash()
    plant.tick(101)
    plant.pipeline.ingest([])
    plant.tick(102)
    assert (found(plant).heard, found(plant).held, len(plant.held())) == (10, 10, 10)


def test_what_is_beyond_the_bound_is_counted_and_the_oldest_stays(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strangers, "MESSAGES_OF_ONE", 8)
    plant.samples("NEW-1", range(12))
    plant.samples("NEW-2", range(3))
    plant.tick(20)
    assert (found(plant).heard, found(plant).held, found(plant).beyond) == (12, 8, 4)
    assert (found(plant, "soymilk/NEW-2").held, found(plant, "soymilk/NEW-2").beyond) == (3, 0)
    kept = [row.received_at for row in plant.held() if row.serial == "NEW-1"]
    assert kept == [from_ms(T0 + at_s * 1000) for at_s in range(8)]
    plant.crash()
    plant.pipeline.ingest([])
    plant.tick(21)
    assert found(plant).beyond == 4


@pytest.mark.parametrize("bound", ["BYTES_OF_ONE", "BYTES_OF_ALL"])
def test_large_messages_have_a_bound_of_their_own(plant: Plant, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    plant.samples("NEW-1", [0])
    plant.tick(1)
    size = found(plant).held_bytes
    monkeypatch.setattr(strangers, bound, size * 3 + 10)
    plant.samples("NEW-1", range(1, 5))
    plant.tick(6)
    assert (found(plant).held, found(plant).beyond) == (3, 2)
    assert found(plant).held_bytes <= size * 3 + 10


def test_more_strangers_than_can_be_kept_are_counted_together(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strangers, "MOST_STRANGERS", 3)
    for number in range(6):
        plant.samples(f"NEW-{number}", [number])
    plant.tick(10)
    with plant.sessions.read() as session:
        rows = {row.name: (row.held, row.beyond) for row in strangers.known(session)}
    assert rows == {"soymilk/NEW-0": (1, 0), "soymilk/NEW-1": (1, 0), "soymilk/NEW-2": (1, 0), "": (0, 3)}


def test_a_dismissed_stranger_disappears_and_is_only_counted(plant: Plant) -> None:
    plant.samples("NEW-1", range(5))
    plant.tick(6)
    with plant.sessions.command() as session:
        assert dismiss(session, SHELL, found(plant).id, START) == 5
    assert plant.held() == []
    plant.samples("NEW-1", range(10, 13))
    plant.tick(14)
    row = found(plant)
    assert (row.state, row.heard, row.held, row.dismissed, plant.held()) == ("dismissed", 8, 0, 8, [])
    claim(plant, 20)
    plant.pipeline.refresh_registry()
    plant.samples("NEW-1", [30])
    plant.tick(31)
    plant.samples("NEW-1", [40])
    assert found(plant).state == "admitted"
    machines = plant.pipeline.machines
    changed = {serial for some in (machines.dumps(), *machines.memories()) for serial in some}
    assert changed == {"NEW-1"}, "from its registration on it is a machine like any other"


def test_a_batch_of_a_stranger_is_kept_whole(plant: Plant) -> None:
    batch = [
        {"ts": T0 + n * 1000, "boot": "b", "seq": n, "power_w": 6.0, "voltage_v": 380.0 + n / 1000} for n in range(1000)
    ]
    plant.send("NEW-1", "telemetry", batch, recv_ms=T0 + 1_000_000)
    plant.tick(1001)
    (row,) = plant.held()
    assert len(row.payload) > 64 * 1024
    claim(plant, 1001)
    plant.pipeline.refresh_registry()
    plant.tick(1002)
    assert plant.held() == []
    assert len(stored(plant)) == 1000


def test_poison_among_the_held_is_held_under_its_own_reason(plant: Plant) -> None:
    plant.pipeline.ingest([("tele/plug/SENSOR", b"{broken", T0)])
    plant.tick(1)
    claim(plant, 2, binding_convention="tasmota", binding_topic="plug")
    plant.pipeline.refresh_registry()
    for at_s in (3, 4):
        plant.tick(at_s)
    assert [(row.reason, row.stranger_id) for row in plant.held()] == [("unreadable", None)]
    assert found(plant, "plug").state == "admitted"


def test_sql_that_goes_away_in_the_middle_takes_nothing_in_twice_and_nothing_not(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant.samples("NEW-1", range(0, 100, 5), **E4)
    plant.tick(100)
    claim(plant, 100)
    plant.pipeline.refresh_registry()
    with monkeypatch.context() as broken:

        def away(*_: object, **__: object) -> None:
            raise UnavailableError("away")

        broken.setattr(strangers, "admitted", away)
        with pytest.raises(UnavailableError):
            plant.tick(101)
        assert len(plant.held()) == 20
    plant.tick(102)
    assert (plant.held(), found(plant).taken, len(plant.tickets())) == ([], 20, 1)
    assert len(stored(plant)) == 20
    assert plant.count(QuarantineRow) == plant.count(EvidenceSample) == 0


def test_strangers_on_the_command_line(
    plant: Plant, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plant.send("NEW-1", "birth", {"ts": T0, "model": "SMM-60"}, recv_ms=T0)
    plant.samples("NEW-1", range(3))
    plant.samples("NEW-2", range(2))
    plant.pipeline.ingest([("tele/plug/SENSOR", b"{}", T0 + 5000)])
    plant.tick(6)
    monkeypatch.setenv("BREWAIR_DATA_DIR", str(plant.folder))

    def brewair(*arguments: str, status: int | None = None) -> list[str]:
        with pytest.raises(SystemExit) as ended:
            main(["admin", "devices", *arguments])
        assert (ended.value.code or None) == status
        said = capsys.readouterr()
        return (said.err if status else said.out).splitlines()

    *lines, summary = map(orjson.loads, brewair("unclaimed", "--json"))
    assert [(line["name"], line["held"], line["model"]) for line in lines] == [
        ("plug", 1, ""), ("soymilk/NEW-1", 4, "SMM-60"), ("soymilk/NEW-2", 2, ""),
    ]  # fmt: skip
    assert summary == {"summary": True, "state": "waiting", "machines": 3}
    plug, first, second = (str(line["id"]) for line in lines)
    assert brewair("dismiss", second) == ["2 messages given up"]
    assert "decided" in brewair("dismiss", second, status=2)[0]
    assert "no unclaimed machine" in brewair("claim", "99", "--site", "1", status=2)[0]
    assert "It speaks as soymilk NEW-1" in brewair("claim", first, "--site", "1", "--serial", "X-1", status=2)[0]
    assert brewair("claim", first, "--site", "1") == ["NEW-1 is registered; 4 messages are taken in by the gateway"]
    assert brewair("claim", plug, "--site", "1", "--serial", "TA-1", "--model", "FAU-300")[0].startswith(
        "TA-1 is registered"
    )
    assert brewair("unclaimed") == ["0 machines"]
    plant.pipeline.refresh_registry()
    plant.tick(7)
    assert {found(plant, name).state for name in ("plug", "soymilk/NEW-1")} == {"admitted"}


def test_what_was_taken_in_survives_a_crash_although_its_place_in_the_spool_is_passed(plant: Plant) -> None:
    plant.samples("NEW-1", range(0, 100, 5))
    plant.pipeline.detection.flush(START, snapshot=True)
    claim(plant, 100)
    plant.pipeline.refresh_registry()
    plant.tick(101)
    plant.crash()
    assert plant.held() == []
    with plant.sessions.read() as session:
        kept = session.get(DetectorState, "NEW-1")
    assert kept is not None, "the rules remember what they will never be told again"


def test_what_waits_for_sql_is_bounded_and_the_rest_stays_in_the_spool(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.detect.PENDING_READINGS", 5)
    plant.samples("NEW-1", range(20))
    assert not plant.pipeline.detection.caught_up
    for at_s in range(20, 25):
        plant.tick(at_s)
        plant.pipeline.ingest([])
    plant.tick(25)
    assert plant.pipeline.detection.caught_up
    assert found(plant).held == 20
