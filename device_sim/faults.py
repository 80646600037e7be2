"""Physical causes as data: which facts of a machine's condition each one changes, and what a repair sets right.

Nothing here says how a cause is noticed: that is the business of those who watch the telemetry.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields

from device_sim.profiles.physics import Condition, Physics
from domain.errors import InvalidError


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One cause. ``sets`` are facts while it lasts; ``half`` what an incomplete repair leaves; ``also`` deeds of a repair."""

    key: str
    type: str = ""
    """Equipment type, empty = any."""
    sets: Mapping[str, object]
    half: Mapping[str, object] | None = None
    also: Mapping[str, object] = field(default_factory=dict)
    needs_elements: int = 1


FAULTS: Mapping[str, Fault] = {
    fault.key: fault
    for fault in (
        Fault(key="unplugged", sets={"powered": False}),
        Fault(key="network_lost", sets={"network": False}),
        Fault(key="voltage_sag", sets={"mains_factor": 0.86}),
        Fault(key="voltage_high", sets={"mains_factor": 1.12}),
        Fault(
            key="heater_element_open",
            type="soymilk",
            sets={"heater_open": True},
            half={"heater_open": False, "elements_open": 1},
        ),
        Fault(key="one_element_lost", type="soymilk", sets={"elements_open": 1}, half={}, needs_elements=2),
        Fault(key="no_water", type="soymilk", sets={"tap_open": False}),
        Fault(key="lid_open", type="soymilk", sets={"lid_closed": False}),
        Fault(key="motor_stall", type="soymilk", sets={"motor_jammed": True}, half={}),
        Fault(key="overflow_dirty", type="soymilk", sets={"electrode_dirty": True}, half={}),
        Fault(key="inlet_stuck", type="soymilk", sets={"inlet_stuck": True}, half={}),
        Fault(key="fan_dead", type="freshair", sets={"fan_works": False}, half={}),
        Fault(
            key="filter_clogged",
            type="freshair",
            sets={"clogging": 1.9},
            half={"clogging": 0.8},
            also={"filter_change": True},
        ),
        Fault(
            key="filter_missing", type="freshair", sets={"filter_fitted": False}, half={}, also={"filter_change": True}
        ),
        Fault(key="pm_sensor_stuck", type="freshair", sets={"pm_out_stuck": True}, half={}),
        Fault(key="sensors_swapped", type="freshair", sets={"pm_swapped": True}, half={}),
    )
}


def nearest(name: str, known: Iterable[str]) -> str:
    """``; did you mean …?`` for the known name most like ``name``, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def fault_named(key: str, equipment_type: str, heater_elements: int = 1) -> Fault:
    """The fault; raises InvalidError where there is none, or where such a machine cannot have it."""
    fault = FAULTS.get(key)
    if fault is None:
        raise InvalidError("No fault {key}{near}", field="fault", key=key, near=nearest(key, FAULTS))
    if fault.type not in ("", equipment_type):
        raise InvalidError("A {type} has no fault {key}", field="fault", key=key, type=equipment_type)
    if heater_elements < fault.needs_elements:
        raise InvalidError("{key} needs a heater of several elements", field="fault", key=key)
    return fault


def inflict(fault: Fault, physics: Physics) -> None:
    """Let the cause come true."""
    _set(physics.condition, fault.sets)


def mend(fault: Fault, physics: Physics, *, complete: bool = True) -> None:
    """Undo the cause, wholly or as far as ``half`` says; the board's latched codes are acknowledged.

    Raises InvalidError where the fault cannot be half mended.
    """
    if not complete and fault.half is None:
        raise InvalidError("{key} cannot be repaired incompletely", field="incomplete", key=fault.key)
    condition = physics.condition
    if complete:
        healthy = {f.name: f.default for f in fields(condition) if f.default is not MISSING}
        left_over = {name: healthy[name] for name in {*fault.sets, *(fault.half or {})}}
        _set(condition, left_over)
        _set(condition, fault.also)
    else:
        _set(condition, fault.half or {})
    if fault.type:
        physics.acknowledge()


def _set(condition: Condition, facts: Mapping[str, object]) -> None:
    for name, fact in facts.items():
        if not hasattr(condition, name):
            raise AttributeError(name)
        setattr(condition, name, fact)
