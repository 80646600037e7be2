"""Test runs of fifteen minutes while the gateway stops and starts, and a fault just before their end."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cli.loop import Crew, Loop, Observation
from cli.loop import _register as register
from device_sim.bus import Command
from device_sim.machine import Publication
from device_sim.runner import run
from device_sim.scenario import Scenario, load
from domain.clock import ManualClock, to_ms
from domain.desk import evidence
from domain.settings import load as load_settings
from domain.store.queries import tickets as query
from domain.store.session import Sessions
from domain.tickets.states import Action, State
from domain.verdicts import Outcome
from tests.desk_world import moved
from tests.journeys.test_loop import healthy, on_disk, to_the_second_run

pytestmark = pytest.mark.fault

SCENARIO = """
title = "Two repairs of a small machine"
start = 2026-01-14T05:00:00+08:00
duration = "1:25:00"
seed = 7

[[site]]
name = "here"

[[machine]]
serial = "S-1"
type = "soymilk"
model = "SMM-25"
site = "here"
batches = ["0:02:00"]

[[timeline]]
at = "0:10:00"
machine = "S-1"
fault = "heater_element_open"

[[timeline]]
at = "0:20:00"
machine = "S-1"
visit = { repair = "heater_element_open", incomplete = true, measure = "replace_element" }

[[timeline]]
at = "0:45:00"
machine = "S-1"
visit = { repair = "heater_element_open", measure = "replace_element" }

[expect]
no_others = true

[[expect.ticket]]
machine = "S-1"
family = "heating"
from = "0:10:00"
to = "0:14:00"

[[expect.verdict]]
machine = "S-1"
outcome = "failed"
from = "0:21:00"
to = "0:45:00"

[[expect.verdict]]
machine = "S-1"
outcome = "passed"
from = "1:00:00"
to = "1:25:00"
"""


class Gateway:
    """A gateway that is closed and opened again at given moments of the scenario; the bus and the clock of the run."""

    def __init__(self, folder: Path, scenario: Scenario, restarts: Sequence[timedelta], *, killed: bool) -> None:
        self._settings = load_settings({"BREWAIR_DATA_DIR": str(folder)})
        self._clock = ManualClock(scenario.start)
        self._due = [scenario.start + moment for moment in restarts]
        self.fleet = scenario.fleet()
        self.restarted, self._killed = 0, killed
        self.loop = Loop(self._settings, self._clock, through_broker=False)
        register(self.loop.sessions, scenario, self._clock.now())
        self._stack = ExitStack()
        self._bus = self.loop.attach(self.fleet, self._stack)

    def sync(self, last_ts: int, now_ms: int) -> None:
        """As the loop; a restart when its time has come."""
        self.loop.sync(last_ts, now_ms)
        if self._due and self._clock.now() >= self._due[0]:
            del self._due[0]
            self._end()
            self.loop = Loop(self._settings, self._clock, through_broker=False)
            self._bus = self.loop.attach(self.fleet, self._stack)
            self.restarted += 1

    def _end(self) -> None:
        """In good order, or as kill -9 would: what was only in memory is gone."""
        if not self._killed:
            self.loop.close()
            return
        self.loop.pipeline.spool.close()
        self.loop.telemetry.close()
        self.loop.engine.dispose()

    def publish(self, publications: Sequence[Publication]) -> None:
        """To whichever gateway there is."""
        self._bus.publish(publications)

    def commands(self) -> list[Command]:
        """From whichever gateway there is."""
        return self._bus.commands()

    def flush(self) -> None:
        """Nothing is ever on its way."""

    @property
    def sessions(self) -> Sessions:
        """For the crew: the transactions of whichever gateway there is."""
        return self.loop.sessions


def played(folder: Path, restarts: Sequence[timedelta], *, killed: bool = False) -> list[Any]:
    """What was decided, on what evidence, and what the journal says of it."""
    (folder.parent / "scenario.toml").write_text(SCENARIO)
    scenario = load(str(folder.parent / "scenario.toml"))
    gateway = Gateway(folder, scenario, restarts, killed=killed)
    outcome = run(
        scenario,
        bus=gateway,
        observed=Observation(gateway.loop.sessions, frozenset(gateway.fleet.machines)),
        technician=Crew(gateway),  # type: ignore[arg-type]
        clock_sync=gateway.sync,
        fleet=gateway.fleet,
    )
    assert outcome.differences == ()
    assert gateway.restarted == len(restarts)
    told: list[Any] = []
    with gateway.loop.sessions.read() as session:
        for row, test_run in query.verdicts(session):
            assert evidence.intact(row)
            told.append((row.outcome, row.body, row.evidence_sha256, row.evidence_samples, test_run.decided_at))
        (ticket,) = query.all_tickets(session)
        told.append((ticket.state, ticket.occurrences))
        told.append([(row.at, row.action, row.to_state) for row in query.timeline(session, ticket.id)])
    gateway.loop.close()
    assert [outcome for outcome, *_ in told[:2]] == ["failed", "passed"]
    assert Action.VERDICT_PASSED in [action for _, action, _ in told[-1]]
    return told


def test_fault_22_restarts_in_the_middle_of_test_runs_change_nothing(tmp_path: Path) -> None:
    """While the fault rises, in the failing run, twice in the passing run, and between its window and its verdict."""
    plain = played(tmp_path / "plain", [])
    decided_at = plain[1][-1]
    scenario = load(str(tmp_path / "scenario.toml"))
    moments = [timedelta(minutes=11), timedelta(minutes=22), timedelta(minutes=50), timedelta(minutes=58)]
    moments.append(decided_at - scenario.start - timedelta(seconds=10))
    assert played(tmp_path / "restarted", moments) == plain
    assert played(tmp_path / "killed", moments, killed=True) == plain


@pytest.mark.parametrize("restarts", [False, True])
def test_fault_22_a_fault_at_14_50_fails_the_run_exactly_once(tmp_path: Path, restarts: bool) -> None:
    world = on_disk(tmp_path)
    number = to_the_second_run(world)
    sent = moved(healthy(), "SMM-1", world.now + timedelta(seconds=5))
    fault_ms = to_ms(world.advance(minutes=14, seconds=50))
    sent = [
        replace(reading, values={**reading.values, "fault_code": "E4"}) if reading.ts > fault_ms else reading
        for reading in sent
    ]
    world.feed([reading for reading in sent if reading.ts <= fault_ms])
    world.tick()
    assert world.runs(number)[0].outcome == Outcome.PENDING
    if restarts:
        world = world.restarted()
    for _ in range(3):
        world.feed(sent)  # the rest, and what had come already once more
        world.tick(minutes=10)
    assert [run.outcome for run in world.runs(number)] == [Outcome.FAILED, Outcome.FAILED]
    assert world.ticket(number).state == State.REPAIRING
    with world.read() as session:
        assert [row.outcome for row, _ in query.verdicts(session)] == ["failed", "failed"]
