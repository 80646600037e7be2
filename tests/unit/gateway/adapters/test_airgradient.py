"""AirGradient: the JSON of its web interface, over MQTT."""

from __future__ import annotations

from tests.unit.gateway.adapters.bound import NOW, Bound, unit

FOUND = (
    b'{"serialno":"ecda3b1eaaaf","wifi":-46,"rco2":447,"pm01":3,"pm02":7,"pm10":8,"atmp":25.87,"rhum":43}'
)  # fmt: skip


def test_the_measures_as_found() -> None:
    bound = Bound(unit("FA-1", "freshair", "airgradient", "ecda3b1eaaaf"))
    reading = bound.reading("airgradient/readings/ecda3b1eaaaf", FOUND)
    assert reading.ts == NOW
    assert dict(reading.values) == {
        "rssi_dbm": -46.0, "co2_in_ppm": 447.0, "pm25_out_ugm3": 7.0, "temp_room_c": 25.87, "rh_room_pct": 43.0,
    }  # fmt: skip
    assert bound.unknown == {"pm01": 1, "pm10": 1}
    assert bound.reason("airgradient/readings/ecda3b1eaaaf", b"[]") == "wrong_type"
    assert bound.reason("airgradient/readings/other", FOUND) == "unknown_serial"
