"""MIoT: (siid, piid) by model, a code other than 0 has no value, and the flat form of fresh-air units."""

from __future__ import annotations

import orjson
import pytest

from tests.unit.gateway.adapters.bound import NOW, Bound, unit

FOUND = (
    b'[{"did":"aqi","siid":3,"piid":6,"code":0,"value":2},{"did":"filter_life_remaining","siid":4,"piid":3,"code":0,"value":45},'
    b'{"did":"motor_speed","siid":10,"piid":8,"code":0,"value":769},{"did":"buzzer_volume","siid":5,"piid":2,"code":-4001}]'
)
FLAT = (
    b'{"power":true,"mode":"auto","pm25":2,"co2":554,"temperature_outside":12,"control_speed":60,"filter_rate":45,'
    b'"filter_day":81,"ptc_on":false}'
)


def of(model: str) -> tuple[Bound, str]:
    return Bound(unit("FA-1", "freshair", "miot", f"{model}/42")), f"miot/{model}/42"


def test_the_list_as_found() -> None:
    bound, topic = of("zhimi.airpurifier.mb3")
    reading = bound.reading(topic, FOUND)
    assert reading.ts == NOW
    assert dict(reading.values) == {"pm25_out_ugm3": 2.0, "filter_life_pct": 45.0, "fan_supply_rpm": 769.0}
    assert bound.unknown == {}, "what has no value is not even unknown"


def test_the_flat_form_as_found() -> None:
    bound, topic = of("dmaker.airfresh.a1")
    assert bound.values(topic, FLAT) == {
        "run_state": "running", "mode": "auto", "pm25_out_ugm3": 2.0, "co2_in_ppm": 554.0, "temp_out_c": 12.0,
        "filter_life_pct": 45.0, "ptc_on": False,
    }  # fmt: skip
    assert bound.unknown == {"control_speed": 1, "filter_day": 1}


def test_two_filters_and_the_heaters_level() -> None:
    bound, topic = of("dmaker.airfresh.t2017")
    said = {"power": False, "filter_intermediate": 90, "filter_efficient": 30, "ptc_on": True, "ptc_level": "low"}
    assert bound.values(topic, said) == {"run_state": "off", "filter_life_pct": 30.0, "ptc_on": True}
    assert bound.unknown == {"filter_intermediate": 1, "ptc_level": 1}


def test_a_code_other_than_0_has_no_value_even_if_one_stands_there() -> None:
    bound, topic = of("zhimi.airpurifier.mb3")
    assert bound.all(topic, [{"siid": 3, "piid": 6, "code": -4001, "value": 7}]) == []
    assert bound.values(topic, [{"siid": 3, "piid": 6, "code": 0}]) == {}


def test_the_same_pair_means_something_else_in_another_model() -> None:
    pair = [{"did": "x", "siid": 4, "piid": 3, "code": 0, "value": 45}]
    for model, expected in (
        ("zhimi.airpurifier.mb3", {"filter_life_pct": 45.0}),
        ("zhimi.airpurifier.mb4", {"filter_used_h": 45.0}),
        ("nobody.knows.this1", {}),
    ):
        bound, topic = of(model)
        assert bound.values(topic, pair) == expected, model
    assert bound.unknown == {"4.3": 1}


def test_modes_are_words() -> None:
    bound, topic = of("zhimi.airp.mb5")
    said = [{"siid": 2, "piid": 4, "code": 0, "value": 2}, {"siid": 2, "piid": 1, "code": 0, "value": True}]
    assert bound.values(topic, said) == {"mode": "favorite", "run_state": "running"}
    bound.values(topic, [{"siid": 2, "piid": 4, "code": 0, "value": 17}])
    assert bound.unknown == {"2.4=17": 1}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"7", "wrong_type"),
        (b"[7]", "wrong_type"),
        (b'[{"siid":3}]', "wrong_type"),
        (b'[{"siid":3,"piid":[6],"value":1}]', "wrong_type"),
        (b'[{"siid":3,"piid":6,"value":"2"}]', "wrong_type"),
        (orjson.dumps([{}] * 1001), "too_many"),
    ],
)
def test_what_cannot_be_used_says_why(payload: bytes, reason: str) -> None:
    bound, topic = of("zhimi.airpurifier.mb3")
    assert bound.reason(topic, payload) == reason
    assert bound.reason("miot/zhimi.airpurifier.mb3/43", payload) == "unknown_serial"
