"""Scenarios: a TOML file says which machines live where, what happens to them when, and what should come of it.

    title = "A heating element opens"            start = 2026-01-14T05:00:00+08:00     duration = "2:00:00"
    [[site]]      name, altitude_m, tap_mpa, tap_c, room_c, outdoor_c, pm25_median, utc_offset_h
    [[machine]]   serial, type, model, site, interval_s, batches = ["0:05:00"], batch_share, level, seed
    [[timeline]]  at, machine or site, and one of: fault · repair (with incomplete) · visit = { measure, … }
    [expect]      no_others; [[expect.ticket]] machine, family, rule, from, to; [[expect.verdict]] machine, outcome, from, to

Times are H:MM:SS after ``start``. An unknown key, a missing one, an unusable value: InvalidError that names the place.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

from device_sim.faults import fault_named, nearest
from device_sim.fleet import Fleet, MachineSpec, build
from device_sim.profiles import CARDS
from device_sim.site import Site
from device_sim.strict_toml import Table, moment, span, spans
from domain.clock import to_ms
from domain.errors import InvalidError

OUTCOMES = ("passed", "failed", "inconclusive")


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What a technician does on site. ``repair`` is the physical deed; the codes are what is written into the ticket.

    Empty codes leave the choice to whoever writes them.
    """

    repair: str = ""
    incomplete: bool = False
    fault: str = ""
    cause: str = ""
    measure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One line of the timeline, already spread over machines: at ``at_s`` after the start, to ``serials``."""

    at_s: float
    serials: tuple[str, ...]
    fault: str = ""
    repair: str = ""
    incomplete: bool = False
    visit: Visit | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedTicket:
    """A ticket that must be opened for ``machine`` between ``from_s`` and ``to_s``; empty ``rule`` = any of the family."""

    machine: str
    family: str
    rule: str = ""
    from_s: float
    to_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedVerdict:
    """A verdict that must fall for ``machine`` between ``from_s`` and ``to_s``."""

    machine: str
    outcome: str
    from_s: float
    to_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectations:
    """What should come of it; ``no_others``: and nothing else."""

    tickets: tuple[ExpectedTicket, ...] = ()
    verdicts: tuple[ExpectedVerdict, ...] = ()
    no_others: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A scenario, checked. ``start`` is aware UTC."""

    name: str
    title: str
    start: datetime
    duration_s: float
    seed: int
    machines: tuple[MachineSpec, ...]
    timeline: tuple[Happening, ...]
    expect: Expectations

    @property
    def start_ms(self) -> int:
        """UTC ms of the start."""
        return to_ms(self.start)

    @property
    def end_ms(self) -> int:
        """UTC ms of the end."""
        return self.ms_at(self.duration_s)

    def ms_at(self, seconds: float) -> int:
        """UTC ms of a time after the start."""
        return self.start_ms + round(seconds * 1000)

    def fleet(self, seed: int | None = None) -> Fleet:
        """The scenario's machines, alive from its start on."""
        return Fleet.build(self.machines, seed=self.seed if seed is None else seed, start_ms=self.start_ms)


def shipped() -> list[str]:
    """Names of the scenarios that come with the product."""
    folder = resources.files("device_sim") / "scenarios"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load(name: str) -> Scenario:
    """A scenario by path of a TOML file, or by the name of a shipped one. Raises InvalidError."""
    path = Path(name)
    if path.is_file():
        return parse(path.read_text(encoding="utf-8"), path.stem)
    if name not in shipped():
        raise InvalidError("No scenario {name}{near}", field="scenario", name=name, near=nearest(name, shipped()))
    text = (resources.files("device_sim") / "scenarios" / f"{name}.toml").read_text(encoding="utf-8")
    return parse(text, name)


