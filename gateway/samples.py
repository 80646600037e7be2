"""From parsed objects to readings: types and ranges by the catalogue, and which clock to believe. Pure."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from domain import wire
from domain.catalogue.model import Channel
from domain.catalogue.registry import EQUIPMENT
from domain.readings import Reading, Value
from domain.telemetry.port import RAW_RETENTION
from gateway.messages import Quarantined, Reason, Unusable

OLDEST_MS = int(RAW_RETENTION.total_seconds() * 1000)
AHEAD_MS = 5 * 60 * 1000
"""A device's time is believed within [receipt − retention, receipt + 5 min]."""
MAX_TEXT = 256
MOST_STRANGERS = 1000
"""So many unknown keys are counted by name, the others together as ``?``; the compiled core has the same bound."""
RAW_BYTES = 64 * 1024
"""What the quarantine keeps of one payload."""

EXACT = 1 << 53
"""Whole numbers from here on are not exact as floats."""
SERVICE = frozenset(("ts", "boot", "seq", "backfill"))
"""Keys of a native object that are no channels."""

CHANNELS: Mapping[str, Mapping[str, Channel]] = {e.key: e.channels for e in EQUIPMENT.values()}


def parse(payload: bytes) -> Any:
    """A JSON payload. NaN, Infinity and 1e999 are let through as floats, so that only their object suffers.

    Raises Unusable: oversize, unreadable, too deep.
    """
    if len(payload) > wire.MAX_PAYLOAD_BYTES:
        raise Unusable(Reason.OVERSIZE, f"{len(payload)} bytes; a payload may have {wire.MAX_PAYLOAD_BYTES}")
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        strict = error
    try:
        return json.loads(payload)
    except RecursionError:
        raise Unusable(Reason.TOO_DEEP, "objects are nested too deeply") from None
    except ValueError:
        raise Unusable(Reason.UNREADABLE, f"not JSON: {strict}") from None


def objects(parsed: Any) -> list[Any]:
    """One object, or an array of up to 1000 of them. Raises Unusable."""
    if not isinstance(parsed, list):
        return [parsed]
    if len(parsed) > wire.MAX_SAMPLES:
        raise Unusable(Reason.TOO_MANY, f"{len(parsed)} objects; a batch may have {wire.MAX_SAMPLES}")
    return parsed


def raw(fragment: Any) -> bytes:
    """One object of a batch as it may be sent again; NaN stays NaN."""
    return json.dumps(fragment, ensure_ascii=True, separators=(",", ":")).encode()[:RAW_BYTES]


def whole_ms(given: Any) -> int:
    """A time in whole ms. Raises Unusable."""
    if given is None:
        raise Unusable(Reason.MISSING_TS, "ts is missing")
    whole = int(given) if type(given) is float and given.is_integer() else given
    if type(whole) is not int or abs(whole) >= EXACT:
        raise Unusable(Reason.WRONG_TYPE, "ts must be whole milliseconds since 1970")
    return whole


def text(name: str, given: Any) -> str:
    """A short string that every store can keep. Raises Unusable."""
    if type(given) is not str:
        raise Unusable(Reason.WRONG_TYPE, f"{name} must be a string")
    if len(given) > MAX_TEXT or not given.isprintable():
        raise Unusable(Reason.WRONG_TYPE, f"{name} must be printable and have at most {MAX_TEXT} characters")
    return given


def number(name: str, given: Any) -> float:
    """A finite float. Raises Unusable."""
    if type(given) is not float and type(given) is not int:
        raise Unusable(Reason.WRONG_TYPE, f"{name} must be a number")
    try:
        found = float(given)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise Unusable(Reason.NOT_FINITE, f"{name} is not a finite number")
    return found


def note(strangers: Counter[str], key: str) -> None:
    """Count a key that no channel has; machines choose keys, so no more than ``MOST_STRANGERS`` are told apart."""
    named = len(key) <= MAX_TEXT and key.isprintable() and (key in strangers or len(strangers) < MOST_STRANGERS)
    strangers[key if named else "?"] += 1


def split(
    equipment_type: str, fields: Mapping[str, Any], strangers: Counter[str]
) -> tuple[dict[str, Value], dict[str, float]]:
    """Channels of one object: usable values, and numbers out of range. null is absent; unknown keys are only counted.

    Raises Unusable for a value of the wrong type.
    """
    channels = CHANNELS[equipment_type]
    values: dict[str, Value] = {}
    rejected: dict[str, float] = {}
    for key, given in fields.items():
        channel = channels.get(key)
        if channel is None:
            if key not in SERVICE:
                note(strangers, key)
        elif given is None:
            continue
        elif channel.kind == "float":
            found = given if type(given) is float and given - given == 0.0 else number(key, given)
            low, high = channel.low, channel.high
            if (low is not None and found < low) or (high is not None and found > high):
                rejected[key] = found
            else:
                values[key] = found
        elif channel.kind == "bool":
            if type(given) is not bool:
                raise Unusable(Reason.WRONG_TYPE, f"{key} must be true or false")
            values[key] = given
        else:
            values[key] = text(key, given)
    return values, rejected


def believable(ts: int, recv_ms: int) -> bool:
    """Whether a device's time can be its sample's time."""
    return recv_ms - OLDEST_MS <= ts <= recv_ms + AHEAD_MS


def received_at(ts: int, recv_ms: int) -> int:
    """The receipt as the time of a sample whose own time ``ts`` is not believed: within the last second before it.

    Messages that one read brings have one time of receipt, and two samples of one time would be one point. The second that the
    device counts tells them apart, again in the same way when the spool is read again; samples less than a second or just
    1000 s apart are not.
    """
    return recv_ms - 999 + ts // 1000 % 1000


def on_time(readings: Sequence[Reading], recv_ms: int) -> list[Reading]:
    """Readings of one message under the clock policy.

    Times that cannot be believed are shifted as a whole so that the newest is at ``received_at``; spacing stays, the device's
    own time is kept in ``device_ts``.
    """
    doubtful = [reading.ts for reading in readings if not believable(reading.ts, recv_ms)]
    if not doubtful:
        return list(readings)
    landing = received_at(max(doubtful), recv_ms)
    shift = landing - max(doubtful)
    return [
        reading
        if believable(reading.ts, recv_ms)
        else dataclasses.replace(
            reading,
            ts=reading.ts + shift if believable(reading.ts + shift, recv_ms) else landing,
            device_ts=reading.ts,
        )
        for reading in readings
    ]


def held(unusable: Unusable, payload: bytes, serial: str | None, part: int = 0) -> Quarantined:
    """What goes into quarantine; of a stranger's message everything, as it can be used when the stranger is registered."""
    if unusable.stranger is not None:
        whole = payload[: wire.MAX_PAYLOAD_BYTES + 1]
        return Quarantined(unusable.reason, unusable.explanation, whole, serial, part, unusable.stranger)
    return Quarantined(unusable.reason, unusable.explanation, payload[:RAW_BYTES], serial, part)
