"""``brewair judge``: what it prints, and what it says of input that it cannot use."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from cli.main import main
from tests.unit.verification.traces import T0, Values, freshair, soymilk

KEYS = {"key", "state", "value", "unit", "low", "high", "samples", "reason", "required"}


def write(path: Path, rows: list[Values], **extra: str) -> Path:
    names = [name for name in rows[0] if name != "_t"]
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["ts", *names])
        for row in rows:
            out.writerow([T0 + round(1000 * float(row["_t"])), *(row.get(name, "") for name in names)])
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = 0
    try:
        main(["judge", *arguments])
    except SystemExit as stop:
        status = int(stop.code or 0)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_json_has_every_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "s.csv", soymilk())
    status, out, err = run(capsys, "--plan", "soymilk:heating", "--samples", str(path), "--model", "SMM-10", "--json")
    assert (status, err) == (0, "")
    found = json.loads(out.splitlines()[-1])
    assert found["summary"] is True
    assert found["verdict"] == "passed"
    assert found["decided_at"] == T0 + 1_270_000
    assert found["net_active_s"] >= 900
    assert found["coverage"] == 1.0
    assert found["probation"] is False
    assert all(set(c) == KEYS for c in found["criteria"])
    assert {c["state"] for c in found["criteria"]} <= {"pass", "fail", "not_assessable", "pending"}


def test_a_table_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "s.csv", freshair(eta=0.2))
    status, out, err = run(capsys, "--plan", "freshair:filter", "--samples", str(path))
    assert status == 0
    assert "FAILED" in out
    assert "PM2.5 efficiency" in out
    assert "FAU-150" in err  # says which card it took


def test_any_order_and_repeated_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = soymilk()
    path = write(tmp_path / "s.csv", [*rows[::-1], *rows[30:60]])
    _, out, _ = run(capsys, "--plan", "soymilk:heating", "--samples", str(path), "--json")
    assert json.loads(out)["verdict"] == "passed"


def test_a_header_alone_is_inconclusive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.csv"
    path.write_text("ts,power_w\n")
    status, out, _ = run(capsys, "--plan", "soymilk:heating", "--samples", str(path), "--json")
    assert status == 0
    assert (json.loads(out)["verdict"], json.loads(out)["decided_at"]) == ("inconclusive", None)


def test_a_card_on_the_spot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, card = write(tmp_path / "s.csv", soymilk()), tmp_path / "card.toml"
    card.write_text("p_heat_w = 2600\np_motor_w = 1100\np_standby_w = 6\nbatch_l = 10\nfill_lpm_min = 2\n")
    _, out, _ = run(capsys, "--plan", "soymilk:heating", "--samples", str(path), "--card", str(card), "--json")
    assert json.loads(out)["verdict"] == "failed"


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("soymilk", "rated_v = 0"), ("soymilk", "rated_v = inf"), ("soymilk", "rated_v = nan"), ("soymilk", "phases = 2"),
        ("soymilk", "phases = 0"), ("soymilk", "heater_elements = 0"), ("soymilk", "p_heat_w = inf"),
        ("soymilk", "p_heat_w = -1"), ("soymilk", "phases = true"), ("soymilk", "key = 5"),
        ("freshair", "p_fan_w = [0, 0, 0]"), ("freshair", "p_fan_w = 0"), ("freshair", "eta_pm25 = 5"),
        ("freshair", "airflow_m3h = [0]"), ("freshair", "rpm = [900, 0]"),
    ],
)  # fmt: skip
def test_a_card_that_no_machine_has_is_one_line_and_status_2(
    kind: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, card = (
        write(tmp_path / "s.csv", soymilk()[:3] if kind == "soymilk" else freshair()[:3]),
        tmp_path / "card.toml",
    )
    card.write_text(line)
    plan = {"soymilk": "soymilk:heating", "freshair": "freshair:fan"}[kind]
    status, out, err = run(capsys, "--plan", plan, "--samples", str(path), "--card", str(card))
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert line.split()[0] in err


def test_entries_and_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write(tmp_path / "s.csv", soymilk()))
    base = ["--samples", path, "--model", "SMM-10", "--json"]
    overflow = ["--plan", "soymilk:overflow", *base]
    assert json.loads(run(capsys, *overflow)[1])["verdict"] == "inconclusive"
    assert json.loads(run(capsys, *overflow, "--entry", "forced_trip=2.5")[1])["verdict"] == "passed"
    assert json.loads(run(capsys, *overflow, "--entry", "forced_trip=4")[1])["verdict"] == "failed"
    assert json.loads(run(capsys, "--plan", "soymilk:operator", *base, "--entry", "switch=1")[1])["verdict"] == "passed"
    heating = ["--plan", "soymilk:heating", *base]
    assert json.loads(run(capsys, *heating, "--target-l", "3")[1])["verdict"] == "passed"
    assert json.loads(run(capsys, *heating, "--target-l", "5")[1])["verdict"] == "failed"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--plan", "soymilk:moon"], "soymilk:heating"),
        (["--plan", "soymilk:heating", "--model", "SMM-11"], "SMM-10"),
        (["--plan", "soymilk:heating", "--entry", "moon=1"], "moon"),
        (["--plan", "soymilk:overflow", "--entry", "forced_trip=soon"], "soon"),
        (["--plan", "soymilk:operator", "--entry", "switch=nan"], "nan"),
        (["--plan", "soymilk:electrical", "--entry", "insulation=inf"], "inf"),
        (["--plan", "soymilk:heating", "--original-rule", "R99"], "R04"),
        (["--plan", "soymilk:heating", "--target-l", "-3"], "target"),
        (["--plan", "soymilk:heating", "--target-l", "nan"], "target"),
    ],
)
def test_unusable_arguments_are_one_line_and_status_2(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "s.csv", soymilk()[:3])
    status, out, err = run(capsys, *arguments, "--samples", str(path))
    assert (status, out) == (2, "")
    assert says in err.splitlines()[-1]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "power_w,ts\n1,2\n",
        "ts,power_w\nx,1\n",
        "ts,power_w\n1,high\n",
        "ts,power_w\n1,nan\n",
        "ts,power_w\n1,1_000\n",
        "ts,power_w\n1,１２\n",
        "ts,power_w\n1_000,1\n",
        "ts,power_w\n１２,1\n",
    ],
)
def test_unusable_files_are_one_line_and_status_2(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "s.csv"
    path.write_text(content)
    status, out, err = run(capsys, "--plan", "soymilk:heating", "--model", "SMM-10", "--samples", str(path))
    assert (status, out, len(err.splitlines())) == (2, "", 1)


def test_a_value_out_of_range_is_left_out_as_on_the_wire(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = soymilk()
    rows[200]["temp_c"] = 900.0
    path = write(tmp_path / "s.csv", rows)
    _, out, _ = run(capsys, "--plan", "soymilk:heating", "--samples", str(path), "--json")
    assert json.loads(out)["verdict"] == "passed"
