"""Homie 3 and 4 (equipment.md §8.1): ``homie/{device}/{node}/{property}`` and ``homie/{device}/$state``.

Bound by the device's id. A property is our channel if its id is the channel's name with dashes (``power-w``): ids are free
and their units are not in the message. One message says one property: the sample of that moment is everything that was said
since the session began. What is retained is news of the past: it is remembered, but no sample.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping

from domain.readings import Value
from gateway import samples
from gateway.adapters import fields
from gateway.adapters.memory import Overlay
from gateway.adapters.port import Deaf
from gateway.messages import Decoded, Message, Reason, Registry, Status, Unit, Unusable

STATES: Mapping[bytes, bool | None] = {
    b"init": None,
    b"ready": True,
    b"alert": True,
    b"sleeping": None,
    b"disconnected": False,
    b"lost": False,
}
"""Whether it is online; None says neither."""
ENDS = (b"init", b"disconnected", b"lost")
DEVICE: Mapping[tuple[str, str], str] = {("$stats", "uptime"): "uptime_s", ("$fw", "version"): "fw"}
FLAGS = {"true": True, "false": False}
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)


class HomieAdapter(Deaf):
    """Machines that follow the Homie convention."""

    convention = "homie"
    filters = ("homie/+/$state", "homie/+/+/+")

    def __init__(self) -> None:
        self._overlay = Overlay()

    def decode(self, message: Message, registry: Registry, strangers: Counter[str]) -> list[Decoded] | None:
        """The sample after one property, or a state."""
        parts = message.topic.split("/")
        if parts[0] != "homie" or not (len(parts) == 4 or (len(parts) == 3 and parts[2] == "$state")):
            return None
        if len(parts) == 4 and (parts[3].startswith("$") or parts[1].startswith("$")):
            return []  # how things are called, and broadcasts
        unit = registry.bound.get((self.convention, parts[1]))
        if unit is None:
            raise fields.stranger(self.convention, parts[1])
        if len(parts) == 3:
            return self._state(unit, message)
        return self._property(unit, parts[2], parts[3], message, strangers)

    def _state(self, unit: Unit, message: Message) -> list[Decoded]:
        if not message.payload:
            return []
        if message.payload not in STATES:
            raise Unusable(Reason.WRONG_TYPE, "no $state of Homie")
        if message.payload in ENDS:
            self._overlay.forget(unit)
        online = STATES[message.payload]
        return [] if online is None else [Status(unit.serial, online, message.recv_ms, message.retained)]

    def _property(self, unit: Unit, node: str, name: str, message: Message, strangers: Counter[str]) -> list[Decoded]:
        channel = DEVICE.get((node, name)) or (None if node.startswith("$") else fields.own_name(unit.type, name))
        if channel is None:
            fields.count(strangers, (node, name))
            return []
        try:
            given = _value(unit, channel, message.payload)
            reading = fields.reading(unit, message, message.recv_ms, {channel: given}, strangers)
        except Unusable:
            self._overlay.part(unit, message.recv_ms, {channel: None})
            raise
        overlaid = self._overlay.part(unit, message.recv_ms, {channel: reading.values.get(channel)})
        return [] if message.retained or given is None else [dataclasses.replace(reading, values=overlaid)]


def _value(unit: Unit, channel: str, payload: bytes) -> Value | None:
    """The payload as the channel wants it; None where a retained one was taken back. Raises Unusable."""
    if not payload:
        return None
    if len(payload) > samples.MAX_TEXT * 4:
        raise Unusable(Reason.OVERSIZE, "a property is a short text")
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        raise Unusable(Reason.UNREADABLE, "not UTF-8") from None
    kind = samples.CHANNELS[unit.type][channel].kind
    if kind == "str":
        return text
    if kind == "bool" and text in FLAGS:
        return FLAGS[text]
    if kind == "float" and NUMBER.fullmatch(text):
        return float(text)
    raise Unusable(Reason.WRONG_TYPE, f"{channel} must be a {'number' if kind == 'float' else 'true or false'}")
