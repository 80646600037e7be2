"""The simulator does not know the rules, the rules do not know the simulator: do they agree on every shipped scenario?

Detection alone, without gateway and stores: each machine's telemetry is folded as it arrives, and the first finding of a
family stands for its ticket.
"""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from device_sim.assertions import ObservedTicket, ObservedVerdict, compare
from device_sim.machine import Publication
from device_sim.scenario import Scenario, load, shipped
from domain.catalogue.rules import CODE_SUBJECTS
from domain.detection.engine import Detector
from domain.findings import Finding
from domain.readings import Reading

STEP_MS = 10_000
PEER_HEARD_MS = 90_000
RULE_SCENARIOS = [name for name in shipped() if not load(name).expect.verdicts]


class Watch:
    """A detector per machine, and the first finding per machine and family as its ticket."""

    def __init__(self, scenario: Scenario) -> None:
        self.detectors = {spec.serial: Detector(spec.card, spec.serial) for spec in scenario.machines if spec.card}
        self.types = {spec.serial: spec.type for spec in scenario.machines}
        self.sites = {spec.serial: spec.site.name for spec in scenario.machines}
        self.first: dict[tuple[str, str], ObservedTicket] = {}
        self.heard: dict[str, int] = {}

    def take(self, publication: Publication) -> None:
        """Fold what one message says."""
        detector = self.detectors[publication.serial]
        if publication.topic.endswith("/birth"):
            detector.interval_s = orjson.loads(publication.payload)["interval_s"]
        if not publication.topic.endswith("/telemetry"):
            return
        self.heard[publication.serial] = publication.ts
        body = orjson.loads(publication.payload)
        for values in body if isinstance(body, list) else [body]:
            values = dict(values)
            reading = Reading(
                serial=publication.serial, type=self.types[publication.serial], ts=values.pop("ts"), boot=values.pop("boot"),
                seq=values.pop("seq"), backfill=values.pop("backfill", False), values=values, recv_ms=publication.ts,
            )  # fmt: skip
            self._keep(detector.fold(reading))

    def tick(self, now_ms: int) -> None:
        """Silence; the other machines of the site tell a lost plug from a lost network."""
        for serial, detector in self.detectors.items():
            peers = [s for s, site in self.sites.items() if site == self.sites[serial] and s != serial]
            online = any(now_ms - self.heard.get(peer, 0) < PEER_HEARD_MS for peer in peers) if peers else None
            self._keep(detector.tick(now_ms, peers_online=online))

    def _keep(self, findings: tuple[Finding, ...]) -> None:
        for finding in findings:
            if finding.cause == "network":
                continue  # a whole site that fell silent is one notice, no repair tickets
            if finding.family == "code" and (finding.serial, CODE_SUBJECTS.get(finding.cause, "")) in self.first:
                continue  # the machine has noticed, too: the desk joins that ticket
            ticket = ObservedTicket(
                serial=finding.serial, family=finding.family, rule=finding.rule, opened_at=finding.raised_at
            )
            self.first.setdefault((finding.serial, finding.family), ticket)

    def tickets(self) -> list[ObservedTicket]:
        """One per machine and family."""
        return list(self.first.values())

    def verdicts(self) -> list[ObservedVerdict]:
        """Nobody judges here."""
        return []


def detected(scenario: Scenario, seed: int | None = None) -> list[str]:
    """The differences between the scenario's expectations and what the rules find."""
    fleet, watch = scenario.fleet(seed), Watch(scenario)
    timeline = list(scenario.timeline)
    now = scenario.start_ms
    while now < scenario.end_ms:
        now = min(now + STEP_MS, scenario.end_ms)
        sent = fleet.advance(now)
        while timeline and scenario.ms_at(timeline[0].at_s) <= now:
            happening = timeline.pop(0)
            for serial in happening.serials:
                if happening.fault:
                    sent += fleet.inflict(serial, happening.fault, now)
                if happening.repair:
                    sent += fleet.mend(serial, happening.repair, now, complete=not happening.incomplete)
        for publication in sent:
            watch.take(publication)
        watch.tick(now)
    return compare(scenario, watch)


@pytest.mark.parametrize("name", RULE_SCENARIOS)
def test_the_rules_find_what_the_scenario_expects_and_nothing_else(name: str) -> None:
    assert detected(load(name)) == []


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["heater_element_open", "motor_stall", "filter_missing", "sensors_swapped"])
def test_they_do_so_for_other_specimens_of_the_machines_too(name: str, seed: int) -> None:
    assert detected(load(name), seed) == []


def test_a_scenario_without_its_fault_does_not_hold() -> None:
    scenario = load("heater_element_open")
    assert detected(replace(scenario, timeline=())) == ["- ticket  SMM-0001 heating R04 between 0:20:00 and 0:24:00"]
