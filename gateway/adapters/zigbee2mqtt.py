"""Zigbee2MQTT (equipment.md §8.1): ``zigbee2mqtt/{name}`` and ``zigbee2mqtt/{name}/availability``.

Bound by the friendly name (without a slash). Every message holds the whole state and no time of its own. The unit of
``filter_age`` differs: it is what the device's ``exposes`` in ``zigbee2mqtt/bridge/devices`` says, and nothing without them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from gateway import samples
from gateway.adapters import fields
from gateway.adapters.fields import Into, Table
from gateway.adapters.port import Deaf
from gateway.messages import Decoded, Message, Reason, Registry, Status, Unusable

PLUG: Mapping[str, Into] = {
    "power": Into("power_w"),
    "voltage": Into("voltage_v"),
    "current": Into("current_a"),
    "energy": Into("energy_kwh"),
    "ac_frequency": Into("freq_hz"),
    "power_factor": Into("pf"),
}
NAMES: Mapping[str, Table] = {
    "soymilk": PLUG,
    # Sensor and purifier stand in the room: what the unit delivers.
    "freshair": {
        **PLUG,
        "pm25": Into("pm25_out_ugm3"),
        "co2": Into("co2_in_ppm"),
        "temperature": Into("temp_room_c"),
        "humidity": Into("rh_room_pct"),
        "fan_state": Into("run_state", words={"ON": "running", "OFF": "off"}),
        "fan_mode": Into("mode"),
        "fan_speed": Into("level"),
    },
}
AGE = "filter_age"
AGES: Mapping[object, Table] = {
    unit: {AGE: Into("filter_used_h", per=per)}
    for per, units in {60.0: ("minutes", "min"), 1.0: ("hours", "h"), 1 / 24: ("days", "d")}.items()
    for unit in units
}
STATES = {"online": True, "offline": False}
KINDS = ("", "availability", "devices")
DEVICES = 10_000


class Zigbee2MqttAdapter(Deaf):
    """Machines behind Zigbee plugs and sensors, or purifiers that speak Zigbee."""

    convention = "zigbee2mqtt"
    filters = ("zigbee2mqtt/+", "zigbee2mqtt/+/availability", "zigbee2mqtt/bridge/devices")

    def __init__(self) -> None:
        self._ages: dict[str, Table] = {}
        """By friendly name: what the last list of devices said. Replaced as a whole."""

    def decode(self, message: Message, registry: Registry, strangers: Counter[str]) -> list[Decoded] | None:
        """One sample, or a state."""
        root, _, rest = message.topic.partition("/")
        name, _, kind = rest.partition("/")
        if root != "zigbee2mqtt" or (kind == "devices") != (name == "bridge") or kind not in KINDS:
            return None
        if kind == "devices":
            self._ages = dict(_ages(samples.parse(message.payload)))
            return []
        unit = registry.bound.get((self.convention, name))
        if unit is None:
            raise fields.stranger(self.convention, name)
        if kind == "availability":
            return [Status(unit.serial, _available(message.payload), message.recv_ms, message.retained)]
        body = fields.an_object(samples.parse(message.payload), "a state")
        table = {**NAMES.get(unit.type, PLUG), **self._ages.get(name, {})}
        said = [(None, key, given) for key, given in body.items()]
        return fields.in_time(unit, message, table, said, strangers)


def _available(payload: bytes) -> bool:
    """``online``, or ``{"state":"online"}``. Raises Unusable."""
    text: Any = payload.decode("utf-8", "replace")
    if text not in STATES:
        text = fields.an_object(samples.parse(payload), "an availability").get("state")
    if not isinstance(text, str) or text not in STATES:
        raise Unusable(Reason.WRONG_TYPE, "an availability is online or offline")
    return STATES[text]


def _ages(devices: Any) -> Iterator[tuple[str, Table]]:
    for device in (devices if isinstance(devices, list) else [])[:DEVICES]:
        if not isinstance(device, dict) or not isinstance(device.get("friendly_name"), str):
            continue
        definition = device.get("definition")
        exposes = definition.get("exposes") if isinstance(definition, dict) else None
        for exposed in exposes if isinstance(exposes, list) else ():
            if isinstance(exposed, dict) and exposed.get("property") == AGE and isinstance(exposed.get("unit"), str):
                yield device["friendly_name"], AGES.get(exposed["unit"], {})
