"""The shapes of test-run plans: criteria with their limits, plans, and the coded record of a visit. Data only.

A plan carries every figure that its criteria are judged by, so that a copy of it inside a run replays the verdict for ever.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

When = Literal["always", "channel", "plan", "reached", "three_phase", "entry"]
"""When a criterion is required: always · if one of its channels exists · if the plan names it · if the run gets there ·
on a three-phase machine with its channels · if the plan asks for an entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One row of equipment.md §7.1 or §7.2. ``limits`` are figures by name; what they are relative to is in their names' doc.

    ``channels`` are alternatives: the criterion's channel exists if any of them does.
    """

    key: str
    name_zh: str
    name_en: str
    unit: str = ""
    when: When = "always"
    channels: tuple[str, ...] = ()
    limits: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A check that a technician enters by hand: a yes or no, or a number inside ``low`` … ``high``."""

    key: str
    name_zh: str
    name_en: str
    unit: str = ""
    numeric: bool = False
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TestPlan:
    """One test run (equipment.md §7.3). Times in seconds.

    ``done_when`` holds what must have been seen before the active phase may end: ``hold_s``, ``cycles``, ``grinds``,
    ``fills``. ``required`` are the criteria that this plan asks for beyond those that require themselves; ``extras`` says in
    words what is special. ``no_dropout``: a reboot restarts the count. ``probation``: a pass is on probation for 72 h.
    """

    __test__ = False  # not a test class, whatever its name looks like to a test runner

    key: str
    type: str
    name_zh: str
    name_en: str
    min_active_s: float
    cap_s: float
    rest_s: float = 0.0
    done_when: Mapping[str, float] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    entries: tuple[Entry, ...] = ()
    extras: tuple[str, ...] = ()
    no_dropout: bool = False
    probation: bool = False
    criteria: tuple[Criterion, ...] = ()


@dataclass(frozen=True, slots=True)
class Code:
    """One code of the visit record with its two names; ``plan`` only for measures: the test that proves them."""

    key: str
    name_zh: str
    name_en: str
    type: str
    plan: str = ""


def plan_to_json(plan: TestPlan) -> str:
    """The plan as one line of JSON with sorted keys: equal plans give equal text, so that it can be hashed."""
    return json.dumps(asdict(plan), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def plan_from_json(text: str) -> TestPlan:
    """The plan of :func:`plan_to_json`, equal to the original. Raises ValueError or TypeError where it is not one."""
    given: dict[str, Any] = json.loads(text)
    given["criteria"] = tuple(Criterion(**{**c, "channels": tuple(c["channels"])}) for c in given["criteria"])
    given["entries"] = tuple(Entry(**entry) for entry in given["entries"])
    given["required"], given["extras"] = tuple(given["required"]), tuple(given["extras"])
    return TestPlan(**given)
