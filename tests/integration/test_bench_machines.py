"""``brewair bench machines``: a small fleet on mosquitto, the gateway and InfluxDB, each a real process."""

from __future__ import annotations

import json

import pytest

from cli.bench_machines import _quantile
from cli.main import main

CLASS = "brewair_rx_to_stored_seconds_bucket"


@pytest.mark.integration
@pytest.mark.usefixtures("mosquitto", "influxdb")  # the command starts its own; without the programs there is no test
def test_every_reading_of_a_connected_fleet_is_stored(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "machines", "--json", "--count", "20", "--interval-s", "1", "--minutes", str(5 / 60)])
    assert ended.value.code == 0
    (summary,) = map(json.loads, capfd.readouterr().out.splitlines())
    assert summary["summary"]
    assert summary["machines"] == summary["connected"] == 20
    assert 20 <= summary["acknowledged"] <= 120
    assert summary["stored"] == summary["acknowledged"]
    assert {summary[key] for key in ("unacknowledged", "lost", "doubled", "tickets")} == {0}
    assert summary["gateway_rss_peak_mb"] >= summary["gateway_rss_end_mb"] > 0


def test_more_machines_than_files_are_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (64, 512))
    monkeypatch.setattr("cli.bench_rig.find_mosquitto", lambda: "mosquitto")
    monkeypatch.setattr("cli.bench_rig.find_influxd", lambda: "influxd")
    with pytest.raises(SystemExit) as ended:
        main(["bench", "machines", "--count", "20"])
    assert ended.value.code != 0
    assert "1020 open files are needed and 512 allowed" in capsys.readouterr().err


def test_a_quantile_is_of_what_came_between_two_looks() -> None:
    before = {f"{CLASS}0.1": 90.0, f"{CLASS}0.25": 90.0, f"{CLASS}+Inf": 90.0}
    after = {f"{CLASS}0.1": 90.0, f"{CLASS}0.25": 100.0, f"{CLASS}+Inf": 100.0}
    assert _quantile(before, after, 0.5) == 0.175
    assert _quantile(after, after, 0.5) is None
