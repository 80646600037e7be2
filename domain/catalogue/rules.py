"""RULES: the fault rules of every equipment type, their families and names. Closed to the simulator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from domain.catalogue.common_rules import SILENT_RULE
from domain.catalogue.facts import Facts
from domain.catalogue.fault_rule import FaultRule
from domain.catalogue.freshair import rules as freshair
from domain.catalogue.freshair.facts import FreshairFacts
from domain.catalogue.soymilk import rules as soymilk
from domain.catalogue.soymilk.facts import SoymilkFacts

RULES: Mapping[str, tuple[FaultRule[Any], ...]] = {
    "soymilk": (SILENT_RULE, *soymilk.RULES),
    "freshair": (SILENT_RULE, *freshair.RULES),
}
"""By type; R01 first, which only ``Detector.tick`` judges."""

CODE_SUBJECTS: Mapping[str, str] = {
    code.cause: code.about for module in (soymilk, freshair) for code in module.CODES.values() if code.about
}
"""Cause of a maker's code (R26) → the fault family it speaks of: such a code joins that family's open ticket."""

FACTS: Mapping[str, type[Facts]] = {"soymilk": SoymilkFacts, "freshair": FreshairFacts}
"""By type: the class that computes what its rules speak of."""


class Family(NamedTuple):
    """A family of faults: at most one open ticket per machine and family (equipment.md §7.4)."""

    key: str
    zh: str
    en: str


FAMILIES: Mapping[str, Family] = {
    family.key: family
    for family in (
        Family("connection", "连接", "Connection"),
        Family("supply", "供电", "Power supply"),
        Family("heating", "加热", "Heating"),
        Family("sensor", "传感器", "Sensor"),
        Family("water", "进水", "Water"),
        Family("overflow", "溢出", "Overflow"),
        Family("motor", "电机", "Motor"),
        Family("lid", "上盖", "Lid"),
        Family("fan", "风机", "Fan"),
        Family("filter", "滤网", "Filter"),
        Family("climate", "送风温度", "Supply air"),
        Family("code", "故障代码", "Fault code"),
    )
}

RULE_LABELS: Mapping[str, str] = {
    "R01": "Machine is silent",
    "R02": "Supply voltage out of range",
    "R03": "Heating power too low",
    "R04": "Does not heat",
    "R06": "Heater phases out of balance",
    "R07": "No water while filling",
    "R08": "Water leaks",
    "R11": "Boil not held long enough",
    "R12": "Kept too cold",
    "R13": "Overflow electrode tripped",
    "R14": "Grinding motor stalled or without load",
    "R15": "Fan does not turn",
    "R18": "Filter clogged",
    "R20": "Filter lets too much PM2.5 through",
    "R21": "Sensor stands still",
    "R22": "Sensor value out of range",
    "R26": "Machine reports a fault code",
    "R27": "Air behind the filter is dirtier than before it",
    "R28": "Lid left open",
}
"""English gettext ids."""
