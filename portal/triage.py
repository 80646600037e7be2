"""Findings in plain words: what a rule saw, what it probably is, and the figures it went by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from domain.catalogue.rules import RULE_LABELS
from domain.clock import from_ms
from domain.store.tables import FindingRow
from portal.language import _

CAUSES: Mapping[str, str] = {
    "no_power": _("No power at the machine: plug, switch or breaker"),
    "network": _("The site's network is down"),
    "band": _("The site's supply is outside the legal band"),
    "danger": _("The supply is dangerously far off"),
    "no_water": _("Water tap shut, no supply, or strainer clogged"),
    "lid_open": _("Lid not seated; if it is, the lid switch"),
    "no_heat": _("Heating element, contactor, thermal fuse or wiring open"),
    "element_lost": _("One of several heating elements is open, or one phase is lost"),
    "weak": _("The heating is getting weak: scale or an ageing element"),
    "leak": _("Leak: valve or hose, seal or bypass"),
    "false_boil": _("The batch was not boiled long enough: food safety"),
    "electrode": _("Overflow electrode dirty or shorted"),
    "overfill": _("Too much material or water in the batch"),
    "stall": _("Motor blocked: foreign body, bearing or capacitor"),
    "no_load": _("Motor runs without load: blade, belt or brushes"),
    "temp_c": _("Temperature probe frozen"),
    "out_of_range": _("Sensor broken or its plug loose"),
    "unknown": _("A code that brewair does not know: see the maker's table"),
    "hot_start": _("Started while still hot"),
    "overflow": _("Overflow"),
    "heating_timeout": _("Heating took too long"),
    "supply_voltage": _("Supply voltage"),
    "zero_cross": _("Zero-crossing detection on the board"),
    "board_communication": _("Communication between the boards"),
    "temperature_probe": _("Temperature probe"),
    "fan_dead": _("Fan motor, drive board or cable"),
    "clogged": _("Filter clogged: change it"),
    "loading": _("Filter loading up: plan a change"),
    "filter_missing": _("Filter missing or fitted wrongly"),
    "filter_due": _("Filter at the end of its life"),
    "dirtier_behind": _("Sensors swapped, bypass open, or mould"),
    "pm25_in": _("Intake PM2.5 sensor frozen"),
    "pm25_out": _("Outlet PM2.5 sensor frozen"),
    "phase_lost": _("A phase or one of its elements is lost: measure the three currents"),
    "too_cold": _("The slurry is kept too cold: food safety"),
    "fan": _("Fan"),
    "sensor": _("Sensor"),
}
"""What the cause of a finding most likely means to whoever goes there (equipment.md §5)."""
EVIDENCE: Mapping[str, tuple[str, str, float]] = {
    "pn": (_("Power at rated voltage"), "W", 1),
    "heat_ref_w": (_("Normal heating power"), "W", 1),
    "power": (_("Power"), "W", 1),
    "volt_low": (_("Lowest voltage"), "V", 1),
    "volt_high": (_("Highest voltage"), "V", 1),
    "flow": (_("Flow"), "L/min", 1),
    "temp": (_("Temperature"), "°C", 1),
    "hold_s": (_("Longest hold at the boil"), "s", 1),
    "imbalance": (_("Difference between the phases"), "%", 100),
    "trips": (_("Overflow trips"), "", 1),
    "code": (_("Code"), "", 1),
    "spin": (_("Fan speed against rated"), "%", 100),
    "draw": (_("Fan power against rated"), "%", 100),
    "dp": (_("Filter pressure drop"), "Pa", 1),
    "eta": (_("Efficiency"), "%", 100),
    "eta_low": (_("Lowest provable efficiency"), "%", 100),
    "c_in": (_("PM2.5 at the intake"), "µg/m³", 1),
    "c_out": (_("PM2.5 at the outlet"), "µg/m³", 1),
    "last_seen_ms": (_("Last seen"), "", 1),
    "silent_s": (_("Silent for"), "s", 1),
}
"""Figure → name, unit, factor to that unit."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure that decided; ``text`` where it is no number."""

    name: str
    value: float | None
    unit: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class FindingLine:
    """One episode in plain words; names are message ids."""

    rule: str
    name: str
    cause: str
    severity: int
    kind: str
    raised_at: datetime
    cleared_at: datetime | None
    figures: tuple[Figure, ...]


def finding_lines(rows: Iterable[FindingRow]) -> tuple[FindingLine, ...]:
    """Findings, the latest first."""
    lines = [
        FindingLine(
            rule=row.rule,
            name=RULE_LABELS.get(row.rule, row.rule),
            cause=CAUSES.get(row.cause, row.cause),
            severity=row.severity,
            kind=row.kind,
            raised_at=from_ms(row.raised_at_ms),
            cleared_at=from_ms(row.cleared_at_ms) if row.cleared_at_ms is not None else None,
            figures=figures_of(row.evidence),
        )
        for row in rows
    ]
    return tuple(sorted(lines, key=lambda line: line.raised_at, reverse=True))


def figures_of(evidence: Mapping[str, Any]) -> tuple[Figure, ...]:
    """The figures of a finding with name and unit; one that no table knows shows under its own key."""
    figures = []
    for key, value in evidence.items():
        name, unit, factor = EVIDENCE.get(key, (key, "", 1))
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            figures.append(Figure(name, value * factor, unit))
        else:
            figures.append(Figure(name, None, unit, str(value)))
    return tuple(figures)
