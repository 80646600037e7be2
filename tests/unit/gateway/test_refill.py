"""Kept segments refill a telemetry store that lost data; doing so twice, or for nothing, changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.main import main
from domain.clock import from_ms
from domain.telemetry.sqlite import SqliteTelemetry
from gateway.ingest.dropped import Dropped
from gateway.messages import Message
from tests.unit.gateway.plant import T0, Plant


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plant:
    monkeypatch.setenv("BREWAIR_DATA_DIR", str(tmp_path))
    plant = Plant(tmp_path)
    plant.samples("SM-1", range(0, 120, 5))
    plant.samples("SM-2", range(0, 120, 5), temp_c=71.5)
    plant.pipeline.drain()
    plant.telemetry.purge(T0 + 200_000)  # the loss
    assert rows(plant, "SM-1") == []
    return plant


def rows(plant: Plant, serial: str) -> list[int]:
    return [row.ts - T0 for row in plant.telemetry.range(serial, "soymilk", T0, T0 + 200_000)]


def brewair(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, object]]:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--json"])
    assert not ended.value.code
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_everything_that_is_kept_comes_back_while_the_gateway_runs_and_twice_is_once(
    plant: Plant, capsys: pytest.CaptureFixture[str]
) -> None:
    tickets = len(plant.tickets())
    for _ in range(2):
        (summary,) = brewair(capsys, "spool", "replay")
        assert (summary["messages"], summary["readings"], summary["refused"]) == (48, 48, 0)
        for serial in ("SM-1", "SM-2"):
            assert rows(plant, serial) == list(range(0, 120_000, 5000))
    assert plant.telemetry.range("SM-2", "soymilk", T0, T0 + 1)[0].values["temp_c"] == 71.5
    assert len(plant.tickets()) == tickets
    plant.samples("SM-1", [120])
    plant.pipeline.drain()
    assert rows(plant, "SM-1")[-1] == 120_000


def test_only_the_time_that_was_asked_for(plant: Plant, capsys: pytest.CaptureFixture[str]) -> None:
    since, until = (from_ms(T0 + s * 1000).isoformat() for s in (30, 60))
    (summary,) = brewair(capsys, "spool", "replay", "--from", since, "--to", until)
    assert summary["readings"] == 12
    assert rows(plant, "SM-1") == list(range(30_000, 60_000, 5000))


def test_a_time_without_zone_is_of_the_house(plant: Plant, capsys: pytest.CaptureFixture[str]) -> None:
    (summary,) = brewair(capsys, "spool", "replay", "--from", "2026-11-23T16:00:30")  # 08:00:30 UTC in Shanghai
    assert summary["readings"] == 36


@pytest.mark.parametrize("arguments", [["--from", "yesterday"], ["--to", "25:00"]])
def test_an_unreadable_time_is_refused(plant: Plant, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["spool", "replay", *arguments])
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_damage_is_passed_and_counted(plant: Plant, capsys: pytest.CaptureFixture[str]) -> None:
    (segment,) = (plant.folder / "spool").glob("*.seg")
    content = bytearray(segment.read_bytes())
    content[30] ^= 1
    segment.write_bytes(content)
    (summary,) = brewair(capsys, "spool", "replay")
    assert (summary["damaged"], summary["readings"]) == (1, 47)


def test_inspect_shows_cursors_lag_and_what_was_given_up(plant: Plant, capsys: pytest.CaptureFixture[str]) -> None:
    plant.pipeline.detection.flush(plant.clock.now(), snapshot=True)
    stored = plant.pipeline.spool.end
    plant.pipeline.accept([Message("brewair/v1/00/soymilk/SM-1/up/telemetry", b"{}", T0 + 300_000)])
    Dropped(plant.folder / "spool" / "dropped.json")(
        [Message("brewair/v1/00/soymilk/SM-9/up/telemetry", b"", 1).pack()]
    )
    capsys.readouterr()
    segment, summary = brewair(capsys, "spool", "inspect")
    assert (segment["records"], segment["stored"], segment["detected"]) == (49, False, False)
    assert (segment["oldest"], segment["latest"]) == ("2026-11-23T08:00:00+00:00", "2026-11-23T08:05:00+00:00")
    assert summary["stored"] == stored
    assert summary["end"] > stored
    assert summary["dropped"] == {"SM-9": 1}
    assert summary["policy"] == "block"
    assert set(summary["lag_s"]) == {"stored", "detected"}  # type: ignore[arg-type]


def test_what_was_given_up_is_counted_for_ever(tmp_path: Path) -> None:
    record = Message("brewair/v1/00/soymilk/SM-9/up/telemetry", b"", 1).pack()
    foreign = Message("tele/kitchen/SENSOR", b"", 1).pack()
    Dropped(tmp_path / "dropped.json")([record, record, foreign])
    again = Dropped(tmp_path / "dropped.json")
    again([record])
    assert again.counts == {"SM-9": 3, "tele/kitchen/SENSOR": 1}
    (tmp_path / "dropped.json").write_text("[broken")
    assert not Dropped(tmp_path / "dropped.json").counts


def test_the_store_of_the_settings_is_the_one_that_is_filled(plant: Plant, capsys: pytest.CaptureFixture[str]) -> None:
    (plant.folder / "telemetry.db").unlink()
    (plant.folder / "telemetry.db-wal").unlink(missing_ok=True)
    (plant.folder / "telemetry.db-shm").unlink(missing_ok=True)
    brewair(capsys, "spool", "replay")
    fresh = SqliteTelemetry(plant.folder / "telemetry.db")
    assert len(fresh.range("SM-1", "soymilk", T0, T0 + 200_000)) == 24
