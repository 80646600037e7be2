"""Scenario files: read strictly, spread over machines, compared readably."""

from __future__ import annotations

import itertools

import orjson
import pytest

from device_sim.assertions import ObservedTicket, ObservedVerdict, compare
from device_sim.bus import DirectBus
from device_sim.machine import Publication
from device_sim.runner import Outcome, run
from device_sim.scenario import Scenario, Visit, load, parse, shipped
from domain import wire
from domain.errors import InvalidError

GOOD = """
title = "An element opens"
start = 2026-01-14T05:00:00+08:00
duration = "1:00:00"

[[site]]
name = "A"
altitude_m = 1890

[[machine]]
serial = "S1"
type = "soymilk"
model = "SMM-60"
site = "A"
batches = ["0:05:00"]

[[machine]]
serial = "S2"
type = "soymilk"
model = "SMM-25"
site = "A"
batches = []

[[timeline]]
at = "0:20:00"
machine = "S1"
fault = "heater_element_open"

[[timeline]]
at = "0:10:00"
site = "A"
fault = "network_lost"

[[timeline]]
at = "0:40:00"
machine = "S1"
visit = { repair = "heater_element_open", incomplete = true, measure = "replace_element" }

[expect]
no_others = true

[[expect.ticket]]
machine = "S1"
family = "heating"
rule = "R04"
from = "0:20:00"
to = "0:25:00"

[[expect.verdict]]
machine = "S1"
outcome = "failed"
from = "0:40:00"
to = "1:00:00"
"""
START_MS = 1_768_338_000_000


class Seen:
    """Tickets and verdicts as given."""

    def __init__(
        self, tickets: list[ObservedTicket] | None = None, verdicts: list[ObservedVerdict] | None = None
    ) -> None:
        self._tickets, self._verdicts = tickets or [], verdicts or []

    def tickets(self) -> list[ObservedTicket]:
        return self._tickets

    def verdicts(self) -> list[ObservedVerdict]:
        return self._verdicts


def ticket(minute: float, serial: str = "S1", family: str = "heating", rule: str = "R04") -> ObservedTicket:
    """A ticket opened so many minutes after the start."""
    return ObservedTicket(serial=serial, family=family, rule=rule, opened_at=START_MS + round(minute * 60_000))


def verdict(minute: float, outcome: str = "failed") -> ObservedVerdict:
    """A verdict of S1."""
    return ObservedVerdict(serial="S1", outcome=outcome, decided_at=START_MS + round(minute * 60_000))