def parse(text: str, name: str) -> Scenario:
    """A scenario of TOML text; ``name`` stands in messages. Raises InvalidError."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidError("{name}: not TOML: {reason}", name=name, reason=error) from error
    top = Table(table, name)
    top.known("title", "start", "duration", "seed", "site", "machine", "timeline", "expect")
    sites = {site.name: site for site in (_site(t) for t in top.tables("site"))}
    machines = tuple(_machine(t, sites) for t in top.tables("machine"))
    if not machines:
        raise top.error("needs at least one [[machine]]")
    specs = {spec.serial: spec for spec in machines}
    if len(specs) != len(machines):
        raise top.error("two machines have one serial")
    timeline = sorted((_happening(t, specs) for t in top.tables("timeline")), key=lambda h: h.at_s)
    expect = top.table("expect")
    expect.known("no_others", "ticket", "verdict")
    scenario = Scenario(
        name=name,
        title=top.take("title", str, name),
        start=top.take("start", moment),
        duration_s=top.take("duration", span),
        seed=top.take("seed", int, 1),
        machines=machines,
        timeline=tuple(timeline),
        expect=Expectations(
            tickets=tuple(_expected_ticket(t, specs) for t in expect.tables("ticket")),
            verdicts=tuple(_expected_verdict(t, specs) for t in expect.tables("verdict")),
            no_others=expect.take("no_others", bool, True),
        ),
    )
    late = next((h for h in timeline if h.at_s > scenario.duration_s), None)
    if late:
        raise top.error(f"the timeline goes beyond the duration ({late.at_s:g} s)")
    return scenario


# ---------------------------------------------------------------------- the parts of the file


def _outcome(text: Any) -> str:
    if text not in OUTCOMES:
        raise ValueError(f"must be one of {', '.join(OUTCOMES)}, not {text!r}")
    return str(text)


def _site(table: Table) -> Site:
    numbers = ("altitude_m", "tap_mpa", "tap_c", "room_c", "outdoor_c", "pm25_median", "utc_offset_h")
    return table.fill(Site, name=str, **dict.fromkeys(numbers, float), seed=int)


def _machine(table: Table, sites: Mapping[str, Site]) -> MachineSpec:
    def site(name: Any) -> Site:
        if name not in sites:
            raise ValueError(f"no [[site]] {name!r}{nearest(str(name), sites)}")
        return sites[name]

    converters: dict[str, Callable[[Any], Any]] = {
        "serial": str, "type": str, "model": str, "site": site, "interval_s": int, "batches": spans,
        "batch_share": float, "level": int, "seed": int,
    }  # fmt: skip
    spec = table.fill(MachineSpec, **converters)
    try:
        build(spec, seed=0, start_ms=0)
    except InvalidError as error:
        raise table.error(str(error)) from error
    return replace(spec, card=replace(CARDS[spec.type][spec.model], site_altitude_m=spec.site.altitude_m))


def _serials(table: Table, specs: Mapping[str, MachineSpec]) -> tuple[str, ...]:
    if ("machine" in table.content) == ("site" in table.content):
        raise table.error("needs either machine or site")
    if "machine" in table.content:
        return (_known_machine(table, specs),)
    site = table.take("site", str)
    found = tuple(serial for serial, spec in specs.items() if spec.site.name == site)
    if not found:
        raise table.error(f"no machine on site {site}{nearest(site, {s.site.name for s in specs.values()})}")
    return found


def _known_machine(table: Table, specs: Mapping[str, MachineSpec]) -> str:
    serial = table.take("machine", str)
    if serial not in specs:
        raise table.error(f"no [[machine]] {serial}{nearest(serial, specs)}")
    return serial


def _happening(table: Table, specs: Mapping[str, MachineSpec]) -> Happening:
    table.known("at", "machine", "site", "fault", "repair", "incomplete", "visit")
    if sum(key in table.content for key in ("fault", "repair", "visit")) != 1:
        raise table.error("needs exactly one of fault, repair, visit")
    serials = _serials(table, specs)
    visit = None
    if "visit" in table.content:
        codes = ("repair", "fault", "cause", "measure")
        visit = table.table("visit").fill(Visit, **dict.fromkeys(codes, str), incomplete=bool)
    happening = Happening(
        at_s=table.take("at", span),
        serials=serials,
        fault=table.take("fault", str, ""),
        repair=table.take("repair", str, ""),
        incomplete=table.take("incomplete", bool, False),
        visit=visit,
    )
    _check_faults(table, happening, (specs[serial] for serial in serials))
    return happening


def _check_faults(table: Table, happening: Happening, specs: Iterable[MachineSpec]) -> None:
    visit = happening.visit
    half = visit.incomplete if visit else happening.incomplete
    repair = visit.repair if visit else happening.repair
    for spec in specs:
        elements = spec.card.heater_elements if spec.card else 1
        for key in filter(None, (happening.fault, repair)):
            try:
                fault = fault_named(key, spec.type, elements)
            except InvalidError as error:
                raise table.error(str(error)) from error
            if half and fault.half is None:
                raise table.error(f"{key} cannot be repaired incompletely")
    if half and not repair:
        raise table.error("incomplete needs a repair")


def _expected_ticket(table: Table, specs: Mapping[str, MachineSpec]) -> ExpectedTicket:
    table.known("machine", "family", "rule", "from", "to")
    return ExpectedTicket(
        machine=_known_machine(table, specs),
        family=table.take("family", str),
        rule=table.take("rule", str, ""),
        from_s=table.take("from", span),
        to_s=table.take("to", span),
    )


def _expected_verdict(table: Table, specs: Mapping[str, MachineSpec]) -> ExpectedVerdict:
    table.known("machine", "outcome", "from", "to")
    return ExpectedVerdict(
        machine=_known_machine(table, specs),
        outcome=table.take("outcome", _outcome),
        from_s=table.take("from", span),
        to_s=table.take("to", span),
    )
