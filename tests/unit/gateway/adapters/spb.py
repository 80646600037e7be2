"""Sparkplug B payloads for tests."""

from __future__ import annotations

from typing import Any

from gateway.adapters.sparkplug_payload import Payload

FLOAT, DOUBLE, BOOLEAN, STRING, INT32, INT64 = 9, 10, 11, 12, 3, 4
FIELD = {float: "double_value", bool: "boolean_value", str: "string_value", int: "int_value"}


def metric(name: str = "", value: Any = None, **more: Any) -> dict[str, Any]:
    given = {"is_null": True} if value is None else {FIELD[type(value)]: value}
    return {**({"name": name} if name else {}), **given, **more}


def payload(seq: int | None, *metrics: dict[str, Any], timestamp: int | None = None) -> bytes:
    built: Any = Payload()
    if seq is not None:
        built.seq = seq
    if timestamp is not None:
        built.timestamp = timestamp
    for one in metrics:
        built.metrics.add(**one)
    return bytes(built.SerializeToString())
