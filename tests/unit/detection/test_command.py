"""``brewair detect`` and its sample files, as an outsider uses them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.detect import examine
from cli.main import main
from cli.samples import read_samples
from domain.errors import InvalidError
from tests.unit.detection.traces import HEATING, SMM, STANDBY, T0, Trace

Run = Callable[..., dict[str, object]]


def written(path: Path, trace: Trace) -> Path:
    channels = sorted({channel for reading in trace for channel in reading.values})
    lines = ["ts," + ",".join(channels)]
    lines += [f"{r.ts}," + ",".join(str(r.values.get(channel, "")) for channel in channels) for r in trace]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def weak(step_s: float = 5.0) -> Trace:
    trace = Trace(step_s=step_s).phase(300, STANDBY, lid_open=False).phase(300, HEATING, power_w=4000.0)
    return trace.phase(300, HEATING)


@pytest.fixture
def detect(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(samples: Path, *more: str, model: str | None = "SMM-25") -> dict[str, object]:
        chosen = ["--model", model] if model else []
        with pytest.raises(SystemExit) as ended:
            main(["detect", "--type", "soymilk", *chosen, "--samples", str(samples), "--json", *more])
        assert ended.value.code == 0
        (line,) = capsys.readouterr().out.splitlines()
        return json.loads(line)  # type: ignore[no-any-return]

    return run


def test_one_object_with_findings_and_states(tmp_path: Path, detect: Run) -> None:
    found = detect(written(tmp_path / "weak.csv", weak()))
    assert found["summary"] is True
    (finding,) = found["findings"]  # type: ignore[misc]
    assert {key: finding[key] for key in ("rule", "family", "severity", "raised_at", "cleared_at", "kind")} == {
        "rule": "R03",
        "family": "heating",
        "severity": "P2",
        "raised_at": T0 + 420_000,
        "cleared_at": T0 + 660_000,
        "kind": "real",
    }
    assert found["states"] == [
        {"state": "standby", "from": T0, "to": T0 + 300_000},
        {"state": "heating", "from": T0 + 300_000, "to": T0 + 895_000},
    ]


def test_order_and_repeated_rows_do_not_matter(tmp_path: Path, detect: Run) -> None:
    path = written(tmp_path / "weak.csv", weak())
    expected = detect(path)
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *reversed(rows), *rows[50:90]]) + "\n")
    assert detect(path) == expected


def test_a_card_on_the_spot_and_no_reported_state(tmp_path: Path, detect: Run) -> None:
    card = tmp_path / "card.toml"
    card.write_text("p_heat_w = 6000\nheater_elements = 3\np_motor_w = 1500\n")
    trace = Trace().phase(300, {"power_w": 8.0}).phase(300, {"power_w": 4000.0})
    found = detect(written(tmp_path / "power.csv", trace), "--card", str(card), model=None)
    assert [f["rule"] for f in found["findings"]] == ["R03"]  # type: ignore[attr-defined]
    assert [s["state"] for s in found["states"]] == ["standby", "heating"]  # type: ignore[attr-defined]


def test_silence_between_samples_is_r01(tmp_path: Path, detect: Run) -> None:
    trace = Trace().phase(300, STANDBY).silence(1200).phase(60, STANDBY)
    found = detect(written(tmp_path / "gap.csv", trace))
    last = T0 + 295_000
    (finding,) = found["findings"]  # type: ignore[misc]
    assert (finding["rule"], finding["raised_at"], finding["cleared_at"]) == ("R01", last + 270_000, T0 + 1_500_000)
    assert [s["state"] for s in found["states"]] == ["standby", "offline", "standby"]  # type: ignore[attr-defined]
    assert examine(list(Trace(step_s=1800).phase(18_000, STANDBY)), SMM)[0] == []


def test_a_file_with_only_a_header_finds_nothing(tmp_path: Path, detect: Run) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_text("ts,power_w\n")
    assert detect(empty) == {"summary": True, "findings": [], "states": []}


def test_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "weak.csv", weak())
    with pytest.raises(SystemExit) as ended:
        main(["detect", "--type", "soymilk", "--model", "SMM-25", "--samples", str(path)])
    out = capsys.readouterr().out
    assert ended.value.code == 0
    assert "R03 P2 real Heating power too low" in out
    assert "heating" in out.splitlines()[-1]


def test_blank_is_absent_and_out_of_range_is_kept_out(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("\ufeffts,power_w,lid_open,temp_c,fault_code\n1000.0,,true,500,4\n2000,8,0,,\n\n", encoding="utf-8")
    first, second = read_samples(path, "soymilk")
    assert (first.ts, first.values, first.rejected) == (1000, {"lid_open": True, "fault_code": "4"}, {"temp_c": 500.0})
    assert second.values == {"power_w": 8.0, "lid_open": False}


def test_strange_columns_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.csv"
    path.write_text("ts,powr_w\n1,2\n")
    assert read_samples(path, "soymilk")[0].values == {}
    assert "powr_w" in capsys.readouterr().err


BAD = {
    "not there": (None, "cannot be read"),
    "no header": ("", "must be ts"),
    "ts not first": ("power_w,ts\n1,2\n", "must be ts"),
    "column twice": ("ts,power_w,power_w\n1,2,3\n", "twice"),
    "no number": ("ts,power_w\n1,abc\n", ":2: power_w must be a number"),
    "nan": ("ts,power_w\n1,nan\n", "must be a number"),
    "half a millisecond": ("ts,power_w\n1.5,2\n", "ts must be whole"),
    "no time": ("ts,power_w\n,2\n", "ts must be a number"),
    "odd flag": ("ts,lid_open\n1,yes\n", "lid_open must be 0, 1, true or false"),
    "too many values": ("ts,power_w\n1,2,3\n", "more values than columns"),
    "open quote": ('ts,power_w\n1,"2\n', "not a CSV file"),
}


@pytest.mark.parametrize("name", BAD)
def test_unusable_input_is_one_clear_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, reason = BAD[name]
    path = tmp_path / "bad.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SystemExit) as ended:
        main(["detect", "--type", "soymilk", "--model", "SMM-25", "--samples", str(path)])
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert reason in err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--type", "kettle", "--model", "SMM-25"], "No equipment type kettle"),
        (["--type", "soymilk", "--model", "SMM-99"], "No model SMM-99"),
        (["--type", "soymilk"], "either --model or --card"),
        (["--type", "soymilk", "--model", "SMM-25", "--card", "x.toml"], "either --model or --card"),
        (["--type", "soymilk", "--card", "nowhere.toml"], "cannot be read"),
    ],
)
def test_unusable_choices_are_one_clear_line(
    arguments: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "s.csv", weak())
    with pytest.raises(SystemExit) as ended:
        main(["detect", *arguments, "--samples", str(path)])
    err = capsys.readouterr().err
    assert ended.value.code == 2
    assert len(err.splitlines()) == 1
    assert reason in err


def test_an_unknown_key_of_a_card_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = tmp_path / "card.toml"
    card.write_text("p_heat = 6000\n")
    with pytest.raises(SystemExit):
        main(
            ["detect", "--type", "soymilk", "--card", str(card), "--samples", str(written(tmp_path / "s.csv", weak()))]
        )
    assert "p_heat" in capsys.readouterr().err


def test_binary_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "b.csv"
    path.write_bytes(b"ts,power_w\n1,\xff\xfe\n")
    with pytest.raises(InvalidError, match="UTF-8"):
        read_samples(path, "soymilk")
