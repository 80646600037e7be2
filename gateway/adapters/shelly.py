"""Shelly Gen2 and later (equipment.md §8.1): ``{id}/events/rpc`` and ``{id}/online``.

A NotifyStatus says what has changed, so it is laid over the last state; what was never said is absent, not 0. Bound by
``{id}``, which means component 0, or by ``{id}/em1:1`` where a device measures several machines. Negative power is a current
transformer the wrong way round: the figure is refused (it stands in ``rejected``), as is a total with such a phase in it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from domain.catalogue.common import PHASES
from domain.readings import Reading
from gateway import samples
from gateway.adapters import fields
from gateway.adapters.fields import Into, Table
from gateway.adapters.memory import Bindings, Overlay
from gateway.adapters.port import Command, Publication
from gateway.messages import Decoded, Message, Reason, Registry, Status, Unit, Unusable

MAINS: Mapping[str, Into] = {
    "voltage": Into("voltage_v"),
    "current": Into("current_a"),
    "pf": Into("pf"),
    "freq": Into("freq_hz"),
}
PLUG: Mapping[str, Into] = {**MAINS, "apower": Into("power_w"), "aenergy.total": Into("energy_kwh", per=1000)}
PHASE_POWERS = tuple(f"{phase}_act_power" for phase in PHASES)
COMPONENTS: Mapping[str, Table] = {
    "switch": PLUG,
    "pm1": PLUG,
    "em1": {**MAINS, "act_power": Into("power_w")},
    "em1data": {"total_act_energy": Into("energy_kwh", per=1000)},
    "em": {
        **{f"{phase}_voltage": Into(f"voltage_v_{phase}") for phase in PHASES},
        **{f"{phase}_current": Into(f"current_a_{phase}") for phase in PHASES},
        **{key: Into(key) for key in PHASE_POWERS},  # no channels: they tell whether the total can be right
        "total_act_power": Into("power_w"),
        "a_freq": Into("freq_hz"),
    },
    "emdata": {"total_act": Into("energy_kwh", per=1000)},
}
MEASURED_BY = {"em1data": "em1", "emdata": "em"}
"""The counters of a meter are a component of their own."""
HOLE_MS = 10 * 60 * 1000
"""A device reports every full minute; after ten that are missing, what else has changed is unknown (EJ)."""
STATES = {b"true": True, b"false": False}


class ShellyAdapter:
    """Machines behind a Shelly plug or meter."""

    convention = "shelly"
    filters = ("+/events/rpc", "+/online")
    commands = ("+/rpc",)

    def __init__(self) -> None:
        self._bindings = Bindings(self.convention, levels=1)
        self._overlay = Overlay(HOLE_MS)

    def decode(self, message: Message, registry: Registry, strangers: Counter[str]) -> list[Decoded] | None:
        """One sample for each machine that the message speaks of, or states."""
        name, _, rest = message.topic.partition("/")
        if rest not in ("events/rpc", "online"):
            return None
        units = self._bindings.of(registry, name)
        if not units:
            raise fields.stranger(self.convention, name)
        if rest == "online":
            return self._online(units, message)
        try:
            return self._status(name, registry, message, strangers)
        except Unusable:
            self._overlay.forget(*units)
            raise

    def command(self, unit: Unit, command: Command) -> Publication | None:
        """Switching off, where the machine is bound to a switch; a meter has none."""
        name, _, component = unit.topic.partition("/")
        kind, _, number = component.partition(":")
        if command.name != "stop" or kind != "switch" or not number.isdecimal():
            return None
        call = {
            "id": 1, "src": "brewair-gateway", "method": "Switch.Set", "params": {"id": int(number), "on": False},
        }  # fmt: skip
        return Publication(f"{name}/rpc", orjson.dumps(call), answers=False)

    def _online(self, units: Sequence[Unit], message: Message) -> list[Decoded]:
        if message.payload not in STATES:
            raise Unusable(Reason.WRONG_TYPE, "online is true or false")
        if not message.retained:
            self._overlay.forget(*units)  # what changed while it was away is unknown
        return [Status(unit.serial, STATES[message.payload], message.recv_ms, message.retained) for unit in units]

    def _status(self, name: str, registry: Registry, message: Message, strangers: Counter[str]) -> list[Decoded]:
        body = fields.an_object(samples.parse(message.payload), "a notification")
        method = body.get("method", "NotifyStatus")
        if method == "NotifyEvent":
            return []  # a button was pressed
        if method not in ("NotifyStatus", "NotifyFullStatus"):
            raise Unusable(Reason.WRONG_TYPE, "the method must be NotifyStatus, NotifyFullStatus or NotifyEvent")
        params = fields.an_object(body.get("params"), "params") if "method" in body else body
        ts = _time(params.get("ts"))
        if message.retained and ts is None:
            return []
        said: dict[Unit, dict[str, float | None]] = {}
        for component, given in params.items():
            kind, _, number = component.partition(":")
            if component == "ts":
                continue
            if kind not in COMPONENTS:
                fields.count(strangers, component)
                continue
            unit = _unit(registry, name, f"{MEASURED_BY.get(kind, kind)}:{number}")
            if unit is None:
                fields.count(strangers, component)
            else:
                said.setdefault(unit, {}).update(_figures(kind, component, given, strangers))
        return [
            self._reading(unit, message, ts, told, strangers, whole=method == "NotifyFullStatus")
            for unit, told in said.items()
        ]

    def _reading(
        self,
        unit: Unit,
        message: Message,
        ts: int | None,
        told: Mapping[str, float | None],
        strangers: Counter[str],
        *,
        whole: bool,
    ) -> Reading:
        clock = Reading(unit.serial, unit.type, message.recv_ms if ts is None else ts, {}, recv_ms=message.recv_ms)
        (clock,) = samples.on_time([clock], message.recv_ms)
        overlaid = (self._overlay.whole if whole else self._overlay.part)(unit, clock.ts, told)
        phases = [overlaid.pop(key) for key in PHASE_POWERS if key in overlaid]
        if phases and min(phases) < 0:
            overlaid["power_w"] = min(phases)
        values, rejected = samples.split(unit.type, overlaid, strangers)
        return dataclasses.replace(clock, values=values, rejected=rejected)


def _unit(registry: Registry, name: str, component: str) -> Unit | None:
    unit = registry.bound.get((ShellyAdapter.convention, f"{name}/{component}"))
    if unit is None and component.endswith(":0"):
        unit = registry.bound.get((ShellyAdapter.convention, name))
    return unit


def _figures(kind: str, component: str, given: Any, strangers: Counter[str]) -> dict[str, float | None]:
    """What a component says, by channel; null takes a figure back. Raises Unusable before anything is remembered."""
    found: dict[str, float | None] = {}
    for key, value in _flat(fields.an_object(given, component)):
        into = COMPONENTS[kind].get(key)
        if into is None:
            fields.count(strangers, (kind, key))
        else:
            found[into.channel] = None if value is None else samples.number(key, value) / into.per
    return found


def _flat(given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in given.items():
        if type(value) is dict:
            yield from ((f"{key}.{inner}", one) for inner, one in value.items())
        elif key != "id":
            yield key, value


def _time(given: Any) -> int | None:
    """ms from a time in s; null as long as the device has no clock. Raises Unusable."""
    if given is None:
        return None
    ms = samples.number("ts", given) * 1000
    return samples.whole_ms(round(ms) if abs(ms) < samples.EXACT else ms)
