"""``brewair sim`` without a broker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.main import main
from cli.sim import speed_factor
from domain.errors import InvalidError


def brewair(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command."""
    with pytest.raises(SystemExit) as caught:
        main(["sim", *arguments])
    out = capsys.readouterr()
    return int(caught.value.code or 0), out.out, out.err


def test_a_fleet_prints_one_summary_that_repeats(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("fleet", "--type", "freshair", "--count", "3", "--hours", "1", "--seed", "5", "--json")
    one, again = (json.loads(brewair(capsys, *arguments)[1]) for _ in range(2))
    assert one["summary"] is True
    assert {"machines", "hours", "sampling_s", "samples", "wall_s", "sha256"} <= set(one)
    assert one["sha256"] == again["sha256"]
    assert one["samples"] >= 3 * 119


def test_a_fleet_writes_its_messages_as_lines(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    status, _, _ = brewair(capsys, "fleet", "--hours", "0.1", "--output", str(path))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert status == 0
    assert lines[0]["topic"].endswith("/up/birth")
    assert json.loads(lines[-1]["payload"])["power_w"] > 0


def test_a_recorded_trace_is_replayed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("ts,P\n" + "".join(f"{k * 1000},{k}\n" for k in range(120)))
    status, out, _ = brewair(capsys, "replay", str(path), "--map", "power_w=P", "--interval", "10", "--json")
    assert status == 0
    summary = json.loads(out)
    assert 10 <= summary["samples"] <= 12
    assert summary["first_ts"] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("fleet", "--type", "soymlik"), "did you mean soymilk?"),
        (("fleet", "--speed", "fast"), "--speed must be"),
        (("fleet", "--broker", "http://x", "--hours", "0.1"), "mqtt://HOST:PORT"),
        (("fleet", "--start", "yesterday"), "Not a date and time"),
        (("replay", "none.csv"), "Cannot read none.csv"),
        (("replay", "none.csv", "--map", "power_w"), "--map must be channel=column"),
        (("replay", "none.csv", "--format", "beijin"), "did you mean beijing?"),
        (("run", "healty_day"), "did you mean healthy_day?"),
        (("run", "healthy_day", "--broker", "mqtt://x", "--in-process"), "either --broker or --in-process"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    status, _, err = brewair(capsys, *arguments)
    assert status == 2
    assert says in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(("text", "factor"), [("max", None), ("real", 1.0), ("60x", 60.0), ("0.5", 0.5)])
def test_speeds(text: str, factor: float | None) -> None:
    assert speed_factor(text) == factor


@pytest.mark.parametrize("text", ["0x", "-1x", "nan", "inf", ""])
def test_speeds_that_are_none(text: str) -> None:
    with pytest.raises(InvalidError):
        speed_factor(text)
