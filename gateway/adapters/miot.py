"""Xiaomi MIoT (equipment.md §8.1), as a bridge publishes it: ``miot/{model}/{did}``.

Bound by ``{model}/{did}``: (siid, piid) mean something else in every model, hence a table for each. A property whose code is
not 0 has no value. The older fresh-air units say one flat object instead of a list.
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

MODES: Mapping[object, Value] = {0: "auto", 1: "silent", 2: "favorite", 3: "fan"}
_ON, _MODE, _LEVEL = Into("run_state", words=SWITCH), Into("mode", words=MODES), Into("level")
_PM25, _TEMP, _RH = Into("pm25_out_ugm3"), Into("temp_room_c"), Into("rh_room_pct")
_LIFE, _USED, _RPM = Into("filter_life_pct"), Into("filter_used_h"), Into("fan_supply_rpm")

# Services and properties as in python-miio [S32]; ``aqi`` is PM2.5 in µg/m³, in the room.
_MB3 = {
    (2, 2): _ON, (2, 4): _LEVEL, (2, 5): _MODE, (3, 6): _PM25, (3, 7): _RH, (3, 8): _TEMP, (4, 3): _LIFE, (4, 5): _USED,
    (10, 8): _RPM,
}  # fmt: skip
_MB4 = {(2, 1): _ON, (2, 4): _MODE, (3, 4): _PM25, (4, 1): _LIFE, (4, 3): _USED, (9, 1): _RPM}
_VA2 = {**_MB4, (2, 5): _LEVEL, (3, 1): _RH, (3, 7): _TEMP}
_RMB1 = {key: into for key, into in _VA2.items() if key != (2, 5)}
PROPERTIES: Mapping[str, Table] = {
    "zhimi.airpurifier.ma4": _MB3,
    "zhimi.airpurifier.mb3": _MB3,
    "zhimi.airpurifier.va1": _MB3,
    "zhimi.airpurifier.vb2": _MB3,
    "zhimi.airpurifier.mb4": _MB4,
    "zhimi.airp.mb4a": _MB4,
    "zhimi.airp.mb5": _VA2,
    "zhimi.airp.va2": _VA2,
    "zhimi.airp.rmb1": _RMB1,
}
"""(siid, piid) by model."""

# ``control_speed`` is a set-point, ``filter_day`` are days that remain: no channels.
_FRESH = {
    "power": _ON,
    "mode": Into("mode"),
    "pm25": _PM25,
    "co2": Into("co2_in_ppm"),
    "temperature_outside": Into("temp_out_c"),
    "ptc_on": Into("ptc_on"),
}
FLAT: Mapping[str, Table] = {
    "dmaker.airfresh.a1": {**_FRESH, "filter_rate": _LIFE},
    # Of its two filters the fine one is what keeps PM2.5 back.
    "dmaker.airfresh.t2017": {**_FRESH, "filter_efficient": _LIFE},
}
"""Names by model."""


class MiotAdapter(Deaf):
    """Machines behind a MIoT bridge."""

    convention = "miot"
    filters = ("miot/+/+",)

    def decode(self, message: Message, registry: Registry, strangers: Counter[str]) -> list[Decoded] | None:
        """One sample, with the time of receipt."""
        parts = message.topic.split("/")
        if len(parts) != 3 or parts[0] != "miot":
            return None
        model, name = parts[1], "/".join(parts[1:])
        unit = registry.bound.get((self.convention, name))
        if unit is None:
            raise fields.stranger(self.convention, name)
        body = samples.parse(message.payload)
        if type(body) is dict:
            table, said = FLAT.get(model, {}), [(None, key, given) for key, given in body.items()]
        else:
            table, said = PROPERTIES.get(model, {}), list(_said(fields.a_list(body, "properties")))
        return fields.in_time(unit, message, table, said, strangers)


def _said(properties: list[Any]) -> Iterator[tuple[None, Any, Any]]:
    for given in properties:
        entry = fields.an_object(given, "a property")
        siid, piid = entry.get("siid"), entry.get("piid")
        if type(siid) is not int or type(piid) is not int:
            raise Unusable(Reason.WRONG_TYPE, "a property must have siid and piid")
        if entry.get("code", 0) == 0:
            yield None, (siid, piid), entry.get("value")