def test_a_good_file_becomes_machines_timeline_and_expectations() -> None:
    scenario = parse(GOOD, "good")
    assert scenario.start_ms == START_MS
    assert scenario.end_ms == START_MS + 3_600_000
    assert [h.at_s for h in scenario.timeline] == [600.0, 1200.0, 2400.0]
    assert scenario.timeline[0].serials == ("S1", "S2")
    assert scenario.timeline[2].visit == Visit(repair="heater_element_open", incomplete=True, measure="replace_element")
    assert scenario.machines[0].site.boiling_c == pytest.approx(93.7)
    assert scenario.machines[0].card is not None
    assert scenario.machines[0].card.boiling_c == pytest.approx(93.7)
    assert scenario.machines[1].batches == ()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('title = "An', 'titel = "x"\ntitle = "An', "good: unknown key titel; did you mean title?"),
        ("altitude_m", "altitude", "site 1: unknown key altitude; did you mean altitude_m?"),
        ('start = 2026-01-14T05:00:00+08:00', 'start = 2026-01-14T05:00:00', "start: must be a date and time with its offset"),
        ('start = 2026-01-14T05:00:00+08:00', "", "start is missing"),
        ('duration = "1:00:00"', 'duration = "1 hour"', "duration: must be a time such as"),
        ('duration = "1:00:00"', 'duration = 60', "duration: must be a time such as"),
        ('duration = "1:00:00"', 'duration = "0:30:00"', "beyond the duration"),
        ('model = "SMM-60"', 'model = "SMM-61"', "did you mean SMM-60?"),
        ('site = "A"\nbatches = ["', 'site = "B"\nbatches = ["', "machine 1: site: no"),
        ('serial = "S2"', 'serial = "S1"', "two machines have one serial"),
        ('fault = "heater_element_open"', 'fault = "heater_element_opne"', "did you mean heater_element_open?"),
        ('fault = "heater_element_open"', 'fault = "fan_dead"', "timeline 1: A soymilk has no fault fan_dead"),
        ('fault = "heater_element_open"', 'fault = "lid_open"\nrepair = "lid_open"', "exactly one of fault, repair, visit"),
        ('machine = "S1"\nfault', 'machine = "S3"\nfault', "timeline 1: no"),
        ('machine = "S1"\nfault', 'machine = "S1"\nsite = "A"\nfault', "either machine or site"),
        ('repair = "heater_element_open", incomplete', 'repair = "lid_open", incomplete', "cannot be repaired incompletely"),
        ("measure =", "measures =", "visit: unknown key measures; did you mean measure?"),
        ("incomplete = true", 'incomplete = "yes"', "incomplete must be a bool"),
        ("no_others = true", "no_other = true", "expect: unknown key no_other; did you mean no_others?"),
        ('outcome = "failed"', 'outcome = "fail"', "must be one of passed, failed, inconclusive"),
        ('family = "heating"', "", "ticket 1: family is missing"),
        ("[expect]", "[expect", "not TOML"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_with_the_place_and_the_nearest_name(old: str, new: str, says: str) -> None:
    assert old in GOOD
    with pytest.raises(InvalidError) as caught:
        parse(GOOD.replace(old, new, 1), "good")
    assert says in str(caught.value)
    assert str(caught.value).startswith("good")


def test_as_expected_is_an_empty_diff() -> None:
    assert compare(parse(GOOD, "good"), Seen([ticket(21)], [verdict(50)])) == []


def test_the_diff_names_what_is_missing_and_what_is_too_much() -> None:
    lines = compare(parse(GOOD, "good"), Seen([ticket(30), ticket(21, "S2", "water", "R07")], [verdict(50, "passed")]))
    assert lines == [
        "- ticket  S1 heating R04 between 0:20:00 and 0:25:00",
        "- verdict S1 failed between 0:40:00 and 1:00:00",
        "+ ticket  S2 water R07 at 0:21:00",
        "+ ticket  S1 heating R04 at 0:30:00",
        "+ verdict S1 passed at 0:50:00",
    ]


def test_without_no_others_what_is_too_much_is_not_a_difference() -> None:
    scenario = parse(GOOD.replace("no_others = true", "no_others = false"), "good")
    assert compare(scenario, Seen([ticket(21), ticket(22, "S2", "water", "R07")], [verdict(50)])) == []


def test_one_ticket_satisfies_only_one_expectation_and_windows_may_overlap() -> None:
    second = '\n[[expect.ticket]]\nmachine = "S1"\nfamily = "heating"\nfrom = "0:10:00"\nto = "0:22:00"\n'
    scenario = parse(GOOD + second, "good")
    assert compare(scenario, Seen([ticket(21), ticket(24)], [verdict(50)])) == []
    assert compare(scenario, Seen([ticket(24), ticket(21)], [verdict(50)])) == []
    assert len(compare(scenario, Seen([ticket(21)], [verdict(50)]))) == 1


def test_every_shipped_scenario_can_be_read_and_expects_something() -> None:
    names = shipped()
    assert {"healthy_day", "heater_two_visits", "network_lost", "sensors_swapped"} <= set(names)
    for name in names:
        scenario = load(name)
        assert scenario.title
        assert scenario.expect.no_others
        assert scenario.expect.tickets or name in ("healthy_day", "site_network_lost")


def test_a_scenario_that_does_not_exist_is_refused_with_the_nearest() -> None:
    with pytest.raises(InvalidError, match="did you mean healthy_day"):
        load("healty_day")


class Crew:
    """Remembers its visits, and lets the machine run its test as the desk would."""

    def __init__(self, bus: DirectBus) -> None:
        self.bus, self.visits = bus, list[tuple[str, Visit, int]]()

    def repair_visit(self, serial: str, visit: Visit, now_ms: int) -> None:
        self.visits.append((serial, visit, now_ms))
        order = {
            "id": f"t{now_ms}",
            "name": "test_mode",
            "params": {"interval_s": 5, "ttl_s": 3600},
            "expires_at": now_ms + 60_000,
        }
        self.bus.command(wire.down_command("soymilk", serial), orjson.dumps(order))


def play(scenario: Scenario) -> tuple[Outcome, list[Publication], Crew, list[tuple[int, int]]]:
    """Run a scenario against a bus that only remembers."""
    heard: list[Publication] = []
    syncs: list[tuple[int, int]] = []
    bus = DirectBus(heard.append)
    crew = Crew(bus)
    outcome = run(
        scenario, bus=bus, observed=Seen(), technician=crew, clock_sync=lambda last, now: syncs.append((last, now))
    )
    return outcome, heard, crew, syncs


def test_the_runner_plays_the_timeline_and_keeps_step_with_the_gateway() -> None:
    scenario = parse(GOOD, "good")
    outcome, heard, crew, syncs = play(scenario)
    assert outcome.samples == sum(len(p.objects) for p in heard)
    assert [(serial, now - START_MS) for serial, _, now in crew.visits] == [("S1", 2_400_000)]
    assert all(last <= now for last, now in syncs)
    assert [now for _, now in syncs] == sorted(now for _, now in syncs)
    assert max(b - a for (_, a), (_, b) in itertools.pairwise(syncs)) <= 10_000
    assert syncs[-1] == (outcome.last_ts, scenario.end_ms)
    assert len(outcome.differences) == 2


def test_a_visit_repairs_before_the_test_run_and_the_command_arrives() -> None:
    scenario = parse(GOOD.replace('site = "A"\nfault = "network_lost"', 'machine = "S2"\nfault = "lid_open"'), "good")
    _, heard, _, _ = play(scenario)
    replies = [p for p in heard if p.topic.endswith("/reply")]
    assert [orjson.loads(p.payload)["ok"] for p in replies] == [True]
    assert replies[0].ts - START_MS <= 2_410_000
    testing = [orjson.loads(p.payload) for p in heard if b'"mode":"test"' in p.payload]
    heating = [s["power_w"] for s in testing if s["run_state"] == "heating"]
    assert heating
    assert sorted(heating)[len(heating) // 2] == pytest.approx(6000, rel=0.05), "one of three elements is still open"


def test_the_run_ends_when_pace_says_so() -> None:
    scenario = parse(GOOD, "good")
    bus = DirectBus(lambda publication: None)
    outcome = run(
        scenario, bus=bus, observed=Seen(), technician=Crew(bus), clock_sync=lambda last, now: None,
        pace=lambda next_ms: next_ms > START_MS + 60_000,
    )  # fmt: skip
    assert outcome.last_ts <= START_MS + 60_000
