"""One contract, two stores: what goes in comes out the same from SQLite and from a real InfluxDB."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from domain.errors import UnavailableError
from domain.readings import Reading, Value
from domain.telemetry.influx import InfluxTelemetry
from domain.telemetry.port import Row, Telemetry
from domain.telemetry.sqlite import SqliteTelemetry
from tests.servers import InfluxDB

T0 = int(time.time()) * 1000 - 3_600_000
"""An hour ago: InfluxDB refuses what is older than its retention."""
FAR = T0 + 86_400_000


def sqlite_store(request: pytest.FixtureRequest, tmp_path: Path) -> Telemetry:
    return SqliteTelemetry(tmp_path / "new folder" / "telemetry.db")


def influx_store(request: pytest.FixtureRequest, tmp_path: Path) -> Telemetry:
    server: InfluxDB = request.getfixturevalue("influxdb")
    bucket = f"contract-{secrets.token_hex(4)}"
    return InfluxTelemetry(f"influxdb+{server.url}/{server.org}/{bucket}", lambda: server.token)


def influx_store_far_away(request: pytest.FixtureRequest, tmp_path: Path) -> Telemetry:
    """To an address that is not known to be of this machine bodies go compressed."""
    server: InfluxDB = request.getfixturevalue("influxdb")
    url = server.url.replace("127.0.0.1", "127.1")
    return InfluxTelemetry(f"influxdb+{url}/{server.org}/contract-{secrets.token_hex(4)}", lambda: server.token)


INFLUX = [pytest.param(one, marks=pytest.mark.integration) for one in (influx_store, influx_store_far_away)]


@pytest.fixture(params=[sqlite_store, *INFLUX])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Telemetry]:
    make: Callable[[pytest.FixtureRequest, Path], Telemetry] = request.param
    telemetry = make(request, tmp_path)
    telemetry.setup()
    yield telemetry
    telemetry.close()


def reading(ts: int, serial: str = "SM-1", equipment_type: str = "soymilk", **values: Value) -> Reading:
    return Reading(serial=serial, type=equipment_type, ts=ts, values=values)


def test_every_kind_of_value_comes_back_as_it_went_in(store: Telemetry) -> None:
    values: dict[str, Value] = {
        "power_w": 8890.0,
        "temp_c": -3.25,
        "voltage_v": 229.60000000000002,
        "energy_kwh": 1e-7,
        "heater_on": True,
        "motor_on": False,
        "run_state": "heating",
        "fault_code": "E4",
        "recipe": 'a "quoted" \\ name, with = and 豆浆 ',
    }
    store.write([reading(T0, **values)])
    assert store.range("SM-1", "soymilk", T0, T0 + 1) == [Row(T0, values)]


def test_a_whole_number_is_stored_as_a_float_and_never_changes_a_type(store: Telemetry) -> None:
    store.write([reading(T0, power_w=8890)])
    store.write([reading(T0 + 1, power_w=8890.5)])
    rows = store.range("SM-1", "soymilk", T0, T0 + 2)
    assert [type(row.values["power_w"]) for row in rows] == [float, float]


def test_ranges_are_half_open_and_oldest_first(store: Telemetry) -> None:
    store.write([reading(T0 + ms, power_w=float(ms)) for ms in (30, 10, 0, 20)])
    assert [row.ts - T0 for row in store.range("SM-1", "soymilk", T0, T0 + 30)] == [0, 10, 20]
    assert [row.ts - T0 for row in store.range("SM-1", "soymilk", T0 + 1, T0 + 31)] == [10, 20, 30]


def test_a_limit_keeps_the_newest(store: Telemetry) -> None:
    store.write([reading(T0 + n, power_w=float(n)) for n in range(10)])
    assert [row.ts - T0 for row in store.range("SM-1", "soymilk", T0, FAR, limit=3)] == [7, 8, 9]


def test_only_the_asked_channels_and_no_empty_rows(store: Telemetry) -> None:
    store.write([reading(T0, power_w=1.0, temp_c=20.0), reading(T0 + 1, temp_c=21.0), reading(T0 + 2, power_w=3.0)])
    rows = store.range("SM-1", "soymilk", T0, FAR, channels=["power_w", "voltage_v"], limit=2)
    assert rows == [Row(T0, {"power_w": 1.0}), Row(T0 + 2, {"power_w": 3.0})]
    assert store.range("SM-1", "soymilk", T0, FAR, channels=[]) == []


def test_writing_again_changes_nothing(store: Telemetry) -> None:
    batch = [reading(T0 + n, power_w=float(n), run_state="heating") for n in range(50)]
    store.write(batch)
    before = store.range("SM-1", "soymilk", T0, FAR)
    store.write(batch)
    store.write(batch[10:20])
    assert store.range("SM-1", "soymilk", T0, FAR) == before
    assert len(before) == 50


def test_fields_of_one_moment_merge_and_the_later_write_wins(store: Telemetry) -> None:
    store.write([reading(T0, power_w=1.0, temp_c=20.0), reading(T0, power_w=2.0)])
    store.write([reading(T0, run_state="heating", temp_c=21.0)])
    assert store.range("SM-1", "soymilk", T0, T0 + 1) == [
        Row(T0, {"power_w": 2.0, "temp_c": 21.0, "run_state": "heating"})
    ]


def test_machines_and_types_are_apart(store: Telemetry) -> None:
    store.write(
        [reading(T0, "A", power_w=1.0), reading(T0, "B", power_w=2.0), reading(T0, "A", "freshair", power_w=3.0)]
    )
    assert store.range("A", "soymilk", T0, FAR) == [Row(T0, {"power_w": 1.0})]
    assert store.range("A", "freshair", T0, FAR) == [Row(T0, {"power_w": 3.0})]
    assert store.range("C", "soymilk", T0, FAR) == []


def test_a_reading_without_values_is_not_a_point(store: Telemetry) -> None:
    store.write([])
    store.write([reading(T0), Reading("SM-1", "soymilk", T0 + 1, {}, rejected={"power_w": 1e9}, simulated=True)])
    assert store.range("SM-1", "soymilk", T0, FAR) == []


def test_a_disbelieved_clock_and_a_simulation_are_kept_beside_the_values(store: Telemetry) -> None:
    store.write([Reading("SM-1", "soymilk", T0, {"power_w": 1.0}, simulated=True, device_ts=5)])
    assert store.range("SM-1", "soymilk", T0, FAR) == [Row(T0, {"power_w": 1.0, "simulated": True, "device_ts": 5.0})]


def test_means_over_aligned_spans(store: Telemetry) -> None:
    minute = T0 - T0 % 60_000
    store.write(
        [
            reading(minute + 10_000, power_w=10.0, temp_c=1.0, run_state="heating", heater_on=True),
            reading(minute + 50_000, power_w=30.0),
            reading(minute + 60_000, power_w=50.0),
            reading(minute + 185_000, power_w=70.0),
        ]
    )
    rows = store.downsampled(
        "SM-1", "soymilk", minute + 5_000, minute + 190_000, ["power_w", "temp_c", "run_state", "heater_on"], 60
    )
    assert rows == [
        Row(minute, {"power_w": 20.0, "temp_c": 1.0}),
        Row(minute + 60_000, {"power_w": 50.0}),
        Row(minute + 180_000, {"power_w": 70.0}),
    ]
    assert store.downsampled("SM-1", "soymilk", minute + 20_000, minute + 60_000, ["power_w"], 60) == [
        Row(minute, {"power_w": 30.0})
    ]
    assert store.downsampled("SM-1", "soymilk", minute, minute + 60_000, ["run_state"], 60) == []
    assert store.downsampled("SM-1", "soymilk", minute, minute, ["power_w"], 60) == []


def test_the_last_sample(store: Telemetry) -> None:
    assert store.last("SM-1", "soymilk") is None
    store.write([reading(T0, power_w=1.0, temp_c=20.0), reading(T0 + 5, power_w=2.0)])
    assert store.last("SM-1", "soymilk") == Row(T0 + 5, {"power_w": 2.0})


def test_more_than_one_batch(store: Telemetry) -> None:
    store.write([reading(T0 + n, power_w=float(n)) for n in range(2500)])
    rows = store.range("SM-1", "soymilk", T0, FAR)
    assert [row.ts - T0 for row in rows] == list(range(2500))


def test_setup_twice_and_ping(store: Telemetry) -> None:
    store.write([reading(T0, power_w=1.0)])
    store.setup()
    store.ping()
    assert len(store.range("SM-1", "soymilk", T0, FAR)) == 1


def test_an_unusable_file_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "telemetry.db").write_text("this is no database, and long enough to be read as one " * 30)
    with pytest.raises(UnavailableError, match=r"telemetry\.db"):
        SqliteTelemetry(tmp_path / "telemetry.db").setup()
