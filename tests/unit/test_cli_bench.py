"""``brewair bench gateway``: a small run of everything but Telegraf, and ratios that are null where nothing was measured."""

from __future__ import annotations

import json

import pytest

from cli import bench_rig as rig
from cli.bench import Round, _summary
from cli.main import main
from gateway.ingest import mqtt_codec as codec

KEYS = {
    "summary", "rounds", "ratio_telegraf_stub", "ratio_telegraf_mosquitto", "ratio_paho_stub", "share_of_null",
    "batched_gain",
}  # fmt: skip


def ran(scenario: str, receiver: str, *costs: float, speed: float = 1000.0) -> list[Round]:
    return [Round(number, scenario, receiver, speed, cost, 50.0, None) for number, cost in enumerate(costs)]


def test_ratios_are_those_of_medians() -> None:
    measured = [
        *ran("stub", "native", 5.0, 4.0, 90.0),
        *ran("stub", "paho", 20.0, 30.0, 25.0),
        *ran("stub", "telegraf", 40.0),
        *ran("mosquitto", "native", 8.0, speed=9000.0),
        *ran("mosquitto", "telegraf", 44.0),
        *ran("mosquitto", "null", 1.0, speed=10_000.0),
        *ran("batched", "native", 9.0, speed=4500.0),
    ]
    summary = _summary(measured)
    assert summary.keys() == KEYS
    assert {key: summary[key] for key in KEYS - {"rounds", "summary"}} == {
        "ratio_telegraf_stub": 8.0,
        "ratio_telegraf_mosquitto": 5.5,
        "ratio_paho_stub": 5.0,
        "share_of_null": 0.9,
        "batched_gain": 5.0,
    }


def test_what_was_not_measured_is_null() -> None:
    summary = _summary(ran("stub", "native", 5.0))
    assert {summary[key] for key in KEYS - {"rounds", "summary"}} == {None}


def test_a_real_run_says_what_it_found_line_by_line(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TELEGRAF_BIN", raising=False)
    options = ["--scenario", "stub", "--receiver", "native", "--receiver", "null", "--receiver", "telegraf"]
    with pytest.raises(SystemExit) as ended:
        main(["bench", "gateway", "--json", "--rounds", "1", "--messages", "1000", *options])
    assert ended.value.code == 0
    out, err = capfd.readouterr()
    native, null, summary = map(json.loads, out.splitlines())
    assert (native["receiver"], null["receiver"]) == ("native", "null")
    assert native["us_per_msg"] > null["us_per_msg"] > 0
    assert native["msgs_per_s"] > 0
    assert summary["summary"]
    assert summary["rounds"] == [native, null]
    assert summary["ratio_telegraf_stub"] is None
    assert "TELEGRAF_BIN is not set" in err


def test_a_scenario_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "gateway", "--scenario", "stab"])
    assert ended.value.code == 2
    assert "stab is not one of stub, mosquitto, batched" in capsys.readouterr().err


def test_the_packets_are_a_fleet_of_healthy_machines() -> None:
    made = rig.packets(2500, 3, 1_000_000)
    decoded = [packet for packet in codec.Decoder().feed(b"".join(made)) if isinstance(packet, codec.Publish)]
    assert len(decoded) == 2500
    assert len({packet.topic for packet in decoded}) == rig.MACHINES
    assert [len(json.loads(decoded[at].payload)) for at in (0, 2499)] == [3, 3]
    times = [sample["ts"] for packet in decoded[:: rig.MACHINES] for sample in json.loads(packet.payload)]
    assert times == [1_000_000 + n * rig.STEP_MS for n in range(9)]
