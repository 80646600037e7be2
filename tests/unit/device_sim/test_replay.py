"""Recorded data as a machine."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from device_sim.machine import Machine
from device_sim.profiles import CARDS
from device_sim.replay import HOLD_MS, HourlyRecord, Trace, machine_of, read_beijing, read_csv, read_tracebase
from domain.errors import InvalidError
from tests.unit.device_sim.machines import START, objects

CARD = CARDS["soymilk"]["SMM-10"]


def samples(machine: Machine, seconds: int) -> list[dict[str, object]]:
    """What the machine says in its first seconds."""
    return objects(machine.advance(machine.now_ms + seconds * 1000))


@pytest.fixture
def tracebase(tmp_path: Path) -> Path:
    path = tmp_path / "day.csv"
    rows = [f"11/06/2012 10:{m:02d}:{s:02d};{1000 + m};{m}" for m in range(10) for s in range(60) if not 3 <= m < 5]
    path.write_text("\n".join([*rows, rows[-1]]) + "\n")
    return path


def test_a_tracebase_day_is_power_at_the_moved_times(tracebase: Path) -> None:
    trace = read_tracebase(tracebase)
    machine = machine_of(trace, "T-1", CARD, start_ms=START, interval_s=10)
    said = samples(machine, 600)
    assert {set(s) - {"ts", "boot", "seq"} == {"power_w"} for s in said} == {True}
    for sample in said:
        offset = int(str(sample["ts"])) - START
        held = offset % 60_000 <= HOLD_MS  # right after the recorded hole began
        assert sample["power_w"] == 1000.0 + offset // 60_000 or (held and sample["power_w"] == 1002.0)


def test_a_hole_in_the_record_is_silence_not_an_invention(tracebase: Path) -> None:
    machine = machine_of(read_tracebase(tracebase), "T-1", CARD, start_ms=START, interval_s=10)
    times = [int(str(s["ts"])) - START for s in samples(machine, 600)]
    gap = max(b - a for a, b in itertools.pairwise(times))
    assert 110_000 <= gap <= 130_000


def test_the_other_column_of_tracebase_can_be_chosen(tracebase: Path) -> None:
    assert read_tracebase(tracebase, {"power_w": "2"}).rows[0] == {"power_w": 0.0}


def test_a_part_of_a_record_begins_and_ends_where_it_is_told(tracebase: Path) -> None:
    trace = read_tracebase(tracebase)
    part = trace.part(trace.start_ms + 60_000, 30_000)
    assert (part.start_ms, part.end_ms) == (trace.start_ms + 60_000, trace.start_ms + 90_000)
    with pytest.raises(InvalidError, match="nothing in that time"):
        trace.part(trace.end_ms + 1, None)


def test_a_generic_csv_is_mapped_by_name_or_number_and_blank_is_absent(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("when,U,lid,P\n2026-01-01T00:00:01Z,220.5,1,\n2026-01-01T00:00:00Z,220.0,false,8\n")
    trace = read_csv(path, {"voltage_v": "U", "lid_open": "lid", "power_w": "3"}, "soymilk")
    assert trace.rows == [
        {"voltage_v": 220.0, "lid_open": False, "power_w": 8.0},
        {"voltage_v": 220.5, "lid_open": True},
    ]


def test_channels_by_name_need_no_mapping(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("ts,power_w,run_state\n1000,5,standby\n")
    assert read_csv(path, {}, "soymilk").rows == [{"power_w": 5.0, "run_state": "standby"}]


@pytest.mark.parametrize(
    ("text", "mapping", "says"),
    [
        ("ts,P\n1000,5\n", {"powr_w": "P"}, "No channel powr_w; did you mean power_w?"),
        ("ts,power\n1000,5\n", {"power_w": "powr"}, "no column powr; did you mean power?"),
        ("ts,P\n1000,x\n", {"power_w": "P"}, "row 1"),
        ("ts,P\nyesterday,5\n", {"power_w": "P"}, "row 1"),
        ("ts,P\n1000,5\n", {"power_w": "7"}, "row 1"),
        ("ts,P\n1000,2\n", {"lid_open": "P"}, "must be 0, 1, true or false"),
        ("ts,P\n", {"power_w": "P"}, "has no rows"),
        ("ts,P\n1000,5\n", {}, "no column is a channel"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, text: str, mapping: dict[str, str], says: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(InvalidError) as caught:
        read_csv(path, mapping, "soymilk")
    assert says in str(caught.value)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="No such file"):
        read_tracebase(tmp_path / "none.csv")


def test_the_hourly_record_is_straight_between_hours_and_nothing_next_to_a_hole(tmp_path: Path) -> None:
    path = tmp_path / "b.csv"
    path.write_text(
        "No,year,month,day,hour,pm2.5\n1,2013,1,1,0,100\n2,2013,1,1,1,160\n3,2013,1,1,2,NA\n4,2013,1,1,3,50\n"
    )
    record = read_beijing(path)
    begin = record.start_ms
    assert begin == 1_356_969_600_000, "midnight in Beijing is 16:00 UTC of the day before"
    assert record.at(begin) == 100.0
    assert record.at(begin + 1_800_000) == 130.0
    assert record.at(begin + 3_600_000) == 160.0
    assert record.at(begin + 3_600_001) is None
    assert record.at(begin + 9_000_000) is None
    assert record.later(1000)(begin + 1000) == 100.0
    assert isinstance(record, HourlyRecord)


def test_a_replayed_machine_refuses_test_mode() -> None:
    trace = Trace([0, 1000], [{"power_w": 1.0}, {"power_w": 2.0}])
    machine = machine_of(trace, "T-1", CARD, start_ms=START, interval_s=1)
    order = b'{"id":"a","name":"test_mode","params":{"interval_s":5,"ttl_s":60}}'
    replies = objects(machine.receive(machine.command_topic, order, START + 500), "reply")
    assert replies == [{"id": "a", "ok": False, "error": "this machine has no test program"}]
