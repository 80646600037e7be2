"""Tuya: lists of codes whose meaning depends on the category, and fault bitmaps."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.adapters import tuya
from tests.unit.gateway.adapters.bound import NOW, Bound, unit

XFJ, KJ, KFJ = "tuya/xfj/dev1", "tuya/kj/dev2", "tuya/kfj/dev3"


@pytest.fixture
def bound() -> Bound:
    return Bound(
        unit("FA-1", "freshair", "tuya", "xfj/dev1"),
        unit("FA-2", "freshair", "tuya", "kj/dev2"),
        unit("SM-1", "soymilk", "tuya", "kfj/dev3"),
    )


def test_the_list_as_found(bound: Bound) -> None:
    reading = bound.reading(KJ, b'[{"code":"pm25","value":35}]')
    assert (reading.serial, reading.ts, dict(reading.values)) == ("FA-2", NOW, {"pm25_out_ugm3": 35.0})


def test_a_fresh_air_unit_whose_set_points_are_no_measurements(bound: Bound) -> None:
    said = {
        "switch": True, "mode": "auto", "air_volume": 250, "loop_mode": "outdoor_loop", "supply_fan_speed": "high",
        "exhaust_fan_speed": "low", "high_filter_reset": False, "bypass_function": True, "heat": False, "pm25_set": 35,
    }  # fmt: skip
    assert bound.values(XFJ, [{"code": code, "value": value} for code, value in said.items()]) == {
        "run_state": "running", "mode": "auto", "level": 3.0, "bypass": True, "ptc_on": False,
    }  # fmt: skip
    assert set(bound.unknown) == {"air_volume", "loop_mode", "exhaust_fan_speed", "high_filter_reset", "pm25_set"}
    assert bound.values(XFJ, [{"code": "switch", "value": False}]) == {"run_state": "off"}


def test_a_coffee_makers_states_only_where_they_are_ours(bound: Bound) -> None:
    said = [{"code": "work_state", "value": "grinding"}, {"code": "temp_current", "value": 71}]
    assert bound.values(KFJ, said) == {"run_state": "grinding", "temp_c": 71.0}
    assert (
        bound.values(KFJ, [{"code": "work_state", "value": "cooking"}, {"code": "water_current", "value": 300}]) == {}
    )
    assert bound.unknown == {"work_state=cooking": 1, "water_current": 1}


@pytest.mark.parametrize(
    ("bitmap", "labels", "code"),
    [
        (0, ("e1",), ""), (1, ("e1", "e2"), "e1"), (2, ("e1", "e2"), "e2"), (3, ("e1", "e2"), "e1,e2"),
        (5, ("e1",), "e1,bit2"), (1 << 31, (), "bit31"),
    ],
)  # fmt: skip
def test_a_fault_bitmap_reads_as_its_labels(bitmap: int, labels: tuple[str, ...], code: str) -> None:
    assert tuya.faults(bitmap, labels) == code


def test_labels_are_a_products_or_a_categorys(bound: Bound, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = [{"code": "fault", "value": 2}]
    assert bound.values(XFJ, fault) == {"fault_code": "bit1"}
    monkeypatch.setattr(tuya, "FAULTS", {"xfj": ("motor", "filter"), "kfj/dev3": ("lack_water", "overheat")})
    assert bound.values(XFJ, fault) == {"fault_code": "filter"}
    assert bound.values(KFJ, fault) == {"fault_code": "overheat"}
    assert bound.values(XFJ, [{"code": "fault", "value": 0}]) == {"fault_code": ""}


def test_times_in_seconds_and_in_ms(bound: Bound) -> None:
    said = [{"code": "pm25", "value": 30, "t": NOW - 4000}, {"code": "mode", "value": "sleep", "t": NOW - 9000}]
    found: list[Any] = bound.all(KJ, {"status": said})
    assert [(r.ts - NOW, dict(r.values)) for r in found] == [
        (-9000, {"mode": "sleep"}),
        (-4000, {"pm25_out_ugm3": 30.0}),
    ]
    whole = {"t": NOW // 1000 - 7, "status": [{"code": "pm25", "value": 1}]}
    assert bound.reading(KJ, whole).ts == NOW - 7000


def test_a_category_without_a_table_gives_nothing_but_its_faults() -> None:
    odd = Bound(unit("FA-3", "freshair", "tuya", "tnq/dev4"))
    assert odd.values("tuya/tnq/dev4", [{"code": "pm25", "value": 1}, {"code": "fault", "value": 1}]) == {
        "fault_code": "bit0"
    }
    assert odd.unknown == {"pm25": 1}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"{}", "wrong_type"),
        (b"[7]", "wrong_type"),
        (b'[{"value":7}]', "wrong_type"),
        (b'[{"code":"fault","value":"e1"}]', "wrong_type"),
        (b'[{"code":"fault","value":-1}]', "wrong_type"),
        (b'[{"code":"fault","value":4294967296}]', "wrong_type"),
        (b'[{"code":"pm25","value":"35"}]', "wrong_type"),
        (b'[{"code":"pm25","value":35,"t":"now"}]', "wrong_type"),
        (b"[" + b",".join([b"{}"] * 1001) + b"]", "too_many"),
        (b"hello", "unreadable"),
    ],
)
def test_what_cannot_be_used_says_why(bound: Bound, payload: bytes, reason: str) -> None:
    assert bound.reason(XFJ, payload) == reason
