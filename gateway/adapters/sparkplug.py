"""Sparkplug B (equipment.md §8.1): ``spBv1.0/{group}/{kind}/{edge}[/{device}]``, protobuf.

Bound by ``{group}/{edge}/{device}``, or ``{group}/{edge}`` for metrics of the edge node itself. A metric is our channel if the
last part of its name is the channel's name. A birth is the full snapshot and says which alias means which metric; data say
what has changed. A hole in ``seq`` means that something is missing: then only what is said again is known.

What was said by an alias whose birth was not heard (a gateway that was started anew has heard none) is held, to be replayed
after the birth; the edge node is asked for one. Replayed, the alias means what the birth then says: the same, unless the edge
node was given other metrics meanwhile.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from domain import wire
from domain.readings import Reading
from gateway import samples
from gateway.adapters import fields
from gateway.adapters.memory import Bindings, Overlay
from gateway.adapters.port import Deaf, Publication
from gateway.messages import Decoded, Message, Quarantined, Reason, Registry, Status, Unit, Unusable

ROOT = "spBv1.0"
OF_NODE, OF_DEVICE = ("NBIRTH", "NDATA", "NDEATH"), ("DBIRTH", "DDATA", "DDEATH")
SIGNED = {1: 8, 2: 16, 3: 32, 4: 64}
"""Bits of the signed data types, which are sent as unsigned ones."""
REBIRTH, BOOLEAN = "Node Control/Rebirth", 11
SESSION = frozenset(("bdSeq", REBIRTH, "Node Control/Reboot", "Node Control/Next Server"))
VALUES = ("int_value", "long_value", "float_value", "double_value", "boolean_value", "string_value")
"""Where a metric has its value."""


@dataclass(slots=True)
class _Node:
    """One edge node's session: the last ``seq``, the ``bdSeq`` of its birth, (name, data type) by device and alias, and when
    it was noticed that a birth is missing (ms)."""

    seq: int | None = None
    born: int | None = None
    missed_ms: int | None = None
    aliases: dict[str, dict[int, tuple[str, int]]] = field(default_factory=dict)


class SparkplugAdapter(Deaf):
    """Machines behind Sparkplug edge nodes."""

    convention = "sparkplug"
    filters = (
        *(f"{ROOT}/+/{kind}/+" for kind in OF_NODE),
        *(f"{ROOT}/+/{kind}/+/+" for kind in OF_DEVICE),
    )

    commands = (f"{ROOT}/+/NCMD/+",)

    def __init__(self) -> None:
        self._bindings = Bindings(self.convention, levels=2)
        self._overlay = Overlay()
        self._nodes: dict[str, _Node] = {}

    def requests(self) -> list[Publication]:
        """A new birth of every edge node that said something of which we lack the beginning, or a part."""
        missed = [(name.split("/"), node.missed_ms) for name, node in list(self._nodes.items())]
        return [
            Publication(f"{ROOT}/{group}/NCMD/{edge}", _rebirth(at_ms), answers=False)
            for (group, edge), at_ms in missed
            if at_ms is not None
        ]

    def decode(self, message: Message, registry: Registry, strangers: Counter[str]) -> list[Decoded] | None:
        """Samples, and who is online."""
        parts = message.topic.split("/")
        if parts[0] != ROOT or len(parts) not in (4, 5) or parts[2] not in (OF_NODE if len(parts) == 4 else OF_DEVICE):
            return None
        kind, name, device = parts[2], f"{parts[1]}/{parts[3]}", "/".join(parts[4:])
        own = registry.bound.get((self.convention, f"{name}/{device}" if device else name))
        units = self._bindings.of(registry, name)
        if not units:
            raise fields.stranger(self.convention, f"{name}/{device}" if device else name)
        if message.retained:
            return []  # the convention retains nothing: whose session would it be?
        payload = _parsed(message.payload)
        node = self._nodes.setdefault(name, _Node(missed_ms=message.recv_ms))
        if kind == "NDEATH":
            return self._node_died(name, units, payload, message)
        if kind == "NBIRTH":
            node = self._nodes[name] = _Node(born=_birth_number(payload))
            self._overlay.forget(*units)
        seq = payload.seq if payload.HasField("seq") else None
        if _hole(node.seq, seq):
            self._overlay.forget(*units)
            node.missed_ms = message.recv_ms
        if seq is not None:  # what is replayed has none
            node.seq = seq  # which counts the messages of machines that are not ours, too
        if own is None and device:
            raise fields.stranger(self.convention, f"{name}/{device}")
        if own is None:
            return []  # the node is no machine itself
        if kind == "DDEATH":
            node.aliases.pop(device, None)
            return self._died([own], message)
        if not kind.endswith("BIRTH"):
            named = node.aliases.get(device, {})
            unborn = [
                one for one in payload.metrics if not one.name and one.HasField("alias") and one.alias not in named
            ]
            if unborn:
                node.missed_ms = message.recv_ms
            return [
                *self._samples(own, named, payload, message, strangers),
                *([_held(own, unborn, payload, message)] if unborn else ()),
            ]
        self._overlay.forget(own)
        node.aliases[device] = {one.alias: (one.name, one.datatype) for one in payload.metrics if one.HasField("alias")}
        found = self._samples(own, {}, payload, message, strangers, at_once=True)
        return [Status(own.serial, True, message.recv_ms), *found]

    def _node_died(self, name: str, units: Sequence[Unit], payload: Any, message: Message) -> list[Decoded]:
        number, born = _birth_number(payload), self._nodes[name].born
        if None not in (number, born) and number != born:
            return []  # the will of an earlier session
        del self._nodes[name]
        return self._died(units, message)

    def _died(self, units: Sequence[Unit], message: Message) -> list[Decoded]:
        self._overlay.forget(*units)
        return [Status(unit.serial, False, message.recv_ms) for unit in units]

    def _samples(
        self,
        unit: Unit,
        aliases: dict[int, tuple[str, int]],
        payload: Any,
        message: Message,
        strangers: Counter[str],
        *,
        at_once: bool = False,
    ) -> list[Decoded]:
        """One sample for each time that the metrics have; ``at_once`` (a birth): one, whenever the values came to be."""
        at = payload.timestamp if payload.HasField("timestamp") else message.recv_ms
        said: dict[tuple[int, bool], dict[str, Any]] = {}
        for metric in payload.metrics:
            born = aliases.get(metric.alias, ("", 0)) if metric.HasField("alias") else ("", 0)
            name = metric.name or born[0]
            if not name and metric.HasField("alias") and metric.alias not in aliases:
                continue  # held
            channel = fields.own_name(unit.type, name.rpartition("/")[2])
            if channel is None:
                if name not in SESSION:
                    fields.count(strangers, name)
                continue
            own = metric.HasField("timestamp") and not at_once
            when = (metric.timestamp if own else at, metric.is_historical and not at_once)
            said.setdefault(when, {})[channel] = _value(metric, metric.datatype or born[1])
        try:
            if len(said) > wire.MAX_SAMPLES:
                raise Unusable(Reason.TOO_MANY, f"{len(said)} times; a message may have {wire.MAX_SAMPLES}")
            readings = [
                fields.reading(unit, message, samples.whole_ms(ts), told, strangers, backfill=historical)
                for (ts, historical), told in sorted(said.items())
            ]
        except Unusable:
            self._overlay.forget(unit)
            raise
        return [
            self._overlaid(unit, one, told)
            for one, (_, told) in zip(samples.on_time(readings, message.recv_ms), sorted(said.items()), strict=True)
        ]

    def _overlaid(self, unit: Unit, reading: Reading, told: dict[str, Any]) -> Reading:
        if reading.backfill:
            return reading
        state = self._overlay.part(unit, reading.ts, {channel: reading.values.get(channel) for channel in told})
        return dataclasses.replace(reading, values=state)


def _held(unit: Unit, metrics: Sequence[Any], payload: Any, message: Message) -> Quarantined:
    """What nobody understands yet as a payload that can be understood after the birth, at any place among the others."""
    at = payload.timestamp if payload.HasField("timestamp") else message.recv_ms
    why = (
        f"{len(metrics)} metrics by aliases of a birth that was not heard; to be replayed after it, which is asked for"
    )
    return Quarantined(Reason.UNKNOWN_ALIAS, why, _payload(at, metrics), unit.serial)


def _rebirth(at_ms: int) -> bytes:
    return _payload(at_ms, [{"name": REBIRTH, "datatype": BOOLEAN, "boolean_value": True}])


def _payload(at_ms: int, metrics: Iterable[Any]) -> bytes:
    """A payload without a place in the session."""
    from gateway.adapters.sparkplug_payload import Payload

    built: Any = Payload(timestamp=at_ms, metrics=metrics)
    return bytes(built.SerializeToString())


def _parsed(payload: bytes) -> Any:
    if len(payload) > wire.MAX_PAYLOAD_BYTES:
        raise Unusable(Reason.OVERSIZE, f"{len(payload)} bytes; a payload may have {wire.MAX_PAYLOAD_BYTES}")
    from gateway.adapters import sparkplug_payload  # protobuf is for those who have such machines

    try:
        return sparkplug_payload.Payload.FromString(payload)
    except sparkplug_payload.DecodeError:
        raise Unusable(Reason.UNREADABLE, "not a Sparkplug B payload") from None


def _hole(before: int | None, seq: int | None) -> bool:
    """Whether messages are missing; the same number again is the same message again."""
    return None not in (before, seq) and seq not in (before, ((before or 0) + 1) % 256)


def _birth_number(payload: Any) -> int | None:
    return next((_value(metric, 0) for metric in payload.metrics if metric.name == "bdSeq"), None)


def _value(metric: Any, datatype: int) -> Any:
    """The metric's value; None where it is null or of a kind that no channel has."""
    given = next((getattr(metric, name) for name in VALUES if metric.HasField(name)), None)
    if metric.is_null or given is None:
        return None
    bits = SIGNED.get(datatype)
    if bits and type(given) is int:
        given &= (1 << bits) - 1
        return given - (1 << bits) if given >> (bits - 1) else given
    return given
