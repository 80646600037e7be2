"""The native convention, brewair/v1 (wire.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
import orjson

from domain import wire
from domain.readings import Reading, Value
from gateway import samples
from gateway.adapters.port import Command, Publication
from gateway.messages import Birth, Decoded, Message, Reason, Registry, Reply, Status, Unit, Unusable

MAX_INTERVAL_S = 86_400.0

Split = Callable[[Mapping[str, Any]], tuple[dict[str, Value], dict[str, float]]]


class NativeAdapter:
    """Machines that speak brewair/v1."""

    convention = ""
    filters = (wire.UP_FILTER,)
    commands = (wire.DOWN_FILTER,)

    def decode(self, message: Message, registry: Registry, strangers: Counter[str]) -> list[Decoded] | None:
        """Telemetry, events, births, states and replies."""
        if not message.topic.startswith(f"{wire.ROOT}/"):
            return None
        topic = wire.parse_up(message.topic)
        if topic is None:
            raise Unusable(Reason.UNKNOWN_TOPIC, "not a topic of brewair/v1 (depth, shard, serial or kind)")
        if topic.type not in samples.CHANNELS:
            raise Unusable(Reason.UNKNOWN_TYPE, f"no equipment type {topic.type}")
        unit = registry.units.get(topic.serial)
        if unit is not None and unit.type != topic.type:
            raise Unusable(Reason.TYPE_MISMATCH, f"registered as {unit.type}, speaks as {topic.type}")
        return _KINDS[topic.kind](topic, message, strangers)

    def command(self, unit: Unit, command: Command) -> Publication | None:
        """Every command, as it is."""
        body = {"id": command.id, "name": command.name, "params": command.params, "expires_at": command.expires_ms}
        return Publication(wire.down_command(unit.type, unit.serial), orjson.dumps(body))


def _telemetry(topic: wire.UpTopic, message: Message, strangers: Counter[str]) -> list[Decoded]:
    return _readings(topic, message, lambda fields: samples.split(topic.type, fields, strangers))


def _event(topic: wire.UpTopic, message: Message, strangers: Counter[str]) -> list[Decoded]:
    # An event is a sample of one channel, the maker's code; its level and detail stay in the spool.
    def split(fields: Mapping[str, Any]) -> tuple[dict[str, Value], dict[str, float]]:
        return {"fault_code": samples.text("fault_code", fields.get("fault_code"))}, {}

    return _readings(topic, message, split)


def _readings(topic: wire.UpTopic, message: Message, split: Split) -> list[Decoded]:
    parsed = samples.parse(message.payload)
    good: list[Reading] = []
    bad: list[Decoded] = []
    for part, fields in enumerate(samples.objects(parsed)):
        try:
            good.append(_reading(topic, message.recv_ms, fields, split))
        except Unusable as unusable:
            fragment = samples.raw(fields) if isinstance(parsed, list) else message.payload
            bad.append(samples.held(unusable, fragment, topic.serial, part))
    return [*samples.on_time(good, message.recv_ms), *bad]


def _reading(
    topic: wire.UpTopic,
    recv_ms: int,
    fields: Any,
    split: Split,
) -> Reading:
    if type(fields) is not dict:
        raise Unusable(Reason.WRONG_TYPE, "a sample must be an object")
    boot, seq, backfill = fields.get("boot"), fields.get("seq"), fields.get("backfill", False)
    if seq is not None and (type(seq) is not int or not 0 <= seq < samples.EXACT):
        raise Unusable(Reason.WRONG_TYPE, "seq must be a whole number from 0 on")
    if type(backfill) is not bool:
        raise Unusable(Reason.WRONG_TYPE, "backfill must be true or false")
    values, rejected = split(fields)
    return Reading(
        topic.serial,
        topic.type,
        samples.whole_ms(fields.get("ts")),
        values,
        boot=None if boot is None else samples.text("boot", boot),
        seq=seq,
        backfill=backfill,
        rejected=rejected,
        recv_ms=recv_ms,
    )


class _BirthBody(msgspec.Struct):
    ts: int
    model: str = ""
    fw: str = ""
    interval_s: float | None = None
    simulated: bool = False


class _ReplyBody(msgspec.Struct):
    id: str
    ok: bool
    error: str = ""


Body = TypeVar("Body")


def _body(payload: bytes, shape: type[Body]) -> Body:
    parsed = samples.parse(payload)
    if isinstance(parsed, dict) and "ts" not in parsed and shape is _BirthBody:
        raise Unusable(Reason.MISSING_TS, "ts is missing")
    try:
        return msgspec.convert(parsed, shape)
    except msgspec.ValidationError as error:
        raise Unusable(Reason.WRONG_TYPE, str(error)) from None


def _birth(topic: wire.UpTopic, message: Message, strangers: Counter[str]) -> list[Decoded]:
    if not message.payload:
        return []  # a retained birth was taken back
    body = _body(message.payload, _BirthBody)
    if body.interval_s is not None and not 0 < body.interval_s <= MAX_INTERVAL_S:
        raise Unusable(Reason.WRONG_TYPE, f"interval_s must be above 0 and at most {MAX_INTERVAL_S:g}")
    return [
        Birth(
            topic.serial,
            samples.whole_ms(body.ts),
            samples.text("model", body.model),
            samples.text("fw", body.fw)[:64],
            body.interval_s,
            body.simulated,
        )
    ]


def _status(topic: wire.UpTopic, message: Message, strangers: Counter[str]) -> list[Decoded]:
    if not message.payload:
        return []  # a retained status was taken back
    if message.payload not in (wire.ONLINE, wire.OFFLINE):
        raise Unusable(Reason.WRONG_TYPE, "a status is online or offline")
    return [Status(topic.serial, message.payload == wire.ONLINE, message.recv_ms, message.retained)]


def _reply(topic: wire.UpTopic, message: Message, strangers: Counter[str]) -> list[Decoded]:
    body = _body(message.payload, _ReplyBody)
    return [Reply(topic.serial, samples.text("id", body.id), body.ok, samples.text("error", body.error))]


_KINDS: Mapping[str, Callable[[wire.UpTopic, Message, Counter[str]], list[Decoded]]] = {
    "telemetry": _telemetry,
    "event": _event,
    "birth": _birth,
    "status": _status,
    "reply": _reply,
}
