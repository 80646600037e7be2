"""Tuya status lists (equipment.md §8.1), as a bridge publishes them: ``tuya/{category}/{device id}``.

Bound by ``{category}/{device id}``: what a code means depends on the category (xfj fresh air, kj air purifier, kfj coffee
maker, nearest to a soy-milk machine). Set-points such as ``air_volume`` and ``pm25_set`` are no measurements and no channel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from domain.readings import Value
from gateway import samples
from gateway.adapters import fields
from gateway.adapters.fields import SWITCH, Into, Table
from gateway.adapters.port import Deaf
from gateway.messages import Decoded, Message, Reason, Registry, Unusable

SPEEDS: Mapping[object, Value] = {"off": 0.0, "low": 1.0, "mid": 2.0, "high": 3.0}
FAULT: Mapping[str, Into] = {"fault": Into("fault_code")}
CODES: Mapping[str, Table] = {
    "xfj": {
        "switch": Into("run_state", words=SWITCH),
        "mode": Into("mode"),
        "supply_fan_speed": Into("level", words=SPEEDS),
        "bypass_function": Into("bypass"),
        "heat": Into("ptc_on"),
        "pm25": Into("pm25_out_ugm3"),
        **FAULT,
    },
    "kj": {
        "switch": Into("run_state", words=SWITCH),
        "mode": Into("mode"),
        "pm25": Into("pm25_out_ugm3"),
        **FAULT,
    },
    "kfj": {
        # ``cooking``, ``done``, ``water_falling`` and ``timing`` of a coffee maker are none of our states
        "work_state": Into("run_state", words={word: word for word in ("standby", "grinding", "keep_warm")}),
        "temp_current": Into("temp_c"),
        **FAULT,
    },
}
"""Standard status sets [S30]; no factor anywhere, as all of these have scale 0."""
FAULTS: Mapping[str, tuple[str, ...]] = {}
"""Label of each bit of ``fault``, bit 0 first, by ``category`` or ``category/device id``: each product has a list of its own
in its specification, and none of these categories has a common one. A bit without a label is ``bit0``, ``bit1``, …"""
SECONDS_BELOW = 100_000_000_000
"""``t`` is in s from devices and in ms from the cloud; below this it would be a ms of 1973."""


class TuyaAdapter(Deaf):
    """Machines behind a Tuya bridge."""

    convention = "tuya"
    filters = ("tuya/+/+",)

    def decode(self, message: Message, registry: Registry, strangers: Counter[str]) -> list[Decoded] | None:
        """A sample for each time of a status list; without ``t`` the time of receipt."""
        parts = message.topic.split("/")
        if len(parts) != 3 or parts[0] != "tuya":
            return None
        category, name = parts[1], "/".join(parts[1:])
        unit = registry.bound.get((self.convention, name))
        if unit is None:
            raise fields.stranger(self.convention, name)
        body = samples.parse(message.payload)
        at = None
        if type(body) is dict:
            at, body = _time(body.get("t")), body.get("status")
        said = list(_said(fields.a_list(body, "a status"), at, FAULTS.get(name) or FAULTS.get(category, ())))
        return fields.in_time(unit, message, CODES.get(category, FAULT), said, strangers)


def _said(status: list[Any], at: int | None, labels: tuple[str, ...]) -> Iterator[tuple[int | None, str, Any]]:
    for given in status:
        entry = fields.an_object(given, "an entry of a status")
        code, value = entry.get("code"), entry.get("value")
        if type(code) is not str:
            raise Unusable(Reason.WRONG_TYPE, "an entry of a status must have a code")
        own = at if entry.get("t") is None else _time(entry["t"])
        yield own, code, faults(value, labels) if code == "fault" and value is not None else value


def faults(bitmap: Any, labels: tuple[str, ...]) -> str:
    """The maker's code of a fault bitmap: the labels of its bits, "" for none. Raises Unusable."""
    if type(bitmap) is not int or not 0 <= bitmap < 1 << 32:
        raise Unusable(Reason.WRONG_TYPE, "fault must be a bitmap of 32 bits")
    raised = [bit for bit in range(32) if bitmap >> bit & 1]
    return ",".join(labels[bit] if bit < len(labels) else f"bit{bit}" for bit in raised)


def _time(given: Any) -> int | None:
    if given is None:
        return None
    whole = samples.whole_ms(given)
    return whole * 1000 if abs(whole) < SECONDS_BELOW else whole
