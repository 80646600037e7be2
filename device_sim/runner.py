"""Runs a scenario: lets time pass in the fleet, keeps step with the gateway, plays the timeline, compares in the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from device_sim.assertions import Observed, compare
from device_sim.bus import Bus
from device_sim.fleet import Fleet, Tally, in_order
from device_sim.machine import Publication
from device_sim.scenario import Happening, Scenario, Visit

STEP_MS = 10_000
"""Virtual time between two meetings of fleet and gateway: bounds how late a command arrives."""

ClockSync = Callable[[int, int], None]
"""``(last_ts, now_ms)``: block until the gateway has taken in everything up to device time ``last_ts`` (0 = nothing yet),
then let business time be ``now_ms`` (tick). The two differ while machines are silent."""


class Technician(Protocol):
    """The hands that write a repair into the system: whatever leads from the open ticket of ``serial`` to its test run."""

    def repair_visit(self, serial: str, visit: Visit, now_ms: int) -> None:
        """Assign, accept, arrive where still to be done, then finish the repair with the visit's codes."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run gave. ``differences`` empty = as expected; ``last_ts`` of the last message published."""

    scenario: str
    differences: tuple[str, ...]
    messages: int
    samples: int
    last_ts: int


def run(
    scenario: Scenario,
    *,
    bus: Bus,
    observed: Observed,
    technician: Technician,
    clock_sync: ClockSync,
    seed: int | None = None,
    pace: Callable[[int], bool] = lambda next_ms: False,
    said: Callable[[int, str], None] = lambda now_ms, line: None,
    fleet: Fleet | None = None,
) -> Outcome:
    """Run ``scenario`` to its end, or until ``pace`` says stop.

    ``pace(next_ms)`` is called before each step and may wait until that virtual time has come; True ends the run.
    ``said(now_ms, line)`` is told what happens. ``fleet`` may be given by a caller who wants to look at its machines.
    """
    stage = _Stage(scenario, fleet or scenario.fleet(seed), bus, technician, clock_sync, said)
    timeline = list(scenario.timeline)
    while stage.now_ms < scenario.end_ms:
        due_ms = scenario.ms_at(timeline[0].at_s) if timeline else scenario.end_ms
        next_ms = min(stage.now_ms + STEP_MS, due_ms, scenario.end_ms)
        if pace(next_ms):
            break
        stage.go_to(next_ms)
        while timeline and scenario.ms_at(timeline[0].at_s) <= stage.now_ms:
            stage.play(timeline.pop(0))
    bus.flush()
    stage.meet()
    differences = compare(scenario, observed)
    return Outcome(
        scenario=scenario.name,
        differences=tuple(differences),
        messages=stage.messages,
        samples=stage.samples,
        last_ts=stage.last_ts,
    )


def run_freely(fleet: Fleet, bus: Bus, to_ms: int, *, step_ms: int, pace: Callable[[int], bool]) -> Tally:
    """Let ``fleet`` live until ``to_ms`` in steps of ``step_ms``, obeying what comes down, or until ``pace`` says stop.

    ``pace(now_ms)`` is called before each step with the time the step leads to, and may wait for it.
    """
    tally = Tally()

    def publish(publications: Sequence[Publication]) -> None:
        tally.add(publications)
        bus.publish(publications)

    while fleet.now_ms < to_ms and not pace(min(to_ms, fleet.now_ms + step_ms)):
        publish(fleet.advance(min(to_ms, fleet.now_ms + step_ms)))
        for topic, payload in bus.commands():
            publish(fleet.receive(topic, payload, fleet.now_ms))
    bus.flush()
    return tally


class _Stage:
    def __init__(
        self,
        scenario: Scenario,
        fleet: Fleet,
        bus: Bus,
        technician: Technician,
        clock_sync: ClockSync,
        said: Callable[[int, str], None],
    ) -> None:
        self.fleet, self.bus, self.technician, self.clock_sync, self.said = fleet, bus, technician, clock_sync, said
        self.now_ms = scenario.start_ms
        self.messages = self.samples = self.last_ts = 0

    def go_to(self, to_ms: int) -> None:
        """Let the fleet live until ``to_ms``, then meet the gateway."""
        self.now_ms = to_ms
        self.publish(self.fleet.advance(to_ms))
        self.meet()

    def meet(self) -> None:
        """Wait for the gateway, then hand its commands to the machines, whose replies go out at once."""
        self.clock_sync(self.last_ts, self.now_ms)
        for topic, payload in self.bus.commands():
            self.publish(self.fleet.receive(topic, payload, self.now_ms))

    def publish(self, publications: Sequence[Publication]) -> None:
        if publications:
            self.messages += len(publications)
            self.samples += sum(len(p.objects) for p in publications)
            self.last_ts = max(self.last_ts, *(ts for p in publications for ts, _ in p.objects), 0)
            self.bus.publish(publications)

    def play(self, happening: Happening) -> None:
        """Let one line of the timeline come true."""
        for serial in happening.serials:
            self._play_for(serial, happening)
        self.meet()

    def _play_for(self, serial: str, happening: Happening) -> None:
        fleet, now = self.fleet, self.now_ms
        if happening.fault:
            self.said(now, f"{serial}: {happening.fault}")
            self.publish(fleet.inflict(serial, happening.fault, now))
        if happening.repair:
            self.said(now, f"{serial}: repaired {happening.repair}{' (incompletely)' if happening.incomplete else ''}")
            self.publish(fleet.mend(serial, happening.repair, now, complete=not happening.incomplete))
        visit = happening.visit
        if visit is None:
            return
        self.said(
            now, f"{serial}: visit, {visit.repair or 'nothing done'}{' (incompletely)' if visit.incomplete else ''}"
        )
        stopped = fleet.machine(serial).touch(now, lambda physics: physics.stop())
        mended = fleet.mend(serial, visit.repair, now, complete=not visit.incomplete) if visit.repair else []
        self.publish(in_order([*stopped, *mended]))
        self.bus.flush()
        self.meet()
        self.technician.repair_visit(serial, visit, now)
