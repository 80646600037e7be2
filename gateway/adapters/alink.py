"""Alibaba Alink (equipment.md §8.1): ``/sys/{product key}/{device name}/thing/event/property/post``, and ``…/batch/post``.

Bound by ``{product key}/{device name}``. A property is a value or {value, time}; a batch has a list of the latter. The
platform accepts a time within 24 h: another one is not the sample's.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from domain.readings import Reading
from gateway import samples
from gateway.adapters import fields
from gateway.adapters.fields import FLAG, Into, Table
from gateway.adapters.port import Deaf
from gateway.messages import Decoded, Message, Reason, Registry, Unusable

NAMES: Mapping[str, Table] = {
    # As found in device code; the sensor stands in the room.
    "freshair": {
        "PM25": Into("pm25_out_ugm3"),
        "Temperature": Into("temp_room_c"),
        "Humidity": Into("rh_room_pct"),
    },
}
"""Identifiers by equipment type, where a product has no table of its own."""
PRODUCTS: Mapping[str, Table] = {}
"""Identifiers by product key: a TSL is written for one product, and the same word means watts here and a switch there."""
WITHIN_MS = 24 * 3600 * 1000
POST, BATCH = ["thing", "event", "property", "post"], ["thing", "event", "property", "batch", "post"]


class AlinkAdapter(Deaf):
    """Machines whose firmware was written for Alibaba's platform. Identifiers that are our channels' names are these."""

    convention = "alink"
    filters = ("/sys/+/+/thing/event/property/post", "/sys/+/+/thing/event/property/batch/post")

    def decode(self, message: Message, registry: Registry, strangers: Counter[str]) -> list[Decoded] | None:
        """One sample, or a batch."""
        parts = message.topic.split("/")
        if parts[:2] != ["", "sys"] or parts[4:] not in (POST, BATCH):
            return None
        name = "/".join(parts[2:4])
        unit = registry.bound.get((self.convention, name))
        if unit is None:
            raise fields.stranger(self.convention, name)
        body = fields.an_object(samples.parse(message.payload), "a post")
        params = fields.an_object(body.get("params"), "params")
        if parts[4:] == BATCH:
            for other in params.keys() - {"properties"}:
                fields.count(strangers, other)
            said = list(_batch(fields.an_object(params.get("properties", {}), "properties")))
        else:
            said = [_timed(key, given) for key, given in params.items()]
        table = PRODUCTS.get(parts[2]) or _names(unit.type)
        found = fields.in_time(unit, message, table, said, strangers)
        return [_dated(one, message.recv_ms) if isinstance(one, Reading) else one for one in found]


@cache
def _names(equipment_type: str) -> Table:
    own = {
        key: Into(key, words=FLAG) if channel.kind == "bool" else Into(key)
        for key, channel in samples.CHANNELS[equipment_type].items()
    }
    return {**own, **NAMES.get(equipment_type, {})}


def _timed(key: str, given: Any) -> tuple[int | None, str, Any]:
    if type(given) is not dict:
        return None, key, given
    if "value" not in given:
        raise Unusable(Reason.WRONG_TYPE, f"{key} has no value")
    return None if given.get("time") is None else samples.whole_ms(given["time"]), key, given["value"]


def _batch(properties: Mapping[str, Any]) -> Iterator[tuple[int | None, str, Any]]:
    for key, given in properties.items():
        for one in fields.a_list(given, f"{key} in a batch"):
            yield _timed(key, one)


def _dated(reading: Reading, recv_ms: int) -> Reading:
    if reading.device_ts is not None or abs(reading.ts - recv_ms) <= WITHIN_MS:
        return reading
    return dataclasses.replace(reading, ts=samples.received_at(reading.ts, recv_ms), device_ts=reading.ts)
