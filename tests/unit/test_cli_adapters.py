"""``brewair adapters try`` shows what a payload becomes, or why nothing becomes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.adapters import app
from cli.main import main
from gateway.adapters.registry import ADAPTERS
from tests.unit.gateway.adapters.spb import metric, payload

PMS = (
    b'{"Time":"2026-03-07T12:54:34","BME280":{"Temperature":20.7,"Humidity":24.4,"DewPoint":-0.4,"Pressure":1013.4},'
    b'"PMS5003":{"CF1":22,"CF2.5":32,"CF10":49,"PM1":22,"PM2.5":32,"PM10":49,"PB0.3":4146},"PressureUnit":"hPa",'
    b'"TempUnit":"C"}'
)


def attempt(body: bytes, *options: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    result = CliRunner().invoke(app, ["try", *options, "--json"], input=body)
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.output.splitlines()]
    assert lines[-1]["summary"] is True
    return lines[:-1], lines[-1]


def test_the_type_that_fits_best_and_the_zone_of_the_machine() -> None:
    for zone, ts in (("Asia/Shanghai", 1_772_859_274_000), ("UTC", 1_772_888_074_000)):
        (reading,), summary = attempt(PMS, "--adapter", "tasmota", "--zone", zone)
        assert ts in (reading["ts"], reading["device_ts"])
        assert reading["values"] == {"temp_room_c": 20.7, "rh_room_pct": 24.4, "pm25_out_ugm3": 32.0}
        assert (summary["type"], summary["bound_by"], summary["readings"]) == ("freshair", "kitchen", 1)
        assert summary["unknown"]["PMS5003.CF2.5"] == 1


def test_refused_values_and_reasons_are_shown() -> None:
    body = b'{"method":"NotifyStatus","params":{"em1:0":{"act_power":-5.0,"voltage":230}}}'
    (reading,), _ = attempt(body, "--adapter", "shelly", "--topic", "em-9/events/rpc")
    assert (reading["values"], reading["rejected"]) == ({"voltage_v": 230.0}, {"power_w": -5.0})
    (held,), summary = attempt(b"{", "--adapter", "alink", "--type", "soymilk")
    assert (held["reason"], summary["quarantined"], summary["type"]) == ("unreadable", 1, "soymilk")
    (held,), _ = attempt(b"{}", "--adapter", "alink", "--topic", "somewhere/else")
    assert held["reason"] == "unknown_topic"


def test_bytes_and_the_native_convention() -> None:
    (reading,), summary = attempt(payload(1, metric("a/power_w", 5.0)), "--adapter", "sparkplug")
    assert (reading["values"], summary["bound_by"]) == ({"power_w": 5.0}, "canteen/edge-1/kitchen")
    (reading,), _ = attempt(b'{"ts":1,"power_w":5,"x":1}', "--adapter", "native")
    assert (reading["values"], reading["device_ts"]) == ({"power_w": 5.0}, 1)
    (status,), _ = attempt(b"Offline", "--adapter", "tasmota", "--topic", "tele/kitchen/LWT")
    assert (status["kind"], status["online"]) == ("status", False)


def test_for_people() -> None:
    shown = CliRunner().invoke(app, ["try", "--adapter", "tasmota"], input=PMS).output
    assert "pm25_out_ugm3        32.0" in shown
    assert "unknown" in shown
    assert "bound by    kitchen, as freshair" in shown
    body = b'{"params":{"power_w":-1.0,"ts":1,"pf":{"value":1.0,"time":9007199254740990}}}'
    shown = CliRunner().invoke(app, ["try", "--adapter", "alink"], input=body).output
    assert "refused: out of range" in shown
    assert "9007199254740990 ms" in shown
    assert "unreadable" in CliRunner().invoke(app, ["try", "--adapter", "miot"], input=b"{").output
    assert (
        "nothing"
        in CliRunner().invoke(app, ["try", "--adapter", "homie", "--topic", "homie/a/$x/$y"], input=b"").output
    )
    assert (
        "status" in CliRunner().invoke(app, ["try", "--adapter", "shelly", "--topic", "a/online"], input=b"true").output
    )


def test_the_list() -> None:
    lines = [json.loads(line) for line in CliRunner().invoke(app, ["list", "--json"]).output.splitlines()]
    assert {line["convention"] for line in lines[:-1]} == {convention or "native" for convention in ADAPTERS}
    shown = CliRunner().invoke(app, ["list"]).output
    assert "zigbee2mqtt/+" in shown


@pytest.mark.parametrize(
    "options",
    [["--adapter", "fax"], ["--adapter", "tuya", "--type", "toaster"], ["--adapter", "tuya", "--zone", "Mars/Phobos"]],
)
def test_what_does_not_exist_is_one_line_and_exit_status_2(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["adapters", "try", *options])
    assert end.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
