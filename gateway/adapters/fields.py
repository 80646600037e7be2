"""From a foreign sample to ours: which channel a property is stands in tables; what stands in none is only counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from domain import wire
from domain.readings import Reading, Value
from domain.strangers import Stranger
from gateway import samples
from gateway.messages import Decoded, Message, Reason, Unit, Unusable

FLAG: Mapping[object, Value] = {0: False, 1: True}
"""For conventions whose booleans are 0 and 1."""
SWITCH: Mapping[object, Value] = {True: "running", False: "off"}
"""Power switch of a fresh-air unit, which runs as long as it is on."""


@dataclass(frozen=True, slots=True)
class Into:
    """Where a property goes: ``per`` of its unit are one of the channel's; ``words`` translates an enumeration."""

    channel: str
    per: float = 1.0
    words: Mapping[object, Value] | None = None


Table = Mapping[Any, Into]


def own_name(equipment_type: str, name: str) -> str | None:
    """The channel of exactly this name, which has the unit in it; ids that may have no underscore have a dash."""
    channel = name.replace("-", "_")
    return channel if channel in samples.CHANNELS[equipment_type] else None


def translate(table: Table, given: Iterable[tuple[Any, Any]], strangers: Counter[str]) -> dict[str, Any]:
    """Channels of (property, value) pairs. null is absent; properties and words that the table lacks are counted.

    Raises Unusable for a value that cannot be converted.
    """
    fields: dict[str, Any] = {}
    for key, value in given:
        into = table.get(key)
        if into is None:
            count(strangers, key)
        elif value is None:
            continue
        elif into.words is not None:
            word = into.words.get(value) if isinstance(value, (str, int, float)) else None
            if word is None:
                count(strangers, f"{_label(key)}={value}")
            else:
                fields[into.channel] = word
        else:
            fields[into.channel] = samples.number(into.channel, value) / into.per if into.per != 1.0 else value
    return fields


def count(strangers: Counter[str], key: Any) -> None:
    """Note a key that no channel has."""
    samples.note(strangers, _label(key))


def _label(key: Any) -> str:
    return ".".join(map(str, key)) if isinstance(key, tuple) else str(key)


def reading(
    unit: Unit, message: Message, ts: int, fields: Mapping[str, Any], strangers: Counter[str], *, backfill: bool = False
) -> Reading:
    """A sample with the device's time as it came; ``samples.on_time`` decides about it. Raises Unusable."""
    values, rejected = samples.split(unit.type, fields, strangers)
    return Reading(unit.serial, unit.type, ts, values, backfill=backfill, rejected=rejected, recv_ms=message.recv_ms)


def in_time(
    unit: Unit,
    message: Message,
    table: Table,
    said: Iterable[tuple[int | None, Any, Any]],
    strangers: Counter[str],
) -> list[Decoded]:
    """Samples of (time in ms or None, property, value): one for each time, the oldest first.

    None is the time of receipt, which a retained message does not have: what it says without a time is left out. A sample
    that cannot be used comes back as Quarantined. Raises Unusable: more samples than a batch may have.
    """
    by_time: dict[int | None, list[tuple[Any, Any]]] = {}
    for ts, key, value in said:
        by_time.setdefault(ts, []).append((key, value))
    if message.retained:
        by_time.pop(None, None)
    if len(by_time) > wire.MAX_SAMPLES:
        raise Unusable(Reason.TOO_MANY, f"{len(by_time)} samples; a batch may have {wire.MAX_SAMPLES}")
    good: list[Reading] = []
    bad: list[Decoded] = []
    ordered = sorted(by_time.items(), key=lambda item: message.recv_ms if item[0] is None else item[0])
    for part, (ts, pairs) in enumerate(ordered):
        try:
            fields = translate(table, pairs, strangers)
            good.append(reading(unit, message, message.recv_ms if ts is None else ts, fields, strangers))
        except Unusable as unusable:
            bad.append(samples.held(unusable, message.payload, unit.serial, part))
    return [*samples.on_time(good, message.recv_ms), *bad]


def an_object(given: Any, what: str) -> dict[str, Any]:
    """``given``, if it is a JSON object. Raises Unusable."""
    if type(given) is not dict:
        raise Unusable(Reason.WRONG_TYPE, f"{what} must be an object")
    return given


def a_list(given: Any, what: str) -> list[Any]:
    """``given``, if it is a JSON array of a batch's length at most. Raises Unusable."""
    if type(given) is not list:
        raise Unusable(Reason.WRONG_TYPE, f"{what} must be a list")
    if len(given) > wire.MAX_SAMPLES:
        raise Unusable(Reason.TOO_MANY, f"{len(given)} entries; {what} may have {wire.MAX_SAMPLES}")
    return given


def stranger(convention: str, name: str) -> Unusable:
    """Nobody has registered a machine of this foreign name."""
    return Unusable(
        Reason.UNKNOWN_SERIAL, f"no machine is bound to the {convention} topic {name}", Stranger(convention, name)
    )
