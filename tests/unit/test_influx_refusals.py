"""What the InfluxDB adapter does with each answer: retry later, cut a bad line out, halve, or hold; never drop in silence."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from domain.errors import UnavailableError
from domain.readings import Reading
from domain.telemetry.influx import InfluxTelemetry, line_of
from domain.telemetry.port import RefusedPoint
from tests.fake_influx import OK, Answer, FakeInflux

T0 = 1_795_000_000_000


@pytest.fixture
def fake() -> Iterator[FakeInflux]:
    with FakeInflux() as influx:
        yield influx


class Store:
    def __init__(self, fake: FakeInflux) -> None:
        self.refused: list[RefusedPoint] = []
        self.token = "first"
        url = f"influxdb+{fake.url}/org/bucket"
        self.telemetry = InfluxTelemetry(url, lambda: self.token, self.refused.append)

    def write(self, readings: list[Reading]) -> None:
        self.telemetry.write(readings)


def readings(count: int) -> list[Reading]:
    return [Reading("SM-1", "soymilk", T0 + n, {"power_w": float(n)}) for n in range(count)]


def message(code: str, text: str) -> str:
    return json.dumps({"code": code, "message": text})


def accepted(fake: FakeInflux, refuses: Callable[[list[bytes]], Answer | None]) -> set[bytes]:
    """Run-time record of the lines that the fake took; installs the script."""
    taken: set[bytes] = set()

    def script(lines: list[bytes]) -> Answer | None:
        answer = refuses(lines)
        if answer is not None and answer[0] == 204:
            taken.update(lines)
        return answer

    fake.script = script
    return taken


def test_one_request_of_plain_lines_for_a_batch(fake: FakeInflux) -> None:
    Store(fake).write([Reading("SM-1", "soymilk", T0, {"power_w": 8890.0, "heater_on": True, "run_state": "heating"})])
    assert fake.writes == [[b'soymilk,serial=SM-1 power_w=8890.0,heater_on=true,run_state="heating" 1795000000000']]
    assert fake.tokens == ["Token first"]


def test_what_goes_to_another_machine_is_compressed(fake: FakeInflux) -> None:
    Store(fake).write(readings(100))
    far = InfluxTelemetry(f"influxdb+{fake.url.replace('127.0.0.1', '127.1')}/org/bucket", lambda: "first")
    far.write(readings(100))
    far.close()
    assert fake.encodings == ["identity", "gzip"]
    assert fake.writes[0] == fake.writes[1]


def test_400_that_quotes_the_bad_line_costs_one_more_request(fake: FakeInflux) -> None:
    batch = readings(5000)
    bad = line_of(batch[1234])

    def refuses(lines: list[bytes]) -> Answer:
        if bad in lines:
            return Answer(400, {}, message("invalid", f"unable to parse '{bad.decode()}': missing field value"))
        return OK

    taken = accepted(fake, refuses)
    store = Store(fake)
    store.write(batch)
    assert len(fake.writes) == 2
    assert taken == {line_of(reading) for reading in batch} - {bad}
    assert [(refused.reason, refused.line) for refused in store.refused] == [("unwritable", bad)]
    assert "missing field value" in store.refused[0].message


def test_400_without_a_quote_is_found_by_halving(fake: FakeInflux) -> None:
    batch = readings(5000)
    bad = line_of(batch[4999])
    taken = accepted(fake, lambda lines: Answer(400, {}, "no") if bad in lines else OK)
    store = Store(fake)
    store.write(batch)
    assert len(fake.writes) <= 30
    assert taken == {line_of(reading) for reading in batch} - {bad}
    assert [refused.line for refused in store.refused] == [bad]


def test_422_is_not_retried_whole_and_its_culprit_is_named(fake: FakeInflux) -> None:
    batch = readings(1000)
    bad = line_of(batch[500])
    text = message("unprocessable entity", "partial write: field type conflict dropped=1")
    store = Store(fake)
    fake.script = lambda lines: Answer(422, {}, text) if bad in lines else OK
    store.write(batch)
    assert [refused.line for refused in store.refused] == [bad]
    assert len(fake.writes) <= 25


def test_422_for_everything_ends_and_says_so(fake: FakeInflux) -> None:
    store = Store(fake)
    fake.script = lambda lines: Answer(
        422,
        {},
        message("unprocessable entity", "partial write: points beyond retention policy"),
    )
    store.write(readings(3000))
    assert len(fake.writes) < 150
    assert store.refused
    assert all("retention" in refused.message for refused in store.refused)


def test_413_is_halved_until_it_fits(fake: FakeInflux) -> None:
    batch = readings(1000)
    taken = accepted(fake, lambda lines: Answer(413, {}, "too large") if len(lines) > 300 else OK)
    store = Store(fake)
    store.write(batch)
    assert taken == {line_of(reading) for reading in batch}
    assert store.refused == []
    before = len(fake.writes)
    store.write(batch)
    assert all(len(lines) <= 300 for lines in fake.writes[before:])  # for ten minutes nobody has to refuse again


@pytest.mark.parametrize(
    ("answer", "retry_after"),
    [
        (Answer(503, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, "busy"), 0.0),
        (Answer(503, {"Retry-After": "Wed, 21 Oct 2105 07:28:00 GMT"}, "busy"), 600.0),
        (Answer(503, {"Retry-After": "soon"}, "busy"), 1.0),
        (Answer(503, {"Retry-After": "7"}, "busy"), 7.0),
        (Answer(429, {"Retry-After": "9999"}, "slow down"), 600.0),
        (Answer(503, {}, "busy"), 1.0),
        (Answer(502, {}, "<html>"), 1.0),
        (Answer(500, {}, message("internal error", "cache-max-memory-size exceeded")), 1.0),
        (Answer(401, {}, message("unauthorized", "unauthorized access")), 30.0),
        (Answer(403, {}, message("forbidden", "no")), 30.0),
        (Answer(404, {}, message("not found", 'bucket "bucket" not found')), 30.0),
        (None, 1.0),
    ],
)
def test_what_may_pass_is_held_and_tried_again(fake: FakeInflux, answer: Answer | None, retry_after: float) -> None:
    store = Store(fake)
    fake.script = lambda lines: answer
    with pytest.raises(UnavailableError) as caught:
        store.write(readings(10))
    assert caught.value.retry_after == retry_after
    assert store.refused == []
    fake.script = lambda lines: OK
    store.write(readings(10))


def test_a_server_that_is_not_there_is_unavailable() -> None:
    telemetry = InfluxTelemetry("influxdb+http://127.0.0.1:9/org/bucket", lambda: "t")
    for question in (lambda: telemetry.write(readings(1)), telemetry.ping, telemetry.setup):
        with pytest.raises(UnavailableError, match="InfluxDB at http"):
            question()


def test_a_refused_token_is_read_again(fake: FakeInflux) -> None:
    store = Store(fake)
    fake.script = lambda lines: Answer(401, {}, message("unauthorized", "unauthorized access"))
    with pytest.raises(UnavailableError, match="token"):
        store.write(readings(1))
    store.token = "second"
    fake.script = lambda lines: OK
    store.write(readings(1))
    assert fake.tokens == ["Token first", "Token second"]


def test_500_that_is_a_partial_write_is_not_retried_for_ever(fake: FakeInflux) -> None:
    batch = readings(8)
    bad = line_of(batch[3])
    store = Store(fake)
    fake.script = lambda lines: (
        Answer(500, {}, message("internal error", "partial write: conflict")) if bad in lines else OK
    )
    store.write(batch)
    assert [refused.line for refused in store.refused] == [bad]
